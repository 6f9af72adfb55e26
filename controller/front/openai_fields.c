#include "controller/front/openai_fields.h"

#include <math.h>

static gw_err_t told(gw_err_t err, const char *field, const struct gw_err_ctx *ctx,
                     struct gw_openai_error *error)
{
    if (err == GW_OK) return GW_OK;
    return gw_openai_error_set(error, 400, NULL, field, "%s", ctx->text);
}

gw_err_t gw_field_u32(const cJSON *obj, const char *field, uint32_t min, uint32_t max, uint32_t *out,
                      struct gw_openai_error *error)
{
    struct gw_err_ctx ctx = {0};
    int64_t v = *out;
    TRY(told(gw_json_int(obj, field, min, max, &v, &ctx), field, &ctx, error));
    *out = (uint32_t)v;
    return GW_OK;
}

gw_err_t gw_field_float(const cJSON *obj, const char *field, double min, double max, float *out,
                        struct gw_openai_error *error)
{
    struct gw_err_ctx ctx = {0};
    double v = (double)*out;
    TRY(told(gw_json_double(obj, field, min, max, &v, &ctx), field, &ctx, error));
    *out = (float)v;
    return GW_OK;
}

gw_err_t gw_field_bool(const cJSON *obj, const char *field, bool *out, struct gw_openai_error *error)
{
    struct gw_err_ctx ctx = {0};
    return told(gw_json_bool(obj, field, out, &ctx), field, &ctx, error);
}

gw_err_t gw_field_string(const cJSON *obj, const char *field, const char **out, struct gw_openai_error *error)
{
    struct gw_err_ctx ctx = {0};
    return told(gw_json_string(obj, field, out, &ctx), field, &ctx, error);
}

const cJSON *gw_field(const cJSON *obj, const char *field)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(obj, field);
    return cJSON_IsNull(item) ? NULL : item;
}

bool gw_field_is_token_id(const cJSON *item, uint32_t vocab)
{
    double v = cJSON_IsNumber(item) ? item->valuedouble : -1;
    return v >= 0 && v < (double)vocab && v == floor(v);
}
