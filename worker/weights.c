#include "worker/weights.h"

#include <stdlib.h>
#include <string.h>

/* Places arrays twice over the same code: first base is NULL and only `used` counts, then it hands out. */
struct tables {
    uint8_t *base;
    size_t used;
};

static void *take(struct tables *t, size_t items, size_t item_bytes)
{
    void *p = t->base ? t->base + t->used : NULL;
    t->used += (items * item_bytes + 15) / 16 * 16;
    return p;
}

static void place_products(struct tables *t, struct gw_products *p, uint32_t count)
{
    p->w = take(t, count, sizeof *p->w);
    p->at = take(t, count, sizeof *p->at);
    p->count = count;
}

static void place_ffns(struct tables *t, const struct gw_weights *w, uint32_t ffns,
                       struct gw_layer_weights *layer)
{
    layer->ffn = take(t, ffns, sizeof *layer->ffn);
    for (uint32_t e = 0; e < ffns; e++) {
        struct gw_ffn_weights none = {0}, *ffn = t->base ? &layer->ffn[e] : &none;
        place_products(t, &ffn->gate_up, w->shares);
        ffn->down = take(t, w->shares, sizeof *ffn->down);
    }
}

/* Floats of a layer's biases: a row of qkv. */
static size_t bias_floats(const struct gw_weights *w)
{
    return ((size_t)w->heads + 2 * w->kv_heads) * w->model->config.head_dim;
}

static size_t place_all(struct gw_weights *w, uint8_t *base)
{
    struct tables t = {.base = base};
    bool last = w->rect.g1 == w->model->cells.groups;
    uint32_t first = gw_cells_layer(&w->model->cells, w->rect.g0);
    w->layers = take(&t, w->layers_len, sizeof *w->layers);
    place_products(&t, &w->head, last ? w->shares : 0);
    for (uint32_t l = 0; l < w->layers_len; l++) {
        struct gw_layer_weights none = {0}, *layer = base ? &w->layers[l] : &none;
        place_products(&t, &layer->qkv, w->shares + 2 * w->kv_heads);
        layer->o = take(&t, w->shares, sizeof *layer->o);
        place_ffns(&t, w, gw_model_ffns(&w->model->config, first + l), layer);
    }
    return t.used;
}

static void add_product(struct gw_products *p, uint32_t *filled, const struct gw_weight *w)
{
    p->w[*filled] = *w;
    p->at[*filled] = p->columns;
    p->columns += w->n;
    ++*filled;
}

static void fill_norms(const struct gw_weights *w, uint32_t group, uint32_t in_group,
                       struct gw_layer_weights *layer)
{
    const struct gw_model_config *c = &w->model->config;
    layer->norm_attn = gw_cell_store_norms(w->store, group) + in_group * gw_cell_store_norm_floats(c);
    layer->norm_ffn = layer->norm_attn + c->hidden;
    layer->prep.eps = (float)c->rms_eps;
    if (!c->qk_norm) return;
    layer->prep.q_norm = layer->norm_ffn + c->hidden;
    layer->prep.k_norm = layer->prep.q_norm + c->head_dim;
}

/* A row of biases as wide as one of qkv: of each share's q, of each head's k, of each head's v. */
static void fill_bias(const struct gw_weights *w, uint32_t group, uint32_t in_group, float *bias)
{
    const struct gw_cells *cells = &w->model->cells;
    size_t head_dim = w->model->config.head_dim, share = cells->share_heads * head_dim;
    uint32_t kv_first = gw_cells_kv_first(cells, w->rect.s0);
    for (uint32_t i = 0; i < w->shares; i++, bias += share)
        memcpy(bias, gw_cell_store_share_bias(w->store, group, w->rect.s0 + i) + in_group * share,
               share * sizeof *bias);
    for (uint32_t matrix = 0; matrix < GW_KV_HEAD_MATRICES; matrix++)
        for (uint32_t h = 0; h < w->kv_heads; h++, bias += head_dim)
            memcpy(bias,
                   gw_cell_store_kv_bias(w->store, group, kv_first + h) +
                       (in_group * GW_KV_HEAD_MATRICES + matrix) * head_dim,
                   head_dim * sizeof *bias);
}

/* One share's parts of every FFN; m: its matrices in this layer. */
static void fill_ffns(uint32_t ffns, uint32_t share, const struct gw_weight *m,
                      struct gw_layer_weights *layer)
{
    for (uint32_t e = 0; e < ffns; e++, m += GW_SHARE_FFN_MATRICES) {
        uint32_t at = share;
        add_product(&layer->ffn[e].gate_up, &at, &m[GW_SHARE_GATE_UP]);
        layer->ffn[e].down[share] = m[GW_SHARE_DOWN];
    }
}

static void fill_layer(struct gw_weights *w, uint32_t group, uint32_t in_group,
                       struct gw_layer_weights *layer)
{
    const struct gw_model_config *c = &w->model->config;
    uint32_t kv_first = gw_cells_kv_first(&w->model->cells, w->rect.s0), qkv = 0;
    uint32_t first = gw_cells_layer(&w->model->cells, group), number = first + in_group;
    fill_norms(w, group, in_group, layer);
    if (c->qkv_bias) {
        layer->prep.bias = (float *)w->biases.device + (size_t)(layer - w->layers) * bias_floats(w);
        fill_bias(w, group, in_group, gw_memory_host(&w->biases, layer->prep.bias));
    }
    if (c->sparse[number])
        layer->router = gw_cell_store_routers(w->store, group) + gw_routers_before(c, first, number);
    for (uint32_t i = 0; i < w->shares; i++) {
        const struct gw_weight *m =
            gw_cell_store_share(w->store, group, w->rect.s0 + i) + gw_share_matrices_before(c, first, number);
        add_product(&layer->qkv, &qkv, &m[GW_SHARE_Q]);
        layer->o[i] = m[GW_SHARE_O];
        fill_ffns(gw_model_ffns(c, number), i, m, layer);
    }
    for (uint32_t matrix = 0; matrix < GW_KV_HEAD_MATRICES; matrix++)
        for (uint32_t h = 0; h < w->kv_heads; h++)
            add_product(&layer->qkv, &qkv,
                        gw_cell_store_kv(w->store, group, kv_first + h) +
                            (size_t)in_group * GW_KV_HEAD_MATRICES + matrix);
}

static void fill_all(struct gw_weights *w)
{
    const struct gw_cells *cells = &w->model->cells;
    struct gw_layer_weights *layer = w->layers;
    for (uint32_t g = w->rect.g0; g < w->rect.g1; g++)
        for (uint32_t i = 0; i < gw_cells_layer(cells, g + 1) - gw_cells_layer(cells, g); i++)
            fill_layer(w, g, i, layer++);
    gw_memory_put_now(w->biases.owner, w->biases.device, w->biases.host, w->biases.bytes);
    w->head_first = gw_cells_cut(w->rect.s0, w->model->config.vocab, cells->shares);
    if (w->head.count == 0) return;
    w->norm_final = gw_cell_store_final(w->store);
    uint32_t head = 0;
    for (uint32_t i = 0; i < w->shares; i++)
        add_product(&w->head, &head, gw_cell_store_head(w->store, w->rect.s0 + i));
}

static struct gw_weights *describe(struct gw_cell_store *store, const struct gw_model *model,
                                   struct gw_cell_rect rect)
{
    const struct gw_cells *cells = &model->cells;
    struct gw_weights *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    *w = (struct gw_weights){.store = store, .rect = rect, .model = model, .shares = rect.s1 - rect.s0};
    w->heads = w->shares * cells->share_heads;
    w->kv_heads = gw_cells_kv_end(cells, rect.s1) - gw_cells_kv_first(cells, rect.s0);
    w->layers_len = gw_cells_layers(cells, rect);
    w->tables = calloc(1, place_all(w, NULL));
    if (!w->tables) {
        free(w);
        return NULL;
    }
    place_all(w, w->tables);
    return w;
}

static gw_err_t alloc_biases(struct gw_weights *w, struct gw_err_ctx *ctx)
{
    size_t bytes = w->model->config.qkv_bias ? w->layers_len * bias_floats(w) * sizeof(float) : 0;
    return gw_memory_alloc(gw_cell_store_device(w->store), bytes, GW_MEMORY_MIRRORED, &w->biases, ctx);
}

static void free_own(struct gw_weights *w)
{
    gw_memory_free(&w->biases);
    free(w->tables);
    free(w);
}

gw_err_t gw_weights_create(struct gw_cell_store *store, const struct gw_model *model,
                           struct gw_cell_rect rect, const atomic_bool *stop, struct gw_weights **out,
                           struct gw_err_ctx *ctx)
{
    struct gw_weights *w = describe(store, model, rect);
    if (!w) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    gw_err_t err = alloc_biases(w, ctx);
    if (err == GW_OK) err = gw_cell_store_acquire(store, rect, stop, &w->loaded_bytes, ctx);
    if (err != GW_OK) {
        free_own(w);
        return err;
    }
    fill_all(w);
    *out = w;
    return GW_OK;
}

void gw_weights_destroy(struct gw_weights *w)
{
    if (!w) return;
    gw_cell_store_release(w->store, w->rect);
    free_own(w);
}
