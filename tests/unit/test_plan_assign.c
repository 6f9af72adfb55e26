/* controller/plan/assign: against every permutation. (tests/e2e/test_plan.py compares with scipy.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "controller/plan/assign.h"

#define BRUTE_MAX 7

/* The largest sum over rows [row, n) with the columns of `used` taken. */
static int64_t best_from(const int64_t *value, uint32_t n, uint32_t row, uint32_t used)
{
    int64_t best = INT64_MIN;
    if (row == n) return 0;
    for (uint32_t j = 0; j < n; j++) {
        if (used >> j & 1) continue;
        int64_t sum = value[row * n + j] + best_from(value, n, row + 1, used | 1u << j);
        if (sum > best) best = sum;
    }
    return best;
}

static int64_t check_permutation(const int64_t *value, uint32_t n, const uint32_t *column)
{
    bool used[GW_ASSIGN_MAX] = {false};
    int64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        assert_true(column[i] < n);
        assert_false(used[column[i]]);
        used[column[i]] = true;
        sum += value[i * n + column[i]];
    }
    return sum;
}

static void test_assign_random_matrices_equals_brute_force(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 600; seed++) {
        struct gw_rng r;
        int64_t value[BRUTE_MAX * BRUTE_MAX];
        uint32_t column[BRUTE_MAX];
        gw_rng_init(&r, seed);
        uint32_t n = 1 + (uint32_t)gw_rng_below(&r, seed % 20 == 0 ? BRUTE_MAX : BRUTE_MAX - 1);
        /* few different values make ties, large ones would show an overflow */
        uint64_t range = seed % 3 == 0 ? 3 : seed % 3 == 1 ? 1000 : 2 * (uint64_t)GW_ASSIGN_VALUE_MAX;
        for (uint32_t i = 0; i < n * n; i++)
            value[i] = (int64_t)gw_rng_below(&r, range) - (int64_t)(range / 2);
        int64_t sum = gw_assign(value, n, column);
        assert_true(sum == check_permutation(value, n, column));
        assert_true(sum == best_from(value, n, 0, 0));
    }
}

static void test_assign_equal_values_gives_the_same_each_time(void **state)
{
    (void)state;
    static int64_t value[GW_ASSIGN_MAX * GW_ASSIGN_MAX];
    uint32_t first[GW_ASSIGN_MAX], second[GW_ASSIGN_MAX];
    assert_true(gw_assign(value, GW_ASSIGN_MAX, first) == 0);
    check_permutation(value, GW_ASSIGN_MAX, first);
    gw_assign(value, GW_ASSIGN_MAX, second);
    assert_memory_equal(first, second, sizeof first);
}

static void test_assign_known_diagonal_is_found_at_full_size(void **state)
{
    (void)state;
    static int64_t value[GW_ASSIGN_MAX * GW_ASSIGN_MAX];
    uint32_t column[GW_ASSIGN_MAX], n = GW_ASSIGN_MAX;
    struct gw_rng r;
    gw_rng_init(&r, 7);
    for (uint32_t i = 0; i < n * n; i++) value[i] = (int64_t)gw_rng_below(&r, 1000);
    for (uint32_t i = 0; i < n; i++) value[i * n + (i * 37 + 11) % n] = GW_ASSIGN_VALUE_MAX;
    assert_true(gw_assign(value, n, column) == n * GW_ASSIGN_VALUE_MAX);
    for (uint32_t i = 0; i < n; i++) assert_int_equal(column[i], (i * 37 + 11) % n);
}

static void test_assign_nothing_is_nothing(void **state)
{
    (void)state;
    assert_true(gw_assign(NULL, 0, NULL) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_assign_random_matrices_equals_brute_force),
        cmocka_unit_test(test_assign_equal_values_gives_the_same_each_time),
        cmocka_unit_test(test_assign_known_diagonal_is_found_at_full_size),
        cmocka_unit_test(test_assign_nothing_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
