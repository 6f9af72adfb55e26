/* controller/plan/mapping and move: reuse against brute force, and what must hold of every migration plan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "controller/plan/mapping.h"
#include "controller/plan/move.h"
#include "controller/plan/search.h"
#include "tests/lib/plan_fixture.h"

static struct gw_search_result search(struct plan_fleet *p, const struct gw_plan_model *m, double rps)
{
    struct gw_plan_load load = plan_load(rps);
    struct gw_plan_input in = {&p->f, m, &load};
    struct gw_search_result r;
    assert_int_equal(gw_search(&in, gw_cost_headroom(&p->f), 3000, NULL, &r), GW_OK);
    return r;
}

/* A pipeline of one stage over `devices` with these widths. */
static struct gw_layout one_stage(const struct gw_plan_model *m, const uint32_t *devices,
                                  const uint16_t *widths, uint32_t n)
{
    struct gw_layout l = {.ranks = calloc(n, sizeof *l.ranks), .ranks_len = n, .pipelines = 1};
    uint16_t share = 0;
    for (uint32_t i = 0; i < n; i++) {
        l.ranks[i] = (struct gw_layout_rank){
            devices[i], 0, 0, {0, (uint16_t)m->groups, share, (uint16_t)(share + widths[i])}};
        share = (uint16_t)(share + widths[i]);
    }
    assert_int_equal(share, m->shares);
    return l;
}

static uint64_t reuse_of(const struct plan_fleet *p, const struct gw_plan_model *m, const struct gw_layout *l)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < l->ranks_len; i++)
        sum += gw_mapping_reuse(m, &p->f.devices[l->ranks[i].device], l->ranks[i].cells);
    return sum;
}

static uint64_t best_reuse(const struct plan_fleet *p, const struct gw_plan_model *m, struct gw_layout *l,
                           uint32_t at)
{
    uint64_t best = 0;
    if (at == l->ranks_len) return reuse_of(p, m, l);
    for (uint32_t i = at; i < l->ranks_len; i++) {
        uint32_t a = l->ranks[at].device, b = l->ranks[i].device;
        l->ranks[at].device = b;
        l->ranks[i].device = a;
        uint64_t reuse = best_reuse(p, m, l, at + 1);
        if (reuse > best) best = reuse;
        l->ranks[at].device = a;
        l->ranks[i].device = b;
    }
    return best;
}

static struct gw_cell_rect random_rect(struct gw_rng *r, const struct gw_plan_model *m)
{
    uint16_t g0 = (uint16_t)gw_rng_below(r, m->groups), s0 = (uint16_t)gw_rng_below(r, m->shares);
    return (struct gw_cell_rect){g0, (uint16_t)(g0 + 1 + gw_rng_below(r, m->groups - g0)), s0,
                                 (uint16_t)(s0 + 1 + gw_rng_below(r, m->shares - s0))};
}

static void test_mapping_random_holdings_keeps_as_much_as_brute_force(void **state)
{
    (void)state;
    struct gw_plan_model m = plan_model_70b();
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct gw_rng r;
        struct plan_fleet *p = plan_fleet_create(1, 8);
        uint32_t devices[6];
        static const uint16_t widths[] = {2, 1, 1, 2, 1, 1};
        gw_rng_init(&r, seed);
        /* one device per instance, or all in one: each level on its own is exhaustive */
        for (uint32_t i = 0; i < (seed % 2 ? 6 : 1); i++) plan_add(p, 0, seed % 2 ? 1 : 6, 0);
        for (uint32_t i = 0; i < 6; i++) {
            devices[i] = i;
            if (gw_rng_below(&r, 4)) p->f.devices[i].holds = random_rect(&r, &m);
            p->f.devices[i].kv_cell_bytes = gw_rng_below(&r, 1000000);
        }
        struct gw_layout l = one_stage(&m, devices, widths, 6);
        uint64_t best = best_reuse(p, &m, &l, 0);
        assert_int_equal(gw_mapping(&p->f, &m, &l), GW_OK);
        if (reuse_of(p, &m, &l) != best)
            fail_msg("seed %llu: %llu bytes stay, %llu could", (unsigned long long)seed,
                     (unsigned long long)reuse_of(p, &m, &l), (unsigned long long)best);
        gw_layout_fini(&l);
        plan_fleet_destroy(p);
    }
}

static void test_mapping_same_layout_elsewhere_comes_home(void **state)
{
    (void)state;
    struct gw_plan_model m = plan_model_70b();
    struct plan_fleet *p = plan_fleet_create(1, 64);
    for (int i = 0; i < 8; i++) plan_add(p, 0, 4, 0);
    struct gw_search_result r = search(p, &m, 10);
    plan_hold(p, &r.layout, 1000);
    /* the same forms on other instances: shifted by three */
    for (uint32_t i = 0; i < r.layout.ranks_len; i++)
        r.layout.ranks[i].device = (r.layout.ranks[i].device + 12) % 32;
    assert_int_equal(gw_mapping(&p->f, &m, &r.layout), GW_OK);
    struct gw_move move;
    assert_int_equal(gw_move_plan(&p->f, &m, &r.layout, &move), GW_OK);
    assert_int_equal(move.steps_len, 0);
    assert_int_equal(move.touched, 0);
    gw_move_fini(&move);
    gw_search_fini(&r);
    plan_fleet_destroy(p);
}

/* ---- what every migration plan keeps ---- */

struct cell_map {
    uint8_t has[GW_PLAN_GROUPS_MAX][GW_PLAN_SHARES_MAX];
};

static void mark(struct cell_map *map, struct gw_cell_rect r, uint8_t value)
{
    for (uint32_t g = r.g0; g < r.g1; g++)
        for (uint32_t s = r.s0; s < r.s1; s++) {
            assert_int_not_equal(map->has[g][s], value); /* nothing twice */
            map->has[g][s] = value;
        }
}

/* Walks one device's steps: memory never above what it has, KV before weights, groups ascending; ends with its cells. */
static void walk_device(const struct plan_fleet *p, const struct gw_plan_model *m, uint32_t device,
                        struct gw_cell_rect want, const struct gw_move_step *steps, uint32_t n)
{
    const struct gw_plan_device *d = &p->f.devices[device];
    struct cell_map *map = calloc(1, sizeof *map);
    uint64_t room = p->f.types[d->type].memory_bytes;
    int64_t resident =
        (int64_t)(gw_plan_weight_bytes(m, d->holds) + d->kv_cell_bytes * gw_rect_cells(d->holds));
    uint16_t group = 0;
    bool weights = false;
    mark(map, d->holds, 1);
    for (uint32_t i = 0; i < n; i++) {
        const struct gw_move_step *s = &steps[i];
        bool fetch = s->kind == GW_MOVE_KV || s->kind == GW_MOVE_WEIGHTS;
        resident += fetch ? (int64_t)s->bytes : -(int64_t)s->bytes;
        assert_true(resident >= 0);
        if (fetch) assert_true((uint64_t)resident <= room);
        if (s->kind == GW_MOVE_KV) assert_false(weights);
        if (s->kind == GW_MOVE_WEIGHTS) {
            weights = true;
            assert_true(s->cells.g0 >= group);
            group = s->cells.g0;
            mark(map, s->cells, 1);
            if (s->source != GW_PLAN_NONE) /* who gives has it */
                assert_true(gw_rect_equal(gw_rect_meet(p->f.devices[s->source].holds, s->cells), s->cells));
        }
        if (s->kind == GW_MOVE_DROP) mark(map, s->cells, 0);
    }
    for (uint32_t g = 0; g < m->groups; g++)
        for (uint32_t s = 0; s < m->shares; s++)
            assert_int_equal(map->has[g][s], g >= want.g0 && g < want.g1 && s >= want.s0 && s < want.s1);
    free(map);
}

static void walk(const struct plan_fleet *p, const struct gw_plan_model *m, const struct gw_layout *l,
                 const struct gw_move *move)
{
    for (uint32_t d = 0, at = 0; d < p->f.devices_len; d++) {
        struct gw_cell_rect want = {0};
        uint32_t first = at;
        for (uint32_t i = 0; i < l->ranks_len; i++)
            if (l->ranks[i].device == d) want = l->ranks[i].cells;
        while (at < move->steps_len && move->steps[at].device == d) at++;
        if (p->f.instances[p->f.devices[d].instance].doomed_at_s > 0)
            assert_int_equal(at, first); /* who goes is asked for nothing */
        else
            walk_device(p, m, d, want, move->steps + first, at - first);
        if (d + 1 == p->f.devices_len) assert_int_equal(at, move->steps_len);
    }
}

static void test_move_random_transitions_keep_memory_and_end_at_the_layout(void **state)
{
    (void)state;
    struct gw_plan_model m = plan_model_70b();
    uint32_t gaps = 0, moved = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct gw_rng r;
        gw_rng_init(&r, seed);
        struct plan_fleet *p = plan_fleet_create(2, 48);
        plan_fill(p, &r, 8 + (uint32_t)gw_rng_below(&r, 32), 3, 8);
        struct gw_search_result before = search(p, &m, 1 + 20 * gw_rng_unit(&r));
        /* pages fill what the weights leave free */
        plan_hold(p, &before.layout, gw_rng_below(&r, 2) ? 50000000 : 400000000);
        for (uint32_t i = 0; i < p->f.devices_len; i++) { /* as much KV as really fits */
            struct gw_plan_device *d = &p->f.devices[i];
            uint64_t cells = gw_rect_cells(d->holds), room = p->f.types[d->type].memory_bytes;
            if (!cells) continue;
            uint64_t most = (room - gw_plan_weight_bytes(&m, d->holds)) / cells;
            if (d->kv_cell_bytes > most) d->kv_cell_bytes = most;
        }
        if (p->f.instances_len > 1) p->f.instances[gw_rng_below(&r, p->f.instances_len)].doomed_at_s = 60;
        struct gw_search_result after = search(p, &m, 1 + 60 * gw_rng_unit(&r));
        struct gw_move move;
        assert_int_equal(gw_mapping(&p->f, &m, &after.layout), GW_OK);
        assert_int_equal(gw_layout_check(&after.layout, &p->f, &m, NULL), GW_OK);
        assert_int_equal(gw_move_plan(&p->f, &m, &after.layout, &move), GW_OK);
        walk(p, &m, &after.layout, &move);
        gaps += move.gap_s > 0;
        moved += move.weight_bytes > 0;
        gw_move_fini(&move);
        gw_search_fini(&before);
        gw_search_fini(&after);
        plan_fleet_destroy(p);
    }
    assert_true(moved > 10);
    print_message("# %u transitions fetch weights, %u have a gap\n", moved, gaps);
}

/* TP 4 to TP 3 on devices too small for old and new cells at once: old ones go first, and the plan says so. */
static void test_move_short_memory_drops_first_and_shows_the_gap(void **state)
{
    (void)state;
    struct gw_plan_model m = plan_model_70b();
    struct plan_fleet *p = plan_fleet_create(1, 8);
    static const uint32_t devices[] = {0, 1, 2, 3};
    static const uint16_t four[] = {2, 2, 2, 2}, three[] = {3, 3, 2};
    for (int i = 0; i < 4; i++) plan_add(p, 0, 1, 0);
    struct gw_layout before = one_stage(&m, devices, four, 4), after = one_stage(&m, devices + 1, three, 3);
    struct gw_move move;
    plan_hold(p, &before, 0);
    p->f.instances[0].doomed_at_s = 60;
    assert_int_equal(gw_move_plan(&p->f, &m, &after, &move), GW_OK);
    walk(p, &m, &after, &move);
    assert_true(move.gap_s == 0); /* 75 GB hold both */
    gw_move_fini(&move);
    p->types[0].memory_bytes = gw_plan_weight_bytes(&m, (struct gw_cell_rect){0, 20, 0, 3}) + 1000;
    assert_int_equal(gw_move_plan(&p->f, &m, &after, &move), GW_OK);
    walk(p, &m, &after, &move);
    assert_true(move.gap_s > 0);
    gw_move_fini(&move);
    gw_layout_fini(&before);
    gw_layout_fini(&after);
    plan_fleet_destroy(p);
}

static void test_move_new_fleet_reads_files_and_shares_sources(void **state)
{
    (void)state;
    struct gw_plan_model m = plan_model_8b();
    struct plan_fleet *p = plan_fleet_create(2, 8);
    static const uint32_t devices[] = {0};
    static const uint16_t all[] = {8};
    plan_add(p, 0, 1, 0);
    plan_add(p, 0, 1, 1);
    struct gw_layout l = one_stage(&m, devices, all, 1);
    struct gw_move move;
    uint64_t whole = gw_plan_weight_bytes(&m, l.ranks[0].cells);
    assert_int_equal(gw_move_plan(&p->f, &m, &l, &move), GW_OK);
    assert_int_equal(move.store_bytes, whole);
    assert_true(move.seconds > 0.99 * (double)whole / p->f.store_bytes_s);
    gw_move_fini(&move);
    /* somebody else has it, in another zone: bytes have a price there */
    p->f.devices[1].holds = l.ranks[0].cells;
    assert_int_equal(gw_move_plan(&p->f, &m, &l, &move), GW_OK);
    assert_int_equal(move.store_bytes, 0);
    assert_int_equal(move.zone_bytes, move.weight_bytes);
    assert_true(move.usd > 0);
    gw_move_fini(&move);
    gw_layout_fini(&l);
    plan_fleet_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mapping_random_holdings_keeps_as_much_as_brute_force),
        cmocka_unit_test(test_mapping_same_layout_elsewhere_comes_home),
        cmocka_unit_test(test_move_random_transitions_keep_memory_and_end_at_the_layout),
        cmocka_unit_test(test_move_short_memory_drops_first_and_shows_the_gap),
        cmocka_unit_test(test_move_new_fleet_reads_files_and_shares_sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
