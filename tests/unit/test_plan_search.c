/* controller/plan/search: against every layout there is on small fleets, and what must hold on any fleet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "controller/plan/search.h"
#include "tests/lib/plan_fixture.h"

#define ENUM_DEVICES 6

/* ---- exhaustive enumeration, written apart from the search ---- */

struct enumeration {
    const struct gw_plan_input *in;
    double headroom;
    struct gw_pipe_cost *shapes[1 << ENUM_DEVICES]; /* per set of devices */
    uint32_t len[1 << ENUM_DEVICES], cap[1 << ENUM_DEVICES];
    /* the pipeline being made */
    uint32_t order[ENUM_DEVICES], n, mask;
    struct gw_layout_rank ranks[ENUM_DEVICES];
    /* the layout being made */
    const struct gw_pipe_cost *costs[ENUM_DEVICES];
    uint32_t counts[ENUM_DEVICES];
    struct gw_score best;
    bool any;
};

static void enum_record(struct enumeration *e)
{
    struct gw_pipe_cost cost;
    struct gw_layout_rank ranks[ENUM_DEVICES];
    memcpy(ranks, e->ranks, sizeof ranks);
    struct gw_layout l = {.ranks = ranks, .ranks_len = e->n, .pipelines = 1};
    if (gw_layout_check(&l, e->in->fleet, e->in->model, NULL) != GW_OK) return;
    if (!gw_cost_pipeline(e->in, e->headroom, ranks, e->n, &cost)) return;
    if (e->len[e->mask] == e->cap[e->mask]) {
        e->cap[e->mask] = e->cap[e->mask] ? 2 * e->cap[e->mask] : 16;
        e->shapes[e->mask] = realloc(e->shapes[e->mask], e->cap[e->mask] * sizeof cost);
    }
    e->shapes[e->mask][e->len[e->mask]++] = cost;
}

static void enum_stage(struct enumeration *e, uint32_t at, uint32_t stage, uint32_t group);

/* Shares of rank `at`, of a stage that ends before rank `end`. */
static void enum_shares(struct enumeration *e, uint32_t at, uint32_t end, uint32_t stage, uint32_t g0,
                        uint32_t g1, uint32_t share)
{
    uint32_t shares = e->in->model->shares;
    if (at == end) {
        if (share == shares) enum_stage(e, end, stage + 1, g1);
        return;
    }
    for (uint32_t s1 = share + 1; s1 <= shares; s1++) {
        e->ranks[at] = (struct gw_layout_rank){
            e->order[at], 0, (uint16_t)stage, {(uint16_t)g0, (uint16_t)g1, (uint16_t)share, (uint16_t)s1}};
        enum_shares(e, at + 1, end, stage, g0, g1, s1);
    }
}

static void enum_stage(struct enumeration *e, uint32_t at, uint32_t stage, uint32_t group)
{
    if (at == e->n) {
        if (group == e->in->model->groups) enum_record(e);
        return;
    }
    for (uint32_t end = at + 1; end <= e->n; end++)
        for (uint32_t g1 = group + 1; g1 <= e->in->model->groups; g1++)
            enum_shares(e, at, end, stage, group, g1, 0);
}

/* Is a device of the same type and instance left that comes before d? With the two exchanged everything is the same. */
static bool enum_has_twin(const struct enumeration *e, uint32_t left, uint32_t d)
{
    const struct gw_plan_device *devices = e->in->fleet->devices;
    for (uint32_t i = 0; i < d; i++)
        if (left >> i & 1 && devices[i].instance == devices[d].instance && devices[i].type == devices[d].type)
            return true;
    return false;
}

static void enum_orders(struct enumeration *e, uint32_t left)
{
    if (left == 0) {
        enum_stage(e, 0, 0, 0);
        return;
    }
    for (uint32_t d = 0; d < ENUM_DEVICES; d++) {
        if (!(left >> d & 1) || enum_has_twin(e, left, d)) continue;
        e->order[e->n - (uint32_t)__builtin_popcount(left)] = d;
        enum_orders(e, left & ~(1u << d));
    }
}

static void enum_layouts(struct enumeration *e, uint32_t left, uint32_t pipelines)
{
    if (left == 0) {
        struct gw_score s = gw_cost_score(e->in, e->costs, e->counts, pipelines);
        if (pipelines && (!e->any || gw_score_compare(&s, &e->best) > 0)) {
            e->best = s;
            e->any = true;
        }
        return;
    }
    uint32_t first = left & -left;
    enum_layouts(e, left & ~first, pipelines);
    for (uint32_t sub = left; sub; sub = (sub - 1) & left) {
        if (!(sub & first)) continue;
        for (uint32_t i = 0; i < e->len[sub]; i++) {
            e->costs[pipelines] = &e->shapes[sub][i];
            e->counts[pipelines] = 1;
            enum_layouts(e, left & ~sub, pipelines + 1);
        }
    }
}

static bool best_of_all(const struct gw_plan_input *in, double headroom, struct gw_score *out)
{
    struct enumeration e = {.in = in, .headroom = headroom};
    uint32_t all = (1u << in->fleet->devices_len) - 1;
    for (uint32_t mask = 1; mask <= all; mask++) {
        e.mask = mask;
        e.n = (uint32_t)__builtin_popcount(mask);
        enum_orders(&e, mask);
    }
    enum_layouts(&e, all, 0);
    for (uint32_t mask = 1; mask <= all; mask++) free(e.shapes[mask]);
    *out = e.best;
    return e.any;
}

/* Worse than 0 by how much: 0.02 = 2%; 1 if a promise is broken that could be kept. */
static double gap(const struct gw_score *ours, const struct gw_score *best)
{
    if (ours->promise != best->promise) return ours->promise < best->promise ? 1 : 0;
    if (ours->promise == GW_PROMISE_NONE) return 1 - ours->throughput_rps / best->throughput_rps;
    return ours->latency_p99_s / best->latency_p99_s - 1;
}

struct search_case {
    struct plan_fleet *fleet;
    struct gw_plan_model model;
    struct gw_plan_load load;
    struct gw_plan_input in;
    struct gw_plan_pair apart[2];
};

/* Memory from "a quarter of the model fits" to "all of it". */
static void random_memory(struct search_case *c, struct gw_rng *r)
{
    struct gw_cell_rect all = {0, (uint16_t)c->model.groups, 0, (uint16_t)c->model.shares};
    double whole = (double)gw_plan_weight_bytes(&c->model, all);
    for (uint32_t t = 0; t < PLAN_TYPES; t++)
        c->fleet->types[t].memory_bytes = (uint64_t)(whole * (0.4 + 2 * gw_rng_unit(r)));
}

static void small_case(struct search_case *c, struct gw_rng *r, uint32_t devices)
{
    static const double rates[] = {0, 1, 10, 100, 400};
    c->fleet = plan_fleet_create(1 + (uint32_t)gw_rng_below(r, 2), devices);
    plan_fill(c->fleet, r, devices, 1 + (uint32_t)gw_rng_below(r, PLAN_TYPES), 2);
    c->model = plan_model_small();
    random_memory(c, r);
    c->load = plan_load(rates[gw_rng_below(r, 5)]);
    if (gw_rng_below(r, 3) == 0) c->load.slo_tpot_s = 0.002;
    c->in = (struct gw_plan_input){&c->fleet->f, &c->model, &c->load};
}

/* Any grid, cuts that are not even, one to three zones, doomed instances, pairs that must be apart, SLOs of both kinds. */
static void wild_case(struct search_case *c, struct gw_rng *r, uint32_t devices)
{
    static const uint32_t share_counts[] = {2, 3, 4, 6, 8};
    uint32_t shares = share_counts[gw_rng_below(r, 5)], groups = 1 + (uint32_t)gw_rng_below(r, 8);
    uint32_t each = 1 + (uint32_t)gw_rng_below(r, 3), kv_heads = 1 + (uint32_t)gw_rng_below(r, shares);
    c->fleet = plan_fleet_create(1 + (uint32_t)gw_rng_below(r, 3), devices);
    plan_fill(c->fleet, r, devices, 1 + (uint32_t)gw_rng_below(r, PLAN_TYPES), 4);
    for (uint32_t i = 0; i < c->fleet->f.instances_len; i++)
        if (gw_rng_below(r, 8) == 0) c->fleet->f.instances[i].doomed_at_s = 60;
    c->fleet->f.apart = c->apart;
    for (uint32_t d = 1; d < devices && c->fleet->f.apart_len < 2; d++)
        if (gw_rng_below(r, 8) == 0) c->apart[c->fleet->f.apart_len++] = (struct gw_plan_pair){d, d - 1};
    c->model = plan_model(groups * each - (uint32_t)gw_rng_below(r, each), each, 256 * shares, 2 * shares,
                          gw_rng_below(r, 2) ? shares : kv_heads, shares,
                          8192 + 2 * (uint32_t)gw_rng_below(r, 500), 32000 + (uint32_t)gw_rng_below(r, 500));
    random_memory(c, r);
    c->load = plan_load(gw_rng_below(r, 4) ? pow(10, 3 * gw_rng_unit(r)) : 0);
    if (gw_rng_below(r, 3) == 0) c->load.slo_tpot_s = 0.01 * gw_rng_unit(r);
    if (gw_rng_below(r, 3) == 0) c->load.slo_ttft_s = gw_rng_unit(r);
    c->in = (struct gw_plan_input){&c->fleet->f, &c->model, &c->load};
}

struct tally {
    uint32_t cases, equal;
};

static void compare_with_enumeration(const struct search_case *c, uint64_t seed, struct tally *tally)
{
    struct gw_search_result result;
    struct gw_score best = {0};
    double headroom = gw_cost_headroom(&c->fleet->f);
    bool any = best_of_all(&c->in, headroom, &best);
    assert_int_equal(gw_search(&c->in, headroom, gw_search_budget(c->fleet->f.devices_len), NULL, &result),
                     GW_OK);
    if (any != (result.layout.pipelines > 0))
        fail_msg("seed %llu: %s", (unsigned long long)seed,
                 any ? "found nothing" : "found what is not there");
    if (any && gap(&result.score, &best) > 0.02)
        fail_msg("seed %llu: promise %d latency %g rps %g, best: %d %g %g", (unsigned long long)seed,
                 result.score.promise, result.score.latency_p99_s, result.score.throughput_rps, best.promise,
                 best.latency_p99_s, best.throughput_rps);
    tally->cases += any;
    tally->equal += any && gw_score_compare(&result.score, &best) >= 0;
    gw_search_fini(&result);
    plan_fleet_destroy(c->fleet);
}

/* Of least to most devices. */
static void compare_seed(uint64_t seed, uint32_t least, uint32_t most,
                         void (*make)(struct search_case *c, struct gw_rng *r, uint32_t devices),
                         struct tally *tally)
{
    struct gw_rng r;
    struct search_case c;
    gw_rng_init(&r, seed);
    make(&c, &r, least < most ? least + (uint32_t)gw_rng_below(&r, most - least + 1) : least);
    compare_with_enumeration(&c, seed, tally);
}

static void test_search_small_fleets_is_within_two_percent_of_enumeration(void **state)
{
    (void)state;
    struct tally tally = {0};
    for (uint64_t seed = 1; seed <= 300; seed++)
        compare_seed(seed, seed % 50 == 0 ? 5 : 1, seed % 50 == 0 ? 5 : 4, small_case, &tally);
    print_message("# %u of %u as good as enumeration\n", tally.equal, tally.cases);
    assert_true(tally.cases > 150);
    assert_true(tally.equal * 100 >= tally.cases * 98);
}

/* Fleets that need more than the fastest few shapes of each list: a slow pipeline beside a fast one, stages of which only one
 * split fits, rows of ranks over two instances. */
static void test_search_hard_fleets_is_within_two_percent_of_enumeration(void **state)
{
    (void)state;
    static const struct {
        uint32_t seed, least, most;
    } hard[] = {{231, 5, 5},  {491, 1, 4},  {522, 1, 5},  {606, 5, 5},  {761, 5, 5},   {895, 1, 5},
                {1120, 1, 5}, {1751, 1, 5}, {2302, 1, 5}, {2428, 1, 5}, {2812, 1, 5},  {3718, 1, 5},
                {3898, 1, 5}, {4976, 1, 5}, {3323, 1, 5}, {7640, 1, 5}, {10316, 1, 5}, {6, 6, 6},
                {172, 6, 6},  {188, 6, 6},  {18778, 1, 4}};
    struct tally tally = {0};
    for (size_t i = 0; i < sizeof hard / sizeof *hard; i++)
        compare_seed(hard[i].seed, hard[i].least, hard[i].most, small_case, &tally);
    compare_seed(52092, 1, 3, wild_case,
                 &tally); /* three shares of two KV heads: only one order of ranks fits */
    assert_int_equal(tally.cases, sizeof hard / sizeof *hard + 1);
}

static void test_search_any_model_is_within_two_percent_of_enumeration(void **state)
{
    (void)state;
    struct tally tally = {0};
    for (uint64_t seed = 1; seed <= 400; seed++)
        compare_seed(seed, seed % 40 == 0 ? 4 : 1, seed % 40 == 0 ? 4 : 3, wild_case, &tally);
    print_message("# %u of %u as good as enumeration\n", tally.equal, tally.cases);
    assert_true(tally.cases > 200);
    assert_true(tally.equal * 100 >= tally.cases * 98);
}

/* ---- what holds on any fleet ---- */

static bool same_layout(const struct gw_layout *a, const struct gw_layout *b)
{
    if (a->ranks_len != b->ranks_len) return false;
    for (uint32_t i = 0; i < a->ranks_len; i++)
        if (a->ranks[i].device != b->ranks[i].device || a->ranks[i].pipeline != b->ranks[i].pipeline ||
            !gw_rect_equal(a->ranks[i].cells, b->ranks[i].cells))
            return false;
    return true;
}

/* Weights and the KV of one P99 request within (1 - headroom) of each device's memory. */
static void check_memory(const struct gw_plan_input *in, double headroom, const struct gw_layout *l)
{
    for (uint32_t i = 0; i < l->ranks_len; i++) {
        const struct gw_plan_type *t = &in->fleet->types[in->fleet->devices[l->ranks[i].device].type];
        double kv = (double)gw_plan_kv_token_bytes(in->model, l->ranks[i].cells) *
                    (in->load->prompt_p99 + in->load->output_p99);
        assert_true((double)gw_plan_weight_bytes(in->model, l->ranks[i].cells) + kv <=
                    (double)t->memory_bytes * (1 - headroom));
    }
}

static void check_fleet(uint64_t seed)
{
    struct gw_rng r;
    gw_rng_init(&r, seed);
    struct plan_fleet *p = plan_fleet_create(1 + (uint32_t)gw_rng_below(&r, 4), 96);
    struct gw_plan_model m = gw_rng_below(&r, 2) ? plan_model_70b() : plan_model_8b();
    /* odd sizes: cuts that are not even */
    if (gw_rng_below(&r, 4) == 0) m = plan_model(30, 4, 3072, 24, 6, 8, 8200, 50257);
    plan_fill(p, &r, 1 + (uint32_t)gw_rng_below(&r, 90), PLAN_TYPES, 8);
    for (uint32_t t = 3; t < PLAN_TYPES; t++) p->types[t].profile = (uint32_t)gw_rng_below(&r, 2);
    for (uint32_t i = 0; i < p->f.instances_len; i++)
        if (gw_rng_below(&r, 5) == 0) p->f.instances[i].doomed_at_s = 30;
    struct gw_plan_load load = plan_load(200 * gw_rng_unit(&r));
    struct gw_plan_input in = {&p->f, &m, &load};
    struct gw_search_result a, b;
    struct gw_err_ctx ctx = {0};
    struct gw_score score;
    double headroom = gw_cost_headroom(&p->f);
    uint64_t budget = gw_rng_below(&r, 3000);
    assert_int_equal(gw_plan_fleet_check(&p->f, &m, &ctx), GW_OK);
    assert_int_equal(gw_search(&in, headroom, budget, NULL, &a), GW_OK);
    assert_int_equal(gw_search(&in, headroom, budget, NULL, &b), GW_OK);
    if (gw_layout_check(&a.layout, &p->f, &m, &ctx) != GW_OK)
        fail_msg("seed %llu: %s", (unsigned long long)seed, ctx.text);
    assert_int_equal(gw_layout_check(&a.runner_up, &p->f, &m, NULL), GW_OK);
    assert_true(a.evaluated <= budget);
    assert_true(same_layout(&a.layout, &b.layout));
    check_memory(&in, headroom, &a.layout);
    if (a.layout.pipelines) {
        assert_int_equal(gw_cost_layout(&in, headroom, &a.layout, &score), GW_OK);
        assert_true(fabs(score.latency_p99_s / a.score.latency_p99_s - 1) < 1e-9);
        assert_true(fabs(score.throughput_rps / a.score.throughput_rps - 1) < 1e-9);
    }
    gw_search_fini(&a);
    gw_search_fini(&b);
    plan_fleet_destroy(p);
}

static void test_search_random_fleets_keep_every_rule(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) check_fleet(seed);
}

static void test_search_no_budget_finds_nothing(void **state)
{
    (void)state;
    struct plan_fleet *p = plan_fleet_create(1, 8);
    struct gw_plan_model m = plan_model_8b();
    struct gw_plan_load load = plan_load(1);
    struct gw_plan_input in = {&p->f, &m, &load};
    struct gw_search_result r;
    plan_add(p, 0, 4, 0);
    assert_int_equal(gw_search(&in, 0, 0, NULL, &r), GW_OK);
    assert_int_equal(r.layout.pipelines, 0);
    assert_int_equal(r.evaluated, 0);
    gw_search_fini(&r);
    plan_fleet_destroy(p);
}

static void test_search_empty_fleet_is_no_layout(void **state)
{
    (void)state;
    struct plan_fleet *p = plan_fleet_create(1, 8);
    struct gw_plan_model m = plan_model_8b();
    struct gw_plan_load load = plan_load(1);
    struct gw_plan_input in = {&p->f, &m, &load};
    struct gw_search_result r;
    assert_int_equal(gw_search(&in, 0, 1000, NULL, &r), GW_OK);
    assert_int_equal(r.layout.ranks_len, 0);
    gw_search_fini(&r);
    plan_fleet_destroy(p);
}

/* Three devices of which one has less memory: 8 shares over 3 ranks cannot be even. */
static void test_search_three_devices_share_eight_unequally(void **state)
{
    (void)state;
    struct plan_fleet *p = plan_fleet_create(1, 8);
    struct gw_plan_model m = plan_model_70b();
    struct gw_plan_load load = plan_load(0.5);
    struct gw_plan_input in = {&p->f, &m, &load};
    struct gw_search_result r;
    plan_add(p, 0, 3, 0);
    assert_int_equal(gw_search(&in, 0, 12000, NULL, &r), GW_OK);
    assert_int_equal(gw_layout_check(&r.layout, &p->f, &m, NULL), GW_OK);
    assert_int_equal(r.layout.pipelines, 1);
    assert_int_equal(r.layout.ranks_len, 3);
    gw_search_fini(&r);
    plan_fleet_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_small_fleets_is_within_two_percent_of_enumeration),
        cmocka_unit_test(test_search_hard_fleets_is_within_two_percent_of_enumeration),
        cmocka_unit_test(test_search_any_model_is_within_two_percent_of_enumeration),
        cmocka_unit_test(test_search_random_fleets_keep_every_rule),
        cmocka_unit_test(test_search_no_budget_finds_nothing),
        cmocka_unit_test(test_search_empty_fleet_is_no_layout),
        cmocka_unit_test(test_search_three_devices_share_eight_unequally),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
