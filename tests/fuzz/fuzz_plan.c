/* controller/cli/plan_files and the planner: any {"fleet", "model", "load", "current"} gives a plan that keeps the rules, or
 * an error in words. */
#include <assert.h>
#include <math.h>

#include "controller/cli/plan_files.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_MAX    (64u << 10)
#define DEVICES_MAX 24 /* larger fleets are read, not planned: a run should take a millisecond */
#define BUDGET      60

static gw_err_t read_all(const cJSON *tree, struct gw_plan_files *f, struct gw_err_ctx *ctx)
{
    const cJSON *current = cJSON_GetObjectItemCaseSensitive(tree, "current");
    TRY(gw_plan_fleet_from_json(cJSON_GetObjectItemCaseSensitive(tree, "fleet"), f, ctx));
    TRY(gw_plan_model_from_json(cJSON_GetObjectItemCaseSensitive(tree, "model"), GW_WEIGHT_FILE, GW_KV_FILE,
                                &f->model, ctx));
    TRY(gw_plan_load_from_json(cJSON_GetObjectItemCaseSensitive(tree, "load"), f, ctx));
    return current ? gw_plan_current_from_json(current, f, ctx) : GW_OK;
}

static void check_plan(struct gw_plan_files *f)
{
    struct gw_plan_input in = {&f->fleet, &f->model, &f->load};
    struct gw_plan plan;
    struct gw_err_ctx ctx = {0};
    f->options.budget = BUDGET;
    if (gw_planner_run(&in, &f->options, &plan, &ctx) != GW_OK) {
        assert(ctx.code != GW_OK && ctx.text[0]);
        return;
    }
    /* what serves is kept as it was found, even where it breaks a rule of new layouts */
    if (plan.verdict == GW_VERDICT_MOVE)
        assert(gw_layout_check(&plan.layout, &f->fleet, &f->model, NULL) == GW_OK);
    assert(plan.evaluated <= BUDGET);
    assert(!isnan(plan.score.latency_p99_s) && !isnan(plan.score.throughput_rps) &&
           !isnan(plan.move.seconds));
    gw_plan_fini(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    cJSON *tree = NULL;
    struct gw_err_ctx ctx = {0};
    struct gw_plan_files files = {0};
    if (gw_json_parse((const char *)bytes, len, TEXT_MAX, &tree, NULL) != GW_OK) return 0;
    if (read_all(tree, &files, &ctx) != GW_OK)
        assert(ctx.code != GW_OK && ctx.text[0]);
    else if (files.fleet.devices_len <= DEVICES_MAX)
        check_plan(&files);
    gw_plan_files_fini(&files);
    cJSON_Delete(tree);
    return 0;
}
