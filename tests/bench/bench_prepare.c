/* Bench: what PREPARE costs those who are served meanwhile. Prints
 *
 *     bench prepare_decode ours=… ref=… ratio=… unit=tokens/s
 *
 * ours: medians of the decode rate of one rank of one thread while another thread, as nice as a preparing worker's, loads half
 * of the model's cells again and again; ref: the same without it, in turns. Wants two cores. By the wall clock.
 * usage: bench_prepare MODEL [ROUNDS]     (a model of tests/bench/make_model.py) */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/bench/bench_measure.h"
#include "base/clock.h"
#include "tests/lib/solo_engine.h"

#define ROUNDS_MAX 64
#define TOKENS     12
#define NICE       10 /* worker/member.c */

struct loader {
    const struct gw_model *model;
    struct gw_cell_store *store;
    atomic_bool stop;
    uint64_t bytes;
    pthread_t thread;
};

static void die(const struct gw_err_ctx *ctx)
{
    fprintf(stderr, "bench_prepare: %s\n", ctx->text);
    exit(1);
}

static void *load(void *arg)
{
    struct loader *l = arg;
    struct gw_cell_rect half = gw_cells_all(&l->model->cells);
    half.s1 /= 2;
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
    while (!atomic_load(&l->stop)) {
        struct gw_weights *w = NULL;
        if (gw_weights_create(l->store, l->model, half, &l->stop, &w, NULL) == GW_OK)
            l->bytes += w->loaded_bytes;
        gw_weights_destroy(w);
        gw_cell_store_trim(l->store, (struct gw_cell_rect){0});
    }
    return NULL;
}

static double decode_rate(struct gw_engine *e, uint64_t id)
{
    struct gw_err_ctx ctx = {0};
    struct gw_request q = {.id = id, .n = 1, .prompt_len = 4, .prompt = calloc(4, sizeof(uint32_t))};
    struct gw_branch_log log = {0};
    bool did = true;
    q.sampling = (struct gw_sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = TOKENS};
    q.prompt[0] = (uint32_t)id;
    struct gw_msg_submit m = {.attempt = 1, .request = q, .logs = &log};
    if (gw_engine_submit(e, &m, &ctx) != GW_OK || gw_engine_step(e, &did, &ctx) != GW_OK) die(&ctx);
    int64_t start_us = gw_clock_mono_us();
    while (did)
        if (gw_engine_step(e, &did, &ctx) != GW_OK) die(&ctx);
    return (TOKENS - 1) / ((double)(gw_clock_mono_us() - start_us) / 1e6);
}

int main(int argc, char **argv)
{
    static const char key[] = "a cluster key for benches, 32 by";
    const struct solo_config config = {.kv_tokens = 512,
                                       .threads = 1,
                                       .max_batch_tokens = 64,
                                       .max_sequences = 4,
                                       .key = key,
                                       .key_len = sizeof key - 1};
    uint32_t rounds = argc > 2 ? (uint32_t)atoi(argv[2]) : 9;
    double with[ROUNDS_MAX], without[ROUNDS_MAX];
    struct gw_err_ctx ctx = {0};
    struct gw_model *model;
    struct solo solo;
    struct loader l = {0};
    if (argc < 2 || rounds == 0 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_prepare MODEL [ROUNDS]\n");
        return 1;
    }
    if (gw_model_open(argv[1], &model, &ctx) != GW_OK || solo_open(&solo, model, &config, &ctx) != GW_OK)
        die(&ctx);
    l.model = model;
    if (gw_cell_store_create(model, solo.ops, &l.store, &ctx) != GW_OK) die(&ctx);
    for (uint32_t r = 0; r < rounds; r++) {
        without[r] = decode_rate(solo.engine, 2 * r + 1);
        atomic_store(&l.stop, false);
        if (pthread_create(&l.thread, NULL, load, &l) != 0) return 1;
        with[r] = decode_rate(solo.engine, 2 * r + 2);
        atomic_store(&l.stop, true);
        pthread_join(l.thread, NULL);
    }
    double ours = bench_median(with, rounds), ref = bench_median(without, rounds);
    printf("bench prepare_decode ours=%.3f ref=%.3f ratio=%.3f unit=tokens/s\n", ours, ref, ours / ref);
    printf("# %.1f GB of weights were loaded meanwhile\n", (double)l.bytes / 1e9);
    gw_cell_store_destroy(l.store);
    solo_close(&solo);
    gw_model_close(model);
    return 0;
}
