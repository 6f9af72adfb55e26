#include "worker/model_config.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "migrate/expert_layers.h"
#include "worker/rope_config.h"

/* Which layers slide, where the file has no layer_types. */
enum window_rule {
    NO_WINDOW,
    TYPED_LAYERS,         /* none: those alone that layer_types names */
    EVERY_LAYER,          /* if there is a window */
    EVERY_LAYER_IF_USED,  /* use_sliding_window */
    UPPER_LAYERS_IF_USED, /* the same, from max_window_layers on */
};

#define NO_EXPERTS NULL, NULL, GW_EXPERTS_IN_ALL, false

/* What the config does not say, or need not. */
static const struct family {
    const char *architecture, *type;
    enum gw_model_family family;
    enum window_rule window_rule;
    uint32_t window;             /* where the file is silent; 0: none */
    uint32_t kv_heads, head_dim; /* where the file is silent; 0: as many as query heads; hidden / heads */
    double rms_eps, rope_theta, rope_theta_sliding;
    bool qkv_bias, qk_norm;
    const char *experts, *expert_width; /* fields of their number and size; NULL: there are none */
    enum gw_expert_rule expert_rule;
    bool weigh_taken; /* where the file is silent */
} families[] = {
    {"LlamaForCausalLM", "llama", GW_MODEL_LLAMA, NO_WINDOW, 0, 0, 0, 1e-6, 1e4, 1e4, false, false,
     NO_EXPERTS},
    {"MistralForCausalLM", "mistral", GW_MODEL_MISTRAL, EVERY_LAYER, 4096, 8, 0, 1e-6, 1e4, 1e4, false, false,
     NO_EXPERTS},
    {"Qwen2ForCausalLM", "qwen2", GW_MODEL_QWEN2, UPPER_LAYERS_IF_USED, 4096, 32, 0, 1e-6, 1e4, 1e4, true,
     false, NO_EXPERTS},
    {"Qwen3ForCausalLM", "qwen3", GW_MODEL_QWEN3, UPPER_LAYERS_IF_USED, 4096, 32, 128, 1e-6, 1e4, 1e4, false,
     true, NO_EXPERTS},
    {"MixtralForCausalLM", "mixtral", GW_MODEL_MIXTRAL, EVERY_LAYER, 0, 8, 0, 1e-5, 1e6, 1e6, false, false,
     "num_local_experts", "intermediate_size", GW_EXPERTS_IN_ALL, true},
    {"Qwen3MoeForCausalLM", "qwen3_moe", GW_MODEL_QWEN3_MOE, EVERY_LAYER_IF_USED, 4096, 4, 0, 1e-6, 1e4, 1e4,
     false, true, "num_experts", "moe_intermediate_size", GW_EXPERTS_BY_STEP, false},
    {"MellumForCausalLM", "mellum", GW_MODEL_MELLUM, TYPED_LAYERS, 1024, 4, 128, 1e-6, 5e5, 1e4, false, true,
     "num_experts", "moe_intermediate_size", GW_EXPERTS_BY_TYPE, true},
};

#define MAX_WINDOW_LAYERS 28 /* Qwen2Config's and Qwen3Config's default */

/* A size that must be there. */
static gw_err_t need_size(const cJSON *c, const char *field, uint32_t max, uint32_t *out,
                          struct gw_err_ctx *ctx)
{
    int64_t v = 0;
    TRY(gw_json_int(c, field, 1, max, &v, ctx));
    if (v == 0) return gw_fail(ctx, GW_ERR_INPUT, "'%s' is missing", field);
    *out = (uint32_t)v;
    return GW_OK;
}

static gw_err_t find_family(const cJSON *c, const struct family **out, struct gw_err_ctx *ctx)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(c, "architectures");
    const cJSON *first = cJSON_IsArray(list) ? cJSON_GetArrayItem(list, 0) : NULL;
    const char *type = "", *arch = cJSON_IsString(first) ? first->valuestring : "";
    TRY(gw_json_string(c, "model_type", &type, ctx));
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const struct family *f = &families[i];
        if (strcmp(arch, f->architecture) != 0 && (list || strcmp(type, f->type) != 0)) continue;
        *out = f;
        return GW_OK;
    }
    return gw_fail(ctx, GW_ERR_INPUT,
                   "architecture '%.64s' is not supported, only Llama, Mistral, Qwen2, Qwen3, Mixtral, "
                   "Qwen3Moe and Mellum (ForCausalLM) are",
                   *arch ? arch : type);
}

static gw_err_t refuse_true(const cJSON *c, const char *field, struct gw_err_ctx *ctx)
{
    bool on = false;
    TRY(gw_json_bool(c, field, &on, ctx));
    return on ? gw_fail(ctx, GW_ERR_INPUT, "'%s': true is not supported", field) : GW_OK;
}

/* Fields that would change the arithmetic if they were ignored. */
static gw_err_t check_features(const cJSON *c, struct gw_err_ctx *ctx)
{
    const char *act = "silu";
    TRY(gw_json_string(c, "hidden_act", &act, ctx));
    if (strcmp(act, "silu") != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "'hidden_act': '%.32s' is not supported, only silu is", act);
    const cJSON *quant = cJSON_GetObjectItemCaseSensitive(c, "quantization_config");
    if (quant && !cJSON_IsNull(quant))
        return gw_fail(ctx, GW_ERR_INPUT, "'quantization_config': quantized weights are not supported");
    TRY(refuse_true(c, "attention_bias", ctx));
    return refuse_true(c, "mlp_bias", ctx);
}

/* ---- shape ---- */

static gw_err_t read_heads(const cJSON *c, const struct family *f, struct gw_model_config *m,
                           struct gw_err_ctx *ctx)
{
    int64_t kv_heads = f->kv_heads ? f->kv_heads : m->heads,
            head_dim = f->head_dim ? f->head_dim : m->hidden / m->heads;
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(c, "head_dim");
    TRY(gw_json_int(c, "num_key_value_heads", 1, m->heads, &kv_heads, ctx));
    if (kv_heads > GW_MODEL_KV_HEADS_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "more than %d key-value heads are not supported",
                       GW_MODEL_KV_HEADS_MAX);
    if (m->hidden % m->heads != 0 && !f->head_dim && (!given || cJSON_IsNull(given)))
        return gw_fail(ctx, GW_ERR_INPUT, "'hidden_size' %u is no multiple of 'num_attention_heads' %u",
                       m->hidden, m->heads);
    TRY(gw_json_int(c, "head_dim", 1, GW_MODEL_HIDDEN_MAX, &head_dim, ctx));
    m->kv_heads = (uint32_t)kv_heads;
    m->head_dim = (uint32_t)head_dim;
    return GW_OK;
}

static gw_err_t read_shape(const cJSON *c, const struct family *f, struct gw_model_config *m,
                           struct gw_err_ctx *ctx)
{
    TRY(need_size(c, "hidden_size", GW_MODEL_HIDDEN_MAX, &m->hidden, ctx));
    TRY(need_size(c, "num_hidden_layers", GW_MODEL_LAYERS_MAX, &m->layers, ctx));
    TRY(need_size(c, "num_attention_heads", GW_MODEL_HEADS_MAX, &m->heads, ctx));
    TRY(need_size(c, "vocab_size", GW_MODEL_VOCAB_MAX, &m->vocab, ctx));
    TRY(need_size(c, "max_position_embeddings", GW_MODEL_CONTEXT_MAX, &m->context, ctx));
    return read_heads(c, f, m, ctx);
}

static gw_err_t check_shape(const struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    if (m->heads % m->kv_heads != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "%u query heads cannot share %u key-value heads evenly", m->heads,
                       m->kv_heads);
    if (m->head_dim == 0 || m->head_dim > GW_MODEL_HEAD_DIM_MAX || m->head_dim % GW_MODEL_HEAD_DIM_UNIT != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "'head_dim' %u must be a multiple of %d and at most %d",
                       m->head_dim, GW_MODEL_HEAD_DIM_UNIT, GW_MODEL_HEAD_DIM_MAX);
    /* bf16 products take k in pairs */
    if (m->hidden % 2 != 0 || m->intermediate % 2 != 0 || m->expert_intermediate % 2 != 0)
        return gw_fail(ctx, GW_ERR_INPUT,
                       "'hidden_size', 'intermediate_size' and 'moe_intermediate_size' must be even");
    return GW_OK;
}

/* ---- windows ---- */

/* *out = 0: none. null says so; a missing field does not. */
static gw_err_t read_window(const cJSON *c, const struct family *f, uint32_t *out, struct gw_err_ctx *ctx)
{
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(c, "sliding_window");
    int64_t window = given ? 0 : f->window;
    bool used = f->window_rule == EVERY_LAYER || f->window_rule == TYPED_LAYERS;
    TRY(gw_json_int(c, "sliding_window", 1, INT32_MAX, &window, ctx));
    if (f->window_rule >= EVERY_LAYER_IF_USED) TRY(gw_json_bool(c, "use_sliding_window", &used, ctx));
    *out = used ? (uint32_t)window : 0;
    return GW_OK;
}

static gw_err_t read_layer_types(const cJSON *list, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    const cJSON *item;
    uint32_t layer = 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != (int)m->layers)
        return gw_fail(ctx, GW_ERR_INPUT, "'layer_types' must name the types of %u layers", m->layers);
    cJSON_ArrayForEach(item, list)
    {
        const char *type = cJSON_IsString(item) ? item->valuestring : "";
        m->slides[layer] = strcmp(type, "sliding_attention") == 0;
        if (!m->slides[layer] && strcmp(type, "full_attention") != 0)
            return gw_fail(
                ctx, GW_ERR_INPUT,
                "layer type '%.32s' is not supported, only full_attention and sliding_attention are", type);
        if (m->slides[layer] && m->window == 0)
            return gw_fail(ctx, GW_ERR_INPUT, "'layer_types' has layers that slide, and there is no window");
        layer++;
    }
    return GW_OK;
}

static gw_err_t read_windows(const cJSON *c, const struct family *f, struct gw_model_config *m,
                             struct gw_err_ctx *ctx)
{
    const cJSON *types = cJSON_GetObjectItemCaseSensitive(c, "layer_types");
    int64_t first = f->window_rule == UPPER_LAYERS_IF_USED ? MAX_WINDOW_LAYERS : 0;
    if (f->window_rule == UPPER_LAYERS_IF_USED)
        TRY(gw_json_int(c, "max_window_layers", 0, INT32_MAX, &first, ctx));
    TRY(read_window(c, f, &m->window, ctx));
    for (uint32_t i = 0; i < m->layers; i++)
        m->slides[i] = m->window > 0 && i >= first && f->window_rule != TYPED_LAYERS;
    if (types && !cJSON_IsNull(types)) TRY(read_layer_types(types, m, ctx));
    if (m->window >= m->context) m->window = 0; /* no row is without any other's sight */
    return GW_OK;
}

uint32_t gw_model_horizon(const struct gw_model_config *c)
{
    for (uint32_t i = 0; i < c->layers; i++)
        if (!c->slides[i]) return 0;
    return c->window;
}

/* ---- experts ---- */

bool gw_model_has_layers(const struct gw_model_config *c, bool sparse)
{
    for (uint32_t i = 0; i < c->layers; i++)
        if (c->sparse[i] == sparse) return true;
    return false;
}

/* Newer files call their number as Mixtral does. */
static gw_err_t read_expert_count(const cJSON *c, const struct family *f, struct gw_model_config *m,
                                  struct gw_err_ctx *ctx)
{
    static const char newer[] = "num_local_experts";
    const char *field =
        cJSON_HasObjectItem(c, f->experts) || !cJSON_HasObjectItem(c, newer) ? f->experts : newer;
    return need_size(c, field, GW_MODEL_EXPERTS_MAX, &m->experts, ctx);
}

static gw_err_t read_experts(const cJSON *c, const struct family *f, struct gw_model_config *m,
                             struct gw_err_ctx *ctx)
{
    if (!f->experts) return GW_OK;
    TRY(read_expert_count(c, f, m, ctx));
    TRY(need_size(c, "num_experts_per_tok", m->experts, &m->experts_taken, ctx));
    m->weigh_taken = f->weigh_taken;
    if (f->family != GW_MODEL_MIXTRAL) TRY(gw_json_bool(c, "norm_topk_prob", &m->weigh_taken, ctx));
    TRY(gw_expert_layers_read(c, f->expert_rule, m->layers, m->sparse, ctx));
    if (!gw_model_has_layers(m, true)) m->experts = m->experts_taken = 0;
    return GW_OK;
}

/* How wide FFNs and experts are; Mixtral says of its experts what others say of the FFN. */
static gw_err_t read_ffns(const cJSON *c, const struct family *f, struct gw_model_config *m,
                          struct gw_err_ctx *ctx)
{
    if (m->experts > 0)
        TRY(need_size(c, f->expert_width, GW_MODEL_INTERMEDIATE_MAX, &m->expert_intermediate, ctx));
    if (gw_model_has_layers(m, false))
        TRY(need_size(c, "intermediate_size", GW_MODEL_INTERMEDIATE_MAX, &m->intermediate, ctx));
    return GW_OK;
}

/* ---- all ---- */

static gw_err_t read_all(const cJSON *c, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    const struct family *f = NULL;
    if (!cJSON_IsObject(c)) return gw_fail(ctx, GW_ERR_INPUT, "not a JSON object");
    TRY(find_family(c, &f, ctx));
    TRY(check_features(c, ctx));
    TRY(read_shape(c, f, m, ctx));
    TRY(read_experts(c, f, m, ctx));
    TRY(read_ffns(c, f, m, ctx));
    TRY(check_shape(m, ctx));
    m->family = f->family;
    m->qkv_bias = f->qkv_bias;
    m->qk_norm = f->qk_norm;
    m->rms_eps = f->rms_eps;
    m->rope.theta = f->rope_theta;
    m->rope_sliding.theta = f->rope_theta_sliding;
    TRY(gw_json_double(c, "rms_norm_eps", 0, 1, &m->rms_eps, ctx));
    TRY(gw_json_bool(c, "tie_word_embeddings", &m->tied, ctx));
    TRY(read_windows(c, f, m, ctx));
    return gw_rope_config_read(c, m, ctx);
}

gw_err_t gw_model_config_parse(const char *text, size_t len, struct gw_model_config *out,
                               struct gw_err_ctx *ctx)
{
    cJSON *json = NULL;
    struct gw_model_config m = {0};
    TRY(gw_json_parse(text, len, GW_MODEL_CONFIG_BYTES_MAX, &json, ctx));
    gw_err_t err = read_all(json, &m, ctx);
    cJSON_Delete(json);
    if (err == GW_OK) *out = m;
    return err;
}

gw_err_t gw_model_config_read(const char *dir, struct gw_model_config *out, struct gw_err_ctx *ctx)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t len = 0;
    if (snprintf(path, sizeof path, "%s/config.json", dir) >= (int)sizeof path)
        return gw_fail(ctx, GW_ERR_LIMIT, "%s: path too long", dir);
    TRY(gw_file_read(path, GW_MODEL_CONFIG_BYTES_MAX, &text, &len, ctx));
    gw_err_t err = gw_model_config_parse(text, len, out, ctx);
    if (err != GW_OK) gw_fail_prefix(ctx, err, "%s", path);
    free(text);
    return err;
}
