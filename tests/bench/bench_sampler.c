/* Bench: what drawing one token costs. Prints, for one thread and per kind of request,
 *
 *     bench sampler_us_<kind> ours=… ref=… ratio=… unit=us     one row of 128256 logits to one record
 *
 * ref: the least that a sampler of whole rows in plain C does, one pass of libm's expf. Rows are like those of language
 * models: most mass on few tokens; "wide" and "flat" ones are not, so that top-p needs more of them than a part holds. By the
 * thread's CPU time. usage: bench_sampler [avx512|avx2|c] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "worker/sampler.h"

#define VOCAB  128256u
#define SHARES 8
#define ROWS                                                                                                 \
    8 /* different ones, 4 MiB in all: as after the head's product, they are not in the first caches */
#define ROUNDS 60
#define PROMPT 4096

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

struct kind {
    const char *name;
    float temperature, top_p, min_p, repetition, presence;
    uint32_t top_k, top_logprobs;
    double tail; /* how far some logits stand out */
};

static const struct kind kinds[] = {
    {"greedy", 0, 1, 0, 1, 0, 0, 0, 25},
    {"temperature", 0.8f, 1, 0, 1, 0, 0, 0, 25},
    {"top_k", 0.8f, 1, 0, 1, 0, 50, 0, 25},
    {"top_p", 0.8f, 0.95f, 0, 1, 0, 0, 0, 25},
    {"top_k_top_p", 0.8f, 0.95f, 0, 1, 0, 40, 0, 25},
    {"min_p", 1, 1, 0.05f, 1, 0, 0, 0, 25},
    {"penalties", 0.8f, 1, 0, 1.1f, 0.5f, 0, 0, 25},
    {"logprobs", 0, 1, 0, 1, 0, 0, 5, 25},
    {"top_p_wide", 0.8f, 0.95f, 0, 1, 0, 0, 0, 12},
    {"top_p_flat", 1, 0.95f, 0, 1, 0, 0, 0, 0},
};

struct bench {
    const struct gw_ops *ops;
    struct gw_device *device;
    struct gw_sampler *sampler;
    struct gw_wish_room room;
    float *rows, *kept; /* [ROWS][VOCAB] */
    uint32_t *prompt;
};

/* Sums of a few unit variates, and a few dozen that stand out by up to `tail`, if it is not 0. */
static void fill(struct bench *b, double tail)
{
    struct gw_rng r;
    gw_rng_init(&r, 1);
    for (size_t i = 0; i < (size_t)ROWS * VOCAB; i++) {
        double x = 0;
        for (int k = 0; k < 4; k++) x += gw_rng_unit(&r);
        b->rows[i] =
            (float)(tail == 0 ? x : x * 4 + (gw_rng_below(&r, 5000) == 0 ? tail * gw_rng_unit(&r) : 0));
    }
}

/* As the engine of a pipeline of one rank does it. */
static uint32_t draw(struct bench *b, const struct gw_sample_in *in, float *row)
{
    static struct gw_pick_part part;
    struct gw_sample_out out;
    struct gw_wish wish;
    gw_wish_room_clear(&b->room);
    gw_sampler_wish(b->sampler, in, &b->room, &wish);
    const struct gw_pick_row pick = {.x = row,
                                     .vocab = VOCAB,
                                     .shares = SHARES,
                                     .share_last = SHARES,
                                     .want = &wish.want,
                                     .kept = b->kept,
                                     .part = &part};
    b->ops->pick(b->device, &pick, 1);
    if (!gw_sampler_decide(in, &wish.want, &part, 1, &out)) gw_sampler_draw(b->sampler, in, row, &part, &out);
    return out.id;
}

static double plain_pass_us(const struct bench *b, float *sum)
{
    double start_us = now_us();
    for (uint32_t i = 0; i < ROWS; i++) {
        const float *row = b->rows + (size_t)i * VOCAB;
        for (uint32_t k = 0; k < VOCAB; k++) *sum += expf(row[k] - 30);
    }
    return (now_us() - start_us) / ROWS;
}

static void run(struct bench *b, const struct kind *k)
{
    const struct gw_sampling params = {.temperature = k->temperature,
                                       .top_p = k->top_p,
                                       .top_k = k->top_k,
                                       .min_p = k->min_p,
                                       .repetition_penalty = k->repetition,
                                       .presence_penalty = k->presence,
                                       .logprobs = k->top_logprobs > 0,
                                       .top_logprobs = k->top_logprobs,
                                       .seed = 7};
    struct gw_sample_in in = {
        .params = &params, .prompt = b->prompt, .prompt_len = PROMPT, .output = b->prompt};
    uint32_t ids = 0;
    float sum = 0;
    fill(b, k->tail);
    double plain_us = plain_pass_us(b, &sum);
    double start_us = now_us();
    for (in.output_len = 0; in.output_len < ROUNDS; in.output_len++)
        for (uint32_t i = 0; i < ROWS; i++) ids ^= draw(b, &in, b->rows + (size_t)i * VOCAB);
    double us = (now_us() - start_us) / (ROUNDS * ROWS);
    printf("bench sampler_us_%s ours=%.1f ref=%.1f ratio=%.3f unit=us\n", k->name, us, plain_us,
           us / plain_us);
    printf("# %s: checks %u %g\n", k->name, ids, (double)sum); /* what is computed is used */
}

static gw_err_t open_bench(struct bench *b, enum gw_isa isa, struct gw_err_ctx *ctx)
{
    TRY(gw_ops_cpu("cpu-f32-2", isa, &b->ops, ctx));
    TRY(gw_device_cpu_create(1, false, &b->device, ctx));
    gw_device_enter_thread();
    const struct gw_sampler_config config = {
        .vocab = VOCAB, .shares = SHARES, .ops = b->ops, .device = b->device};
    TRY(gw_sampler_create(&config, &b->sampler));
    TRY(gw_wish_room_init(&b->room, GW_WISH_IDS_MAX, GW_WISH_CHANGES_MAX));
    b->rows = malloc((size_t)ROWS * VOCAB * sizeof *b->rows);
    b->kept = malloc((GW_WISH_IDS_MAX + GW_WISH_CHANGES_MAX) * sizeof *b->kept);
    b->prompt = malloc(PROMPT * sizeof *b->prompt);
    if (!b->rows || !b->kept || !b->prompt) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    for (uint32_t i = 0; i < PROMPT; i++) b->prompt[i] = i * 7919 % VOCAB;
    return GW_OK;
}

int main(int argc, char **argv)
{
    struct gw_err_ctx ctx = {0};
    struct bench b = {0};
    enum gw_isa isa = GW_ISA_AUTO;
    if (argc > 1)
        isa = strcmp(argv[1], "c") == 0      ? GW_ISA_C
              : strcmp(argv[1], "avx2") == 0 ? GW_ISA_AVX2
                                             : GW_ISA_AVX512;
    if (open_bench(&b, isa, &ctx) != GW_OK) {
        fprintf(stderr, "bench_sampler: %s\n", ctx.text);
        return 1;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) run(&b, &kinds[i]);
    return 0;
}
