/* kernels/cuda/pick on the host shim, by the table's pick_there: the CPU's parts, bit for bit, of rows that stay as they were; what does
 * not fit in the device's rooms is refused. */
#include "tests/lib/pick_fixture.h"

#include "tests/lib/cuda_shim_report.h"
#include "tests/lib/shim_device.h"

#define STEP_BYTES    65536
#define SCRATCH_BYTES (2u << 20)
#define WIDE          20000u /* columns that take three rounds to find the best 256 in */

static void open_device(struct shim_device *s, size_t step_bytes, size_t scratch_bytes)
{
    struct gw_err_ctx ctx = {0};
    memset(s, 0, sizeof *s);
    if (shim_device_open(s, step_bytes, scratch_bytes, &ctx) != GW_OK) fail_msg("%s", ctx.text);
}

/* Rows of both sides: x is apart from there, the device's. */
struct both {
    struct gw_pick_row host[ROWS], there[ROWS];
    struct gw_memory x;
    struct gw_pick_part want[ROWS], got[ROWS];
    float kept[ROWS][4 * EDITS];
    uint32_t columns, len;
};

/* Columns of shares [first, last) of `len` rows of x[vocab]. */
static void open_both(struct both *b, struct shim_device *s, const float *x, uint32_t vocab,
                      const struct wants *w, uint32_t len, uint32_t first, uint32_t last)
{
    uint32_t at = gw_pick_share_at(vocab, SHARES, first);
    memset(b, 0, sizeof *b);
    b->len = len;
    b->columns = gw_pick_share_at(vocab, SHARES, last) - at;
    size_t bytes = len * (size_t)b->columns * sizeof *x;
    assert_int_equal(gw_memory_alloc(s->device, bytes, GW_MEMORY_MIRRORED, &b->x, NULL), GW_OK);
    for (uint32_t i = 0; i < len; i++) {
        float *host = (float *)b->x.host + (size_t)i * b->columns;
        memcpy(host, x + (size_t)i * vocab + at, b->columns * sizeof *x);
        b->host[i] = (struct gw_pick_row){.x = host,
                                          .vocab = vocab,
                                          .shares = SHARES,
                                          .share_first = first,
                                          .share_last = last,
                                          .want = &w->want[i],
                                          .kept = b->kept[i],
                                          .part = &b->want[i]};
        b->there[i] = b->host[i];
        b->there[i].x = gw_memory_device(&b->x, host);
        b->there[i].kept = NULL;
        b->there[i].part = &b->got[i];
    }
    gw_memory_put_now(s->device, b->x.device, b->x.host, bytes);
}

/* The CPU's parts; then the device's rows must be what they were. */
static void close_both(struct both *b, struct shim_device *s)
{
    size_t bytes = b->len * (size_t)b->columns * sizeof(float);
    void *after = take(bytes);
    gw_memory_get(s->device, after, b->x.device, bytes);
    assert_memory_equal(after, b->x.host, bytes);
    ops_best("cpu-bf16dot-2")->pick(s->cpu, b->host, b->len);
    assert_same_bits(b->got, b->want, b->len * sizeof *b->got, "parts");
    gw_memory_free(&b->x);
    free(after);
}

static void expect_as_cpu(struct shim_device *s, const float *x, uint32_t vocab, const struct wants *w,
                          uint32_t len, uint32_t first, uint32_t last)
{
    static struct both b;
    open_both(&b, s, x, vocab, w, len, first, last);
    assert_true(s->ops->pick_there(s->device, b.there, len));
    close_both(&b, s);
}

static void test_pick_there_gives_the_parts_of_the_cpu(void **state)
{
    (void)state;
    static float x[ROWS * VOCAB_MAX];
    struct shim_device s;
    struct gw_rng r = seeded_rng(__func__);
    struct wants w;
    open_device(&s, STEP_BYTES, SCRATCH_BYTES);
    for (int round = 0; round < 6; round++) {
        uint32_t vocab = some_vocab(&r), first = (uint32_t)gw_rng_below(&r, SHARES);
        uint32_t last = first + 1 + (uint32_t)gw_rng_below(&r, SHARES - first);
        fill_rows(&r, x, vocab);
        fill_wants(&r, vocab, &w);
        expect_as_cpu(&s, x, vocab, &w, ROWS, first, last);
    }
    shim_device_end(&s);
}

/* Every logit occurs some hundred times: the ids decide, from chunk to chunk. */
static void test_pick_there_of_equal_logits_takes_the_lowest_ids(void **state)
{
    (void)state;
    float *x = take_f32(WIDE);
    struct shim_device s;
    struct gw_rng r = seeded_rng(__func__);
    struct wants w = {0};
    open_device(&s, STEP_BYTES, SCRATCH_BYTES);
    for (uint32_t i = 0; i < WIDE; i++) x[i] = (float)gw_rng_below(&r, 40) - 20.0f;
    w.want[0] = (struct gw_pick_want){.keep = GW_PICK_KEEP_MAX, .top = GW_PICK_TOP_MAX, .inverse = 1};
    expect_as_cpu(&s, x, WIDE, &w, 1, 0, SHARES);
    shim_device_end(&s);
    free(x);
}

/* The best score of many columns that are all alike, and of such that one stands out of. */
static void test_pick_there_by_score_takes_the_best_of_all(void **state)
{
    (void)state;
    float *x = take_f32(2 * WIDE);
    struct shim_device s;
    struct gw_rng r = seeded_rng(__func__);
    struct wants w = {0};
    open_device(&s, STEP_BYTES, SCRATCH_BYTES);
    for (uint32_t i = 0; i < 2 * WIDE; i++) x[i] = i < WIDE ? 0.0f : plain_value(&r);
    x[WIDE + gw_rng_below(&r, WIDE)] = 9;
    for (int i = 0; i < 2; i++)
        w.want[i] = (struct gw_pick_want){.stream = gw_rng_next(&r), .inverse = 1.25f, .stats = true};
    expect_as_cpu(&s, x, WIDE, &w, 2, 0, SHARES);
    shim_device_end(&s);
    free(x);
}

static void test_pick_there_of_nothing_to_pick_picks_nothing(void **state)
{
    (void)state;
    enum { VOCAB = 100 };
    float x[ROWS * VOCAB];
    struct shim_device s;
    struct wants w = {0};
    open_device(&s, STEP_BYTES, SCRATCH_BYTES);
    for (uint32_t i = 0; i < ROWS * VOCAB; i++) x[i] = i < 2 * VOCAB ? NAN : -INFINITY;
    for (uint32_t i = 0; i < 20; i++) x[4 * VOCAB + 5 * i] = INFINITY;
    for (uint32_t i = 0; i < ROWS; i++)
        w.want[i] = (struct gw_pick_want){.keep = i % 2 ? 9 : 0, .top = 3, .inverse = 1, .weights = true};
    expect_as_cpu(&s, x, VOCAB, &w, ROWS, 0, SHARES);
    shim_device_end(&s);
}

/* Rooms for a row or two: the batch is done in groups. */
static void test_pick_there_in_small_rooms_does_groups(void **state)
{
    (void)state;
    static float x[ROWS * VOCAB_MAX];
    enum { VOCAB = 700 };
    struct shim_device s;
    struct gw_rng r = seeded_rng(__func__);
    struct wants w;
    open_device(&s, 2048, 10000);
    fill_rows(&r, x, VOCAB);
    fill_wants(&r, VOCAB, &w);
    expect_as_cpu(&s, x, VOCAB, &w, ROWS, 0, SHARES);
    shim_device_end(&s);
}

/* Lists that the step's room does not hold, a copy that scratch does not: it is left to the host, and the device is well. */
static void test_pick_there_of_a_row_that_fits_nowhere_is_refused(void **state)
{
    (void)state;
    static float x[ROWS * VOCAB_MAX];
    static const size_t rooms[2][2] = {{512, 65536}, {4096, 10000}};
    enum { VOCAB = 5000 };
    struct gw_rng r = seeded_rng(__func__);
    struct wants w;
    fill_rows(&r, x, VOCAB);
    fill_wants(&r, VOCAB, &w);
    w.want[0].edits = (struct gw_pick_edits){
        .added = w.added, .taken = w.taken, .added_len = EDITS, .taken_len = EDITS, .repetition = 1};
    for (int i = 0; i < 2; i++) {
        static struct both b;
        struct shim_device s;
        open_device(&s, rooms[i][0], rooms[i][1]);
        open_both(&b, &s, x, VOCAB, &w, 1, 0, SHARES);
        assert_false(s.ops->pick_there(s.device, b.there, 1));
        gw_memory_free(&b.x);
        shim_device_end(&s);
    }
}

/* Whichever call fails: no part names a token that is not of the vocabulary, and the step's end says what failed. */
static void test_pick_there_on_a_device_that_fails_is_told_at_the_end(void **state)
{
    (void)state;
    static float x[ROWS * VOCAB_MAX];
    enum { VOCAB = 300 };
    struct gw_rng r = seeded_rng(__func__);
    struct wants w;
    fill_rows(&r, x, VOCAB);
    fill_wants(&r, VOCAB, &w);
    for (uint32_t at = 1; at <= 3; at++) {
        static struct both b;
        struct shim_device s;
        struct gw_err_ctx ctx = {0};
        open_device(&s, STEP_BYTES, SCRATCH_BYTES);
        open_both(&b, &s, x, VOCAB, &w, ROWS, 0, SHARES);
        s.runtime.fail_at = s.runtime.calls + at;
        assert_true(s.ops->pick_there(s.device, b.there, ROWS));
        for (uint32_t i = 0; i < ROWS; i++)
            for (uint32_t k = 0; k < b.got[i].entries_len; k++) assert_true(b.got[i].entries[k].id < VOCAB);
        assert_int_equal(gw_device_finish(s.device, &ctx), GW_ERR_CUDA);
        assert_non_null(strstr(ctx.text, "planned fault"));
        gw_memory_free(&b.x);
        assert_int_equal(shim_device_close(&s), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pick_there_gives_the_parts_of_the_cpu),
        cmocka_unit_test(test_pick_there_of_equal_logits_takes_the_lowest_ids),
        cmocka_unit_test(test_pick_there_by_score_takes_the_best_of_all),
        cmocka_unit_test(test_pick_there_of_nothing_to_pick_picks_nothing),
        cmocka_unit_test(test_pick_there_in_small_rooms_does_groups),
        cmocka_unit_test(test_pick_there_of_a_row_that_fits_nowhere_is_refused),
        cmocka_unit_test(test_pick_there_on_a_device_that_fails_is_told_at_the_end),
    };
    return cmocka_run_group_tests_name("cuda_pick", tests, NULL, NULL);
}
