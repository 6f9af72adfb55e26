#include "worker/weights.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/convert.h"

#define PACK_ALIGN 64 /* bytes; gw_weight.data */

/* Placing runs twice over the same code: first base is NULL and only `used` counts, then it hands out. */
struct arena {
    uint8_t *base;
    size_t used;
};

static void *take(struct arena *a, size_t bytes)
{
    void *p = a->base ? a->base + a->used : NULL;
    a->used += (bytes + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
    return p;
}

static void place_matrix(struct arena *a, const struct gw_ops *ops, uint32_t n, uint32_t k,
                         struct gw_weight *w)
{
    *w = (struct gw_weight){.n = n, .k = k, .data = take(a, ops->pack_bytes(n, k))};
}

static void place_layer(struct arena *a, const struct gw_ops *ops, const struct gw_model *m,
                        struct gw_layer_weights *l)
{
    const struct gw_model_config *c = &m->config;
    const struct gw_cells *cells = &m->cells;
    l->norm_attn = take(a, c->hidden * sizeof(float));
    l->norm_ffn = take(a, c->hidden * sizeof(float));
    place_matrix(a, ops, (c->heads + 2 * c->kv_heads) * c->head_dim, c->hidden, &l->qkv);
    for (uint32_t s = 0; s < cells->shares; s++)
        place_matrix(a, ops, c->hidden, cells->share_heads * c->head_dim, &l->o[s]);
    place_matrix(a, ops, 2 * cells->shares * cells->share_cols, c->hidden, &l->gate_up);
    for (uint32_t s = 0; s < cells->shares; s++)
        place_matrix(a, ops, c->hidden, cells->share_cols, &l->down[s]);
}

static void place_all(struct arena *a, const struct gw_ops *ops, const struct gw_model *m,
                      struct gw_weights *w)
{
    a->used = 0;
    w->norm_final = take(a, m->config.hidden * sizeof(float));
    place_matrix(a, ops, m->config.vocab, m->config.hidden, &w->head);
    for (uint32_t i = 0; i < w->layers_len; i++) place_layer(a, ops, m, &w->layers[i]);
}

static void load_norm(float *to, const struct gw_tensor *t)
{
    for (uint64_t i = 0; i < t->shape[0]; i++) to[i] = gw_f32_at(t->data, t->type, i);
}

static void pack(const struct gw_ops *ops, struct gw_weight *w, const void *src, enum gw_dtype type,
                 size_t row_stride)
{
    ops->pack(w->data, src, type, w->n, w->k, row_stride);
}

static uint8_t *copy_bytes(uint8_t *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
    return to + bytes;
}

/* stage: room for the largest matrix that is put together from several tensors, zeroed where it is padded. */
static void pack_qkv(const struct gw_ops *ops, const struct gw_model_layer *src, struct gw_weight *w,
                     uint8_t *stage)
{
    uint8_t *p = copy_bytes(stage, src->q->data, src->q->bytes);
    p = copy_bytes(p, src->k->data, src->k->bytes);
    copy_bytes(p, src->v->data, src->v->bytes);
    pack(ops, w, stage, src->q->type, w->k);
}

static void pack_o(const struct gw_ops *ops, const struct gw_model *m, const struct gw_tensor *o,
                   struct gw_weight *w)
{
    size_t item = gw_dtype_bytes(o->type), row = (size_t)m->config.heads * m->config.head_dim;
    for (uint32_t s = 0; s < m->cells.shares; s++)
        pack(ops, &w[s], (const uint8_t *)o->data + item * s * w[s].k, o->type, row);
}

/* The FFN columns [first, first + count) of share s. */
static uint32_t ffn_share(const struct gw_model *m, uint32_t s, uint32_t *first)
{
    uint32_t units = m->config.intermediate / GW_CELLS_FFN_UNIT;
    uint32_t begin = gw_cells_cut(s, units, m->cells.shares),
             end = gw_cells_cut(s + 1, units, m->cells.shares);
    *first = begin * GW_CELLS_FFN_UNIT;
    return (end - begin) * GW_CELLS_FFN_UNIT;
}

static void pack_gate_up(const struct gw_ops *ops, const struct gw_model *m, const struct gw_model_layer *src,
                         struct gw_weight *w, uint8_t *stage)
{
    size_t row = gw_dtype_bytes(src->gate->type) * w->k;
    memset(stage, 0, row * w->n);
    for (uint32_t s = 0; s < m->cells.shares; s++) {
        uint32_t first, count = ffn_share(m, s, &first);
        uint8_t *gate = stage + row * (2 * s) * m->cells.share_cols, *up = gate + row * m->cells.share_cols;
        memcpy(gate, (const uint8_t *)src->gate->data + row * first, row * count);
        memcpy(up, (const uint8_t *)src->up->data + row * first, row * count);
    }
    pack(ops, w, stage, src->gate->type, w->k);
}

static void pack_down(const struct gw_ops *ops, const struct gw_model *m, const struct gw_tensor *down,
                      struct gw_weight *w, uint8_t *stage)
{
    size_t item = gw_dtype_bytes(down->type), row = item * m->config.intermediate;
    for (uint32_t s = 0; s < m->cells.shares; s++) {
        uint32_t first, count = ffn_share(m, s, &first);
        memset(stage, 0, item * w[s].n * w[s].k);
        for (uint32_t n = 0; n < w[s].n; n++)
            memcpy(stage + item * n * w[s].k, (const uint8_t *)down->data + row * n + item * first,
                   item * count);
        pack(ops, &w[s], stage, down->type, w[s].k);
    }
}

static void pack_all(const struct gw_ops *ops, const struct gw_model *m, struct gw_weights *w, uint8_t *stage)
{
    load_norm(w->norm_final, m->norm_final);
    pack(ops, &w->head, m->head->data, m->head->type, w->head.k);
    for (uint32_t i = 0; i < w->layers_len; i++) {
        const struct gw_model_layer *src = &m->layers[i];
        struct gw_layer_weights *l = &w->layers[i];
        load_norm(l->norm_attn, src->norm_attn);
        load_norm(l->norm_ffn, src->norm_ffn);
        pack_qkv(ops, src, &l->qkv, stage);
        pack_o(ops, m, src->o, l->o);
        pack_gate_up(ops, m, src, &l->gate_up, stage);
        pack_down(ops, m, src->down, l->down, stage);
    }
}

static size_t stage_bytes(const struct gw_weights *w)
{
    const struct gw_layer_weights *l = &w->layers[0];
    size_t most = (size_t)l->qkv.n * l->qkv.k, gate_up = (size_t)l->gate_up.n * l->gate_up.k;
    size_t down = (size_t)l->down[0].n * l->down[0].k;
    if (gate_up > most) most = gate_up;
    if (down > most) most = down;
    return most * sizeof(float); /* the widest type that is staged */
}

static gw_err_t map_memory(struct gw_weights *w, size_t bytes, struct gw_err_ctx *ctx)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return gw_fail(ctx, GW_ERR_MEMORY, "no %zu bytes of memory for the weights", bytes);
    madvise(p, bytes, MADV_HUGEPAGE); /* fewer TLB misses where the kernel has huge pages; else no matter */
    w->memory = p;
    w->memory_bytes = bytes;
    return GW_OK;
}

static gw_err_t alloc_layers(const struct gw_model *m, struct gw_weights *w, struct gw_err_ctx *ctx)
{
    w->layers = calloc(m->config.layers, sizeof *w->layers);
    if (!w->layers) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    w->layers_len = m->config.layers;
    for (uint32_t i = 0; i < w->layers_len; i++) {
        w->layers[i].o = calloc(m->cells.shares, sizeof *w->layers[i].o);
        w->layers[i].down = calloc(m->cells.shares, sizeof *w->layers[i].down);
        if (!w->layers[i].o || !w->layers[i].down) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    }
    return GW_OK;
}

gw_err_t gw_weights_create(const struct gw_model *m, const struct gw_ops *ops, struct gw_weights **out,
                           struct gw_err_ctx *ctx)
{
    if (ops->weight == GW_BF16 && !m->all_bf16)
        return gw_fail(ctx, GW_ERR_INPUT, "profile %s needs a model whose matrices are all bf16",
                       ops->profile);
    gw_err_t err = GW_OK;
    uint8_t *stage = NULL;
    struct arena arena = {0};
    struct gw_weights *w = calloc(1, sizeof *w);
    if (!w) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    w->embed = m->embed->data;
    w->embed_type = m->embed->type;
    TRY_GOTO(alloc_layers(m, w, ctx), out);
    place_all(&arena, ops, m, w);
    TRY_GOTO(map_memory(w, arena.used, ctx), out);
    arena.base = w->memory;
    place_all(&arena, ops, m, w);
    stage = malloc(stage_bytes(w));
    if (!stage) {
        err = gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
        goto out;
    }
    pack_all(ops, m, w, stage);
    *out = w;
    w = NULL;
out:
    free(stage);
    gw_weights_destroy(w);
    return err;
}

void gw_weights_destroy(struct gw_weights *w)
{
    if (!w) return;
    for (uint32_t i = 0; i < w->layers_len; i++) {
        free(w->layers[i].o);
        free(w->layers[i].down);
    }
    free(w->layers);
    if (w->memory) munmap(w->memory, w->memory_bytes);
    free(w);
}
