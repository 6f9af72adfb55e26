/* Bench: the gap that a client sees when its request moves to another worker, by what is done about its KV. Prints, for
 * each length of context and way,
 *
 *     bench move_<way>_<tokens> ours=… ref=… ratio=… unit=ms
 *
 * ours: added gap, medians over rounds: from the last token of the old worker to the first of the new one, less a step of
 * the old one; ref: a step (peer, precopy: what the move should cost at most is one), for recompute the same move with
 * precopy. Two workers of one thread each, in one process, pages over their page ports; the controller's two messages
 * between them are not in it (tests/bench/bench_moves.py has everything, on contexts that can be computed here).
 *
 *     precopy      pages flow while the old worker decodes, what was sealed since follows at the cutover
 *     peer         all pages flow at the cutover
 *     recompute    the new worker computes all of it again (up to RECOMPUTE_MAX tokens: the rest takes minutes)
 *
 * The context's KV is synthetic (random values that a third pool serves under the right names), so that 32k tokens need not
 * be computed first. By the wall clock. usage: bench_moves MODEL [ROUNDS]     (a model of tests/bench/make_model.py) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/bench_measure.h"
#include "base/rng.h"
#include "kernels/convert.h"
#include "tests/lib/ground.h"

#define ROUNDS_MAX    64
#define TOKENS        40
#define BEFORE        8 /* tokens from the old worker before pages flow */
#define AFTER         4 /* from the new one */
#define RECOMPUTE_MAX 1024
#define KV_TOKENS     34000
#define LEASE_US      (600 * GW_US_PER_S)

enum way { PRECOPY, PEER, RECOMPUTE };
static const char *const way_names[] = {"precopy", "peer", "recompute"};

struct stage {
    struct ground source, old_one, new_one; /* source: has the pages of the prompt */
    struct gw_shelf_pool *synthetic;
    struct gw_block_namer namer;
    uint32_t *prompt, prompt_len;
    uint32_t ids[TOKENS], len;
    int64_t at_us[TOKENS];
    uint32_t warmed;
    uint64_t generation;
};

static void on_tokens(void *arg, uint64_t request, uint32_t attempt, uint32_t branch,
                      const struct gw_tokens *tokens)
{
    struct stage *s = arg;
    (void)request, (void)attempt, (void)branch;
    for (uint32_t i = 0; i < tokens->count; i++) {
        s->at_us[s->len] = gw_clock_mono_us();
        s->ids[s->len++] = tokens->ids[i];
    }
}

static void on_warmed(void *arg, uint64_t request, uint32_t attempt, uint32_t tokens)
{
    (void)request, (void)attempt, (void)tokens;
    ((struct stage *)arg)->warmed++;
}

/* ---- the context ---- */

/* Small values: the model stays finite on them. */
static void fill_slot(struct gw_page_pool *pool, uint32_t slot, struct gw_rng *rng)
{
    for (uint32_t page = 0; page < gw_page_pool_pages(pool); page++) {
        uint32_t bytes;
        uint16_t *values = (uint16_t *)(void *)gw_page_pool_page(pool, slot, page, &bytes);
        for (uint32_t i = 0; i < bytes / 2; i++) values[i] = (uint16_t)(0x3C00 | (gw_rng_next(rng) & 0x81FF));
    }
}

static void name_blocks(struct stage *s, struct gw_rng *rng)
{
    static const uint8_t tenant[GW_REQUEST_TENANT_BYTES];
    struct gw_block_name name, *parent = NULL;
    for (uint32_t block = 0; block < (s->prompt_len - 1) / GW_BLOCK_TOKENS; block++) {
        name = gw_block_name_next(&s->namer, tenant, parent, s->prompt + block * GW_BLOCK_TOKENS);
        parent = &name;
        fill_slot(gw_shelf_memory(s->synthetic), block, rng);
        gw_shelf_seal(s->synthetic, block, &name);
    }
}

static void make_context(struct stage *s, uint32_t tokens)
{
    struct gw_host *h = &s->source.host;
    const struct gw_cells *cells = &h->model->cells;
    struct gw_cell_rect all = gw_cells_all(cells);
    const struct gw_geometry_heads heads = {cells->share_heads, cells->query_group};
    struct gw_page_pool *pool;
    struct gw_rng rng;
    uint32_t slots = tokens / GW_BLOCK_TOKENS + 1;
    gw_rng_init(&rng, tokens);
    s->prompt_len = tokens;
    for (uint32_t i = 0; i < tokens; i++) s->prompt[i] = (uint32_t)gw_rng_below(&rng, 1000);
    assert_int_equal(
        gw_page_pool_create(&h->model->config, cells, all, h->ops->kv, slots, false, &pool, NULL), GW_OK);
    assert_int_equal(gw_shelf_put(h->shelf, (struct gw_shelf_key){1, ++s->generation},
                                  gw_geometry_pages(heads, all), pool, slots, &s->synthetic, NULL),
                     GW_OK);
    name_blocks(s, &rng);
}

static struct gw_page_holder holder_of(const struct ground *g)
{
    struct gw_page_holder holder = {.cells = gw_cells_all(&g->model->cells)};
    snprintf(holder.pages, sizeof holder.pages, "%s", gw_peer_server_address(g->host.pages));
    return holder;
}

/* ---- the two workers ---- */

static struct gw_member *prepare(struct stage *s, struct ground *g)
{
    const struct gw_engine_sink sink = {.arg = s, .tokens = on_tokens, .warmed = on_warmed};
    struct gw_member *m = ground_member(&g, "8", ++s->generation, 0);
    assert_int_equal(gw_member_wait(m), GW_MEMBER_PREPARED);
    assert_int_equal(gw_member_arm(m, &sink, NULL), GW_OK);
    return m;
}

static void start(struct gw_member *m)
{
    const struct gw_engine_sink none = {0};
    assert_int_equal(gw_member_start(m, &none, NULL), GW_OK);
}

static struct gw_msg_submit submission(struct stage *s, uint32_t attempt, struct gw_branch_log *log,
                                       struct gw_page_holder *holder)
{
    struct gw_request q = {.id = 7, .n = 1, .prompt_len = s->prompt_len};
    q.prompt = malloc(s->prompt_len * sizeof *q.prompt);
    memcpy(q.prompt, s->prompt, s->prompt_len * sizeof *q.prompt);
    q.sampling = (struct gw_sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = TOKENS};
    *log = (struct gw_branch_log){.len = s->len, .ids = s->ids};
    return (struct gw_msg_submit){
        .attempt = attempt, .request = q, .logs = log, .holders_len = holder != NULL, .holders = holder};
}

static void submit(struct stage *s, struct gw_member *m, uint32_t attempt, struct gw_page_holder *holder)
{
    struct gw_branch_log log;
    struct gw_msg_submit msg = submission(s, attempt, &log, holder);
    assert_int_equal(gw_engine_submit(gw_member_engine(m), &msg, NULL), GW_OK);
}

static void step_until(struct stage *s, struct gw_member *m, uint32_t len)
{
    bool did;
    while (s->len < len) assert_int_equal(gw_member_step(m, 0, &did, NULL), GW_OK);
}

/* The new worker's own time: its process would look after its pages while the old one decodes. */
struct warming {
    struct stage *stage;
    struct gw_member *member;
    atomic_bool over;
};

static void *tend(void *arg)
{
    struct warming *w = arg;
    while (w->stage->warmed == 0) gw_engine_tend(gw_member_engine(w->member));
    atomic_store(&w->over, true);
    return NULL;
}

static void precopy(struct stage *s, struct gw_member *from, struct gw_member *to)
{
    struct gw_page_holder holder = holder_of(&s->old_one);
    struct gw_branch_log log;
    struct warming w = {.stage = s, .member = to};
    struct gw_msg_submit msg = submission(s, 1, &log, &holder);
    pthread_t thread;
    s->warmed = 0;
    assert_int_equal(gw_engine_warm(gw_member_engine(to), &msg, NULL), GW_OK);
    assert_int_equal(pthread_create(&thread, NULL, tend, &w), 0);
    while (!atomic_load(&w.over) && s->len < TOKENS - AFTER - 1) step_until(s, from, s->len + 1);
    pthread_join(thread, NULL);
}

/* ---- a move ---- */

static double step_ms(const struct stage *s, uint32_t first, uint32_t last)
{
    double steps[TOKENS];
    for (uint32_t i = first; i < last; i++) steps[i - first] = (double)(s->at_us[i + 1] - s->at_us[i]) / 1e3;
    return bench_median(steps, last - first);
}

/* Milliseconds that the move adds to the gap between two tokens; *step: what a step takes. */
static double run_move(struct stage *s, enum way way, double *step)
{
    uint32_t len[GW_REQUEST_BRANCHES_MAX], n;
    struct gw_page_holder source = holder_of(&s->source), holder = holder_of(&s->old_one);
    struct gw_member *from = prepare(s, &s->old_one), *to = prepare(s, &s->new_one);
    s->len = 0;
    start(from);
    submit(s, from, 1, &source);
    step_until(s, from, BEFORE);
    if (way == PRECOPY) precopy(s, from, to);
    step_until(s, from, s->len + 1);
    uint32_t left_at = s->len;
    *step = step_ms(s, 1, BEFORE - 1);
    assert_int_equal(gw_engine_settle(gw_member_engine(from), NULL), GW_OK);
    assert_true(gw_engine_hand_off(gw_member_engine(from), 7, 1, len, &n));
    start(to);
    submit(s, to, 2, way == RECOMPUTE ? NULL : &holder);
    step_until(s, to, left_at + AFTER);
    gw_member_destroy(from, 0);
    gw_member_destroy(to, 0);
    return (double)(s->at_us[left_at] - s->at_us[left_at - 1]) / 1e3 - *step;
}

static double measure(struct stage *s, enum way way, uint32_t rounds, double *step)
{
    double gaps[ROUNDS_MAX], steps[ROUNDS_MAX];
    s->new_one.host.never_fetch = way == RECOMPUTE;
    for (uint32_t r = 0; r < rounds; r++) gaps[r] = run_move(s, way, &steps[r]);
    *step = bench_median(steps, rounds);
    return bench_median(gaps, rounds);
}

static void bench_context(struct stage *s, uint32_t tokens, uint32_t rounds)
{
    make_context(s, tokens);
    for (enum way way = PRECOPY; way <= RECOMPUTE; way++) {
        double step;
        if (way == RECOMPUTE && tokens > RECOMPUTE_MAX) continue;
        double gap = measure(s, way, way == RECOMPUTE ? 1 : rounds, &step);
        printf("bench move_%s_%u ours=%.2f ref=%.2f ratio=%.3f unit=ms\n", way_names[way], tokens, gap, step,
               gap / step);
        fflush(stdout);
    }
    gw_shelf_retire(s->source.host.shelf, s->synthetic, 0);
}

static void open_worker(struct ground *g, const char *model)
{
    ground_open(g, model);
    g->host.memory_bytes = (uint64_t)8 << 30;
    g->host.kv_tokens = KV_TOKENS;
    g->host.max_batch_tokens = 256;
}

int main(int argc, char **argv)
{
    uint32_t rounds = argc > 2 ? (uint32_t)atoi(argv[2]) : 5;
    struct stage *s = calloc(1, sizeof *s);
    if (argc < 2 || rounds == 0 || rounds > ROUNDS_MAX || !s) {
        fprintf(stderr, "usage: bench_moves MODEL [ROUNDS]\n");
        return 1;
    }
    s->prompt = calloc(KV_TOKENS, sizeof *s->prompt);
    open_worker(&s->source, argv[1]);
    open_worker(&s->old_one, argv[1]);
    open_worker(&s->new_one, argv[1]);
    const struct gw_host *h = &s->old_one.host;
    assert_int_equal(gw_block_namer_init(&s->namer, GROUND_KEY, GROUND_KEY_BYTES, h->fingerprint,
                                         sizeof h->fingerprint, h->ops->profile, gw_dtype_name(h->ops->kv),
                                         NULL),
                     GW_OK);
    bench_context(s, 1024, rounds);
    bench_context(s, 8192, rounds);
    bench_context(s, 32768, rounds);
    ground_close(&s->source);
    ground_close(&s->old_one);
    ground_close(&s->new_one);
    free(s->prompt);
    free(s);
    return 0;
}
