#include "worker/model_config.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

#define ROPE_THETA_MAX  1e12
#define ROPE_FACTOR_MAX 1e6

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

static gw_err_t check_family(const cJSON *c, struct gw_err_ctx *ctx)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(c, "architectures");
    const cJSON *first = cJSON_IsArray(list) ? cJSON_GetArrayItem(list, 0) : NULL;
    const char *type = "", *arch = cJSON_IsString(first) ? first->valuestring : "";
    TRY(gw_json_string(c, "model_type", &type, ctx));
    if (strcmp(arch, "LlamaForCausalLM") == 0 || (!list && strcmp(type, "llama") == 0)) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "architecture '%.64s' is not supported, only LlamaForCausalLM is",
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

static gw_err_t read_shape(const cJSON *c, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    TRY(need_size(c, "hidden_size", GW_MODEL_HIDDEN_MAX, &m->hidden, ctx));
    TRY(need_size(c, "num_hidden_layers", GW_MODEL_LAYERS_MAX, &m->layers, ctx));
    TRY(need_size(c, "num_attention_heads", GW_MODEL_HEADS_MAX, &m->heads, ctx));
    TRY(need_size(c, "intermediate_size", GW_MODEL_INTERMEDIATE_MAX, &m->intermediate, ctx));
    TRY(need_size(c, "vocab_size", GW_MODEL_VOCAB_MAX, &m->vocab, ctx));
    TRY(need_size(c, "max_position_embeddings", GW_MODEL_CONTEXT_MAX, &m->context, ctx));
    int64_t kv_heads = m->heads, head_dim = m->hidden / m->heads;
    TRY(gw_json_int(c, "num_key_value_heads", 1, m->heads, &kv_heads, ctx));
    if (kv_heads > GW_MODEL_KV_HEADS_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "more than %d key-value heads are not supported",
                       GW_MODEL_KV_HEADS_MAX);
    bool derived = m->hidden % m->heads == 0;
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(c, "head_dim");
    if (!derived && (!given || cJSON_IsNull(given)))
        return gw_fail(ctx, GW_ERR_INPUT, "'hidden_size' %u is no multiple of 'num_attention_heads' %u",
                       m->hidden, m->heads);
    TRY(gw_json_int(c, "head_dim", 1, GW_MODEL_HIDDEN_MAX, &head_dim, ctx));
    m->kv_heads = (uint32_t)kv_heads;
    m->head_dim = (uint32_t)head_dim;
    return GW_OK;
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
    if (m->hidden % 2 != 0 || m->intermediate % 2 != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "'hidden_size' and 'intermediate_size' must be even");
    return GW_OK;
}

static gw_err_t read_llama3(const cJSON *r, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    struct gw_rope_scaling *s = &m->rope;
    s->llama3 = true;
    TRY(gw_json_double(r, "factor", 1, ROPE_FACTOR_MAX, &s->factor, ctx));
    TRY(gw_json_double(r, "low_freq_factor", 1e-3, ROPE_FACTOR_MAX, &s->low_freq_factor, ctx));
    TRY(gw_json_double(r, "high_freq_factor", 1e-3, ROPE_FACTOR_MAX, &s->high_freq_factor, ctx));
    TRY(gw_json_double(r, "original_max_position_embeddings", 1, GW_MODEL_CONTEXT_MAX, &s->original_context,
                       ctx));
    if (s->factor == 0 || s->low_freq_factor == 0 || s->original_context == 0 ||
        s->high_freq_factor <= s->low_freq_factor)
        return gw_fail(ctx, GW_ERR_INPUT,
                       "llama3 RoPE needs factor, original_max_position_embeddings, and low_freq_factor < "
                       "high_freq_factor");
    return GW_OK;
}

/* r: rope_scaling or rope_parameters; NULL for plain. */
static gw_err_t read_rope_object(const cJSON *r, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    if (!r || cJSON_IsNull(r)) return GW_OK;
    const char *type = "default";
    if (!cJSON_IsObject(r)) return gw_fail(ctx, GW_ERR_INPUT, "RoPE parameters are no JSON object");
    TRY(gw_json_double(r, "rope_theta", 1, ROPE_THETA_MAX, &m->rope_theta, ctx));
    TRY(gw_json_string(r, "type", &type, ctx));
    TRY(gw_json_string(r, "rope_type", &type, ctx));
    if (strcmp(type, "llama3") == 0) return read_llama3(r, m, ctx);
    if (strcmp(type, "default") == 0) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "RoPE type '%.32s' is not supported, only default and llama3 are",
                   type);
}

static gw_err_t read_rope(const cJSON *c, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    double partial = 1;
    m->rope_theta = 10000;
    TRY(gw_json_double(c, "rope_theta", 1, ROPE_THETA_MAX, &m->rope_theta, ctx));
    TRY(gw_json_double(c, "partial_rotary_factor", 0, 1, &partial, ctx));
    if (partial != 1) return gw_fail(ctx, GW_ERR_INPUT, "'partial_rotary_factor' is not supported");
    TRY(read_rope_object(cJSON_GetObjectItemCaseSensitive(c, "rope_scaling"), m, ctx));
    return read_rope_object(cJSON_GetObjectItemCaseSensitive(c, "rope_parameters"), m, ctx);
}

static gw_err_t read_all(const cJSON *c, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    if (!cJSON_IsObject(c)) return gw_fail(ctx, GW_ERR_INPUT, "not a JSON object");
    TRY(check_family(c, ctx));
    TRY(check_features(c, ctx));
    TRY(read_shape(c, m, ctx));
    TRY(check_shape(m, ctx));
    m->rms_eps = 1e-6; /* LlamaConfig's default */
    TRY(gw_json_double(c, "rms_norm_eps", 0, 1, &m->rms_eps, ctx));
    TRY(gw_json_bool(c, "tie_word_embeddings", &m->tied, ctx));
    return read_rope(c, m, ctx);
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
