#include "controller/cli/plan_json_in.h"

#include <stdio.h>
#include <string.h>

#define GB_S_MAX 1e9
#define US_MAX   1e12

gw_err_t plan_json_fields(const cJSON *obj, const char *what, const char *const *known,
                          struct gw_err_ctx *ctx)
{
    if (!cJSON_IsObject(obj)) return gw_fail(ctx, GW_ERR_INPUT, "%s is no JSON object", what);
    const cJSON *field;
    cJSON_ArrayForEach(field, obj)
    {
        size_t i = 0;
        while (known[i] && strcmp(known[i], field->string) != 0) i++;
        if (!known[i])
            return gw_fail(ctx, GW_ERR_INPUT, "%s: field '%.64s' is not known", what, field->string);
    }
    return GW_OK;
}

gw_err_t plan_json_need(const cJSON *obj, const char *field, double min, double max, double *out,
                        struct gw_err_ctx *ctx)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(obj, field);
    if (!item || cJSON_IsNull(item)) return gw_fail(ctx, GW_ERR_INPUT, "'%s' is missing", field);
    return gw_json_double(obj, field, min, max, out, ctx);
}

gw_err_t plan_json_name(const cJSON *obj, const char *field, char out[GW_PLAN_NAME_MAX],
                        struct gw_err_ctx *ctx)
{
    const char *text = NULL;
    TRY(gw_json_string(obj, field, &text, ctx));
    if (!text) return GW_OK;
    size_t len = strlen(text);
    bool good = len > 0 && len < GW_PLAN_NAME_MAX;
    for (size_t i = 0; i < len; i++) good &= text[i] > ' ' && text[i] < 127;
    if (!good)
        return gw_fail(ctx, GW_ERR_INPUT, "'%s' must be 1 to %d printable characters", field,
                       GW_PLAN_NAME_MAX - 1);
    memcpy(out, text, len + 1);
    return GW_OK;
}

gw_err_t plan_json_link(const cJSON *obj, const char *field, struct gw_plan_link *out, struct gw_err_ctx *ctx)
{
    static const char *const known[] = {"gb_s", "latency_us", NULL};
    const cJSON *link = cJSON_GetObjectItemCaseSensitive(obj, field);
    double gb_s = out->bytes_s * 1e-9, latency_us = out->latency_s * 1e6;
    if (!link || cJSON_IsNull(link)) return GW_OK;
    TRY(plan_json_fields(link, field, known, ctx));
    TRY(gw_json_double(link, "gb_s", 1e-6, GB_S_MAX, &gb_s, ctx));
    TRY(gw_json_double(link, "latency_us", 0, US_MAX, &latency_us, ctx));
    *out = (struct gw_plan_link){gb_s * 1e9, latency_us * 1e-6};
    return GW_OK;
}
