/* worker/place: who sends what to whom in a pipeline, and which pipelines are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/lib/layouts.h"
#include "worker/place.h"

static const struct gw_model_config shape = {
    .hidden = 64, .layers = 7, .heads = 8, .kv_heads = 2, .head_dim = 16, .intermediate = 64, .vocab = 100};

static struct gw_assign_rank ranks[GW_WIRE_RANKS_MAX];

static struct gw_msg_assign parse(const char *layout, struct gw_cells *cells)
{
    struct gw_msg_assign a;
    *cells = gw_cells_of(&shape);
    layout_parse(layout, cells, ranks, &a);
    return a;
}

static struct gw_place place_of(const char *layout, uint32_t self)
{
    struct gw_cells cells;
    struct gw_msg_assign a = parse(layout, &cells);
    struct gw_place p;
    a.self = self;
    assert_int_equal(gw_place_of(&a, &cells, &p, NULL), GW_OK);
    return p;
}

static void test_place_alone_holds_everything(void **state)
{
    (void)state;
    struct gw_cells cells = gw_cells_of(&shape);
    struct gw_place p, q = place_of("8", 0);
    gw_place_alone(&cells, &p);
    assert_true(gw_place_leads(&p) && gw_place_is_last(&p));
    assert_memory_equal(&p, &q, sizeof p);
}

static void test_place_of_a_stage_knows_its_shares(void **state)
{
    (void)state;
    struct gw_place p = place_of("3+3+2", 1);
    assert_int_equal(p.stages, 1);
    assert_int_equal(p.stage_first, 0);
    assert_int_equal(p.stage_ranks, 3);
    assert_int_equal(p.share_at[1], 3);
    assert_int_equal(p.share_at[3], 8);
    assert_int_equal(p.from, GW_RANK_NONE);
    assert_int_equal(p.to_len, 0);
    assert_true(gw_place_is_last(&p) && !gw_place_leads(&p));
}

/* Each rank of a stage hears exactly one of the stage before, and those have equal work. */
static void test_place_of_stages_pass_activations_on(void **state)
{
    (void)state;
    static const char *const layouts[] = {"8/8", "4+4/8", "8/4+4", "2+6/3+3+2/8", "3+3+2/4+4", "2+2+2+2/8"};
    for (size_t k = 0; k < sizeof layouts / sizeof *layouts; k++) {
        struct gw_cells cells;
        uint32_t n = parse(layouts[k], &cells).ranks_len;
        for (uint32_t to = 0; to < n; to++) {
            struct gw_place p = place_of(layouts[k], to);
            uint32_t senders = 0;
            for (uint32_t from = 0; from < n; from++) {
                struct gw_place q = place_of(layouts[k], from);
                for (uint32_t i = 0; i < q.to_len; i++)
                    if (q.to[i] == to) {
                        senders++;
                        assert_int_equal(p.from, from);
                    }
            }
            assert_int_equal(senders, p.stage_first == 0 ? 0 : 1);
        }
    }
    struct gw_place p = place_of("2+6/3+3+2/8", 5);
    assert_int_equal(p.stages, 3);
    assert_int_equal(p.last_first, 5);
    assert_int_equal(p.last_share_at[1], 8);
}

static void expect_refused(const struct gw_msg_assign *a, const struct gw_cells *cells)
{
    struct gw_place p = {.self = 77};
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_place_of(a, cells, &p, &ctx), GW_ERR_INPUT);
    assert_int_equal(p.self, 77);
    assert_true(ctx.text[0] != '\0');
}

static void test_place_of_what_is_no_partition_is_refused(void **state)
{
    (void)state;
    struct gw_cells cells;
    struct gw_msg_assign a = parse("3+5/8", &cells);
    a.self = 3;
    expect_refused(&a, &cells);
    a = parse("3+5/8", &cells);
    ranks[1].cells.s0 = 4; /* share 3 is nobody's */
    expect_refused(&a, &cells);
    a = parse("3+5/8", &cells);
    ranks[1].cells.s1 = 7;
    expect_refused(&a, &cells);
    a = parse("3+5/8", &cells);
    ranks[1].cells.g1 = 1; /* other groups than its neighbour */
    expect_refused(&a, &cells);
    a = parse("3+5/8", &cells);
    ranks[2].cells.g1--; /* the last group is nobody's */
    expect_refused(&a, &cells);
    a = parse("3+5/8", &cells);
    ranks[2].cells.g1 = 100;
    expect_refused(&a, &cells);
    a = parse("3+5/8", &cells);
    a.ranks_len = 2;
    expect_refused(&a, &cells);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place_alone_holds_everything),
        cmocka_unit_test(test_place_of_a_stage_knows_its_shares),
        cmocka_unit_test(test_place_of_stages_pass_activations_on),
        cmocka_unit_test(test_place_of_what_is_no_partition_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
