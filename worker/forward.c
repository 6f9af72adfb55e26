#include "worker/forward.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "worker/moe.h"
#include "worker/rope.h"

#define ALIGN 64

struct gw_forward {
    struct gw_forward_config config;
    float attention_scale;
    float *rope; /* [positions][head_dim / 2][2] */
    void *memory;
    size_t memory_bytes;
    /* activations of one batch; act = the profile's activation type; heads, shares: of this rank */
    float *x;                   /* [max_rows, hidden] residual stream */
    void *normed;               /* [max_rows or GW_ANSWERS_ROWS, hidden] act */
    float *qkv;                 /* [max_rows, (heads + 2 kv_heads) · head_dim] */
    void *attended;             /* [max_rows, heads · head_dim] act */
    float *gate_up;             /* [max_rows, 2 · shares · share_cols]; not with experts */
    void *ffn;                  /* [max_rows, shares · share_cols] act; not with experts */
    struct gw_moe *moe;         /* with experts */
    float *partial;             /* [shares, max_rows, hidden]; only where this rank has all shares */
    float *picked;              /* [GW_ANSWERS_ROWS, hidden] */
    float *logits;              /* [GW_ANSWERS_ROWS, vocab] */
    struct gw_answers *answers; /* of the leader and the last stage */
};

/* Hands out pieces of base; with base NULL it only counts. */
static void *take(uint8_t *base, size_t *used, size_t items, size_t item_bytes)
{
    void *p = base ? base + *used : NULL;
    *used += (items * item_bytes + ALIGN - 1) / ALIGN * ALIGN;
    return p;
}

static bool has_all_shares(const struct gw_forward *f)
{
    return f->config.place->stage_ranks == 1;
}

static size_t place_layers(struct gw_forward *f, uint8_t *base)
{
    const struct gw_model_config *c = &f->config.model->config;
    const struct gw_weights *w = f->config.weights;
    size_t rows = f->config.max_rows, act = gw_dtype_bytes(f->config.ops->act), used = 0;
    size_t ffn_cols = (size_t)w->shares * f->config.model->cells.share_cols;
    size_t normed_rows = rows > GW_ANSWERS_ROWS ? rows : GW_ANSWERS_ROWS;
    f->x = take(base, &used, rows * c->hidden, sizeof(float));
    f->normed = take(base, &used, normed_rows * c->hidden, act);
    f->qkv = take(base, &used, rows * w->layers[0].qkv.columns, sizeof(float));
    f->attended = take(base, &used, rows * w->heads * c->head_dim, act);
    if (c->experts == 0) {
        f->gate_up = take(base, &used, rows * 2 * ffn_cols, sizeof(float));
        f->ffn = take(base, &used, rows * ffn_cols, act);
    }
    if (has_all_shares(f)) f->partial = take(base, &used, w->shares * rows * c->hidden, sizeof(float));
    return used;
}

static size_t place(struct gw_forward *f, uint8_t *base)
{
    const struct gw_model_config *c = &f->config.model->config;
    const struct gw_place *p = f->config.place;
    size_t used = place_layers(f, base), rows = GW_ANSWERS_ROWS;
    if (gw_place_is_last(p)) f->picked = take(base, &used, rows * c->hidden, sizeof(float));
    if (gw_place_is_last(p) || gw_place_leads(p))
        f->logits = take(base, &used, rows * c->vocab, sizeof(float));
    return used;
}

static gw_err_t map_memory(struct gw_forward *f, struct gw_err_ctx *ctx)
{
    size_t bytes = place(f, NULL);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return gw_fail(ctx, GW_ERR_MEMORY, "no %zu bytes of memory for activations", bytes);
    f->memory = p;
    f->memory_bytes = bytes;
    place(f, p);
    return GW_OK;
}

static gw_err_t create_answers(struct gw_forward *f, struct gw_err_ctx *ctx)
{
    const struct gw_forward_config *c = &f->config;
    const struct gw_answers_config answers = {
        .model = c->model, .place = c->place, .ops = c->ops, .device = c->device, .coll = c->coll};
    if (!gw_place_leads(c->place) && !gw_place_is_last(c->place)) return GW_OK;
    gw_err_t err = gw_answers_create(&answers, &f->answers);
    return err == GW_OK ? GW_OK : gw_fail(ctx, err, "no memory for what logit rows are asked");
}

static gw_err_t create_moe(struct gw_forward *f, struct gw_err_ctx *ctx)
{
    const struct gw_forward_config *c = &f->config;
    const struct gw_moe_config moe = {
        .weights = c->weights, .ops = c->ops, .device = c->device, .max_rows = c->max_rows};
    return c->model->config.experts ? gw_moe_create(&moe, &f->moe, ctx) : GW_OK;
}

gw_err_t gw_forward_create(const struct gw_forward_config *config, struct gw_forward **out,
                           struct gw_err_ctx *ctx)
{
    const struct gw_model_config *c = &config->model->config;
    struct gw_forward *f = calloc(1, sizeof *f);
    if (!f) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    assert(config->coll || config->place->ranks == 1);
    f->config = *config;
    f->attention_scale = (float)(1.0 / sqrt((double)c->head_dim));
    gw_err_t err = gw_rope_table(c, config->positions, &f->rope);
    if (err != GW_OK)
        gw_fail(ctx, err, "no memory for RoPE tables of %u positions", config->positions);
    else
        err = map_memory(f, ctx);
    if (err == GW_OK) err = create_moe(f, ctx);
    if (err == GW_OK) err = create_answers(f, ctx);
    if (err == GW_OK)
        *out = f;
    else
        gw_forward_destroy(f);
    return err;
}

void gw_forward_destroy(struct gw_forward *f)
{
    if (!f) return;
    if (f->memory) munmap(f->memory, f->memory_bytes);
    gw_moe_destroy(f->moe);
    gw_answers_destroy(f->answers);
    free(f->rope);
    free(f);
}

/* ---- layers ---- */

static void multiply(struct gw_forward *f, float *y, size_t y_stride, const struct gw_products *p,
                     uint32_t rows)
{
    f->config.ops->matmul(f->config.device, y, y_stride, f->normed, f->config.model->config.hidden, p->w,
                          p->at, p->count, rows);
}

/* x += the tree over all ranks' shares of act · w. */
static gw_err_t add_shares(struct gw_forward *f, const void *act, const struct gw_weight *w, uint32_t rows,
                           struct gw_err_ctx *ctx)
{
    const struct gw_forward_config *c = &f->config;
    if (has_all_shares(f)) {
        c->ops->matmul_tree_add(c->device, f->x, act, w, c->weights->shares, rows, f->partial);
        return GW_OK;
    }
    size_t elems = (size_t)rows * c->model->config.hidden;
    c->ops->matmul_shares(c->device, gw_coll_partials(c->coll, elems), act, w, c->weights->shares, rows);
    return gw_coll_tree_add(c->coll, c->device, f->x, elems, ctx);
}

static gw_err_t run_attention(struct gw_forward *f, uint32_t layer, uint32_t rows,
                              const struct gw_seq_rows *seqs, uint32_t seqs_len, struct gw_err_ctx *ctx)
{
    const struct gw_ops *ops = f->config.ops;
    const struct gw_model_config *c = &f->config.model->config;
    const struct gw_weights *w = f->config.weights;
    const struct gw_layer_weights *l = &w->layers[layer];
    const struct gw_kv_layer *kv = gw_page_pool_layer(f->config.pool, layer);
    size_t k_at = (size_t)w->heads * c->head_dim, v_at = k_at + (size_t)w->kv_heads * c->head_dim;
    size_t stride = l->qkv.columns;
    struct gw_device *dev = f->config.device;
    ops->rmsnorm(dev, f->normed, f->x, l->norm_attn, (float)c->rms_eps, rows, c->hidden);
    multiply(f, f->qkv, stride, &l->qkv, rows);
    ops->rope_append(dev, f->qkv, stride, 0, k_at, v_at, w->heads, &l->prep, kv, f->rope, seqs, seqs_len);
    ops->attention(dev, f->attended, f->qkv, stride, 0, w->heads, kv, f->attention_scale, seqs, seqs_len);
    return add_shares(f, f->attended, l->o, rows, ctx);
}

/* x += the tree over all ranks' shares of what experts make of f->normed. */
static gw_err_t run_experts(struct gw_forward *f, const struct gw_layer_weights *l, uint32_t rows,
                            struct gw_err_ctx *ctx)
{
    const struct gw_forward_config *c = &f->config;
    size_t elems = (size_t)rows * c->model->config.hidden;
    if (has_all_shares(f)) {
        gw_moe_run(f->moe, l, f->normed, rows, f->partial);
        c->ops->tree_add(c->device, f->x, f->partial, c->weights->shares, elems);
        return GW_OK;
    }
    gw_moe_run(f->moe, l, f->normed, rows, gw_coll_partials(c->coll, elems));
    return gw_coll_tree_add(c->coll, c->device, f->x, elems, ctx);
}

static gw_err_t run_ffn(struct gw_forward *f, uint32_t layer, uint32_t rows, struct gw_err_ctx *ctx)
{
    const struct gw_ops *ops = f->config.ops;
    const struct gw_model *m = f->config.model;
    const struct gw_layer_weights *l = &f->config.weights->layers[layer];
    struct gw_device *dev = f->config.device;
    ops->rmsnorm(dev, f->normed, f->x, l->norm_ffn, (float)m->config.rms_eps, rows, m->config.hidden);
    if (f->moe) return run_experts(f, l, rows, ctx);
    multiply(f, f->gate_up, l->ffn->gate_up.columns, &l->ffn->gate_up, rows);
    ops->silu_mul(dev, f->ffn, f->gate_up, rows, f->config.weights->shares, m->cells.share_cols);
    return add_shares(f, f->ffn, l->ffn->down, rows, ctx);
}

static gw_err_t get_input(struct gw_forward *f, const uint32_t *ids, uint32_t rows, struct gw_err_ctx *ctx)
{
    const struct gw_forward_config *c = &f->config;
    const struct gw_tensor *table = c->model->embed;
    uint32_t hidden = c->model->config.hidden;
    if (c->place->from != GW_RANK_NONE)
        return gw_coll_recv(c->coll, c->place->from, f->x, (size_t)rows * hidden * sizeof(float), ctx);
    c->ops->embed(c->device, f->x, table->data, table->type, ids, rows, hidden);
    return GW_OK;
}

gw_err_t gw_forward_run(struct gw_forward *f, const uint32_t *ids, uint32_t rows,
                        const struct gw_seq_rows *seqs, uint32_t seqs_len, struct gw_err_ctx *ctx)
{
    const struct gw_place *p = f->config.place;
    size_t x_bytes = (size_t)rows * f->config.model->config.hidden * sizeof(float);
    assert(rows <= f->config.max_rows);
    TRY(get_input(f, ids, rows, ctx));
    for (uint32_t layer = 0; layer < f->config.weights->layers_len; layer++) {
        TRY(run_attention(f, layer, rows, seqs, seqs_len, ctx));
        TRY(run_ffn(f, layer, rows, ctx));
    }
    for (uint32_t i = 0; i < p->to_len; i++)
        TRY(gw_coll_send(f->config.coll, p->to[i], GW_COLL_DATA, f->x, x_bytes, ctx));
    return GW_OK;
}

/* ---- logits ---- */

/* Own columns of the rows, y_stride apart. */
static void run_head(struct gw_forward *f, const struct gw_step_sample *rows, uint32_t count, float *y,
                     size_t y_stride)
{
    const struct gw_model_config *c = &f->config.model->config;
    const struct gw_weights *w = f->config.weights;
    for (uint32_t i = 0; i < count; i++)
        memcpy(f->picked + (size_t)i * c->hidden, f->x + (size_t)rows[i].row * c->hidden,
               c->hidden * sizeof *f->picked);
    f->config.ops->rmsnorm(f->config.device, f->normed, f->picked, w->norm_final, (float)c->rms_eps, count,
                           c->hidden);
    multiply(f, y, y_stride, &w->head, count);
}

gw_err_t gw_forward_answers(struct gw_forward *f, const struct gw_step_sample *samples, uint32_t count,
                            struct gw_answer *out, struct gw_err_ctx *ctx)
{
    const struct gw_place *p = f->config.place;
    const struct gw_weights *w = f->config.weights;
    assert(count <= GW_ANSWERS_ROWS);
    if (!gw_place_leads(p)) {
        run_head(f, samples, count, f->logits, w->head.columns);
        return gw_answers_send(f->answers, f->logits, samples, count, ctx);
    }
    if (gw_place_is_last(p))
        run_head(f, samples, count, f->logits + w->head_first, f->config.model->config.vocab);
    return gw_answers_collect(f->answers, f->logits, samples, count, out, ctx);
}
