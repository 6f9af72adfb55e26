/* Bench: what storing sealed blocks costs the decode rate. Prints
 *
 *     bench checkpoint_rate_16 ours=… ref=… ratio=… unit=tokens/s            storing, and not
 *     bench checkpoint_rate_16_control ours=… ref=… ratio=… unit=tokens/s    neither stores: this benchmark's own error
 *     bench checkpoint_share_16 ours=… unit=of-worker-cpu     processor time of what stores, in the slices that store
 *     bench checkpoint_redis_16 ours=… unit=of-worker-cpu     of the redis-server beside it
 *
 * An engine of all cores, the worker's checkpoint agent with its default budget, a redis-server on the same cores. The rates
 * of a virtual machine drift by more in seconds than what is looked for, so one stretch of decoding is cut into slices of SLICE
 * steps: what is sealed is offered to the agent, or is not, in the order of `order`, in which each step of a block's 16 is
 * once on either side. A round of that gives one ratio; every second round is the control, in which nothing is offered. The
 * quartiles of the rounds stand beside the medians. Prompts are of different lengths, so that some sequence seals a block in
 * nearly every step. Offers are made at the end of a step and cost the next one, to whose slice they count.
 * usage: bench_checkpoint MODEL [ROUNDS] (a 1B model of random weights: tests/bench/make_model.py) */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "migrate/page_seal.h"
#include "tests/bench/bench_measure.h"
#include "tests/lib/redis_server.h"
#include "tests/lib/solo_engine.h"
#include "worker/checkpoint.h"

#define SEQUENCES  16u
#define PROMPT     64u
#define TOKENS     1100u /* of a sequence: a wave of them */
#define KV_TOKENS  (SEQUENCES * 1536u)
#define SLICE      4u /* steps */
#define SLICES     8u /* of a round: two blocks of each sequence */
#define ROUNDS_MAX 400u
#define SHARE      0.03 /* --checkpoint-share */

/* Whether what is sealed is offered. Of the thread that steps. */
static bool offers;

void __wrap_gw_checkpoint_offer(struct gw_checkpoint *c, const struct gw_shelf_pool *pool,
                                const struct gw_block_name *name);
void __real_gw_checkpoint_offer(struct gw_checkpoint *c, const struct gw_shelf_pool *pool,
                                const struct gw_block_name *name);

void __wrap_gw_checkpoint_offer(struct gw_checkpoint *c, const struct gw_shelf_pool *pool,
                                const struct gw_block_name *name)
{
    if (offers) __real_gw_checkpoint_offer(c, pool, name);
}

struct bench {
    struct redis_server redis;
    struct gw_model *model;
    const struct gw_ops *ops;
    struct gw_device *device;
    struct gw_shelf *shelf;
    struct gw_shelf_pool *pages;
    struct gw_stores *stores;
    struct gw_checkpoint *checkpoint;
    struct solo solo;
    uint64_t requests;
    uint32_t begun; /* of this wave: sequences that have a token */
    uint32_t steps; /* of this wave, since all have */
};

/* What the rounds of one kind gave. */
struct tally {
    double ratio[ROUNDS_MAX], on_s, off_s;
    double cpu_s; /* of this process, in on_s */
    uint32_t len;
};

static void need(gw_err_t err, const struct gw_err_ctx *ctx)
{
    if (err == GW_OK) return;
    fprintf(stderr, "bench_checkpoint: %s\n", ctx->text);
    exit(1);
}

static void on_tokens(void *arg, uint64_t request, uint32_t attempt, uint32_t branch,
                      const struct gw_tokens *tokens)
{
    struct bench *b = arg;
    (void)request, (void)attempt, (void)branch;
    b->begun += tokens->first == 0;
}

/* ---- set up ---- */

static void open_store(struct bench *b)
{
    static const uint8_t fingerprint[16] = {1};
    char address[128];
    struct gw_err_ctx ctx = {0};
    redis_open(&b->redis, NULL);
    snprintf(address, sizeof address, "%s", b->redis.socket);
    const char *const redis[] = {address};
    const struct gw_page_seal_config seal = {.key = "a cluster key for benches, 32 by",
                                             .key_len = 32,
                                             .fingerprint = fingerprint,
                                             .fingerprint_len = sizeof fingerprint,
                                             .profile = b->ops->profile,
                                             .kv_type = gw_dtype_name(b->ops->kv)};
    const struct gw_stores_config stores = {.seal = &seal, .instance = "i", .redis = redis, .redis_len = 1};
    need(gw_stores_create(&stores, &b->stores, &ctx), &ctx);
    const struct gw_checkpoint_config checkpoint = {.shelf = b->shelf,
                                                    .stores = b->stores,
                                                    .share = SHARE,
                                                    .threads = (uint32_t)gw_device_threads(b->device)};
    need(gw_checkpoint_create(&checkpoint, &b->checkpoint, &ctx), &ctx);
}

static void open_pages(struct bench *b)
{
    const struct gw_cells *cells = &b->model->cells;
    const uint32_t slots = KV_TOKENS / GW_BLOCK_TOKENS;
    const struct gw_geometry_heads heads = {.share_heads = cells->share_heads,
                                            .query_group = cells->query_group};
    struct gw_page_pool *pool;
    struct gw_place place;
    struct gw_err_ctx ctx = {0};
    gw_place_alone(cells, &place);
    need(gw_shelf_create(&b->shelf), &ctx);
    need(gw_page_pool_create_on(b->device, &b->model->config, cells, place.cells, b->ops->kv, slots, false,
                                &pool, &ctx),
         &ctx);
    need(gw_shelf_put(b->shelf, (struct gw_shelf_key){1, 1}, gw_geometry_pages(heads, place.cells), pool,
                      slots, &b->pages, &ctx),
         &ctx);
}

static void open_bench(struct bench *b, const char *dir)
{
    struct gw_err_ctx ctx = {0};
    need(gw_model_open(dir, &b->model, &ctx), &ctx);
    need(gw_ops_cpu(gw_model_profile(b->model, GW_WEIGHT_FILE, GW_KV_FILE), GW_ISA_AUTO, &b->ops, &ctx),
         &ctx);
    need(gw_device_cpu_create(0, false, &b->device, &ctx), &ctx);
    open_pages(b);
    open_store(b);
    const struct solo_config config = {.ops = b->ops,
                                       .device = b->device,
                                       .kv_tokens = KV_TOKENS,
                                       .max_batch_tokens = 512,
                                       .max_sequences = SEQUENCES,
                                       .pages = b->pages,
                                       .checkpoint = b->checkpoint,
                                       .key = "a cluster key for benches, 32 by",
                                       .key_len = 32,
                                       .sink = {.arg = b, .tokens = on_tokens}};
    need(solo_open(&b->solo, b->model, &config, &ctx), &ctx);
}

static void close_bench(struct bench *b)
{
    solo_close(&b->solo);
    gw_checkpoint_destroy(b->checkpoint);
    gw_shelf_retire(b->shelf, b->pages, 0);
    gw_stores_destroy(b->stores);
    gw_shelf_destroy(b->shelf);
    gw_device_destroy(b->device);
    gw_model_close(b->model);
    redis_close(&b->redis);
}

/* ---- decoding ---- */

static void step(struct bench *b)
{
    struct gw_err_ctx ctx = {0};
    bool did;
    need(gw_engine_step(b->solo.engine, &did, &ctx), &ctx);
}

static void submit(struct bench *b, uint32_t sequence)
{
    struct gw_request q = {.id = ++b->requests, .n = 1, .prompt_len = PROMPT + sequence};
    struct gw_branch_log log = {0};
    struct gw_err_ctx ctx = {0};
    q.prompt = malloc(q.prompt_len * sizeof *q.prompt);
    if (!q.prompt) exit(1);
    for (uint32_t k = 0; k < q.prompt_len; k++)
        q.prompt[k] = (uint32_t)((q.id * 7919 + k * UINT64_C(15485863)) % b->model->config.vocab);
    q.sampling = (struct gw_sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = TOKENS};
    struct gw_msg_submit m = {.attempt = 1, .request = q, .logs = &log};
    need(gw_engine_submit(b->solo.engine, &m, &ctx), &ctx);
}

/* All sequences decode, and will for a round at least. */
static void begin_wave(struct bench *b)
{
    bool did = true;
    struct gw_err_ctx ctx = {0};
    offers = false;
    while (did) need(gw_engine_step(b->solo.engine, &did, &ctx), &ctx);
    b->begun = b->steps = 0;
    for (uint32_t i = 0; i < SEQUENCES; i++) submit(b, i);
    while (b->begun < SEQUENCES) step(b);
}

/* Thue and Morse's: drifts cancel, and so do those of drifts. */
static const bool order[SLICES] = {true, false, false, true, false, true, true, false};

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Of another process; 0 where that cannot be read. */
static double cpu_of(pid_t pid)
{
    char path[64];
    unsigned long ns = 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f || fscanf(f, "%lu", &ns) != 1) ns = 0;
    if (f) fclose(f);
    return (double)ns * 1e-9;
}

/* A step whose time counts for those that stored or those that did not; what it seals is offered, or is not. */
static double step_s(struct bench *b, bool offer)
{
    int64_t start_us = gw_clock_mono_us();
    offers = offer;
    step(b);
    b->steps++;
    return (double)(gw_clock_mono_us() - start_us) * 1e-6;
}

static void round_of_slices(struct bench *b, struct tally *t, bool stores)
{
    double on_s = 0, off_s = 0;
    step_s(b, stores && order[0]);
    for (uint32_t i = 0; i < SLICES * SLICE; i++) {
        bool next = i + 1 < SLICES * SLICE && order[(i + 1) / SLICE];
        double began_s = cpu_s();
        *(order[i / SLICE] ? &on_s : &off_s) += step_s(b, stores && next);
        t->cpu_s += order[i / SLICE] ? cpu_s() - began_s : 0;
    }
    t->ratio[t->len++] = off_s / on_s;
    t->on_s += on_s;
    t->off_s += off_s;
}

static void report(const char *name, struct tally *t)
{
    const double tokens = (double)(SEQUENCES * SLICE * SLICES / 2 * t->len);
    double ratio = bench_median(t->ratio, t->len);
    printf("bench checkpoint_rate_%u%s ours=%.2f ref=%.2f ratio=%.4f unit=tokens/s\n", SEQUENCES, name,
           tokens / t->on_s, tokens / t->off_s, ratio);
    printf("# %u rounds, quartiles %.4f and %.4f\n", t->len, t->ratio[t->len / 4], t->ratio[t->len * 3 / 4]);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct bench b;
    static struct tally stored, control;
    uint32_t rounds = argc > 2 ? (uint32_t)atoi(argv[2]) : 40;
    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_checkpoint MODEL [ROUNDS of each kind, 1 to %u]\n", ROUNDS_MAX);
        return 2;
    }
    open_bench(&b, argv[1]);
    begin_wave(&b);
    const double redis_s = cpu_of(b.redis.pid);
    for (uint32_t i = 0; i < 2 * rounds; i++) {
        if (b.steps + SLICE * SLICES + SEQUENCES + 1 > TOKENS) begin_wave(&b);
        round_of_slices(&b, i % 2 ? &control : &stored, i % 2 == 0);
        if (i % 20 == 19) printf("# %u of %u rounds\n", i + 1, 2 * rounds), fflush(stdout);
    }
    struct gw_checkpoint_stats s = gw_checkpoint_stats(b.checkpoint);
    report("", &stored);
    report("_control", &control);
    printf("bench checkpoint_share_%u ours=%.5f unit=of-worker-cpu\n", SEQUENCES,
           (double)s.cpu_us * 1e-6 / stored.cpu_s);
    printf("bench checkpoint_redis_%u ours=%.5f unit=of-worker-cpu\n", SEQUENCES,
           (cpu_of(b.redis.pid) - redis_s) / stored.cpu_s);
    printf("# %lu blocks offered, %lu stored, %lu dropped, refused or gone\n", s.offered, s.stored,
           s.dropped + s.refused + s.gone);
    close_bench(&b);
    return s.stored > 0 ? 0 : 1;
}
