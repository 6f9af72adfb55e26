#include "worker/forward.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "worker/rope.h"

#define ALIGN 64

static const uint32_t first_col = 0; /* where a product that is alone goes */

struct gw_forward {
    struct gw_forward_config config;
    float attention_scale;
    float *rope; /* [positions][head_dim / 2][2] */
    void *memory;
    size_t memory_bytes;
    /* activations of one batch; act = the profile's activation type */
    float *x;       /* [max_rows, hidden] residual stream */
    void *normed;   /* [max_rows or GW_FORWARD_LOGIT_ROWS, hidden] act */
    float *qkv;     /* [max_rows, (heads + 2 kv_heads) · head_dim] */
    void *attended; /* [max_rows, heads · head_dim] act */
    float *gate_up; /* [max_rows, 2 · shares · share_cols] */
    void *ffn;      /* [max_rows, shares · share_cols] act */
    float *partial; /* [shares, max_rows, hidden] */
    float *picked;  /* [GW_FORWARD_LOGIT_ROWS, hidden] */
    float *logits;  /* [GW_FORWARD_LOGIT_ROWS, vocab] */
};

/* Hands out pieces of base; with base NULL it only counts. */
static void *take(uint8_t *base, size_t *used, size_t items, size_t item_bytes)
{
    void *p = base ? base + *used : NULL;
    *used += (items * item_bytes + ALIGN - 1) / ALIGN * ALIGN;
    return p;
}

static size_t place(struct gw_forward *f, uint8_t *base)
{
    const struct gw_model_config *c = &f->config.model->config;
    const struct gw_cells *cells = &f->config.model->cells;
    size_t rows = f->config.max_rows, act = gw_dtype_bytes(f->config.ops->act), used = 0;
    size_t heads_cols = (size_t)c->heads * c->head_dim, ffn_cols = (size_t)cells->shares * cells->share_cols;
    size_t qkv_cols = heads_cols + 2 * (size_t)c->kv_heads * c->head_dim;
    f->x = take(base, &used, rows * c->hidden, sizeof(float));
    size_t normed_rows = rows > GW_FORWARD_LOGIT_ROWS ? rows : GW_FORWARD_LOGIT_ROWS;
    f->normed = take(base, &used, normed_rows * c->hidden, act);
    f->qkv = take(base, &used, rows * qkv_cols, sizeof(float));
    f->attended = take(base, &used, rows * heads_cols, act);
    f->gate_up = take(base, &used, rows * 2 * ffn_cols, sizeof(float));
    f->ffn = take(base, &used, rows * ffn_cols, act);
    f->partial = take(base, &used, cells->shares * rows * c->hidden, sizeof(float));
    f->picked = take(base, &used, (size_t)GW_FORWARD_LOGIT_ROWS * c->hidden, sizeof(float));
    f->logits = take(base, &used, (size_t)GW_FORWARD_LOGIT_ROWS * c->vocab, sizeof(float));
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

gw_err_t gw_forward_create(const struct gw_forward_config *config, struct gw_forward **out,
                           struct gw_err_ctx *ctx)
{
    const struct gw_model_config *c = &config->model->config;
    struct gw_forward *f = calloc(1, sizeof *f);
    if (!f) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    f->config = *config;
    f->attention_scale = (float)(1.0 / sqrt((double)c->head_dim));
    gw_err_t err = gw_rope_table(c, config->positions, &f->rope);
    if (err != GW_OK)
        gw_fail(ctx, err, "no memory for RoPE tables of %u positions", config->positions);
    else
        err = map_memory(f, ctx);
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
    free(f->rope);
    free(f);
}

static void run_attention(struct gw_forward *f, uint32_t layer, uint32_t rows, const struct gw_seq_rows *seqs,
                          uint32_t seqs_len)
{
    const struct gw_ops *ops = f->config.ops;
    const struct gw_model *m = f->config.model;
    const struct gw_layer_weights *w = &f->config.weights->layers[layer];
    const struct gw_kv_layer *kv = gw_page_pool_layer(f->config.pool, layer);
    size_t k_at = (size_t)m->config.heads * m->config.head_dim;
    size_t v_at = k_at + (size_t)m->config.kv_heads * m->config.head_dim;
    struct gw_device *dev = f->config.device;
    ops->rmsnorm(dev, f->normed, f->x, w->norm_attn, (float)m->config.rms_eps, rows, m->config.hidden);
    ops->matmul(dev, f->qkv, w->qkv.n, f->normed, m->config.hidden, &w->qkv, &first_col, 1, rows);
    ops->rope_append(dev, f->qkv, w->qkv.n, 0, k_at, v_at, m->config.heads, kv, f->rope, seqs, seqs_len);
    ops->attention(dev, f->attended, f->qkv, w->qkv.n, 0, m->config.heads, kv, f->attention_scale, seqs,
                   seqs_len);
    ops->matmul_tree_add(dev, f->x, f->attended, w->o, m->cells.shares, rows, f->partial);
}

static void run_ffn(struct gw_forward *f, uint32_t layer, uint32_t rows)
{
    const struct gw_ops *ops = f->config.ops;
    const struct gw_model *m = f->config.model;
    const struct gw_layer_weights *w = &f->config.weights->layers[layer];
    struct gw_device *dev = f->config.device;
    ops->rmsnorm(dev, f->normed, f->x, w->norm_ffn, (float)m->config.rms_eps, rows, m->config.hidden);
    ops->matmul(dev, f->gate_up, w->gate_up.n, f->normed, m->config.hidden, &w->gate_up, &first_col, 1, rows);
    ops->silu_mul(dev, f->ffn, f->gate_up, rows, m->cells.shares, m->cells.share_cols);
    ops->matmul_tree_add(dev, f->x, f->ffn, w->down, m->cells.shares, rows, f->partial);
}

void gw_forward_run(struct gw_forward *f, const uint32_t *ids, uint32_t rows, const struct gw_seq_rows *seqs,
                    uint32_t seqs_len)
{
    const struct gw_model_config *c = &f->config.model->config;
    const struct gw_weights *w = f->config.weights;
    assert(rows <= f->config.max_rows);
    f->config.ops->embed(f->config.device, f->x, w->embed, w->embed_type, ids, rows, c->hidden);
    for (uint32_t layer = 0; layer < c->layers; layer++) {
        run_attention(f, layer, rows, seqs, seqs_len);
        run_ffn(f, layer, rows);
    }
}

const float *gw_forward_logits(struct gw_forward *f, const uint32_t *rows, uint32_t count)
{
    const struct gw_ops *ops = f->config.ops;
    const struct gw_weights *w = f->config.weights;
    const struct gw_model_config *c = &f->config.model->config;
    assert(count <= GW_FORWARD_LOGIT_ROWS);
    for (uint32_t i = 0; i < count; i++)
        memcpy(f->picked + (size_t)i * c->hidden, f->x + (size_t)rows[i] * c->hidden,
               c->hidden * sizeof *f->picked);
    ops->rmsnorm(f->config.device, f->normed, f->picked, w->norm_final, (float)c->rms_eps, count, c->hidden);
    ops->matmul(f->config.device, f->logits, c->vocab, f->normed, c->hidden, &w->head, &first_col, 1, count);
    return f->logits;
}

void gw_forward_stats(struct gw_forward *f, uint32_t count, float *max, float *sum)
{
    const struct gw_model *m = f->config.model;
    f->config.ops->softmax_stats(f->config.device, f->logits, count, m->config.vocab, m->cells.shares, max,
                                 sum);
}
