#include "migrate/expert_layers.h"

#include <limits.h>
#include <string.h>

/* Layers that the model does not have may be named: files of models that were cut do. */
static gw_err_t read_named(const cJSON *config, uint32_t layers, bool *has, struct gw_err_ctx *ctx)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(config, "mlp_only_layers"), *item;
    if (!list || cJSON_IsNull(list)) return GW_OK;
    if (!cJSON_IsArray(list)) return gw_fail(ctx, GW_ERR_INPUT, "'mlp_only_layers' is no list");
    cJSON_ArrayForEach(item, list)
    {
        double layer = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (!(layer >= 0 && layer <= INT_MAX) || layer != (double)(uint32_t)layer)
            return gw_fail(ctx, GW_ERR_INPUT, "'mlp_only_layers' must hold numbers of layers");
        if (layer < layers) has[(uint32_t)layer] = false;
    }
    return GW_OK;
}

static gw_err_t read_step(const cJSON *config, uint32_t layers, bool *has, struct gw_err_ctx *ctx)
{
    int64_t step = 1;
    TRY(gw_json_int(config, "decoder_sparse_step", 1, INT_MAX, &step, ctx));
    for (uint32_t i = 0; i < layers; i++) has[i] = (i + 1) % (uint32_t)step == 0;
    return read_named(config, layers, has, ctx);
}

static gw_err_t read_types(const cJSON *config, uint32_t layers, bool *has, struct gw_err_ctx *ctx)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(config, "mlp_layer_types"), *item;
    uint32_t layer = 0;
    if (!list || cJSON_IsNull(list)) return GW_OK;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != (int)layers)
        return gw_fail(ctx, GW_ERR_INPUT, "'mlp_layer_types' must name the types of %u layers", layers);
    cJSON_ArrayForEach(item, list)
    {
        const char *type = cJSON_IsString(item) ? item->valuestring : "";
        has[layer] = strcmp(type, "sparse") == 0;
        if (!has[layer++] && strcmp(type, "dense") != 0)
            return gw_fail(ctx, GW_ERR_INPUT,
                           "'mlp_layer_types': '%.32s' is not supported, only dense and sparse are", type);
    }
    return GW_OK;
}

gw_err_t gw_expert_layers_read(const cJSON *config, enum gw_expert_rule rule, uint32_t layers, bool *has,
                               struct gw_err_ctx *ctx)
{
    for (uint32_t i = 0; i < layers; i++) has[i] = true;
    switch (rule) {
    case GW_EXPERTS_BY_STEP: return read_step(config, layers, has, ctx);
    case GW_EXPERTS_BY_TYPE: return read_types(config, layers, has, ctx);
    default: return GW_OK;
    }
}
