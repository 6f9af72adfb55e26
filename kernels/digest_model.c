/* The digest's miniature forward pass: every operation, in the order in which a Llama layer uses them. */
#include <string.h>

#include "kernels/digest_internal.h"
#include "kernels/vmath.h"

/* Small, and with every edge: unequal widths, head_dim with a tail of 8, GQA in two cells, three shares (an
 * odd one in the tree), a sequence across the attention chunk. */
enum {
    HIDDEN = 40,
    LAYERS = 2,
    HEADS = 6,
    CELLS = 3,
    HEAD_DIM = 24,
    Q_COLS = HEADS * HEAD_DIM,
    KV_COLS = CELLS * HEAD_DIM,
    QKV_COLS = Q_COLS + 2 * KV_COLS,
    SHARES = 3,
    SHARE_COLS = 20,
    FFN = SHARES * SHARE_COLS,
    VOCAB = 70,
    BLOCK_TOKENS = 16,
    CONTEXT = 272,
    BLOCKS = CONTEXT / BLOCK_TOKENS,
    ROWS_MAX = 200,
};

static const uint32_t first_col = 0; /* where a product that is alone goes */

struct layer {
    const float *norm_attn, *norm_ffn; /* [HIDDEN] */
    struct gw_weight qkv, o[SHARES], gate_up, down[SHARES];
    uint8_t *arena[CELLS];
};

struct model {
    const float *embedding; /* [VOCAB, HIDDEN] */
    const float *norm;
    struct gw_weight head;
    struct layer layers[LAYERS];
    float *cos_sin;
    uint32_t blocks[BLOCKS];
    float *residual, *qkv, *gate_up, *scratch, *logits;
    void *act;
};

static struct layer make_layer(struct gw_digest *d)
{
    struct layer l = {.norm_attn = gw_digest_values(d, GW_F32, HIDDEN, false),
                      .norm_ffn = gw_digest_values(d, GW_F32, HIDDEN, false),
                      .qkv = gw_digest_weight(d, QKV_COLS, HIDDEN, false),
                      .gate_up = gw_digest_weight(d, 2 * FFN, HIDDEN, false)};
    for (int s = 0; s < SHARES; s++) {
        l.o[s] = gw_digest_weight(d, HIDDEN, Q_COLS / SHARES, false);
        l.down[s] = gw_digest_weight(d, HIDDEN, SHARE_COLS, false);
    }
    for (int c = 0; c < CELLS; c++) {
        size_t bytes = 2 * BLOCKS * gw_kv_bytes(d->ops->kv, HEAD_DIM, BLOCK_TOKENS);
        l.arena[c] = gw_digest_take(d, bytes);
        gw_memory_fill(d->dev, l.arena[c], 0xFF, bytes); /* NaN: what is read before it is written shows */
    }
    return l;
}

static void make_cos_sin(float *table)
{
    for (int p = 0; p < CONTEXT; p++)
        for (int i = 0; i < HEAD_DIM / 2; i++) {
            double angle = p * gw_pow(10000.0, -2.0 * i / HEAD_DIM);
            *table++ = (float)gw_cos(angle);
            *table++ = (float)gw_sin(angle);
        }
}

static void make_model(struct gw_digest *d, struct model *m)
{
    m->embedding = gw_digest_host(d, gw_digest_values(d, GW_F32, VOCAB * HIDDEN, false));
    m->norm = gw_digest_values(d, GW_F32, HIDDEN, false);
    m->head = gw_digest_weight(d, VOCAB, HIDDEN, false);
    for (int l = 0; l < LAYERS; l++) m->layers[l] = make_layer(d);
    m->cos_sin = gw_digest_take(d, CONTEXT * HEAD_DIM * sizeof(float));
    make_cos_sin(gw_digest_host(d, m->cos_sin));
    gw_digest_put(d, m->cos_sin, CONTEXT * HEAD_DIM * sizeof(float));
    for (uint32_t b = 0; b < BLOCKS; b++) m->blocks[b] = b * 5 % BLOCKS; /* slots in no order */
    m->residual = gw_digest_take(d, ROWS_MAX * HIDDEN * sizeof(float));
    m->qkv = gw_digest_take(d, ROWS_MAX * QKV_COLS * sizeof(float));
    m->gate_up = gw_digest_take(d, ROWS_MAX * 2 * FFN * sizeof(float));
    m->scratch = gw_digest_take(d, SHARES * ROWS_MAX * HIDDEN * sizeof(float));
    m->logits = gw_digest_take(d, VOCAB * sizeof(float));
    m->act = gw_digest_take(d, ROWS_MAX * Q_COLS * sizeof(float));
}

static void run_layer(struct gw_digest *d, struct model *m, const struct layer *l, struct gw_seq_rows seq)
{
    const struct gw_ops *ops = d->ops;
    const struct gw_kv_layer kv = {.arena = l->arena,
                                   .page_bytes = 2 * gw_kv_bytes(ops->kv, HEAD_DIM, BLOCK_TOKENS),
                                   .cells = CELLS,
                                   .heads_per_cell = 1,
                                   .head_dim = HEAD_DIM,
                                   .block_tokens = BLOCK_TOKENS};
    ops->rmsnorm(d->dev, m->act, m->residual, l->norm_attn, 1e-5f, seq.rows, HIDDEN);
    ops->matmul(d->dev, m->qkv, QKV_COLS, m->act, HIDDEN, &l->qkv, &first_col, 1, seq.rows);
    ops->rope_append(d->dev, m->qkv, QKV_COLS, 0, Q_COLS, Q_COLS + KV_COLS, HEADS, NULL, &kv, m->cos_sin,
                     &seq, 1);
    ops->attention(d->dev, m->act, m->qkv, QKV_COLS, 0, HEADS, &kv, 0.2f, &seq, 1);
    ops->matmul_tree_add(d->dev, m->residual, m->act, l->o, SHARES, seq.rows, m->scratch);
    ops->rmsnorm(d->dev, m->act, m->residual, l->norm_ffn, 1e-5f, seq.rows, HIDDEN);
    ops->matmul(d->dev, m->gate_up, 2 * FFN, m->act, HIDDEN, &l->gate_up, &first_col, 1, seq.rows);
    ops->silu_mul(d->dev, m->act, m->gate_up, seq.rows, SHARES, SHARE_COLS);
    ops->matmul_tree_add(d->dev, m->residual, m->act, l->down, SHARES, seq.rows, m->scratch);
}

/* Rows [position, position + rows) of the sequence; absorbs the residual stream and the last row's logits. */
static void run_step(struct gw_digest *d, struct model *m, uint32_t position, uint32_t rows)
{
    uint32_t ids[ROWS_MAX];
    for (uint32_t i = 0; i < rows; i++) ids[i] = (position + i) * 31 % VOCAB;
    d->ops->embed(d->dev, m->residual, m->embedding, GW_F32, ids, rows, HIDDEN);
    struct gw_seq_rows seq = {.row = 0, .rows = rows, .position = position, .blocks = m->blocks};
    for (int l = 0; l < LAYERS; l++) run_layer(d, m, &m->layers[l], seq);
    gw_digest_absorb(d, m->residual, (size_t)rows * HIDDEN * sizeof(float));
    const float *last = m->residual + (size_t)(rows - 1) * HIDDEN;
    d->ops->rmsnorm(d->dev, m->act, last, m->norm, 1e-5f, 1, HIDDEN);
    d->ops->matmul(d->dev, m->logits, VOCAB, m->act, HIDDEN, &m->head, &first_col, 1, 1);
    gw_digest_absorb(d, m->logits, VOCAB * sizeof(float));
}

void gw_digest_forward_pass(struct gw_digest *d)
{
    struct model m;
    make_model(d, &m);
    run_step(d, &m, 0, ROWS_MAX);
    run_step(d, &m, ROWS_MAX, CONTEXT - 3 - ROWS_MAX);
    for (uint32_t position = CONTEXT - 3; position < CONTEXT; position++) run_step(d, &m, position, 1);
    gw_digest_reset(d);
}
