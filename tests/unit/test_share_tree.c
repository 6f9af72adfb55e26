/* kernels/share_tree: the programs of every cut add up what the whole tree adds, in its order. */
#include "tests/lib/kernels_fixture.h"

#include "kernels/share_tree.h"

/* A sum written as text would show the order; a hash that is not associative does too. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    return (a ^ (b >> 7) ^ (b << 57)) * 0x9E3779B97F4A7C15u + 1;
}

static void run(const struct gw_share_add *adds, uint32_t len, uint64_t *value)
{
    for (uint32_t i = 0; i < len; i++) value[adds[i].to] = mix(value[adds[i].to], value[adds[i].from]);
}

/* The tree as matmul_tree_add has it. */
static uint64_t whole_tree(uint32_t shares)
{
    uint64_t value[GW_SHARES_MAX];
    for (uint32_t i = 0; i < shares; i++) value[i] = i + 1;
    for (uint32_t step = 1; step < shares; step *= 2)
        for (uint32_t i = 0; i + step < shares; i += 2 * step) value[i] = mix(value[i], value[i + step]);
    return value[0];
}

/* Each range by its own program, then the rest over nothing but the roots. */
static uint64_t cut_tree(uint32_t shares, const uint16_t *cuts, uint32_t ranges)
{
    struct gw_share_add adds[GW_SHARE_ADDS_MAX];
    uint8_t roots[GW_SHARE_ROOTS_MAX];
    uint64_t sums[GW_SHARES_MAX] = {0};
    uint32_t all = 0;
    for (uint32_t r = 0; r < ranges; r++) {
        uint64_t value[GW_SHARES_MAX] = {0};
        for (uint32_t i = cuts[r]; i < cuts[r + 1]; i++) value[i] = i + 1;
        uint32_t within = gw_share_tree_within(shares, cuts[r], cuts[r + 1], adds);
        run(adds, within, value);
        uint32_t len = gw_share_tree_roots(shares, cuts[r], cuts[r + 1], roots);
        assert_int_equal(len, cuts[r + 1] - cuts[r] - within);
        for (uint32_t i = 0; i < len; i++) sums[roots[i]] = value[roots[i]];
        all += within;
    }
    uint32_t rest = gw_share_tree_rest(shares, cuts, ranges, adds);
    assert_int_equal(all + rest, shares - 1);
    run(adds, rest, sums);
    return sums[0];
}

static void test_share_tree_in_two_ranges_equals_the_whole(void **state)
{
    (void)state;
    for (uint32_t shares = 2; shares <= GW_SHARES_MAX; shares++)
        for (uint32_t cut = 1; cut < shares; cut++)
            assert_true(cut_tree(shares, (uint16_t[]){0, (uint16_t)cut, (uint16_t)shares}, 2) ==
                        whole_tree(shares));
}

static void test_share_tree_in_random_ranges_equals_the_whole(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    for (int i = 0; i < 20000; i++) {
        uint32_t shares = 1 + (uint32_t)(gw_rng_next(&r) % GW_SHARES_MAX), ranges = 0;
        uint64_t one_in = 1 + gw_rng_next(&r) % 16;
        uint16_t cuts[GW_SHARES_MAX + 1] = {0};
        for (uint32_t s = 1; s < shares; s++)
            if (gw_rng_next(&r) % one_in == 0) cuts[++ranges] = (uint16_t)s;
        cuts[++ranges] = (uint16_t)shares;
        assert_true(cut_tree(shares, cuts, ranges) == whole_tree(shares));
    }
}

/* GW_SHARE_ROOTS_MAX is asserted by the function: every range that there is. */
static void test_share_tree_roots_of_every_range_fit(void **state)
{
    (void)state;
    uint32_t most = 0;
    for (uint32_t shares = 1; shares <= GW_SHARES_MAX; shares++)
        for (uint32_t first = 0; first < shares; first++)
            for (uint32_t last = first + 1; last <= shares; last++) {
                uint8_t roots[GW_SHARE_ROOTS_MAX];
                uint32_t len = gw_share_tree_roots(shares, first, last, roots);
                if (len > most) most = len;
            }
    assert_int_equal(most, GW_SHARE_ROOTS_MAX);
}

static void test_share_tree_of_three_ranks_is_as_documented(void **state)
{
    (void)state;
    static const uint16_t cuts[] = {0, 3, 6, 8};
    static const struct gw_share_add rest[] = {{2, 3}, {0, 2}, {4, 6}, {0, 4}};
    struct gw_share_add adds[GW_SHARE_ADDS_MAX];
    uint8_t roots[GW_SHARE_ROOTS_MAX];
    assert_int_equal(gw_share_tree_rest(8, cuts, 3, adds), 4);
    assert_memory_equal(adds, rest, sizeof rest);
    assert_int_equal(gw_share_tree_roots(8, 0, 3, roots), 2);
    assert_memory_equal(roots, ((uint8_t[]){0, 2}), 2);
    assert_int_equal(gw_share_tree_roots(8, 3, 6, roots), 2);
    assert_memory_equal(roots, ((uint8_t[]){3, 4}), 2);
    assert_int_equal(gw_share_tree_roots(8, 6, 8, roots), 1);
    assert_memory_equal(roots, ((uint8_t[]){6}), 1);
    assert_int_equal(gw_share_tree_roots(8, 4, 4, roots), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share_tree_in_two_ranges_equals_the_whole),
        cmocka_unit_test(test_share_tree_in_random_ranges_equals_the_whole),
        cmocka_unit_test(test_share_tree_roots_of_every_range_fit),
        cmocka_unit_test(test_share_tree_of_three_ranks_is_as_documented),
    };
    return cmocka_run_group_tests_name("share_tree", tests, NULL, NULL);
}
