#include "worker/model.h"

#include <stdio.h>
#include <stdlib.h>

#include "migrate/profile.h"

#define TENSOR_NAME_MAX 96 /* "model.layers.1023.block_sparse_moe.experts.1023.w1.weight" has 57 */
#define PART_NAME_MAX   48

/* Finds a tensor and checks its shape; rows = 0 stands for a vector [columns]. */
static gw_err_t need(struct gw_model *m, const char *name, uint32_t rows, uint32_t columns,
                     const struct gw_tensor **out, struct gw_err_ctx *ctx)
{
    const struct gw_tensor *t = gw_safetensors_find(m->files, name);
    if (!t) return gw_fail(ctx, GW_ERR_INPUT, "tensor '%s' is missing", name);
    if (!t->type) return gw_fail(ctx, GW_ERR_INPUT, "tensor '%s': type is not f32, bf16 or f16", name);
    bool ok = rows ? t->dims == 2 && t->shape[0] == rows && t->shape[1] == columns
                   : t->dims == 1 && t->shape[0] == columns;
    if (!ok && rows)
        return gw_fail(ctx, GW_ERR_INPUT, "tensor '%s': shape is not [%u, %u]", name, rows, columns);
    if (!ok) return gw_fail(ctx, GW_ERR_INPUT, "tensor '%s': shape is not [%u]", name, columns);
    if (rows && t->type != GW_BF16) m->all_bf16 = false;
    *out = t;
    return GW_OK;
}

static gw_err_t need_layer(struct gw_model *m, uint32_t layer, const char *part, uint32_t rows,
                           uint32_t columns, const struct gw_tensor **out, struct gw_err_ctx *ctx)
{
    char name[TENSOR_NAME_MAX];
    snprintf(name, sizeof name, "model.layers.%u.%s", layer, part);
    return need(m, name, rows, columns, out, ctx);
}

/* Matrices that are packed as one must be of one type. */
static gw_err_t same_type(const struct gw_tensor *a, const struct gw_tensor *b, struct gw_err_ctx *ctx)
{
    if (a->type == b->type) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "tensors '%s' and '%s' are of different types", a->name, b->name);
}

static gw_err_t find_attention(struct gw_model *m, uint32_t i, struct gw_err_ctx *ctx)
{
    const struct gw_model_config *c = &m->config;
    struct gw_model_layer *l = &m->layers[i];
    uint32_t q_rows = c->heads * c->head_dim, kv_rows = c->kv_heads * c->head_dim;
    TRY(need_layer(m, i, "self_attn.q_proj.weight", q_rows, c->hidden, &l->q, ctx));
    TRY(need_layer(m, i, "self_attn.k_proj.weight", kv_rows, c->hidden, &l->k, ctx));
    TRY(need_layer(m, i, "self_attn.v_proj.weight", kv_rows, c->hidden, &l->v, ctx));
    TRY(need_layer(m, i, "self_attn.o_proj.weight", c->hidden, q_rows, &l->o, ctx));
    TRY(same_type(l->q, l->k, ctx));
    TRY(same_type(l->q, l->v, ctx));
    if (c->qkv_bias) {
        TRY(need_layer(m, i, "self_attn.q_proj.bias", 0, q_rows, &l->q_bias, ctx));
        TRY(need_layer(m, i, "self_attn.k_proj.bias", 0, kv_rows, &l->k_bias, ctx));
        TRY(need_layer(m, i, "self_attn.v_proj.bias", 0, kv_rows, &l->v_bias, ctx));
    }
    if (!c->qk_norm) return GW_OK;
    TRY(need_layer(m, i, "self_attn.q_norm.weight", 0, c->head_dim, &l->q_norm, ctx));
    return need_layer(m, i, "self_attn.k_norm.weight", 0, c->head_dim, &l->k_norm, ctx);
}

/* What the three matrices of an FFN are called: in Mixtral by number. */
static const struct ffn_names {
    const char *gate, *up, *down;
} plain_names = {"gate_proj", "up_proj", "down_proj"}, mixtral_names = {"w1", "w3", "w2"};

/* prefix: what comes before their names. */
static gw_err_t find_ffn(struct gw_model *m, uint32_t i, const char *prefix, struct gw_model_ffn *f,
                         struct gw_err_ctx *ctx)
{
    const struct gw_model_config *c = &m->config;
    const struct ffn_names *names = c->family == GW_MODEL_MIXTRAL ? &mixtral_names : &plain_names;
    uint32_t cols = gw_model_ffn_cols(c, i);
    char name[PART_NAME_MAX];
    snprintf(name, sizeof name, "%s%s.weight", prefix, names->gate);
    TRY(need_layer(m, i, name, cols, c->hidden, &f->gate, ctx));
    snprintf(name, sizeof name, "%s%s.weight", prefix, names->up);
    TRY(need_layer(m, i, name, cols, c->hidden, &f->up, ctx));
    snprintf(name, sizeof name, "%s%s.weight", prefix, names->down);
    TRY(need_layer(m, i, name, c->hidden, cols, &f->down, ctx));
    return same_type(f->gate, f->up, ctx);
}

static gw_err_t find_experts(struct gw_model *m, uint32_t i, struct gw_err_ctx *ctx)
{
    const struct gw_model_config *c = &m->config;
    struct gw_model_layer *l = &m->layers[i];
    const char *block = c->family == GW_MODEL_MIXTRAL ? "block_sparse_moe" : "mlp";
    char name[PART_NAME_MAX];
    snprintf(name, sizeof name, "%s.gate.weight", block);
    TRY(need_layer(m, i, name, c->experts, c->hidden, &l->router, ctx));
    for (uint32_t e = 0; e < c->experts; e++) {
        snprintf(name, sizeof name, "%s.experts.%u.", block, e);
        TRY(find_ffn(m, i, name, &l->ffn[e], ctx));
    }
    return GW_OK;
}

/* Of any layer. */
static uint32_t most_ffns(const struct gw_model_config *c)
{
    return c->experts ? c->experts : 1;
}

static gw_err_t find_layer(struct gw_model *m, uint32_t i, struct gw_err_ctx *ctx)
{
    const struct gw_model_config *c = &m->config;
    struct gw_model_layer *l = &m->layers[i];
    l->ffn = m->ffns + (size_t)i * most_ffns(c);
    TRY(need_layer(m, i, "input_layernorm.weight", 0, c->hidden, &l->norm_attn, ctx));
    TRY(need_layer(m, i, "post_attention_layernorm.weight", 0, c->hidden, &l->norm_ffn, ctx));
    TRY(find_attention(m, i, ctx));
    return c->sparse[i] ? find_experts(m, i, ctx) : find_ffn(m, i, "mlp.", &l->ffn[0], ctx);
}

static gw_err_t find_tensors(struct gw_model *m, struct gw_err_ctx *ctx)
{
    const struct gw_model_config *c = &m->config;
    m->all_bf16 = true;
    m->layers = calloc(c->layers, sizeof *m->layers);
    m->ffns = calloc((size_t)c->layers * most_ffns(c), sizeof *m->ffns);
    if (!m->layers || !m->ffns) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    TRY(need(m, "model.embed_tokens.weight", c->vocab, c->hidden, &m->embed, ctx));
    TRY(need(m, "model.norm.weight", 0, c->hidden, &m->norm_final, ctx));
    m->head = m->embed;
    if (!c->tied) TRY(need(m, "lm_head.weight", c->vocab, c->hidden, &m->head, ctx));
    for (uint32_t i = 0; i < c->layers; i++) TRY(find_layer(m, i, ctx));
    return GW_OK;
}

gw_err_t gw_model_open(const char *dir, struct gw_model **out, struct gw_err_ctx *ctx)
{
    gw_err_t err = GW_OK;
    struct gw_model *m = calloc(1, sizeof *m);
    if (!m) return gw_fail(ctx, GW_ERR_MEMORY, "%s: out of memory", dir);
    TRY_GOTO(gw_model_config_read(dir, &m->config, ctx), out);
    m->cells = gw_cells_of(&m->config);
    TRY_GOTO(gw_safetensors_open(dir, &m->files, ctx), out);
    err = find_tensors(m, ctx);
    if (err != GW_OK) {
        gw_fail_prefix(ctx, err, "%s", dir);
        goto out;
    }
    *out = m;
    m = NULL;
out:
    gw_model_close(m);
    return err;
}

void gw_model_close(struct gw_model *m)
{
    if (!m) return;
    gw_safetensors_close(m->files);
    free(m->layers);
    free(m->ffns);
    free(m);
}

const char *gw_model_profile(const struct gw_model *m, enum gw_weight_format weights, enum gw_kv_format kv)
{
    static const char *const of_bf16[][2] = {
        [GW_WEIGHT_FILE] = {[GW_KV_FILE] = GW_PROFILE_CPU_BF16, [GW_KV_INT8] = GW_PROFILE_CPU_BF16_KV8},
        [GW_WEIGHT_INT8] =
            {[GW_KV_FILE] = GW_PROFILE_CPU_BF16_INT8, [GW_KV_INT8] = GW_PROFILE_CPU_BF16_INT8_KV8},
        [GW_WEIGHT_FP8] = {
            [GW_KV_FILE] = GW_PROFILE_CPU_BF16_FP8, [GW_KV_INT8] = GW_PROFILE_CPU_BF16_FP8_KV8}};
    static const char *const of_f32[][2] = {
        [GW_WEIGHT_FILE] = {[GW_KV_FILE] = GW_PROFILE_CPU_F32, [GW_KV_INT8] = GW_PROFILE_CPU_F32_KV8},
        [GW_WEIGHT_INT8] =
            {[GW_KV_FILE] = GW_PROFILE_CPU_F32_INT8, [GW_KV_INT8] = GW_PROFILE_CPU_F32_INT8_KV8},
        [GW_WEIGHT_FP8] = {[GW_KV_FILE] = GW_PROFILE_CPU_F32_FP8, [GW_KV_INT8] = GW_PROFILE_CPU_F32_FP8_KV8}};
    return (m->all_bf16 ? of_bf16 : of_f32)[weights][kv];
}

enum gw_dtype gw_model_weight_type(enum gw_dtype act, enum gw_weight_format format)
{
    return format == GW_WEIGHT_INT8 ? GW_I8 : format == GW_WEIGHT_FP8 ? GW_F8 : act;
}
