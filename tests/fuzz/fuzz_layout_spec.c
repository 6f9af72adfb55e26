/* controller/layout_spec: any text, for any grid, gives pipelines that hold every cell once, or an error in words; and
 * placed over a small fleet they keep the rules of layouts. */
#include <assert.h>
#include <string.h>

#include "controller/layout_place.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/plan_fixture.h"

#define TEXT_MAX (GW_LAYOUT_TEXT_MAX + 16)

/* Consecutive stages of consecutive shares, from cell (0, 0) to the last. */
static void check_kind(const struct gw_layout_kind *k, const struct gw_plan_model *m)
{
    uint32_t group = 0, share = 0, stage = 0;
    assert(k->copies >= 1 && k->copies <= GW_LAYOUT_COPIES_MAX);
    assert(k->ranks_len >= 1 && k->ranks_len <= GW_LAYOUT_RANKS_MAX);
    for (uint32_t i = 0; i < k->ranks_len; i++) {
        struct gw_cell_rect c = k->ranks[i].cells;
        assert(c.g0 == group && c.s0 == share && c.s1 > c.s0 && c.g1 > c.g0 && k->ranks[i].stage == stage);
        share = c.s1;
        if (share < m->shares) continue;
        assert(share == m->shares);
        share = 0;
        group = c.g1;
        stage++;
    }
    assert(group == m->groups && share == 0);
}

static void check_placed(const struct gw_layout_spec *spec, const struct gw_plan_model *m)
{
    struct plan_fleet *f = plan_fleet_create(2, 16);
    struct gw_plan_load load = plan_load(1);
    struct gw_layout layout = {0};
    struct gw_err_ctx ctx = {0};
    const struct gw_plan_input in = {&f->f, m, &load};
    for (uint32_t i = 0; i < 4; i++) plan_add(f, i % 2, 2, i / 2);
    assert(gw_layout_place(&in, spec->kinds, spec->kinds_len, &layout) == GW_OK);
    assert(gw_layout_check(&layout, &f->f, m, &ctx) == GW_OK);
    assert(layout.pipelines <= gw_layout_spec_pipelines(spec));
    gw_layout_fini(&layout);
    plan_fleet_destroy(f);
}

/* The first two bytes choose the grid, the rest is the text. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    char text[TEXT_MAX + 1];
    struct gw_layout_spec spec;
    struct gw_err_ctx ctx = {0};
    if (len < 2 || len - 2 > TEXT_MAX || memchr(bytes + 2, 0, len - 2)) return 0;
    memcpy(text, bytes + 2, len - 2);
    text[len - 2] = '\0';
    uint32_t groups = 1 + bytes[0] % 20, shares = 1 + bytes[1] % 16;
    struct gw_plan_model m =
        plan_model(2 * groups, 2, 64 * shares, shares, shares, shares, 128 * shares, 32000);
    if (gw_layout_spec_parse(text, m.groups, m.shares, &spec, &ctx) != GW_OK) {
        assert(ctx.code == GW_ERR_INPUT && ctx.text[0] && !strchr(ctx.text, '\n'));
        return 0;
    }
    assert((spec.mode == GW_LAYOUT_SHAPE) == (spec.kinds_len > 0));
    for (uint32_t i = 0; i < spec.kinds_len; i++) check_kind(&spec.kinds[i], &m);
    if (spec.mode == GW_LAYOUT_SHAPE) check_placed(&spec, &m);
    return 0;
}
