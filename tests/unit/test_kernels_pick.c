/* kernels/pick: every variant and number of threads gives the same parts, which are those that sorting everything gives, for
 * any range of shares; rows are left as they were. */
#include "tests/lib/pick_fixture.h"

#include "kernels/keyed_random.h"
#include "kernels/vmath.h"

/* Parts of shares [first, last) of all rows. */
static void pick(const struct gw_ops *ops, struct gw_device *dev, float *x, uint32_t vocab,
                 const struct wants *w, uint32_t first, uint32_t last, struct gw_pick_part parts[ROWS])
{
    struct gw_pick_row rows[ROWS];
    uint32_t at = gw_pick_share_at(vocab, SHARES, first),
             columns = gw_pick_share_at(vocab, SHARES, last) - at;
    float *own[ROWS], *kept = take_f32(ROWS * 4 * EDITS);
    memset(parts, 0, ROWS * sizeof *parts);
    for (uint32_t i = 0; i < ROWS; i++) {
        own[i] = take_f32(columns); /* of the exact size */
        memcpy(own[i], x + (size_t)i * vocab + at, columns * sizeof *x);
        rows[i] = (struct gw_pick_row){.x = own[i],
                                       .vocab = vocab,
                                       .shares = SHARES,
                                       .share_first = first,
                                       .share_last = last,
                                       .want = &w->want[i],
                                       .kept = kept + (size_t)i * 4 * EDITS,
                                       .part = &parts[i]};
    }
    ops->pick(dev, rows, ROWS);
    for (uint32_t i = 0; i < ROWS; i++) {
        assert_memory_equal(own[i], x + (size_t)i * vocab + at, columns * sizeof *x);
        free(own[i]);
    }
    free(kept);
}

static void test_pick_variants_and_threads_give_the_same_bits(void **state)
{
    (void)state;
    static float x[ROWS * VOCAB_MAX];
    static struct gw_pick_part want[ROWS], got[ROWS];
    struct gw_rng r = seeded_rng("pick");
    struct wants w;
    struct gw_device *one = device_with(1), *three = device_with(3);
    const struct gw_ops *variants[VARIANTS_MAX];
    int len = ops_all("cpu-f32-2", variants);
    for (int round = 0; round < 60; round++) {
        uint32_t vocab = some_vocab(&r), first = (uint32_t)gw_rng_below(&r, SHARES);
        uint32_t last = first + 1 + (uint32_t)gw_rng_below(&r, SHARES - first);
        fill_rows(&r, x, vocab);
        fill_wants(&r, vocab, &w);
        pick(variants[0], one, x, vocab, &w, first, last, want);
        for (int v = 1; v < len; v++) {
            pick(variants[v], v % 2 ? three : one, x, vocab, &w, first, last, got);
            assert_same_bits(got, want, sizeof got, variants[v]->name);
        }
    }
    gw_device_destroy(one);
    gw_device_destroy(three);
}

/* ---- against definitions ---- */

/* Best first by (logit, id), NaN left out; returns how many. */
static uint32_t sorted(const float *x, uint32_t first, uint32_t columns, uint32_t keep,
                       struct gw_pick_entry *out)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < columns; i++) {
        if (x[i] != x[i]) continue;
        float v = x[i] + 0.0f;
        uint32_t at = n < keep ? n : keep;
        while (at > 0 && v > out[at - 1].logit) at--;
        if (at == keep) continue;
        if (n < keep) n++;
        memmove(&out[at + 1], &out[at], (n - 1 - at) * sizeof *out);
        out[at] = (struct gw_pick_entry){.id = first + i, .logit = v};
    }
    return n;
}

static void expect_candidates(const struct gw_pick_part *part, const struct gw_pick_want *want,
                              const float *x, const float *raw, uint32_t first, uint32_t columns)
{
    struct gw_pick_entry expected[GW_PICK_KEEP_MAX + 1];
    uint32_t n = sorted(x, first, columns, want->keep, expected);
    assert_int_equal(part->entries_len, n);
    assert_int_equal(part->all, n < want->keep || n == columns);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(part->entries[i].id, expected[i].id);
        assert_true(part->entries[i].logit == expected[i].logit);
        assert_same_bits(&part->entries[i].raw, &raw[expected[i].id - first], sizeof *raw,
                         "raw"); /* NaN too */
    }
}

static void expect_winner(const struct gw_pick_part *part, const struct gw_pick_want *want, const float *x,
                          uint32_t first, uint32_t columns)
{
    double best = 0;
    uint32_t id = UINT32_MAX;
    for (uint32_t i = 0; i < columns; i++) {
        if (x[i] != x[i]) continue;
        double score = gw_keyed_score(x[i], want->inverse, want->stream, first + i);
        if (id != UINT32_MAX && !(score > best)) continue;
        best = score;
        id = first + i;
    }
    assert_int_equal(part->entries_len, id != UINT32_MAX);
    if (id != UINT32_MAX) assert_int_equal(part->entries[0].id, id);
}

static void expect_sums(const struct gw_pick_sum *sums, const float *x, uint32_t vocab, uint32_t first,
                        uint32_t last, double inverse)
{
    uint32_t base = gw_pick_share_at(vocab, SHARES, first);
    for (uint32_t s = first; s < last; s++) {
        float max = -FLT_MAX;
        double sum = 0;
        uint32_t from = gw_pick_share_at(vocab, SHARES, s) - base;
        uint32_t to = gw_pick_share_at(vocab, SHARES, s + 1) - base;
        for (uint32_t i = from; i < to; i++) max = x[i] > max ? x[i] : max;
        for (uint32_t i = from; i < to; i++)
            if (x[i] == x[i]) sum += exp(((double)x[i] - (double)max) * inverse);
        assert_true(sums[s - first].max == max);
        assert_near((double)sums[s - first].sum, sum, 1e-5 * (1 + sum), "sum", s);
    }
}

static void expect_part(const struct gw_pick_part *part, const struct gw_pick_want *want, const float *raw,
                        uint32_t vocab, uint32_t first, uint32_t last)
{
    uint32_t at = gw_pick_share_at(vocab, SHARES, first),
             columns = gw_pick_share_at(vocab, SHARES, last) - at;
    struct gw_pick_entry top[GW_PICK_TOP_MAX + 1];
    float *x = take_f32(columns);
    memcpy(x, raw, columns * sizeof *x);
    uint32_t top_len = want->top ? sorted(x, at, columns, want->top, top) : 0;
    assert_int_equal(part->top_len, top_len);
    for (uint32_t i = 0; i < top_len; i++) assert_int_equal(part->top[i].id, top[i].id);
    if (want->stats) expect_sums(part->stats, x, vocab, first, last, 1);
    gw_pick_edit(x, at, columns, &want->edits, NULL);
    if (want->keep)
        expect_candidates(part, want, x, raw, at, columns);
    else
        expect_winner(part, want, x, at, columns);
    if (want->weights) expect_sums(part->weights, x, vocab, first, last, (double)want->inverse);
    free(x);
}

static void test_pick_gives_what_sorting_and_float64_give(void **state)
{
    (void)state;
    static float x[ROWS * VOCAB_MAX];
    static struct gw_pick_part parts[ROWS];
    struct gw_rng r = seeded_rng("pick reference");
    struct wants w;
    struct gw_device *dev = device_with(2);
    const struct gw_ops *ops = ops_best("cpu-f32-2");
    for (int round = 0; round < 60; round++) {
        uint32_t vocab = some_vocab(&r), first = (uint32_t)gw_rng_below(&r, SHARES);
        uint32_t last = first + 1 + (uint32_t)gw_rng_below(&r, SHARES - first);
        fill_rows(&r, x, vocab);
        fill_wants(&r, vocab, &w);
        pick(ops, dev, x, vocab, &w, first, last, parts);
        for (uint32_t i = 0; i < ROWS; i++)
            expect_part(&parts[i], &w.want[i], x + (size_t)i * vocab + gw_pick_share_at(vocab, SHARES, first),
                        vocab, first, last);
    }
    gw_device_destroy(dev);
}

/* Two shares, or subtrees, of one logit each: the trees are written out. */
static struct gw_pick_sum merged(struct gw_pick_sum a, struct gw_pick_sum b, float inverse)
{
    float max = a.max > b.max ? a.max : b.max;
    return (struct gw_pick_sum){
        max, fmaf(a.sum, gw_expf((a.max - max) * inverse), b.sum * gw_expf((b.max - max) * inverse))};
}

static void test_tree_merges_pairs_in_order(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    int chain_differs = 0;
    gw_device_enter_thread();
    for (int round = 0; round < 200; round++) {
        struct gw_pick_sum x[5], t[5];
        float inverse = round % 2 ? 1 : 0.7f;
        for (int i = 0; i < 5; i++)
            x[i] = (struct gw_pick_sum){plain_value(&r) * 3, 1 + (float)gw_rng_unit(&r)};
        struct gw_pick_sum m01 = merged(x[0], x[1], inverse), m23 = merged(x[2], x[3], inverse);
        struct gw_pick_sum three = merged(m01, x[2], inverse);
        struct gw_pick_sum five = merged(merged(m01, m23, inverse), x[4], inverse);
        memcpy(t, x, sizeof t);
        struct gw_pick_sum got = gw_pick_tree(t, 3, inverse);
        assert_same_bits(&got, &three, sizeof got, "three");
        memcpy(t, x, sizeof t);
        got = gw_pick_tree(t, 5, inverse);
        assert_same_bits(&got, &five, sizeof got, "five");
        chain_differs += merged(merged(three, x[3], inverse), x[4], inverse).sum != five.sum;
    }
    assert_true(chain_differs > 0); /* else this test could not tell the orders apart */
}

/* Masked logits count nothing, whole masked shares too. */
static void test_stats_of_minus_infinity_count_nothing(void **state)
{
    (void)state;
    static struct gw_pick_part part;
    struct gw_device *dev = device_with(1);
    const struct gw_ops *variants[VARIANTS_MAX];
    int len = ops_all("cpu-bf16dot-2", variants);
    for (int v = 0; v < len; v++) {
        float x[40];
        const struct gw_pick_want want = {.keep = 1, .stats = true};
        const struct gw_pick_row row = {
            .x = x, .vocab = 40, .shares = 8, .share_last = 8, .want = &want, .part = &part};
        for (int i = 0; i < 40; i++) x[i] = -INFINITY;
        variants[v]->pick(dev, &row, 1);
        struct gw_pick_sum sum = gw_pick_tree(part.stats, 8, 1);
        assert_true(sum.max == -FLT_MAX && sum.sum == 0);
        x[33] = -5, x[34] = -5;
        variants[v]->pick(dev, &row, 1);
        sum = gw_pick_tree(part.stats, 8, 1);
        assert_true(sum.max == -5 && sum.sum == 2);
    }
    gw_device_destroy(dev);
}

static void test_weigh_variants_give_the_same_bits_near_float64(void **state)
{
    (void)state;
    static float x[VOCAB_MAX], want[VOCAB_MAX], got[VOCAB_MAX];
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *one = device_with(1), *three = device_with(3);
    const struct gw_ops *variants[VARIANTS_MAX];
    int len = ops_all("cpu-f32-2", variants);
    for (int round = 0; round < 40; round++) {
        uint32_t n = 1 + (uint32_t)gw_rng_below(&r, VOCAB_MAX);
        float top = 20, inverse = 0.1f + (float)gw_rng_unit(&r) * 3;
        for (uint32_t i = 0; i < n; i++) x[i] = 20 * plain_value(&r);
        x[gw_rng_below(&r, n)] = NAN;
        x[gw_rng_below(&r, n)] = -INFINITY;
        variants[0]->weigh(one, want, x, n, top, inverse);
        for (uint32_t i = 0; i < n; i++) {
            double expected = x[i] == x[i] ? exp(((double)x[i] - (double)top) * (double)inverse) : 0;
            assert_near((double)want[i], expected, 1e-5 * expected + 1e-37, "weight", i);
        }
        for (int v = 1; v < len; v++) {
            variants[v]->weigh(v % 2 ? three : one, got, x, n, top, inverse);
            assert_same_bits(got, want, n * sizeof *got, variants[v]->name);
        }
    }
    gw_device_destroy(one);
    gw_device_destroy(three);
}

static void test_pick_of_nothing_but_nan_picks_nothing(void **state)
{
    (void)state;
    float x[100];
    static struct gw_pick_part part;
    struct gw_device *dev = device_with(1);
    const struct gw_ops *variants[VARIANTS_MAX];
    int len = ops_all("cpu-f32-2", variants);
    for (int i = 0; i < 100; i++) x[i] = NAN;
    for (int v = 0; v < 2 * len; v++) {
        const struct gw_pick_want want = {.keep = v % 2 ? 9 : 0, .top = 3, .inverse = 1, .weights = true};
        const struct gw_pick_row row = {
            .x = x, .vocab = 100, .shares = 2, .share_last = 2, .want = &want, .part = &part};
        variants[v / 2]->pick(dev, &row, 1);
        assert_int_equal(part.entries_len, 0);
        assert_int_equal(part.top_len, 0);
        assert_true(part.all);
        for (int s = 0; s < 2; s++) assert_true(part.weights[s].max == -FLT_MAX && part.weights[s].sum == 0);
    }
    gw_device_destroy(dev);
}

static void test_word_orders_by_logit_then_id(void **state)
{
    (void)state;
    static const float descending[] = {INFINITY, FLT_MAX, 1, FLT_MIN, 0, -FLT_MIN, -1, -FLT_MAX, -INFINITY};
    gw_device_enter_thread();
    for (size_t i = 0; i < sizeof descending / sizeof *descending; i++) {
        assert_true(gw_pick_word_logit(gw_pick_word(descending[i], 5)) == descending[i]);
        assert_true(gw_pick_word(descending[i], 5) < gw_pick_word(descending[i], 6));
        if (i > 0) assert_true(gw_pick_word(descending[i - 1], 9) < gw_pick_word(descending[i], 0));
    }
    assert_true(gw_pick_word(-0.0f, 1) == gw_pick_word(0.0f, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pick_variants_and_threads_give_the_same_bits),
        cmocka_unit_test(test_pick_gives_what_sorting_and_float64_give),
        cmocka_unit_test(test_tree_merges_pairs_in_order),
        cmocka_unit_test(test_stats_of_minus_infinity_count_nothing),
        cmocka_unit_test(test_weigh_variants_give_the_same_bits_near_float64),
        cmocka_unit_test(test_pick_of_nothing_but_nan_picks_nothing),
        cmocka_unit_test(test_word_orders_by_logit_then_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
