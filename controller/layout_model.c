#include "controller/layout_model.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "migrate/expert_layers.h"
#include "migrate/grid.h"

#define CONFIG_BYTES_MAX (1u << 20)
#define EXPERTS_MAX      1024
#define LAYERS_MAX       1024
#define INTERMEDIATE_MAX (1 << 20)
#define F32_BYTES        4
/* Of each row of a quantized matrix (kernels/cpu/pack.h). */
#define INT8_HEAD_BYTES 8 /* a scale, a sum */
#define FP8_HEAD_BYTES  4 /* a scale */

struct dims {
    int64_t hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, experts, taken;
    int64_t dense_intermediate; /* where only some layers have experts: of the others' FFNs */
    enum gw_weight_format weights;
    bool tied, f32, kv_int8, qkv_bias, qk_norm, has_experts;
    bool sparse[LAYERS_MAX]; /* these have them */
};

/* What architectures have of their own that takes memory (worker/model_config.h). Others count as Llama. */
static const struct family {
    const char *type;
    int64_t kv_heads, head_dim; /* where the file is silent; 0: as many as query heads; hidden / heads */
    bool qkv_bias, qk_norm;
    const char *experts, *intermediate; /* fields of experts' number and size; NULL: there are none */
    enum gw_expert_rule rule;
} families[] = {
    {"mistral", 8, 0, false, false, NULL, NULL, GW_EXPERTS_IN_ALL},
    {"qwen2", 32, 0, true, false, NULL, NULL, GW_EXPERTS_IN_ALL},
    {"qwen3", 32, 128, false, true, NULL, NULL, GW_EXPERTS_IN_ALL},
    {"mixtral", 8, 0, false, false, "num_local_experts", "intermediate_size", GW_EXPERTS_IN_ALL},
    {"qwen3_moe", 4, 0, false, true, "num_experts", "moe_intermediate_size", GW_EXPERTS_BY_STEP},
    {"mellum", 4, 128, false, true, "num_experts", "moe_intermediate_size", GW_EXPERTS_BY_TYPE},
    {"llama", 0, 0, false, false, NULL, NULL, GW_EXPERTS_IN_ALL},
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

/* Of a model without experts: one FFN, which all tokens take. */
static gw_err_t read_ffn(const cJSON *c, struct dims *d, struct gw_err_ctx *ctx)
{
    d->experts = d->taken = 1;
    return need_int(c, "intermediate_size", INTERMEDIATE_MAX, &d->intermediate, ctx);
}

static gw_err_t read_experts(const cJSON *c, const struct family *f, struct dims *d, struct gw_err_ctx *ctx)
{
    int64_t sparse = 0;
    /* newer files call their number as Mixtral does */
    bool older = cJSON_HasObjectItem(c, f->experts) || !cJSON_HasObjectItem(c, "num_local_experts");
    TRY(need_int(c, older ? f->experts : "num_local_experts", EXPERTS_MAX, &d->experts, ctx));
    TRY(need_int(c, "num_experts_per_tok", d->experts, &d->taken, ctx));
    TRY(gw_expert_layers_read(c, f->rule, (uint32_t)d->layers, d->sparse, ctx));
    for (int64_t i = 0; i < d->layers; i++) sparse += d->sparse[i];
    if (sparse == 0) return read_ffn(c, d, ctx);
    d->has_experts = true;
    TRY(need_int(c, f->intermediate, INTERMEDIATE_MAX, &d->intermediate, ctx));
    if (sparse == d->layers) return GW_OK;
    return need_int(c, "intermediate_size", INTERMEDIATE_MAX, &d->dense_intermediate, ctx);
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
    return f->experts ? read_experts(c, f, d, ctx) : read_ffn(c, d, ctx);
}

static gw_err_t read_dims(const cJSON *c, struct dims *d, struct gw_err_ctx *ctx)
{
    const char *dtype = "bfloat16";
    if (!cJSON_IsObject(c)) return gw_fail(ctx, GW_ERR_INPUT, "not a JSON object");
    TRY(need_int(c, "hidden_size", 65536, &d->hidden, ctx));
    TRY(need_int(c, "num_hidden_layers", LAYERS_MAX, &d->layers, ctx));
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
    if (d->intermediate % GW_GRID_FFN_UNIT != 0 || d->dense_intermediate % GW_GRID_FFN_UNIT != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "'intermediate_size' must be even");
    return GW_OK;
}

/* Bytes of what weights are made of, under one format. */
struct sizes {
    uint64_t item, weight, head; /* of a number in the file; of one here; of a quantized row's head */
    uint64_t row;                /* of one of `hidden` numbers */
    uint64_t share_rows;         /* of q in a share */
};

static struct sizes sizes_of(const struct dims *d, uint32_t shares)
{
    static const uint64_t heads[] = {
        [GW_WEIGHT_FILE] = 0, [GW_WEIGHT_INT8] = INT8_HEAD_BYTES, [GW_WEIGHT_FP8] = FP8_HEAD_BYTES};
    struct sizes s = {.item = d->f32 ? 4 : 2, .head = heads[d->weights]};
    s.weight = d->weights == GW_WEIGHT_FILE ? s.item : 1;
    s.row = s.weight * (uint64_t)d->hidden + s.head;
    s.share_rows = (uint64_t)d->heads / shares * (uint64_t)d->head_dim;
    return s;
}

/* Query and output projections of a share, with the heads that o, and down of each of `ffns`, have there. */
static uint64_t attn_share_bytes(const struct dims *d, const struct sizes *s, uint64_t ffns)
{
    uint64_t hidden = (uint64_t)d->hidden, bias = d->qkv_bias ? F32_BYTES : 0;
    return (s->row + s->weight * hidden + bias) * s->share_rows + (1 + ffns) * s->head * hidden;
}

static uint64_t ffn_unit_bytes(const struct dims *d, const struct sizes *s)
{
    return (2 * s->row + s->weight * (uint64_t)d->hidden) * GW_GRID_FFN_UNIT;
}

/* Where some layers have experts and others one FFN. */
static void add_dense(const struct dims *d, const struct sizes *s, struct gw_plan_model *m)
{
    uint16_t layers = 0;
    for (uint32_t i = 0; i < m->layers; i++) {
        layers = (uint16_t)(layers + !d->sparse[i]);
        m->dense.before[i / m->group_layers + 1] = layers;
    }
    if (layers == 0) return;
    m->dense.ffn_units = (uint32_t)d->dense_intermediate / GW_GRID_FFN_UNIT;
    m->dense.attn_share_bytes = attn_share_bytes(d, s, 1);
    m->dense.ffn_unit_bytes = ffn_unit_bytes(d, s);
    m->dense.norm_layer_bytes = m->norm_layer_bytes;
}

/* Weights per layer: q and o [heads · head_dim, hidden] each, k and v [kv_heads · head_dim, hidden] each, of each expert
 * (or the one FFN) gate, up and down [intermediate, hidden] each; a router [experts, hidden] at every rank; norms and
 * biases in f32. Quantized, each row of a matrix has a head, and o and down have as many rows at every share. Routers are as wide as the
 * file's weights; so is KV, or it is in int8 with a scale in f32 for each head's K and V. Attention: 2 FLOP for each of q·k and p·v per head_dim and token of
 * context. */
static struct gw_plan_model model_of(const struct dims *d)
{
    uint64_t hidden = (uint64_t)d->hidden, head_dim = (uint64_t)d->head_dim, experts = (uint64_t)d->experts;
    uint32_t shares = gw_grid_shares((uint32_t)d->heads, (uint32_t)d->kv_heads);
    struct sizes s = sizes_of(d, shares);
    struct gw_plan_model m = {.layers = (uint32_t)d->layers,
                              .group_layers = gw_grid_group_layers((uint32_t)d->layers),
                              .shares = shares,
                              .kv_heads = (uint32_t)d->kv_heads,
                              .ffn_units = (uint32_t)d->intermediate / GW_GRID_FFN_UNIT,
                              .vocab = (uint32_t)d->vocab,
                              .hidden = (uint32_t)d->hidden,
                              .tied = d->tied,
                              .weight_bytes = (double)s.weight,
                              .ffn_used = (double)d->taken / (double)d->experts};
    m.groups = (m.layers + m.group_layers - 1) / m.group_layers;
    m.attn_share_bytes = attn_share_bytes(d, &s, experts);
    m.kv_head_bytes = 2 * (s.row + (d->qkv_bias ? F32_BYTES : 0)) * head_dim;
    m.ffn_unit_bytes = experts * ffn_unit_bytes(d, &s);
    m.norm_layer_bytes = 2 * F32_BYTES * (hidden + (d->qk_norm ? head_dim : 0));
    m.vocab_row_bytes = s.row;
    m.kv_token_bytes = 2 * (d->kv_int8 ? head_dim + F32_BYTES : s.item * head_dim);
    m.attn_flop = 4.0 * (double)s.share_rows;
    if (!d->has_experts) return m;
    add_dense(d, &s, &m);
    m.norm_layer_bytes += experts * s.item * hidden;
    return m;
}

gw_err_t gw_plan_model_from_json(const cJSON *config, enum gw_weight_format weights, enum gw_kv_format kv,
                                 struct gw_plan_model *out, struct gw_err_ctx *ctx)
{
    struct dims d = {.weights = weights, .kv_int8 = kv == GW_KV_INT8};
    TRY(read_dims(config, &d, ctx));
    *out = model_of(&d);
    return gw_plan_model_check(out, ctx);
}

gw_err_t gw_plan_model_read(const char *dir, enum gw_weight_format weights, enum gw_kv_format kv,
                            struct gw_plan_model *out, struct gw_err_ctx *ctx)
{
    char path[PATH_MAX];
    cJSON *json = NULL;
    if (snprintf(path, sizeof path, "%s/config.json", dir) >= (int)sizeof path)
        return gw_fail(ctx, GW_ERR_INPUT, "%.64s…: path too long", dir);
    TRY(gw_json_parse_file(path, CONFIG_BYTES_MAX, &json, ctx));
    gw_err_t err = gw_plan_model_from_json(json, weights, kv, out, ctx);
    cJSON_Delete(json);
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "%s", path);
}
