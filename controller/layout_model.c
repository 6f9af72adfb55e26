#include "controller/layout_model.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "migrate/grid.h"

#define CONFIG_BYTES_MAX (1u << 20)
#define EXPERTS_MAX      1024
#define F32_BYTES        4
#define INT8_HEAD_BYTES  8 /* of each row of a matrix: a scale, a sum (kernels/cpu/pack.h) */

struct dims {
    int64_t hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, experts, taken;
    bool tied, f32, int8, qkv_bias, qk_norm;
};

/* What architectures have of their own that takes memory (worker/model_config.h). Others count as Llama. */
static const struct family {
    const char *type;
    int64_t kv_heads, head_dim; /* where the file is silent; 0: as many as query heads; hidden / heads */
    bool qkv_bias, qk_norm;
    const char *experts, *intermediate; /* fields */
} families[] = {
    {"mistral", 8, 0, false, false, NULL, "intermediate_size"},
    {"qwen2", 32, 0, true, false, NULL, "intermediate_size"},
    {"qwen3", 32, 128, false, true, NULL, "intermediate_size"},
    {"mixtral", 8, 0, false, false, "num_local_experts", "intermediate_size"},
    {"qwen3_moe", 4, 0, false, true, "num_experts", "moe_intermediate_size"},
    {"llama", 0, 0, false, false, NULL, "intermediate_size"},
};

static const struct family *family_of(const char *type)
{
    size_t i = 0, last = sizeof families / sizeof *families - 1;
    while (i < last && strcmp(families[i].type, type) != 0) i++;
    return &families[i];
}

static gw_err_t need_int(const cJSON *c, const char *field, int64_t max, int64_t *out, struct gw_err_ctx *ctx)
{
    TRY(gw_json_int(c, field, 1, max, out, ctx));
    return *out ? GW_OK : gw_fail(ctx, GW_ERR_INPUT, "'%s' is missing", field);
}

static gw_err_t read_family(const cJSON *c, struct dims *d, struct gw_err_ctx *ctx)
{
    const char *type = "llama";
    TRY(gw_json_string(c, "model_type", &type, ctx));
    const struct family *f = family_of(type);
    d->qkv_bias = f->qkv_bias;
    d->qk_norm = f->qk_norm;
    d->kv_heads = f->kv_heads ? f->kv_heads : d->heads;
    d->head_dim = f->head_dim ? f->head_dim : d->hidden / d->heads > 0 ? d->hidden / d->heads : 1;
    TRY(need_int(c, f->intermediate, 1 << 20, &d->intermediate, ctx));
    if (!f->experts) {
        d->experts = d->taken = 1;
        return GW_OK;
    }
    TRY(need_int(c, f->experts, EXPERTS_MAX, &d->experts, ctx));
    return need_int(c, "num_experts_per_tok", d->experts, &d->taken, ctx);
}

static gw_err_t read_dims(const cJSON *c, struct dims *d, struct gw_err_ctx *ctx)
{
    const char *dtype = "bfloat16";
    if (!cJSON_IsObject(c)) return gw_fail(ctx, GW_ERR_INPUT, "not a JSON object");
    TRY(need_int(c, "hidden_size", 65536, &d->hidden, ctx));
    TRY(need_int(c, "num_hidden_layers", 1024, &d->layers, ctx));
    TRY(need_int(c, "num_attention_heads", 1024, &d->heads, ctx));
    TRY(need_int(c, "vocab_size", 1 << 20, &d->vocab, ctx));
    TRY(read_family(c, d, ctx));
    TRY(gw_json_int(c, "num_key_value_heads", 1, GW_PLAN_SHARES_MAX, &d->kv_heads, ctx));
    TRY(gw_json_int(c, "head_dim", 1, 65536, &d->head_dim, ctx));
    TRY(gw_json_bool(c, "tie_word_embeddings", &d->tied, ctx));
    TRY(gw_json_string(c, "torch_dtype", &dtype, ctx));
    TRY(gw_json_string(c, "dtype", &dtype, ctx));
    d->f32 = strcmp(dtype, "float32") == 0;
    if (d->heads % d->kv_heads != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "%lld query heads cannot share %lld key-value heads evenly",
                       (long long)d->heads, (long long)d->kv_heads);
    if (d->intermediate % GW_GRID_FFN_UNIT != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "'intermediate_size' must be even");
    return GW_OK;
}

/* Weights per layer: q and o [heads · head_dim, hidden] each, k and v [kv_heads · head_dim, hidden] each, of each expert
 * (or the one FFN) gate, up and down [intermediate, hidden] each; a router [experts, hidden] at every rank; norms and
 * biases in f32. In int8 each row of a matrix has a head, and o and down have as many rows at every share. KV and routers are as wide as the
 * file's weights. Attention: 2 FLOP for each of q·k and p·v per head_dim and token of
 * context. */
static struct gw_plan_model model_of(const struct dims *d)
{
    uint64_t item = d->f32 ? 4 : 2, hidden = (uint64_t)d->hidden, head_dim = (uint64_t)d->head_dim;
    uint64_t weight = d->int8 ? 1 : item, head = d->int8 ? INT8_HEAD_BYTES : 0, row = weight * hidden + head;
    uint64_t bias = d->qkv_bias ? F32_BYTES : 0, experts = (uint64_t)d->experts;
    uint32_t shares = gw_grid_shares((uint32_t)d->heads, (uint32_t)d->kv_heads);
    struct gw_plan_model m = {.layers = (uint32_t)d->layers,
                              .group_layers = gw_grid_group_layers((uint32_t)d->layers),
                              .shares = shares,
                              .kv_heads = (uint32_t)d->kv_heads,
                              .ffn_units = (uint32_t)d->intermediate / GW_GRID_FFN_UNIT,
                              .vocab = (uint32_t)d->vocab,
                              .hidden = (uint32_t)d->hidden,
                              .tied = d->tied,
                              .weight_bytes = (double)weight,
                              .ffn_used = (double)d->taken / (double)d->experts};
    uint64_t share_rows = (uint64_t)d->heads / shares * head_dim;
    m.groups = (m.layers + m.group_layers - 1) / m.group_layers;
    m.attn_share_bytes = (row + weight * hidden + bias) * share_rows + (1 + experts) * head * hidden;
    m.kv_head_bytes = 2 * (row + bias) * head_dim;
    m.ffn_unit_bytes = experts * (2 * row + weight * hidden) * GW_GRID_FFN_UNIT;
    m.norm_layer_bytes = 2 * F32_BYTES * ((uint64_t)d->hidden + (d->qk_norm ? head_dim : 0));
    if (experts > 1) m.norm_layer_bytes += experts * item * hidden;
    m.vocab_row_bytes = row;
    m.kv_token_bytes = 2 * item * head_dim;
    m.attn_flop = 4.0 * (double)share_rows;
    return m;
}

gw_err_t gw_plan_model_from_json(const cJSON *config, enum gw_weight_format format, struct gw_plan_model *out,
                                 struct gw_err_ctx *ctx)
{
    struct dims d = {.int8 = format == GW_WEIGHT_INT8};
    TRY(read_dims(config, &d, ctx));
    *out = model_of(&d);
    return gw_plan_model_check(out, ctx);
}

gw_err_t gw_plan_model_read(const char *dir, enum gw_weight_format format, struct gw_plan_model *out,
                            struct gw_err_ctx *ctx)
{
    char path[PATH_MAX];
    cJSON *json = NULL;
    if (snprintf(path, sizeof path, "%s/config.json", dir) >= (int)sizeof path)
        return gw_fail(ctx, GW_ERR_INPUT, "%.64s…: path too long", dir);
    TRY(gw_json_parse_file(path, CONFIG_BYTES_MAX, &json, ctx));
    gw_err_t err = gw_plan_model_from_json(json, format, out, ctx);
    cJSON_Delete(json);
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "%s", path);
}
