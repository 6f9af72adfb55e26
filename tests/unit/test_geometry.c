/* migrate/geometry: every wanted page once, from a rank that has it, and no rank gives more than it must. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "migrate/geometry.h"

#define PAGES_MAX (GW_GEOMETRY_GROUPS_MAX * GW_GEOMETRY_HEADS_MAX)
#define LAYOUTS   400

static struct gw_page_rect rect(uint32_t g0, uint32_t g1, uint32_t h0, uint32_t h1)
{
    return (struct gw_page_rect){(uint16_t)g0, (uint16_t)g1, (uint16_t)h0, (uint16_t)h1};
}

static uint64_t most(const struct gw_geometry_source *s, uint32_t len)
{
    uint64_t load = 0;
    for (uint32_t i = 0; i < len; i++)
        if (s[i].load > load) load = s[i].load;
    return load;
}

/* ---- pages of cells ---- */

static void test_pages_heads_of_several_shares_are_there_once(void **state)
{
    (void)state;
    const struct gw_geometry_heads gqa = {.share_heads = 4,
                                          .query_group = 8}; /* 32 heads, 8 shares, 4 KV heads */
    struct gw_page_rect r = gw_geometry_pages(gqa, (struct gw_cell_rect){1, 3, 0, 3});
    assert_int_equal(r.g0, 1);
    assert_int_equal(r.g1, 3);
    assert_int_equal(r.h0, 0);
    assert_int_equal(r.h1, 2);
    r = gw_geometry_pages(gqa, (struct gw_cell_rect){0, 1, 3, 8});
    assert_int_equal(r.h0, 1); /* its first share reads half of head 1's queries */
    assert_int_equal(r.h1, 4);
}

/* ---- known layouts ---- */

static void test_plan_tp4_to_tp2_pp2_takes_each_half_from_its_two_ranks(void **state)
{
    (void)state;
    struct gw_geometry_source s[4] = {0};
    uint8_t from[8];
    for (uint32_t i = 0; i < 4; i++) s[i].pages = rect(0, 4, 2 * i, 2 * i + 2);
    assert_int_equal(gw_geometry_plan(rect(2, 4, 4, 8), s, 4, from, NULL), GW_OK);
    for (uint32_t g = 2; g < 4; g++)
        for (uint32_t h = 4; h < 8; h++)
            assert_int_equal(from[gw_page_rect_index(rect(2, 4, 4, 8), g, h)], h / 2);
    assert_int_equal(s[0].load + s[1].load, 0);
    assert_int_equal(s[2].load, 4);
    assert_int_equal(s[3].load, 4);
}

static void test_plan_replicas_share_the_load(void **state)
{
    (void)state;
    struct gw_geometry_source s[3] = {
        {.pages = rect(0, 5, 0, 8)}, {.pages = rect(0, 5, 0, 8)}, {.pages = rect(0, 5, 0, 8)}};
    uint8_t from[40];
    assert_int_equal(gw_geometry_plan(rect(0, 5, 0, 8), s, 3, from, NULL), GW_OK);
    assert_int_equal(most(s, 3), 14); /* 40 pages */
}

/* The first pages can come from both, the last ones from the first alone: taking turns would load it with 6. */
static void test_plan_pages_move_along_paths(void **state)
{
    (void)state;
    struct gw_geometry_source s[3] = {
        {.pages = rect(0, 1, 0, 8)}, {.pages = rect(0, 1, 0, 4)}, {.pages = rect(0, 1, 0, 2)}};
    uint8_t from[8];
    assert_int_equal(gw_geometry_plan(rect(0, 1, 0, 8), s, 3, from, NULL), GW_OK);
    assert_int_equal(s[0].load, 4);
    assert_int_equal(s[1].load, 2);
    assert_int_equal(s[2].load, 2);
}

static void test_plan_near_memory_gives_whatever_it_has(void **state)
{
    (void)state;
    struct gw_geometry_source s[2] = {{.pages = rect(0, 4, 0, 8)}, {.pages = rect(0, 2, 0, 8), .near = true}};
    uint8_t from[32];
    assert_int_equal(gw_geometry_plan(rect(0, 4, 0, 8), s, 2, from, NULL), GW_OK);
    for (uint32_t i = 0; i < 32; i++) assert_int_equal(from[i], i < 16 ? 1 : 0);
    assert_int_equal(s[0].load, 16);
    assert_int_equal(s[1].load, 0);
}

static void test_plan_page_that_nobody_holds_is_none(void **state)
{
    (void)state;
    struct gw_geometry_source s[1] = {{.pages = rect(0, 1, 0, 2)}};
    uint8_t from[4];
    assert_int_equal(gw_geometry_plan(rect(0, 2, 0, 2), s, 1, from, NULL), GW_OK);
    assert_int_equal(from[0], 0);
    assert_int_equal(from[2], GW_GEOMETRY_NONE);
    assert_int_equal(gw_geometry_plan(rect(0, 2, 0, 2), s, 0, from, NULL), GW_OK);
    assert_int_equal(from[0], GW_GEOMETRY_NONE);
}

static void test_plan_out_of_bounds_is_refused(void **state)
{
    (void)state;
    struct gw_geometry_source s[1] = {{.pages = rect(0, 1, 0, 2)}};
    uint8_t from[4] = {7, 7, 7, 7};
    assert_int_equal(gw_geometry_plan(rect(1, 1, 0, 2), s, 1, from, NULL), GW_ERR_INPUT);
    assert_int_equal(gw_geometry_plan(rect(0, 1, 2, 0), s, 1, from, NULL), GW_ERR_INPUT);
    assert_int_equal(gw_geometry_plan(rect(0, GW_GEOMETRY_GROUPS_MAX + 1, 0, 1), s, 1, from, NULL),
                     GW_ERR_INPUT);
    assert_int_equal(gw_geometry_plan(rect(0, 1, 0, GW_GEOMETRY_HEADS_MAX + 1), s, 1, from, NULL),
                     GW_ERR_INPUT);
    assert_int_equal(gw_geometry_plan(rect(0, 1, 0, 1), s, GW_GEOMETRY_SOURCES_MAX + 1, from, NULL),
                     GW_ERR_INPUT);
    assert_int_equal(from[0], 7);
    assert_int_equal(s[0].load, 0);
}

/* ---- random layouts ---- */

/* Cuts [0, len) in `parts` pieces of at least one. */
static void cut(struct gw_rng *rng, uint32_t len, uint32_t parts, uint32_t *cuts)
{
    cuts[0] = 0;
    for (uint32_t i = 1; i < parts; i++)
        cuts[i] = cuts[i - 1] + 1 + (uint32_t)gw_rng_below(rng, len - cuts[i - 1] - (parts - i));
    cuts[parts] = len;
}

/* Ranks of a random pipeline of the grid: stages of groups, each cut by heads in its own way. Returns their number. */
static uint32_t layout(struct gw_rng *rng, uint32_t groups, uint32_t heads, struct gw_page_rect *ranks,
                       uint32_t max)
{
    uint32_t stages = 1 + (uint32_t)gw_rng_below(rng, groups < 4 ? groups : 4), len = 0, g[5], h[9];
    cut(rng, groups, stages, g);
    for (uint32_t stage = 0; stage < stages; stage++) {
        uint32_t most_ranks = heads < 8 ? heads : 8;
        uint32_t width = 1 + (uint32_t)gw_rng_below(rng, most_ranks);
        cut(rng, heads, width, h);
        for (uint32_t i = 0; i < width && len < max; i++)
            ranks[len++] = rect(g[stage], g[stage + 1], h[i], h[i + 1]);
    }
    return len;
}

/* Of any set of pages, its holders together must give at least that much: looks at the sets "all pages whose holders are
 * within the ranks that s can shift to", which are where a bound is tight (max-flow = min-cut). */
static uint64_t bound(struct gw_page_rect want, const struct gw_geometry_source *s, uint32_t len,
                      const uint8_t *from)
{
    uint64_t best = 0;
    for (uint32_t start = 0; start < len; start++) {
        bool in[GW_GEOMETRY_SOURCES_MAX] = {false};
        in[start] = true;
        for (bool grew = true; grew;) {
            grew = false;
            for (uint32_t p = 0; p < gw_page_rect_pages(want); p++) {
                if (from[p] == GW_GEOMETRY_NONE || !in[from[p]]) continue;
                uint32_t heads = gw_page_rect_heads(want);
                for (uint32_t t = 0; t < len; t++)
                    if (!in[t] && gw_page_rect_has(s[t].pages, want.g0 + p / heads, want.h0 + p % heads))
                        in[t] = grew = true;
            }
        }
        uint64_t load = 0, ranks = 0;
        for (uint32_t t = 0; t < len; t++)
            if (in[t]) load += s[t].load, ranks++;
        if ((load + ranks - 1) / ranks > best) best = (load + ranks - 1) / ranks;
    }
    return best;
}

static void check_plan(struct gw_page_rect want, const struct gw_geometry_source *s, uint32_t len,
                       const uint8_t *from)
{
    uint64_t given[GW_GEOMETRY_SOURCES_MAX] = {0};
    for (uint32_t g = want.g0; g < want.g1; g++)
        for (uint32_t h = want.h0; h < want.h1; h++) {
            uint8_t source = from[gw_page_rect_index(want, g, h)];
            assert_int_not_equal(source, GW_GEOMETRY_NONE); /* a whole pipeline holds everything */
            assert_true(gw_page_rect_has(s[source].pages, g, h));
            given[source]++;
        }
    for (uint32_t i = 0; i < len; i++) assert_int_equal(given[i], s[i].load);
}

static void test_plan_random_layouts_every_page_once_and_balanced(void **state)
{
    (void)state;
    uint8_t *from = malloc(PAGES_MAX);
    for (uint64_t seed = 1; seed <= LAYOUTS; seed++) {
        struct gw_rng rng;
        gw_rng_init(&rng, seed);
        uint32_t groups = 1 + (uint32_t)gw_rng_below(&rng, 12), heads = 1 + (uint32_t)gw_rng_below(&rng, 16);
        struct gw_page_rect ranks[GW_GEOMETRY_SOURCES_MAX], wants[GW_GEOMETRY_SOURCES_MAX];
        uint32_t pipelines = 1 + (uint32_t)gw_rng_below(&rng, 2), len = 0; /* replicas hold the same */
        for (uint32_t i = 0; i < pipelines; i++)
            len += layout(&rng, groups, heads, ranks + len, GW_GEOMETRY_SOURCES_MAX - len);
        uint32_t wants_len = layout(&rng, groups, heads, wants, GW_GEOMETRY_SOURCES_MAX);
        for (uint32_t w = 0; w < wants_len; w++) {
            struct gw_geometry_source s[GW_GEOMETRY_SOURCES_MAX] = {0};
            for (uint32_t i = 0; i < len; i++) s[i].pages = ranks[i];
            assert_int_equal(gw_geometry_plan(wants[w], s, len, from, NULL), GW_OK);
            check_plan(wants[w], s, len, from);
            if (most(s, len) > bound(wants[w], s, len, from))
                fail_msg("seed %llu: not balanced", (unsigned long long)seed);
        }
    }
    free(from);
}

/* All ranks of a destination, one after the other: the loads are carried on. */
static void test_plan_many_destinations_spread_over_replicas(void **state)
{
    (void)state;
    struct gw_geometry_source s[4] = {0};
    uint8_t from[64];
    for (uint32_t i = 0; i < 4; i++) s[i].pages = rect(0, 4, 0, 8);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(gw_geometry_plan(rect(i, i + 1, 0, 8), s, 4, from, NULL), GW_OK);
    for (uint32_t i = 0; i < 4; i++) assert_int_equal(s[i].load, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages_heads_of_several_shares_are_there_once),
        cmocka_unit_test(test_plan_tp4_to_tp2_pp2_takes_each_half_from_its_two_ranks),
        cmocka_unit_test(test_plan_replicas_share_the_load),
        cmocka_unit_test(test_plan_pages_move_along_paths),
        cmocka_unit_test(test_plan_near_memory_gives_whatever_it_has),
        cmocka_unit_test(test_plan_page_that_nobody_holds_is_none),
        cmocka_unit_test(test_plan_out_of_bounds_is_refused),
        cmocka_unit_test(test_plan_random_layouts_every_page_once_and_balanced),
        cmocka_unit_test(test_plan_many_destinations_spread_over_replicas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
