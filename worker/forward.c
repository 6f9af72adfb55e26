#include "worker/forward.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "worker/moe.h"
#include "worker/rope.h"

#define ALIGN 64

struct gw_forward {
    struct gw_forward_config config;
    float attention_scale;
    struct gw_memory memory; /* of what operations alone see */
    struct gw_memory seen;   /* of what the host looks at, too: x, logits */
    /* [positions][head_dim / 2][2] f32, where a layer uses it: [1] of those that slide, if they have their own */
    struct gw_memory ropes[2];
    /* activations of one batch; act = the profile's activation type; heads, shares: of this rank */
    float *x;                   /* [max_rows, hidden] residual stream */
    void *normed;               /* [max_rows or GW_ANSWERS_ROWS, hidden] act */
    float *qkv;                 /* [max_rows, (heads + 2 kv_heads) · head_dim] */
    void *attended;             /* [max_rows, heads · head_dim] act */
    float *gate_up;             /* [max_rows, 2 · shares · ffn_cols]; where a layer has one FFN */
    void *ffn;                  /* [max_rows, shares · ffn_cols] act; likewise */
    struct gw_moe *moe;         /* where a layer has experts */
    float *partial;             /* [shares, max_rows, hidden]; not where the collectives' memory serves */
    float *picked;              /* [GW_ANSWERS_ROWS, hidden] */
    float *logits;              /* [GW_ANSWERS_ROWS, vocab] */
    struct gw_answers *answers; /* of the leader and the last stage */
    struct gw_graphs *graphs;   /* of decoding steps; NULL: none */
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

/* Is the memory of collectives, the host's, the operations', too? */
static bool sums_in_place(const struct gw_forward *f)
{
    return !has_all_shares(f) && gw_device_is_host(f->config.device);
}

/* The number in the model of this rank's i-th layer. */
static uint32_t number_of(const struct gw_forward *f, uint32_t i)
{
    return gw_cells_layer(&f->config.model->cells, f->config.weights->rect.g0) + i;
}

/* The table that a layer of the model uses. */
static struct gw_memory *rope_of(struct gw_forward *f, uint32_t layer)
{
    const struct gw_model_config *c = &f->config.model->config;
    return &f->ropes[gw_model_rope(c, layer) != &c->rope];
}

/* Has this rank a layer with experts, or one without? */
static bool has_layers(const struct gw_forward *f, bool sparse)
{
    const struct gw_weights *w = f->config.weights;
    for (uint32_t i = 0; i < w->layers_len; i++)
        if ((w->layers[i].router != NULL) == sparse) return true;
    return false;
}

static size_t place_memory(struct gw_forward *f, uint8_t *base)
{
    const struct gw_model_config *c = &f->config.model->config;
    const struct gw_weights *w = f->config.weights;
    size_t rows = f->config.max_rows, act = gw_dtype_bytes(f->config.ops->act), used = 0;
    size_t ffn_cols = (size_t)w->shares * f->config.model->cells.ffn_cols;
    size_t normed_rows = rows > GW_ANSWERS_ROWS ? rows : GW_ANSWERS_ROWS;
    f->normed = take(base, &used, normed_rows * c->hidden, act);
    f->qkv = take(base, &used, rows * w->layers[0].qkv.columns, sizeof(float));
    f->attended = take(base, &used, rows * w->heads * c->head_dim, act);
    if (has_layers(f, false)) {
        f->gate_up = take(base, &used, rows * 2 * ffn_cols, sizeof(float));
        f->ffn = take(base, &used, rows * ffn_cols, act);
    }
    if (!sums_in_place(f) && !f->config.sums)
        f->partial = take(base, &used, w->shares * rows * c->hidden, sizeof(float));
    if (gw_place_is_last(f->config.place))
        f->picked = take(base, &used, GW_ANSWERS_ROWS * (size_t)c->hidden, sizeof(float));
    return used;
}

static size_t place_seen(struct gw_forward *f, uint8_t *base)
{
    const struct gw_model_config *c = &f->config.model->config;
    const struct gw_place *p = f->config.place;
    size_t used = 0;
    f->x = take(base, &used, (size_t)f->config.max_rows * c->hidden, sizeof(float));
    if (gw_place_is_last(p) || gw_place_leads(p))
        f->logits = take(base, &used, GW_ANSWERS_ROWS * (size_t)c->vocab, sizeof(float));
    return used;
}

static gw_err_t alloc_memory(struct gw_forward *f, struct gw_err_ctx *ctx)
{
    struct gw_device *dev = f->config.device;
    gw_err_t err = gw_memory_alloc(dev, place_memory(f, NULL), GW_MEMORY_DEVICE, &f->memory, ctx);
    if (err == GW_OK) err = gw_memory_alloc(dev, place_seen(f, NULL), GW_MEMORY_PINNED, &f->seen, ctx);
    if (err != GW_OK) return gw_fail_prefix(ctx, err, "activations");
    place_memory(f, f->memory.device);
    place_seen(f, f->seen.device);
    return GW_OK;
}

static gw_err_t make_rope(struct gw_forward *f, const struct gw_rope *rope, struct gw_memory *table,
                          struct gw_err_ctx *ctx)
{
    const struct gw_forward_config *c = &f->config;
    uint32_t head_dim = c->model->config.head_dim;
    size_t bytes = gw_rope_bytes(head_dim, c->positions);
    gw_err_t err = gw_memory_alloc(c->device, bytes, GW_MEMORY_MIRRORED, table, ctx);
    if (err != GW_OK) return gw_fail_prefix(ctx, err, "RoPE tables of %u positions", c->positions);
    gw_rope_fill(rope, head_dim, c->positions, table->host);
    gw_memory_put_now(c->device, table->device, table->host, bytes);
    return GW_OK;
}

/* A rank may have layers of one type alone. */
static gw_err_t make_ropes(struct gw_forward *f, struct gw_err_ctx *ctx)
{
    const struct gw_model_config *c = &f->config.model->config;
    for (uint32_t i = 0; i < f->config.weights->layers_len; i++) {
        uint32_t layer = number_of(f, i);
        struct gw_memory *table = rope_of(f, layer);
        if (!table->host) TRY(make_rope(f, gw_model_rope(c, layer), table, ctx));
    }
    return GW_OK;
}

static gw_err_t create_answers(struct gw_forward *f, struct gw_err_ctx *ctx)
{
    const struct gw_forward_config *c = &f->config;
    const struct gw_answers_config answers = {.model = c->model,
                                              .place = c->place,
                                              .ops = c->ops,
                                              .device = c->device,
                                              .seen = &f->seen,
                                              .coll = c->coll};
    if (!gw_place_leads(c->place) && !gw_place_is_last(c->place)) return GW_OK;
    gw_err_t err = gw_answers_create(&answers, &f->answers);
    return err == GW_OK ? GW_OK : gw_fail(ctx, err, "no memory for what logit rows are asked");
}

static gw_err_t create_moe(struct gw_forward *f, struct gw_err_ctx *ctx)
{
    const struct gw_forward_config *c = &f->config;
    const struct gw_moe_config moe = {
        .weights = c->weights, .ops = c->ops, .device = c->device, .max_rows = c->max_rows};
    return has_layers(f, true) ? gw_moe_create(&moe, &f->moe, ctx) : GW_OK;
}

gw_err_t gw_forward_create(const struct gw_forward_config *config, struct gw_forward **out,
                           struct gw_err_ctx *ctx)
{
    struct gw_forward *f = calloc(1, sizeof *f);
    if (!f) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    assert(config->coll || config->place->ranks == 1);
    f->config = *config;
    f->attention_scale = (float)(1.0 / sqrt((double)config->model->config.head_dim));
    /* The host has a part in what experts and other ranks do: no graph can. */
    if (has_all_shares(f) && !has_layers(f, true))
        f->graphs = gw_graphs_create(config->device, config->max_rows);
    gw_err_t err = make_ropes(f, ctx);
    if (err == GW_OK) err = alloc_memory(f, ctx);
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
    gw_graphs_destroy(f->config.device, f->graphs);
    gw_memory_free(&f->memory);
    gw_memory_free(&f->seen);
    for (size_t i = 0; i < sizeof f->ropes / sizeof *f->ropes; i++) gw_memory_free(&f->ropes[i]);
    gw_moe_destroy(f->moe);
    gw_answers_destroy(f->answers);
    free(f);
}

/* ---- layers ---- */

static void multiply(struct gw_forward *f, float *y, size_t y_stride, const struct gw_products *p,
                     uint32_t rows)
{
    f->config.ops->matmul(f->config.device, y, y_stride, f->normed, f->config.model->config.hidden, p->w,
                          p->at, p->count, rows);
}

/* Where operations put this rank's partial sums, of elems each. */
static float *partials_of(struct gw_forward *f, size_t elems)
{
    if (f->config.sums) return gw_coll_device_partials(f->config.sums);
    return sums_in_place(f) ? gw_coll_partials(f->config.coll, elems) : f->partial;
}

/* x += the tree over all ranks' shares, of which this rank's are at partials_of(f, elems). */
static gw_err_t add_over_ranks(struct gw_forward *f, size_t elems, struct gw_err_ctx *ctx)
{
    struct gw_device *dev = f->config.device;
    if (f->config.sums) return gw_coll_device_tree_add(f->config.sums, f->x, elems, ctx);
    float *x = gw_memory_host(&f->seen, f->x), *told = gw_coll_partials(f->config.coll, elems);
    gw_memory_get(dev, told, partials_of(f, elems), f->config.weights->shares * elems * sizeof *told);
    gw_memory_get(dev, x, f->x, elems * sizeof *x);
    TRY(gw_coll_tree_add(f->config.coll, gw_device_host(dev), x, elems, ctx));
    gw_memory_put(dev, f->x, x, elems * sizeof *x);
    return GW_OK;
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
    c->ops->matmul_shares(c->device, partials_of(f, elems), act, w, c->weights->shares, rows);
    return add_over_ranks(f, elems, ctx);
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
    ops->rope_append(dev, f->qkv, stride, 0, k_at, v_at, w->heads, &l->prep, kv,
                     rope_of(f, number_of(f, layer))->device, seqs, seqs_len);
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
    /* The host will wait for the device's routes: what other ranks have a part in must be over by then, for its errors are not
     * the device's. */
    if (c->sums) TRY(gw_coll_device_finish(c->sums, ctx));
    gw_moe_run(f->moe, l, f->normed, rows, partials_of(f, elems));
    return add_over_ranks(f, elems, ctx);
}

static gw_err_t run_ffn(struct gw_forward *f, uint32_t layer, uint32_t rows, struct gw_err_ctx *ctx)
{
    const struct gw_ops *ops = f->config.ops;
    const struct gw_model *m = f->config.model;
    const struct gw_layer_weights *l = &f->config.weights->layers[layer];
    struct gw_device *dev = f->config.device;
    ops->rmsnorm(dev, f->normed, f->x, l->norm_ffn, (float)m->config.rms_eps, rows, m->config.hidden);
    if (l->router) return run_experts(f, l, rows, ctx);
    multiply(f, f->gate_up, l->ffn->gate_up.columns, &l->ffn->gate_up, rows);
    ops->silu_mul(dev, f->ffn, f->gate_up, rows, f->config.weights->shares, m->cells.ffn_cols);
    return add_shares(f, f->ffn, l->ffn->down, rows, ctx);
}

static gw_err_t get_input(struct gw_forward *f, const uint32_t *ids, uint32_t rows, struct gw_err_ctx *ctx)
{
    const struct gw_forward_config *c = &f->config;
    const struct gw_tensor *table = c->model->embed;
    uint32_t hidden = c->model->config.hidden;
    if (c->place->from == GW_RANK_NONE) {
        c->ops->embed(c->device, f->x, table->data, table->type, ids, rows, hidden);
        return GW_OK;
    }
    float *x = gw_memory_host(&f->seen, f->x);
    size_t bytes = (size_t)rows * hidden * sizeof *x;
    if (c->passes) {
        TRY(gw_coll_device_recv(c->passes, c->place->from, f->x, bytes, ctx));
        return gw_coll_device_finish(c->passes, ctx); /* the device's waits are for the device alone */
    }
    TRY(gw_coll_recv(c->coll, c->place->from, x, bytes, ctx));
    gw_memory_put(c->device, f->x, x, bytes);
    return GW_OK;
}

/* x, which is there, to the stage behind; it may change again afterwards. */
static gw_err_t pass_on(struct gw_forward *f, size_t bytes, struct gw_err_ctx *ctx)
{
    const struct gw_place *p = f->config.place;
    for (uint32_t i = 0; i < p->to_len; i++)
        TRY(gw_coll_device_send(f->config.passes, p->to[i], f->x, bytes, ctx));
    return p->to_len > 0 ? gw_coll_device_finish(f->config.passes, ctx) : GW_OK;
}

static gw_err_t give_output(struct gw_forward *f, uint32_t rows, struct gw_err_ctx *ctx)
{
    const struct gw_place *p = f->config.place;
    float *x = gw_memory_host(&f->seen, f->x);
    size_t bytes = (size_t)rows * f->config.model->config.hidden * sizeof *x;
    if (f->config.sums) TRY(gw_coll_device_finish(f->config.sums, ctx));
    if (p->to_len > 0 && !f->config.passes) gw_memory_get(f->config.device, x, f->x, bytes);
    TRY(gw_device_finish(f->config.device, ctx)); /* nobody is given what a device did not compute */
    if (f->config.passes) return pass_on(f, bytes, ctx);
    for (uint32_t i = 0; i < p->to_len; i++)
        TRY(gw_coll_send(f->config.coll, p->to[i], GW_COLL_DATA, x, bytes, ctx));
    return GW_OK;
}

static gw_err_t run_layers(struct gw_forward *f, uint32_t rows, const struct gw_seq_rows *seqs,
                           uint32_t seqs_len, struct gw_err_ctx *ctx)
{
    for (uint32_t layer = 0; layer < f->config.weights->layers_len; layer++) {
        TRY(run_attention(f, layer, rows, seqs, seqs_len, ctx));
        TRY(run_ffn(f, layer, rows, ctx));
    }
    return GW_OK;
}

/* At once, where the device has a graph of such a step. */
static gw_err_t run_step(struct gw_forward *f, uint32_t rows, const struct gw_seq_rows *seqs,
                         uint32_t seqs_len, struct gw_err_ctx *ctx)
{
    struct gw_device *dev = f->config.device;
    const struct gw_graph_step step = {.rows = rows,
                                       .seqs = seqs,
                                       .seqs_len = seqs_len,
                                       .kv = gw_page_pool_layer(f->config.pool, 0),
                                       .heads = f->config.weights->heads};
    uint32_t graph_rows;
    enum gw_graph_way way = gw_graph_begin(dev, f->graphs, &step, &graph_rows);
    if (way == GW_GRAPH_REPLAYED) return GW_OK;
    if (way == GW_GRAPH_RECORDS) {
        gw_err_t err = run_layers(f, graph_rows, seqs, seqs_len, ctx);
        if (gw_graph_end(dev, f->graphs) || err != GW_OK) return err;
    }
    return run_layers(f, rows, seqs, seqs_len, ctx);
}

gw_err_t gw_forward_run(struct gw_forward *f, const uint32_t *ids, uint32_t rows,
                        const struct gw_seq_rows *seqs, uint32_t seqs_len, struct gw_err_ctx *ctx)
{
    assert(rows <= f->config.max_rows);
    TRY(get_input(f, ids, rows, ctx));
    TRY(run_step(f, rows, seqs, seqs_len, ctx));
    return give_output(f, rows, ctx);
}

struct gw_graph_counts gw_forward_graphs(const struct gw_forward *f)
{
    return gw_graphs_count(f->config.device, f->graphs);
}

/* ---- logits ---- */

/* Own columns of the samples' rows, y_stride apart. */
static void run_head(struct gw_forward *f, const struct gw_step_sample *samples, uint32_t count, float *y,
                     size_t y_stride)
{
    const struct gw_model_config *c = &f->config.model->config;
    const struct gw_weights *w = f->config.weights;
    const struct gw_ops *ops = f->config.ops;
    struct gw_device *dev = f->config.device;
    uint32_t rows[GW_ANSWERS_ROWS];
    for (uint32_t i = 0; i < count; i++) rows[i] = samples[i].row;
    ops->gather(dev, f->picked, f->x, GW_F32, rows, count, c->hidden);
    ops->rmsnorm(dev, f->normed, f->picked, w->norm_final, (float)c->rms_eps, count, c->hidden);
    multiply(f, y, y_stride, &w->head, count);
}

gw_err_t gw_forward_answers(struct gw_forward *f, const struct gw_step_sample *samples, uint32_t count,
                            struct gw_answer *out, struct gw_err_ctx *ctx)
{
    const struct gw_place *p = f->config.place;
    const struct gw_weights *w = f->config.weights;
    uint32_t vocab = f->config.model->config.vocab;
    assert(count <= GW_ANSWERS_ROWS);
    if (!gw_place_leads(p)) {
        run_head(f, samples, count, f->logits, w->head.columns);
        return gw_answers_send(f->answers, f->logits, samples, count, ctx);
    }
    if (gw_place_is_last(p)) run_head(f, samples, count, f->logits + w->head_first, vocab);
    return gw_answers_collect(f->answers, f->logits, samples, count, out, ctx);
}

gw_err_t gw_forward_row(struct gw_forward *f, uint32_t i, const float **row, struct gw_err_ctx *ctx)
{
    return gw_answers_row(f->answers, f->logits, i, row, ctx);
}
