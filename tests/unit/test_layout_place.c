/* controller/layout_place and layout_make: forced layouts keep the rules, reuse most, and say what is missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "controller/layout_make.h"
#include "controller/layout_place.h"
#include "controller/plan/mapping.h"
#include "tests/lib/plan_fixture.h"

enum { H100 = 0, A10 = 3 };

struct fixture {
    struct plan_fleet *fleet;
    struct gw_plan_model model; /* 4 groups, 4 shares */
    struct gw_plan_load load;
    struct gw_layout_spec spec;
    struct gw_layout layout;
};

static void open_fleet(struct fixture *f, uint32_t zones)
{
    *f = (struct fixture){
        .fleet = plan_fleet_create(zones, 512), .model = plan_model_small(), .load = plan_load(1)};
}

static void close_fleet(struct fixture *f)
{
    gw_layout_fini(&f->layout);
    plan_fleet_destroy(f->fleet);
}

static void ask_for(struct fixture *f, const char *text)
{
    struct gw_err_ctx ctx = {0};
    if (gw_layout_spec_parse(text, f->model.groups, f->model.shares, &f->spec, &ctx) != GW_OK)
        fail_msg("%s", ctx.text);
}

/* Places it; the result keeps the rules of layouts. Returns the number of pipelines. */
static uint32_t place(struct fixture *f, const char *text)
{
    const struct gw_plan_input in = {&f->fleet->f, &f->model, &f->load};
    struct gw_err_ctx ctx = {0};
    ask_for(f, text);
    gw_layout_fini(&f->layout);
    assert_int_equal(gw_layout_place(&in, f->spec.kinds, f->spec.kinds_len, &f->layout), GW_OK);
    if (gw_layout_check(&f->layout, &f->fleet->f, &f->model, &ctx) != GW_OK)
        fail_msg("%s: %s", text, ctx.text);
    assert_true(f->layout.pipelines <= gw_layout_spec_pipelines(&f->spec));
    return f->layout.pipelines;
}

/* "0 1/2 3": devices by pipeline, ranks in order. */
static const char *devices(const struct fixture *f)
{
    static char text[512];
    size_t len = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < f->layout.ranks_len; i++) {
        const struct gw_layout_rank *r = &f->layout.ranks[i];
        const char *between = i == 0 ? "" : r->pipeline != r[-1].pipeline ? "/" : " ";
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%u", between, r->device);
    }
    return text;
}

static void hold(struct fixture *f, uint32_t device, uint32_t pipeline, struct gw_cell_rect cells)
{
    f->fleet->f.devices[device].pipeline = pipeline;
    f->fleet->f.devices[device].holds = cells;
}

static uint64_t reused(const struct fixture *f)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < f->layout.ranks_len; i++)
        sum += gw_mapping_reuse(&f->model, &f->fleet->f.devices[f->layout.ranks[i].device],
                                f->layout.ranks[i].cells);
    return sum;
}

/* ---- placing ---- */

static void test_place_empty_fleet_takes_neighbours_in_order(void **state)
{
    (void)state;
    struct fixture f;
    open_fleet(&f, 1);
    for (int i = 0; i < 3; i++) plan_add(f.fleet, H100, 2, 0);
    assert_int_equal(place(&f, "tp4"), 1);
    assert_string_equal(devices(&f), "0 1 2 3");
    assert_int_equal(place(&f, "3xtp2"), 3);
    assert_string_equal(devices(&f), "0 1/2 3/4 5");
    close_fleet(&f);
}

static void test_place_narrower_shape_keeps_cells_where_they_are(void **state)
{
    (void)state;
    struct fixture f;
    open_fleet(&f, 1);
    for (uint32_t i = 0; i < 4; i++) {
        plan_add(f.fleet, H100, 1, 0);
        hold(&f, i, 0, (struct gw_cell_rect){0, 4, (uint16_t)(3 - i), (uint16_t)(4 - i)});
    }
    assert_int_equal(place(&f, "tp4"), 1); /* it serves already */
    assert_string_equal(devices(&f), "3 2 1 0");
    assert_int_equal(place(&f, "2xtp2"), 2); /* shares 0, 1 are at 3, 2; shares 2, 3 at 1, 0 */
    for (uint32_t i = 0; i < f.layout.ranks_len; i++) {
        const struct gw_layout_rank *r = &f.layout.ranks[i];
        assert_true(r->cells.s0 == 0 ? r->device >= 2 : r->device < 2);
    }
    close_fleet(&f);
}

static void test_place_served_pipelines_of_the_shape_stay(void **state)
{
    (void)state;
    struct fixture f;
    const struct gw_cell_rect left = {0, 4, 0, 2}, right = {0, 4, 2, 4};
    open_fleet(&f, 1);
    for (int i = 0; i < 6; i++) plan_add(f.fleet, H100, 1, 0);
    hold(&f, 5, 8, left), hold(&f, 0, 8, right); /* crossed, so that no order finds them by chance */
    hold(&f, 2, 3, left), hold(&f, 4, 3, right);
    assert_int_equal(place(&f, "2xtp2"), 2);
    assert_string_equal(devices(&f), "2 4/5 0");
    assert_int_equal(place(&f, "3xtp2"), 3);
    assert_string_equal(devices(&f), "2 4/5 0/1 3");
    assert_int_equal(place(&f, "tp4,tp2"), 2); /* one of them stays */
    assert_string_equal(devices(&f), "2 4/5 1 0 3");
    close_fleet(&f);
}

static void test_place_doomed_devices_are_left_alone(void **state)
{
    (void)state;
    struct fixture f;
    open_fleet(&f, 1);
    for (int i = 0; i < 5; i++) plan_add(f.fleet, H100, 1, 0);
    f.fleet->f.instances[1].doomed_at_s = 60;
    hold(&f, 1, 0, (struct gw_cell_rect){0, 4, 0, 4});
    assert_int_equal(place(&f, "tp4"), 1);
    assert_string_equal(devices(&f), "0 2 3 4");
    assert_int_equal(place(&f, "tp1"), 1);
    assert_string_equal(devices(&f), "0");
    close_fleet(&f);
}

static void test_place_as_many_whole_pipelines_as_fit(void **state)
{
    (void)state;
    struct fixture f;
    open_fleet(&f, 1);
    for (int i = 0; i < 5; i++) plan_add(f.fleet, H100, 1, 0);
    assert_int_equal(place(&f, "4xtp2"), 2);
    assert_int_equal(place(&f, "tp4,tp2,tp1"), 2);
    assert_int_equal(f.layout.ranks_len, 5);
    for (int i = 1; i < 5; i++) f.fleet->f.instances[i].doomed_at_s = 1;
    assert_int_equal(place(&f, "tp2"), 0);
    assert_int_equal(place(&f, "tp2,1x4"), 1);
    close_fleet(&f);
}

static void test_place_large_rank_gets_the_device_that_holds_it(void **state)
{
    (void)state;
    struct fixture f;
    open_fleet(&f, 1);
    for (int i = 0; i < 3; i++) plan_add(f.fleet, i == 1 ? H100 : A10, 1, 0);
    const struct gw_plan_input in = {&f.fleet->f, &f.model, &f.load};
    f.fleet->types[A10].memory_bytes = gw_layout_rank_bytes(&in, (struct gw_cell_rect){0, 4, 3, 4});
    f.fleet->types[H100].memory_bytes = gw_layout_rank_bytes(&in, (struct gw_cell_rect){0, 4, 0, 3});
    assert_int_equal(place(&f, "3+1"), 1);
    assert_string_equal(devices(&f), "1 0");
    f.fleet->types[H100].memory_bytes--;
    assert_int_equal(place(&f, "3+1"), 0);
    close_fleet(&f);
}

static void test_place_profiles_are_never_mixed(void **state)
{
    (void)state;
    struct fixture f;
    open_fleet(&f, 1);
    f.fleet->types[A10].profile = 1;
    for (int i = 0; i < 4; i++) plan_add(f.fleet, i % 2 ? H100 : A10, 1, 0);
    assert_int_equal(place(&f, "tp4"), 0);
    assert_int_equal(place(&f, "pp4"), 0);
    assert_int_equal(place(&f, "2xtp2"), 2);
    assert_string_equal(devices(&f), "1 3/0 2");
    close_fleet(&f);
}

static void test_place_stages_may_be_in_several_zones(void **state)
{
    (void)state;
    struct fixture f;
    open_fleet(&f, 3);
    for (uint32_t z = 0; z < 3; z++) plan_add(f.fleet, H100, z == 2 ? 1 : 2, z);
    assert_int_equal(place(&f, "tp4"), 0);
    assert_int_equal(place(&f, "tp3"), 0);
    assert_int_equal(place(&f, "tp2pp2"), 1);
    assert_int_equal(place(&f, "2+2/4/4"), 1);
    assert_int_equal(place(&f, "4xtp1,pp2"), 4); /* four of five are taken: one is too few for pp2 */
    close_fleet(&f);
}

static void test_place_more_devices_than_a_matrix_holds(void **state)
{
    (void)state;
    struct fixture f;
    open_fleet(&f, 1);
    for (int i = 0; i < 300; i++) plan_add(f.fleet, H100, 1, 0);
    hold(&f, 299, 0, (struct gw_cell_rect){0, 4, 0, 4});
    assert_int_equal(place(&f, "1024xtp1"), 300);
    assert_int_equal(place(&f, "150xtp2"), 150);
    assert_int_equal(place(&f, "1x4"), 1);
    assert_string_equal(devices(&f), "299");
    close_fleet(&f);
}

/* ---- properties ---- */

static const char *const shapes[] = {"tp1", "tp2",    "tp3", "tp4",   "pp2",
                                     "pp4", "tp2pp2", "3+1", "1+3/4", "2+2:1/4:3"};
#define SHAPES (sizeof shapes / sizeof *shapes)

static void hold_at_random(struct fixture *f, struct gw_rng *rng)
{
    for (uint32_t d = 0; d < f->fleet->f.devices_len; d++) {
        uint16_t g0 = (uint16_t)gw_rng_below(rng, 4), s0 = (uint16_t)gw_rng_below(rng, 4);
        uint16_t g1 = (uint16_t)(g0 + 1 + gw_rng_below(rng, 4 - g0)),
                 s1 = (uint16_t)(s0 + 1 + gw_rng_below(rng, 4 - s0));
        if (gw_rng_below(rng, 4)) hold(f, d, GW_PLAN_NONE, (struct gw_cell_rect){g0, g1, s0, s1});
    }
}

/* The most that any choice of devices could reuse, rank by rank. */
static uint64_t best_reuse(const struct fixture *f, const struct gw_layout_kind *kind, uint32_t rank,
                           uint32_t used)
{
    uint64_t best = 0;
    for (uint32_t d = 0; rank < kind->ranks_len && d < f->fleet->f.devices_len; d++) {
        if (used >> d & 1) continue;
        uint64_t sum = gw_mapping_reuse(&f->model, &f->fleet->f.devices[d], kind->ranks[rank].cells) +
                       best_reuse(f, kind, rank + 1, used | 1u << d);
        best = sum > best ? sum : best;
    }
    return best;
}

static void test_place_one_pipeline_reuses_as_much_as_brute_force(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct fixture f;
        struct gw_rng rng;
        gw_rng_init(&rng, seed);
        open_fleet(&f, 1);
        for (int i = 0; i < 6; i++) plan_add(f.fleet, H100, 1, 0);
        hold_at_random(&f, &rng);
        if (place(&f, shapes[gw_rng_below(&rng, SHAPES)]) != 1) fail_msg("seed %u", (unsigned)seed);
        uint64_t best = best_reuse(&f, f.spec.kinds, 0, 0), got = reused(&f);
        /* values are compared in KiB: a rank's rest may be lost */
        if (got + 1024 * f.layout.ranks_len < best) fail_msg("seed %u: %s", (unsigned)seed, f.spec.text);
        close_fleet(&f);
    }
}

static void test_place_random_fleets_keep_the_rules(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct fixture f;
        struct gw_rng rng;
        char text[64];
        gw_rng_init(&rng, seed);
        open_fleet(&f, 2);
        f.fleet->types[A10].profile = 1;
        plan_fill(f.fleet, &rng, 1 + (uint32_t)gw_rng_below(&rng, 24), PLAN_TYPES, 4);
        hold_at_random(&f, &rng);
        for (uint32_t i = 0; i < f.fleet->f.instances_len; i++)
            if (gw_rng_below(&rng, 5) == 0) f.fleet->f.instances[i].doomed_at_s = 10;
        snprintf(text, sizeof text, "%ux%s,%s", (unsigned)gw_rng_below(&rng, 5) + 1,
                 shapes[gw_rng_below(&rng, SHAPES)], shapes[gw_rng_below(&rng, SHAPES)]);
        (void)place(&f, text);
        close_fleet(&f);
    }
}

/* ---- the three ways ---- */

struct made {
    struct fixture f;
    struct gw_layout_made made;
};

static void make(struct made *m, const char *text)
{
    const struct gw_plan_input in = {&m->f.fleet->f, &m->f.model, &m->f.load};
    struct gw_err_ctx ctx = {0};
    gw_layout_made_fini(&m->made);
    ask_for(&m->f, text);
    if (gw_layout_make(&in, &m->f.spec, &m->made, &ctx) != GW_OK) fail_msg("%s: %s", text, ctx.text);
    if (gw_layout_check(&m->made.layout, &m->f.fleet->f, &m->f.model, &ctx) != GW_OK)
        fail_msg("%s", ctx.text);
}

static void says(const struct made *m, const char *words)
{
    if (!strstr(m->made.reason, words)) fail_msg("'%s' does not say '%s'", m->made.reason, words);
}

static struct made with_devices(uint32_t type, uint32_t n)
{
    struct made m = {0};
    open_fleet(&m.f, 1);
    for (uint32_t i = 0; i < n; i++) plan_add(m.f.fleet, type, 1, 0);
    return m;
}

static void end(struct made *m)
{
    gw_layout_made_fini(&m->made);
    close_fleet(&m->f);
}

static void test_make_no_workers_says_so(void **state)
{
    (void)state;
    struct made m = with_devices(H100, 0);
    const char *const layouts[] = {"auto", "replicas", "tp2"};
    for (size_t i = 0; i < 3; i++) {
        make(&m, layouts[i]);
        assert_int_equal(m.made.layout.pipelines, 0);
        says(&m, "no worker is there");
    }
    end(&m);
}

static void test_make_too_little_memory_says_how_much(void **state)
{
    (void)state;
    struct made m = with_devices(H100, 2);
    const struct gw_plan_input in = {&m.f.fleet->f, &m.f.model, &m.f.load};
    uint64_t need = gw_layout_rank_bytes(&in, (struct gw_cell_rect){0, 4, 0, 4});
    m.f.fleet->types[H100].memory_bytes = need / 4;
    for (int i = 0; i < 2; i++) {
        make(&m, i ? "auto" : "replicas");
        assert_int_equal(m.made.layout.pipelines, 0);
        assert_int_equal(m.made.missing_bytes, need - 2 * (need / 4));
        says(&m, "are missing");
        assert_int_equal(m.made.whys[0], GW_WHY_MEMORY);
    }
    make(&m, "tp2");
    says(&m, "a rank of layout tp2 needs");
    assert_true(m.made.missing_bytes > 0);
    make(&m, "tp4");
    says(&m, "layout tp4 needs 4 workers, 2 are there");
    end(&m);
}

static void test_make_replicas_leaves_out_the_small_ones(void **state)
{
    (void)state;
    struct made m = with_devices(H100, 3);
    plan_add(m.f.fleet, A10, 1, 0);
    m.f.fleet->types[A10].memory_bytes = 1 << 20;
    m.f.fleet->f.instances[0].doomed_at_s = 5;
    make(&m, "replicas");
    assert_int_equal(m.made.layout.pipelines, 2);
    assert_int_equal(m.made.whys[0], GW_WHY_DOOMED);
    assert_int_equal(m.made.whys[1], GW_WHY_PLACED);
    assert_int_equal(m.made.whys[3], GW_WHY_MEMORY);
    says(&m, "2 of 3 workers");
    end(&m);
}

static void test_make_shape_counts_what_it_waits_for(void **state)
{
    (void)state;
    struct made m = with_devices(H100, 5);
    make(&m, "3xtp2");
    assert_int_equal(m.made.layout.pipelines, 2);
    assert_int_equal(m.made.pipelines_wanted, 3);
    says(&m, "2 of 3 pipelines");
    assert_int_equal(m.made.whys[4], GW_WHY_SPARE);
    end(&m);
}

static void test_make_auto_model_too_large_for_one_is_cut(void **state)
{
    (void)state;
    struct made m = with_devices(H100, 3);
    const struct gw_plan_input in = {&m.f.fleet->f, &m.f.model, &m.f.load};
    m.f.fleet->types[H100].memory_bytes =
        gw_layout_rank_bytes(&in, (struct gw_cell_rect){0, 4, 0, 4}) * 3 / 4;
    make(&m, "auto");
    assert_int_equal(m.made.layout.pipelines, 1);
    assert_true(m.made.layout.ranks_len >= 2);
    assert_false(m.made.kept);
    says(&m, "auto: the best found");
    plan_hold(m.f.fleet, &m.made.layout, 0);
    make(&m, "auto");
    assert_true(m.made.kept);
    says(&m, "kept");
    end(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place_empty_fleet_takes_neighbours_in_order),
        cmocka_unit_test(test_place_narrower_shape_keeps_cells_where_they_are),
        cmocka_unit_test(test_place_served_pipelines_of_the_shape_stay),
        cmocka_unit_test(test_place_doomed_devices_are_left_alone),
        cmocka_unit_test(test_place_as_many_whole_pipelines_as_fit),
        cmocka_unit_test(test_place_large_rank_gets_the_device_that_holds_it),
        cmocka_unit_test(test_place_profiles_are_never_mixed),
        cmocka_unit_test(test_place_stages_may_be_in_several_zones),
        cmocka_unit_test(test_place_more_devices_than_a_matrix_holds),
        cmocka_unit_test(test_place_one_pipeline_reuses_as_much_as_brute_force),
        cmocka_unit_test(test_place_random_fleets_keep_the_rules),
        cmocka_unit_test(test_make_no_workers_says_so),
        cmocka_unit_test(test_make_too_little_memory_says_how_much),
        cmocka_unit_test(test_make_replicas_leaves_out_the_small_ones),
        cmocka_unit_test(test_make_shape_counts_what_it_waits_for),
        cmocka_unit_test(test_make_auto_model_too_large_for_one_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
