/* Bench: a pipeline of several ranks of one thread each against one rank of as many threads. Prints
 *
 *     bench ranks_<layout>_<transport>_<load> ours=… ref=… ratio=… unit=tokens/s
 *
 * ours: medians of the pipeline's rate; ref: of one rank with two threads, in turns (A B A B) in the same run. Layouts: two ranks
 * (shared memory, TCP over loopback) and four on the same two cores; four are also held against two. Loads: one
 * sequence, 16 sequences, a prompt of 512 tokens. By the wall clock: wants an idle machine.
 * usage: bench_ranks MODEL [ROUNDS [LOAD]]     (a model of tests/bench/make_model.py; one, 16 or prefill) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/bench_measure.h"
#include "base/clock.h"
#include "tests/lib/rank_threads.h"

#define ROUNDS_MAX 64
#define PROMPT     512

struct load {
    const char *name;
    uint32_t sequences, prompt, tokens;
};

static const struct load loads[] = {{"one", 1, 4, 12}, {"16", 16, 4, 6}, {"prefill", 1, PROMPT, 1}};

/* What is measured: an engine, however many ranks are behind it. */
struct subject {
    const char *name;
    struct gw_engine *engine;
    struct rank_threads *ranks; /* NULL: one rank */
    uint64_t next_id;
    double rate[ROUNDS_MAX];
};

static void die(const struct gw_err_ctx *ctx)
{
    fprintf(stderr, "bench_ranks: %s\n", ctx->text);
    exit(1);
}

static void submit(struct subject *s, const struct load *load, uint32_t vocab)
{
    struct gw_request q = {.id = ++s->next_id,
                           .n = 1,
                           .prompt_len = load->prompt,
                           .prompt = malloc(load->prompt * sizeof(uint32_t))};
    struct gw_branch_log log = {0};
    struct gw_err_ctx ctx = {0};
    for (uint32_t k = 0; k < load->prompt; k++)
        q.prompt[k] = (uint32_t)(s->next_id * 7919 + k * 104729) % vocab;
    q.sampling = (struct gw_sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = load->tokens};
    struct gw_msg_submit m = {.attempt = 1, .request = q, .logs = &log};
    if (gw_engine_submit(s->engine, &m, &ctx) != GW_OK) die(&ctx);
}

/* Tokens per second: of the prompt for a prefill, else of what is drawn behind the first step. */
static double measure(struct subject *s, const struct load *load, uint32_t vocab)
{
    struct gw_err_ctx ctx = {0};
    bool did = true;
    for (uint32_t i = 0; i < load->sequences; i++) submit(s, load, vocab);
    int64_t start_us = gw_clock_mono_us();
    if (load->tokens > 1) { /* the prompt is not what is measured */
        if (gw_engine_step(s->engine, &did, &ctx) != GW_OK) die(&ctx);
        start_us = gw_clock_mono_us();
    }
    while (did)
        if (gw_engine_step(s->engine, &did, &ctx) != GW_OK) die(&ctx);
    double seconds = (double)(gw_clock_mono_us() - start_us) / 1e6;
    return load->sequences * (load->tokens > 1 ? load->tokens - 1 : load->prompt) / seconds;
}

static double median(const struct subject *s, uint32_t rounds)
{
    double sorted[ROUNDS_MAX];
    memcpy(sorted, s->rate, rounds * sizeof *sorted);
    return bench_median(sorted, rounds);
}

static void open_ranks(struct subject *s, const struct gw_model *model, const struct solo_config *config,
                       const char *layout, bool shm)
{
    struct gw_err_ctx ctx = {0};
    s->ranks = calloc(1, sizeof *s->ranks);
    if (!s->ranks) exit(1);
    *s->ranks = (struct rank_threads){.model = model, .config = *config, .try_shm = shm, .tcp = true};
    s->ranks->config.threads = 1;
    if (rank_threads_open(s->ranks, layout, &ctx) != GW_OK) die(&ctx);
    s->engine = s->ranks->engine;
}

static void print_line(const struct subject *ours, const struct subject *ref, const struct load *load,
                       uint32_t rounds)
{
    double a = median(ours, rounds), b = median(ref, rounds);
    printf("bench ranks_%s_vs_%s_%s ours=%.2f ref=%.2f ratio=%.3f unit=tokens/s\n", ours->name, ref->name,
           load->name, a, b, a / b);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const char key[] = "a cluster key for benches, 32 by";
    const struct solo_config config = {.kv_tokens = 2048,
                                       .threads = 2,
                                       .max_batch_tokens = PROMPT,
                                       .max_sequences = 16,
                                       .key = key,
                                       .key_len = sizeof key - 1};
    struct subject s[4] = {{.name = "solo"}, {.name = "tp2_shm"}, {.name = "tp2_tcp"}, {.name = "tp4_shm"}};
    uint32_t rounds = argc > 2 ? (uint32_t)atoi(argv[2]) : 7;
    struct gw_model *model;
    struct gw_err_ctx ctx = {0};
    struct solo solo;
    if (argc < 2 || rounds == 0 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_ranks MODEL [ROUNDS [LOAD]]\n");
        return 1;
    }
    if (gw_model_open(argv[1], &model, &ctx) != GW_OK || solo_open(&solo, model, &config, &ctx) != GW_OK)
        die(&ctx);
    s[0].engine = solo.engine;
    open_ranks(&s[1], model, &config, "4+4", true);
    open_ranks(&s[2], model, &config, "4+4", false);
    open_ranks(&s[3], model, &config, "2+2+2+2", true);
    for (size_t l = 0; l < sizeof loads / sizeof *loads; l++) {
        if (argc > 3 && strcmp(argv[3], loads[l].name) != 0) continue;
        for (uint32_t r = 0; r < rounds; r++)
            for (int i = 0; i < 4; i++) s[i].rate[r] = measure(&s[i], &loads[l], model->config.vocab);
        print_line(&s[1], &s[0], &loads[l], rounds);
        print_line(&s[2], &s[0], &loads[l], rounds);
        print_line(&s[3], &s[1], &loads[l], rounds);
    }
    for (int i = 1; i < 4; i++) {
        if (rank_threads_close(s[i].ranks, &ctx) != GW_OK) die(&ctx);
        free(s[i].ranks);
    }
    solo_close(&solo);
    gw_model_close(model);
    return 0;
}
