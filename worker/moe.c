#include "worker/moe.h"

#include <stdlib.h>
#include <string.h>

#define ALIGN 64

static const uint32_t first_column = 0; /* where a product that is alone goes */

struct gw_moe {
    struct gw_moe_config config;
    struct gw_memory memory; /* of what operations compute */
    void *lists;             /* of what the host sorts: ids to first */
    float *logits;           /* [max_rows, experts] */
    uint32_t *ids;           /* [max_rows, taken] */
    float *weights;          /* [max_rows, taken] */
    uint32_t *rows;          /* [max_rows · taken] by expert, rows ascending */
    float *row_weights;      /* [max_rows · taken] likewise */
    uint32_t *first;         /* [experts + 1] where each expert's rows begin */
    void *x;                 /* [max_rows, hidden] act; of one expert's rows, as are those below */
    float *gate_up;          /* [max_rows, 2 · shares · expert_cols] */
    void *ffn;               /* [max_rows, shares · expert_cols] act */
    float *down;             /* [shares, max_rows, hidden] */
};

/* Hands out pieces of base; with base NULL it only counts. */
static void *take(uint8_t *base, size_t *used, size_t items, size_t item_bytes)
{
    void *p = base ? base + *used : NULL;
    *used += (items * item_bytes + ALIGN - 1) / ALIGN * ALIGN;
    return p;
}

static size_t place_lists(struct gw_moe *m, uint8_t *base)
{
    const struct gw_model_config *c = &m->config.weights->model->config;
    size_t choices = (size_t)m->config.max_rows * c->experts_taken, used = 0;
    m->ids = take(base, &used, choices, sizeof(uint32_t));
    m->weights = take(base, &used, choices, sizeof(float));
    m->rows = take(base, &used, choices, sizeof(uint32_t));
    m->row_weights = take(base, &used, choices, sizeof(float));
    m->first = take(base, &used, (size_t)c->experts + 1, sizeof(uint32_t));
    return used;
}

static size_t place_memory(struct gw_moe *m, uint8_t *base)
{
    const struct gw_weights *w = m->config.weights;
    const struct gw_model_config *c = &w->model->config;
    size_t rows = m->config.max_rows, act = gw_dtype_bytes(m->config.ops->act), used = 0;
    size_t cols = (size_t)w->shares * w->model->cells.expert_cols;
    m->logits = take(base, &used, rows * c->experts, sizeof(float));
    m->x = take(base, &used, rows * c->hidden, act);
    m->gate_up = take(base, &used, rows * 2 * cols, sizeof(float));
    m->ffn = take(base, &used, rows * cols, act);
    m->down = take(base, &used, w->shares * rows * c->hidden, sizeof(float));
    return used;
}

gw_err_t gw_moe_create(const struct gw_moe_config *config, struct gw_moe **out, struct gw_err_ctx *ctx)
{
    struct gw_moe *m = calloc(1, sizeof *m);
    if (!m) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    m->config = *config;
    gw_err_t err = gw_memory_alloc(config->device, place_memory(m, NULL), GW_MEMORY_DEVICE, &m->memory, ctx);
    m->lists = malloc(place_lists(m, NULL));
    if (err == GW_OK && !m->lists) err = GW_ERR_MEMORY;
    if (err != GW_OK) {
        gw_moe_destroy(m);
        return gw_fail(ctx, err, "no memory for experts' activations");
    }
    place_memory(m, m->memory.device);
    place_lists(m, m->lists);
    *out = m;
    return GW_OK;
}

void gw_moe_destroy(struct gw_moe *m)
{
    if (!m) return;
    gw_memory_free(&m->memory);
    free(m->lists);
    free(m);
}

/* Sorts choices by expert; within one, rows stay in their order. Each row is with an expert once at most. */
static void sort_choices(struct gw_moe *m, uint32_t rows)
{
    const struct gw_model_config *c = &m->config.weights->model->config;
    uint32_t *first = m->first, taken = c->experts_taken;
    memset(first, 0, ((size_t)c->experts + 1) * sizeof *first);
    for (uint32_t i = 0; i < rows * taken; i++) first[m->ids[i] + 1]++;
    for (uint32_t e = 0; e < c->experts; e++) first[e + 1] += first[e];
    for (uint32_t i = 0; i < rows * taken; i++) { /* first[e] runs to the end of e */
        uint32_t at = first[m->ids[i]]++;
        m->rows[at] = i / taken;
        m->row_weights[at] = m->weights[i];
    }
    memmove(first + 1, first, c->experts * sizeof *first);
    first[0] = 0;
}

/* partials += what one expert makes of its rows [first, first + count) of the sorted choices. */
static void run_expert(struct gw_moe *m, const struct gw_ffn_weights *f, const void *x, uint32_t rows,
                       uint32_t first, uint32_t count, float *partials)
{
    const struct gw_ops *ops = m->config.ops;
    const struct gw_weights *w = m->config.weights;
    uint32_t hidden = w->model->config.hidden;
    struct gw_device *dev = m->config.device;
    if (count < rows) { /* else they are all of them, in order */
        ops->gather(dev, m->x, x, ops->act, m->rows + first, count, hidden);
        x = m->x;
    }
    ops->matmul(dev, m->gate_up, f->gate_up.columns, x, hidden, f->gate_up.w, f->gate_up.at, f->gate_up.count,
                count);
    ops->silu_mul(dev, m->ffn, m->gate_up, count, w->shares, w->model->cells.expert_cols);
    ops->matmul_shares(dev, m->down, m->ffn, f->down, w->shares, count);
    ops->scatter_add(dev, partials, rows, m->down, m->rows + first, m->row_weights + first, w->shares, count,
                     hidden);
}

void gw_moe_run(struct gw_moe *m, const struct gw_layer_weights *l, const void *x, uint32_t rows,
                float *partials)
{
    const struct gw_ops *ops = m->config.ops;
    const struct gw_weights *w = m->config.weights;
    const struct gw_model_config *c = &w->model->config;
    ops->matmul_plain(m->config.device, m->logits, c->experts, x, c->hidden, l->router, &first_column, 1,
                      rows);
    ops->route(m->config.device, m->ids, m->weights, m->logits, rows, c->experts, c->experts_taken,
               c->weigh_taken);
    sort_choices(m, rows);
    gw_memory_fill(m->config.device, partials, 0, (size_t)w->shares * rows * c->hidden * sizeof *partials);
    for (uint32_t e = 0; e < c->experts; e++)
        if (m->first[e + 1] > m->first[e])
            run_expert(m, &l->ffn[e], x, rows, m->first[e], m->first[e + 1] - m->first[e], partials);
}
