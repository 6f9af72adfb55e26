#include "controller/cli/plan_files.h"

#include <stdlib.h>
#include <string.h>

#include "controller/cli/plan_json_in.h"

/* ---- load ---- */

static gw_err_t read_lengths(const cJSON *load, const char *field, double *mean, double *p99,
                             struct gw_err_ctx *ctx)
{
    static const char *const known[] = {"mean", "p99", NULL};
    const cJSON *l = cJSON_GetObjectItemCaseSensitive(load, field);
    if (!l) return gw_fail(ctx, GW_ERR_INPUT, "'%s' is missing", field);
    TRY(plan_json_fields(l, field, known, ctx));
    TRY(plan_json_need(l, "mean", 1, 1e9, mean, ctx));
    *p99 = *mean;
    return gw_json_double(l, "p99", 1, 1e9, p99, ctx);
}

gw_err_t gw_plan_load_from_json(const cJSON *j, struct gw_plan_files *f, struct gw_err_ctx *ctx)
{
    static const char *const known[] = {"arrival_rps", "prompt",    "output", "slo",
                                        "concurrency", "horizon_s", NULL};
    static const char *const slo_known[] = {"ttft_s", "tpot_s", NULL};
    struct gw_plan_load *l = &f->load;
    TRY(plan_json_fields(j, "the load", known, ctx));
    TRY(plan_json_need(j, "arrival_rps", 0, 1e9, &l->arrival_rps, ctx));
    TRY(read_lengths(j, "prompt", &l->prompt_mean, &l->prompt_p99, ctx));
    TRY(read_lengths(j, "output", &l->output_mean, &l->output_p99, ctx));
    TRY(gw_json_double(j, "concurrency", 0, 1e9, &l->concurrency_max, ctx));
    TRY(gw_json_double(j, "horizon_s", 1, 1e9, &f->options.horizon_s, ctx));
    const cJSON *slo = cJSON_GetObjectItemCaseSensitive(j, "slo");
    if (slo && !cJSON_IsNull(slo)) {
        TRY(plan_json_fields(slo, "slo", slo_known, ctx));
        TRY(gw_json_double(slo, "ttft_s", 0, 1e9, &l->slo_ttft_s, ctx));
        TRY(gw_json_double(slo, "tpot_s", 0, 1e9, &l->slo_tpot_s, ctx));
    }
    return gw_plan_load_check(l, ctx);
}

gw_err_t gw_plan_load_read(const char *path, struct gw_plan_files *files, struct gw_err_ctx *ctx)
{
    cJSON *json = NULL;
    TRY(gw_json_parse_file(path, GW_PLAN_FILE_BYTES_MAX, &json, ctx));
    gw_err_t err = gw_plan_load_from_json(json, files, ctx);
    cJSON_Delete(json);
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "%s", path);
}

/* ---- what serves now ---- */

/* [first, end) of at most max. */
static gw_err_t read_span(const cJSON *rank, const char *field, uint32_t max, uint16_t *first, uint16_t *end,
                          struct gw_err_ctx *ctx)
{
    const cJSON *span = cJSON_GetObjectItemCaseSensitive(rank, field);
    const cJSON *a = cJSON_GetArrayItem(span, 0), *b = cJSON_GetArrayItem(span, 1);
    if (!cJSON_IsArray(span) || cJSON_GetArraySize(span) != 2 || !cJSON_IsNumber(a) || !cJSON_IsNumber(b) ||
        a->valuedouble != a->valueint || b->valuedouble != b->valueint ||
        !(a->valuedouble >= 0 && a->valuedouble < b->valuedouble && b->valuedouble <= max))
        return gw_fail(ctx, GW_ERR_INPUT, "'%s' must be [first, end] with 0 <= first < end <= %u", field,
                       max);
    *first = (uint16_t)a->valuedouble;
    *end = (uint16_t)b->valuedouble;
    return GW_OK;
}

static gw_err_t find_device(const struct gw_plan_fleet *f, const cJSON *rank, struct gw_plan_device **out,
                            struct gw_err_ctx *ctx)
{
    const char *id = NULL;
    int64_t index = 0;
    TRY(gw_json_string(rank, "instance", &id, ctx));
    TRY(gw_json_int(rank, "device", 0, GW_PLAN_DEVICES_MAX, &index, ctx));
    for (uint32_t i = 0; id && i < f->instances_len; i++) {
        if (strcmp(f->instances[i].id, id) != 0) continue;
        if (index >= f->instances[i].devices)
            return gw_fail(ctx, GW_ERR_INPUT, "'%s' has no device %lld", id, (long long)index);
        *out = &f->devices[f->instances[i].first_device + index];
        return GW_OK;
    }
    return gw_fail(ctx, GW_ERR_INPUT, "no instance is named '%.40s'", id ? id : "");
}

static gw_err_t read_rank(const cJSON *j, struct gw_plan_files *f, struct gw_err_ctx *ctx)
{
    static const char *const known[] = {"instance",          "device", "pipeline", "groups", "shares",
                                        "kv_bytes_per_cell", NULL};
    struct gw_plan_device *d = NULL;
    struct gw_cell_rect r = {0};
    int64_t pipeline = -1;
    double kv = 0;
    TRY(plan_json_fields(j, "it", known, ctx));
    TRY(find_device(&f->fleet, j, &d, ctx));
    TRY(read_span(j, "groups", f->model.groups, &r.g0, &r.g1, ctx));
    TRY(read_span(j, "shares", f->model.shares, &r.s0, &r.s1, ctx));
    TRY(gw_json_int(j, "pipeline", 0, GW_PLAN_DEVICES_MAX, &pipeline, ctx));
    TRY(gw_json_double(j, "kv_bytes_per_cell", 0, 1e12, &kv, ctx));
    if (!gw_rect_empty(d->holds)) return gw_fail(ctx, GW_ERR_INPUT, "its device is there twice");
    d->holds = r;
    d->pipeline = pipeline < 0 ? GW_PLAN_NONE : (uint32_t)pipeline;
    d->kv_cell_bytes = (uint64_t)kv;
    return GW_OK;
}

gw_err_t gw_plan_current_from_json(const cJSON *j, struct gw_plan_files *f, struct gw_err_ctx *ctx)
{
    static const char *const known[] = {"ranks", NULL};
    uint32_t at = 0;
    const cJSON *r, *ranks = cJSON_GetObjectItemCaseSensitive(j, "ranks");
    TRY(plan_json_fields(j, "what serves now", known, ctx));
    if (!cJSON_IsArray(ranks)) return gw_fail(ctx, GW_ERR_INPUT, "'ranks' must be a list");
    cJSON_ArrayForEach(r, ranks)
    {
        gw_err_t err = read_rank(r, f, ctx);
        if (err != GW_OK) return gw_fail_prefix(ctx, err, "rank %u", at);
        at++;
    }
    return GW_OK;
}

gw_err_t gw_plan_current_read(const char *path, struct gw_plan_files *files, struct gw_err_ctx *ctx)
{
    cJSON *json = NULL;
    TRY(gw_json_parse_file(path, GW_PLAN_FILE_BYTES_MAX, &json, ctx));
    gw_err_t err = gw_plan_current_from_json(json, files, ctx);
    cJSON_Delete(json);
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "%s", path);
}
