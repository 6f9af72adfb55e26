/* Bench: what the engine adds to the kernels. Prints
 *
 *     bench engine_overhead_us_per_token ours=… ref=20 ratio=… unit=us     time of steps outside operations, per token
 *
 * on the shipped model (vocabulary 2048): a batch of 32 that samples (temperature, top-p), the same greedy, and one
 * sequence alone. By the wall clock: wants an idle machine.
 * usage: bench_engine [MODEL] (from the repository's root) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/lib/solo_engine.h"

#define PROMPT    32
#define NEW       64
#define TARGET_US 20.0 /* issue: per token outside kernels */

struct load {
    const char *name;
    uint32_t sequences, rounds;
    float temperature, top_p;
};

static void submit(struct gw_engine *e, const struct load *load, uint32_t i)
{
    struct gw_request q = {
        .id = i + 1, .n = 1, .prompt_len = PROMPT, .prompt = malloc(PROMPT * sizeof(uint32_t))};
    struct gw_branch_log log = {0};
    for (uint32_t k = 0; k < PROMPT; k++) q.prompt[k] = (i * 31 + k * 7) % 2000;
    q.sampling = (struct gw_sampling){.temperature = load->temperature,
                                      .top_p = load->top_p,
                                      .repetition_penalty = 1,
                                      .seed = i,
                                      .max_tokens = NEW};
    struct gw_msg_submit s = {.attempt = 1, .request = q, .logs = &log};
    if (gw_engine_submit(e, &s, NULL) != GW_OK) exit(1);
}

static void run(struct gw_engine *e, const struct load *load)
{
    struct gw_engine_stats before, after;
    gw_engine_stats(e, &before);
    int64_t start_us = gw_clock_mono_us();
    for (uint32_t r = 0; r < load->rounds; r++) {
        for (uint32_t i = 0; i < load->sequences; i++) submit(e, load, r * load->sequences + i);
        bool did = true;
        while (did)
            if (gw_engine_step(e, &did, NULL) != GW_OK) exit(1);
    }
    double seconds = (double)(gw_clock_mono_us() - start_us) / 1e6;
    gw_engine_stats(e, &after);
    double tokens = (double)(after.tokens - before.tokens);
    double outside = (double)(after.busy_us - before.busy_us) - (double)(after.kernel_us - before.kernel_us);
    printf("bench engine_overhead_us_per_token%s ours=%.2f ref=%.0f ratio=%.3f unit=us\n", load->name,
           outside / tokens, TARGET_US, outside / tokens / TARGET_US);
    printf("# engine%s: %.0f tokens/s, %.0f%% of the step time in operations\n", load->name, tokens / seconds,
           100.0 * (double)(after.kernel_us - before.kernel_us) / (double)(after.busy_us - before.busy_us));
}

int main(int argc, char **argv)
{
    static const char key[] = "a cluster key for benches, 32 by";
    static const struct load loads[] = {
        {"", 32, 8, 0.8f, 0.95f}, {"_greedy", 32, 8, 0, 1}, {"_alone", 1, 32, 0, 1}};
    struct gw_err_ctx ctx = {0};
    struct gw_model *model = NULL;
    struct solo solo = {0};
    const struct solo_config config = {.kv_tokens = 16384,
                                       .max_batch_tokens = 512,
                                       .max_sequences = 256,
                                       .key = key,
                                       .key_len = sizeof key - 1};
    gw_err_t err = gw_model_open(argc > 1 ? argv[1] : "tests/models/tattler-3m", &model, &ctx);
    if (err == GW_OK) err = solo_open(&solo, model, &config, &ctx);
    if (err != GW_OK) {
        fprintf(stderr, "bench_engine: %s\n", ctx.text);
        gw_model_close(model);
        return 1;
    }
    for (size_t i = 0; i < sizeof loads / sizeof *loads; i++) run(solo.engine, &loads[i]);
    solo_close(&solo);
    gw_model_close(model);
    return 0;
}
