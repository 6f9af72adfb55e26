/* Decoding steps as graphs (kernels/device_graph.h) on the host shim, which keeps launches with their arguments and does them again: the
 * bits of plain steps, while sequences join and leave and tables grow; what fails comes to nothing, and does no harm. */
#include "tests/lib/cuda_fixture.h"

#include <stdio.h>

#include "kernels/cuda/cuda_device_internal.h"
#include "tests/lib/cublas_fixture.h"
#include "tests/lib/engine_fixture.h"
#include "tests/lib/shim_device.h"

#define MODEL "tests/data/tiny/yarn"

#define STEP_BYTES    65536
#define SCRATCH_BYTES (1u << 20)

/* A request that comes at a step. */
struct coming {
    uint32_t step, prompt, tokens;
};

#define REQUESTS 3

/* One sequence, then three, two, one: graphs of 1, 4 (one of them empty) and 2 rows. The first one's table grows from one replay to
 * the next, at 16 tokens. */
static const struct coming mixed[REQUESTS] = {{0, 8, 15}, {3, 2, 10}, {4, 3, 6}};
static const struct coming together[REQUESTS] = {{0, 2, 4}, {0, 3, 4}, {0, 4, 4}};

/* An engine, its device, and who comes. */
struct pipeline {
    const struct coming *comings;
    struct fixture f;
    struct shim_device s;
    uint32_t steps;
};

/* The stand-in multiplies much faster than matmul.cu on the shim, and a row as if it were alone: all steps of the tests that do not ask
 * for the exact profile are done by it. */
static struct fake_cublas fake;

static void open_device_as(struct shim_device *s, enum gw_dtype format, bool exact, bool no_graphs)
{
    struct gw_err_ctx ctx = {0};
    memset(s, 0, sizeof *s);
    s->no_graphs = no_graphs;
    s->cublas = exact ? NULL : &fake.api;
    s->fast_rows = 1;
    if (shim_device_open_as(s, STEP_BYTES, SCRATCH_BYTES, GW_BF16, format, format, &ctx) != GW_OK)
        fail_msg("%s", ctx.text);
}

static void open_device(struct shim_device *s, bool exact, bool no_graphs)
{
    open_device_as(s, GW_BF16, exact, no_graphs);
}

static void open_engine(struct pipeline *p, const struct shim_device *on)
{
    struct solo_config c = fixture_config();
    c.ops = on->ops;
    c.device = on->device;
    c.kv_tokens = 256;
    c.max_batch_tokens = 16;
    c.max_sequences = 4;
    p->steps = 0;
    fixture_open(&p->f, MODEL, c);
}

/* format: of weights and pages. */
static void open_pipeline_as(struct pipeline *p, enum gw_dtype format, bool exact, bool no_graphs)
{
    p->comings = exact ? together : mixed;
    open_device_as(&p->s, format, exact, no_graphs);
    open_engine(p, &p->s);
}

static void open_pipeline(struct pipeline *p, bool exact, bool no_graphs)
{
    open_pipeline_as(p, GW_BF16, exact, no_graphs);
}

static void close_pipeline(struct pipeline *p)
{
    fixture_close(&p->f);
    assert_int_equal(shim_device_close(&p->s), 0);
}

static void submit(struct pipeline *p, uint32_t i)
{
    const struct coming *c = &p->comings[i];
    uint32_t ids[16];
    for (uint32_t t = 0; t < c->prompt; t++) ids[t] = (7 * i + 31 * t) % p->f.model->config.vocab;
    struct gw_request q = fixture_request(i + 1, ids, c->prompt, c->tokens);
    q.sampling.logprobs = true;
    q.sampling.temperature = i == 1 ? 0.9f : 0.0f;
    q.sampling.seed = i;
    fixture_submit(&p->f, &q, 1, NULL, NULL);
}

/* Who comes now, and a step. */
static bool step(struct pipeline *p)
{
    for (uint32_t i = 0; i < REQUESTS; i++)
        if (p->comings[i].step == p->steps) submit(p, i);
    p->steps++;
    return fixture_step(&p->f);
}

static void run(struct pipeline *p)
{
    while (step(p)) continue;
}

/* Of what has been drawn so far. */
static void expect_same(struct pipeline *want, struct pipeline *got)
{
    for (uint32_t i = 0; i < REQUESTS; i++) {
        const struct fixture_branch *a = &fixture_run_of(&want->f, i + 1)->branches[0];
        const struct fixture_branch *b = &fixture_run_of(&got->f, i + 1)->branches[0];
        assert_true(b->len > 0 && b->len <= a->len);
        for (uint32_t k = 0; k < b->len; k++) {
            if (a->records[k].logits != b->records[k].logits) fail_msg("logits differ at position %u", k);
            assert_int_equal(a->records[k].id, b->records[k].id);
        }
    }
}

static void expect_all_the_same(struct pipeline *want, struct pipeline *got)
{
    for (uint32_t i = 0; i < REQUESTS; i++)
        assert_int_equal(fixture_run_of(&got->f, i + 1)->branches[0].len, got->comings[i].tokens);
    expect_same(want, got);
}

static struct gw_graph_counts counts_of(const struct pipeline *p)
{
    return gw_rank_graphs(p->f.solo.rank);
}

/* What all but the first compare with. */
static struct pipeline plain;

static int open_plain(void **state)
{
    (void)state;
    fake_cublas_open(&fake, &(struct fake_cublaslt_plan){.put = gw_shim_do});
    open_pipeline(&plain, false, true);
    run(&plain);
    return (int)counts_of(&plain).replayed;
}

static int close_plain(void **state)
{
    (void)state;
    close_pipeline(&plain);
    fake_cublas_close(&fake);
    return 0;
}

/* matmul.cu's products, too, of three sequences in a graph for four. */
static void expect_bits_of_plain_steps(enum gw_dtype format)
{
    struct pipeline want, got;
    open_pipeline_as(&want, format, true, true);
    open_pipeline_as(&got, format, true, false);
    run(&want);
    run(&got);
    expect_all_the_same(&want, &got);
    assert_int_equal(counts_of(&got).recorded, 1);
    assert_true(counts_of(&got).replayed >= 1);
    close_pipeline(&got);
    close_pipeline(&want);
}

static void test_graphs_of_the_exact_profile_give_the_bits_of_plain_steps(void **state)
{
    (void)state;
    expect_bits_of_plain_steps(GW_BF16);
}

/* Of int8 weights and pages: an empty row of a graph is quantized with the others. */
static void test_graphs_of_int8_give_the_bits_of_plain_steps(void **state)
{
    (void)state;
    expect_bits_of_plain_steps(GW_I8);
}

static void test_graphs_give_the_bits_of_plain_steps(void **state)
{
    (void)state;
    struct pipeline p;
    open_pipeline(&p, false, false);
    run(&p);
    expect_all_the_same(&plain, &p);
    struct gw_graph_counts c = counts_of(&p);
    printf("# %u plain, %u recorded, %u replayed\n", c.plain, c.recorded, c.replayed);
    assert_int_equal(c.recorded, 3); /* of 1, 2 and 4 rows */
    assert_true(c.replayed >= 6);
    assert_int_equal(c.failed, 0);
    close_pipeline(&p);
}

/* What the engine does where a step cannot be recorded: the same, operation by operation. */
static void test_steps_whose_recordings_fail_are_done_plainly(void **state)
{
    (void)state;
    struct pipeline p;
    open_pipeline(&p, false, false);
    p.s.runtime.fails = "capture_end";
    while (counts_of(&p).failed < GW_GRAPH_FAILS_MAX) assert_true(step(&p));
    expect_same(&plain, &p);
    assert_int_equal(counts_of(&p).recorded + counts_of(&p).replayed, 0);
    close_pipeline(&p);
}

/* Two pipelines on one device, a step of each in turn: each has its graphs, activations and pages. */
static void test_graphs_of_two_owners_do_not_mix(void **state)
{
    (void)state;
    struct pipeline p[2] = {{.comings = mixed}, {.comings = mixed}};
    struct shim_device *s = &p[0].s;
    open_device(s, false, false);
    open_engine(&p[0], s);
    while (counts_of(&p[0]).recorded == 0) assert_true(step(&p[0]));
    open_engine(&p[1], s);
    while (counts_of(&p[1]).replayed < 2) assert_true(step(&p[0]) && step(&p[1]));
    for (int i = 0; i < 2; i++) {
        expect_same(&plain, &p[i]);
        assert_in_range(counts_of(&p[i]).recorded, 2, 3); /* the first is some steps ahead */
        assert_int_equal(counts_of(&p[i]).failed, 0);
    }
    fixture_close(&p[1].f);
    close_pipeline(&p[0]);
}

/* ---- operations alone: lengths, tables ---- */

enum { HEADS = 4, KV_HEADS = 2, DIM = 32, BLOCK = 16, SEQS = 3, ROWS = 4, OWN = 18, SLOTS = SEQS * OWN };
enum { COLUMNS = (HEADS + 2 * KV_HEADS) * DIM, PAGE = 2 * BLOCK * DIM * 2, LENGTH = OWN * BLOCK };

/* One layer's attention on a device of its own. */
struct layer {
    struct shim_device s;
    struct gw_graphs *graphs;
    struct gw_memory pages, qkv, out, angles;
    uint8_t *arenas[KV_HEADS];
    struct gw_kv_layer kv;
    struct gw_seq_rows seqs[SEQS];
    uint32_t tables[SEQS][OWN];
};

static struct gw_memory memory_of(struct shim_device *s, size_t bytes, const void *values)
{
    struct gw_memory m;
    struct gw_err_ctx ctx = {0};
    if (gw_memory_alloc(s->device, bytes, GW_MEMORY_MIRRORED, &m, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    if (values) gw_memory_put(s->device, m.device, values, bytes);
    return m;
}

/* What it begins with is r's: the same for the same r. */
static void open_layer(struct layer *l, struct gw_rng r, bool no_graphs)
{
    open_device(&l->s, true, no_graphs);
    size_t pages = SLOTS * KV_HEADS * PAGE;
    void *kv = values_as(&r, GW_BF16, pages / 2, false);
    float *angles = random_f32(&r, (size_t)LENGTH * DIM);
    l->pages = memory_of(&l->s, pages, kv);
    l->angles = memory_of(&l->s, (size_t)LENGTH * DIM * sizeof *angles, angles);
    l->qkv = memory_of(&l->s, ROWS * COLUMNS * sizeof(float), NULL);
    l->out = memory_of(&l->s, ROWS * HEADS * DIM * 2, NULL);
    for (uint32_t h = 0; h < KV_HEADS; h++) l->arenas[h] = (uint8_t *)l->pages.device + h * PAGE;
    l->kv = (struct gw_kv_layer){.arena = l->arenas,
                                 .page_bytes = KV_HEADS * PAGE,
                                 .cells = KV_HEADS,
                                 .heads_per_cell = 1,
                                 .head_dim = DIM,
                                 .block_tokens = BLOCK};
    l->graphs = gw_graphs_create(l->s.device, ROWS);
    free(kv), free(angles);
}

static void close_layer(struct layer *l)
{
    gw_graphs_destroy(l->s.device, l->graphs);
    gw_memory_free(&l->pages);
    gw_memory_free(&l->angles);
    gw_memory_free(&l->qkv);
    gw_memory_free(&l->out);
    assert_int_equal(shim_device_close(&l->s), 0);
}

static void attend(struct layer *l)
{
    const struct gw_ops *ops = l->s.ops;
    struct gw_device *dev = l->s.device;
    ops->rope_append(dev, l->qkv.device, COLUMNS, 0, HEADS * DIM, (HEADS + KV_HEADS) * DIM, HEADS, NULL,
                     &l->kv, l->angles.device, l->seqs, SEQS);
    ops->attention(dev, l->out.device, l->qkv.device, COLUMNS, 0, HEADS, &l->kv, 0.2f, l->seqs, SEQS);
}

/* The first sequence is at `position`; each has slots of its own, which lie otherwise at every step. */
static void run_layer(struct layer *l, uint32_t position, const float *qkv)
{
    const uint32_t positions[SEQS] = {position, 5, 20};
    const struct gw_graph_step step = {
        .rows = SEQS, .seqs = l->seqs, .seqs_len = SEQS, .kv = &l->kv, .heads = HEADS};
    struct gw_err_ctx ctx = {0};
    uint32_t rows;
    for (uint32_t i = 0; i < SEQS; i++) {
        for (uint32_t b = 0; b < OWN; b++) l->tables[i][b] = i * OWN + (b + position) % OWN;
        l->seqs[i] =
            (struct gw_seq_rows){.row = i, .rows = 1, .position = positions[i], .blocks = l->tables[i]};
    }
    gw_memory_put(l->s.device, l->qkv.device, qkv, ROWS * COLUMNS * sizeof *qkv);
    enum gw_graph_way way = gw_graph_begin(l->s.device, l->graphs, &step, &rows);
    assert_int_equal(rows, way == GW_GRAPH_RECORDS ? ROWS : SEQS);
    if (way != GW_GRAPH_REPLAYED) attend(l);
    if (way == GW_GRAPH_RECORDS && !gw_graph_end(l->s.device, l->graphs)) attend(l);
    gw_memory_get(l->s.device, l->out.host, l->out.device, SEQS * HEADS * DIM * 2);
    gw_memory_get(l->s.device, l->pages.host, l->pages.device, l->pages.bytes);
    if (gw_device_finish(l->s.device, &ctx) != GW_OK) fail_msg("%s", ctx.text);
}

/* Two layers, of which one has graphs. */
struct pair {
    struct layer plain, graphs;
    struct gw_rng r;
    uint32_t position;
};

static void open_pair(struct pair *p, uint32_t position)
{
    p->r = seeded_rng("pair");
    p->position = position;
    open_layer(&p->plain, p->r, true);
    open_layer(&p->graphs, p->r, false);
    assert_null(p->plain.graphs);
}

/* The next steps of both: the same bits. Returns what has been done so far. */
static struct gw_graph_counts run_pair(struct pair *p, uint32_t steps)
{
    const struct layer *a = &p->plain, *b = &p->graphs;
    for (; steps > 0; steps--, p->position++) {
        float *qkv = random_f32(&p->r, ROWS * COLUMNS);
        run_layer(&p->plain, p->position, qkv);
        run_layer(&p->graphs, p->position, qkv);
        assert_same_bits(b->out.host, a->out.host, SEQS * HEADS * DIM * 2, "attention");
        assert_same_bits(b->pages.host, a->pages.host, a->pages.bytes, "pages");
        free(qkv);
    }
    return gw_graphs_count(b->s.device, b->graphs);
}

static void close_pair(struct pair *p)
{
    close_layer(&p->graphs);
    close_layer(&p->plain);
}

static void expect_counts(struct gw_graph_counts c, uint32_t plain_steps, uint32_t recorded,
                          uint32_t replayed, uint32_t failed)
{
    assert_int_equal(c.plain, plain_steps);
    assert_int_equal(c.recorded, recorded);
    assert_int_equal(c.replayed, replayed);
    assert_int_equal(c.failed, failed);
}

/* Over the end of a chunk: a graph of one chunk, then another one of two. What a graph reads is what this step says. */
static void test_graphs_follow_lengths_and_tables(void **state)
{
    (void)state;
    struct pair p;
    open_pair(&p, GW_ATTN_CHUNK - 4);
    expect_counts(run_pair(&p, 8), 2, 2, 4, 0);
    close_pair(&p);
}

/* Whatever call it is that says no: after three times nobody asks again. */
static void test_graph_that_fails_leaves_plain_steps(void **state)
{
    static const char *const calls[] = {"capture_begin", "capture_end", "graph_launch"};
    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct pair p;
        open_pair(&p, 30);
        p.graphs.s.runtime.fails = calls[i];
        expect_counts(run_pair(&p, 1 + GW_GRAPH_FAILS_MAX), 1 + GW_GRAPH_FAILS_MAX, 0, 0, GW_GRAPH_FAILS_MAX);
        p.graphs.s.runtime.fails = NULL;
        expect_counts(run_pair(&p, 2), 3 + GW_GRAPH_FAILS_MAX, 0, 0, GW_GRAPH_FAILS_MAX);
        close_pair(&p);
    }
}

/* A graph that has been replayed fails: the step is not lost, and the next one is recorded anew. */
static void test_graph_that_fails_later_is_done_plainly(void **state)
{
    (void)state;
    struct pair p;
    open_pair(&p, 30);
    expect_counts(run_pair(&p, 3), 1, 1, 1, 0);
    p.graphs.s.runtime.fails = "graph_launch";
    expect_counts(run_pair(&p, 1), 2, 1, 1, 1);
    p.graphs.s.runtime.fails = NULL;
    expect_counts(run_pair(&p, 2), 2, 2, 2, 1);
    close_pair(&p);
}

/* An operation that wants something told while it is recorded would be told once, and then no more: the recording is thrown away. */
static void test_graph_that_would_be_told_is_not_recorded(void **state)
{
    (void)state;
    struct pair p;
    open_pair(&p, 30);
    run_pair(&p, 1);
    struct gw_cuda_device *d = gw_cuda_of(p.graphs.s.device);
    memset(d->arena_kept, 0, GW_CUDA_ARENA_LISTS * (size_t)GW_CUDA_ARENA_LIST_MAX * sizeof *d->arena_kept);
    expect_counts(run_pair(&p, 1), 2, 0, 0, 1);
    expect_counts(run_pair(&p, 2), 2, 1, 1, 1);
    close_pair(&p);
}

/* Where a list of arenas has made room for another one, a graph may hold an address of the wrong one: it is made anew. */
static void test_graph_from_before_lists_changed_is_made_anew(void **state)
{
    (void)state;
    struct pair p;
    open_pair(&p, 30);
    run_pair(&p, 3);
    gw_cuda_of(p.graphs.s.device)->arenas_changed++;
    expect_counts(run_pair(&p, 1), 2, 1, 1, 0);
    expect_counts(run_pair(&p, 2), 2, 2, 2, 0);
    close_pair(&p);
}

/* Rows of a prompt, more rows than there is room for: nobody's graph. */
static void test_steps_that_are_no_decoding_stay_plain(void **state)
{
    (void)state;
    struct layer l;
    uint32_t rows;
    open_layer(&l, seeded_rng("layer"), false);
    struct gw_seq_rows seqs[ROWS + 1] = {{0}};
    for (uint32_t i = 0; i <= ROWS; i++) seqs[i] = (struct gw_seq_rows){.row = i, .rows = 1};
    const struct gw_graph_step many = {
        .rows = ROWS + 1, .seqs = seqs, .seqs_len = ROWS + 1, .kv = &l.kv, .heads = HEADS};
    struct gw_seq_rows prompt = {.rows = 2};
    const struct gw_graph_step wide = {
        .rows = 2, .seqs = &prompt, .seqs_len = 1, .kv = &l.kv, .heads = HEADS};
    for (int again = 0; again < 3; again++) {
        assert_int_equal(gw_graph_begin(l.s.device, l.graphs, &many, &rows), GW_GRAPH_PLAIN);
        assert_int_equal(rows, ROWS + 1);
        assert_int_equal(gw_graph_begin(l.s.device, l.graphs, &wide, &rows), GW_GRAPH_PLAIN);
        assert_int_equal(rows, 2);
    }
    close_layer(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_graphs_of_the_exact_profile_give_the_bits_of_plain_steps),
        cmocka_unit_test(test_graphs_of_int8_give_the_bits_of_plain_steps),
        cmocka_unit_test(test_graphs_give_the_bits_of_plain_steps),
        cmocka_unit_test(test_steps_whose_recordings_fail_are_done_plainly),
        cmocka_unit_test(test_graphs_of_two_owners_do_not_mix),
        cmocka_unit_test(test_graphs_follow_lengths_and_tables),
        cmocka_unit_test(test_graph_that_fails_leaves_plain_steps),
        cmocka_unit_test(test_graph_that_fails_later_is_done_plainly),
        cmocka_unit_test(test_graph_that_would_be_told_is_not_recorded),
        cmocka_unit_test(test_graph_from_before_lists_changed_is_made_anew),
        cmocka_unit_test(test_steps_that_are_no_decoding_stay_plain),
    };
    return cmocka_run_group_tests_name("cuda_graph", tests, open_plain, close_plain);
}
