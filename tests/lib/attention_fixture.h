/* Sequences, their pages and steps over them, for the tests of RoPE into pages and of attention. */
#ifndef GW_TESTS_LIB_ATTENTION_FIXTURE_H
#define GW_TESTS_LIB_ATTENTION_FIXTURE_H

#include "tests/lib/kernels_fixture.h"

#include <math.h>

#include "kernels/vmath.h"

#define LAYERS   2    /* in the group; the tests use the second */
#define POISON   0xFF /* NaN as bf16 and as f32 */
#define SEQS_MAX 3

struct config {
    uint32_t head_dim, heads, cells, heads_per_cell, block_tokens, length;
    uint32_t window; /* 0: none */
    bool bias, norm; /* of what comes before RoPE */
};

static inline uint32_t kv_heads_of(const struct config *c)
{
    return c->cells * c->heads_per_cell;
}

static inline uint32_t row_floats(const struct config *c)
{
    return (c->heads + 2 * kv_heads_of(c)) * c->head_dim;
}

/* One sequence: its unrotated q | k | v rows. */
struct sequence {
    float *qkv; /* [length, row_floats] */
    uint32_t length;
};

static inline struct sequence random_sequence(struct gw_rng *r, const struct config *c, uint32_t length)
{
    return (struct sequence){.qkv = random_f32(r, (size_t)length * row_floats(c)), .length = length};
}

/* Biases of the parts q | k | v, and weights of the norms: the same for every test. */
static inline float bias_at(size_t part, size_t i)
{
    return (float)sin((double)(part * 131 + i * 7)) * 0.5f;
}

static inline float norm_at(size_t part, size_t i)
{
    return 1.0f + (float)cos((double)(part * 17 + i * 5)) * 0.3f;
}

#define EPS 1e-5f

/* norms: [2][head_dim], bias: [a row]; where the parts begin in a row: at[q, k, v]. */
static inline struct gw_qkv_prep make_prep(const struct config *c, const size_t at[3], float *bias,
                                           float *norms)
{
    const size_t kv_len = (size_t)kv_heads_of(c) * c->head_dim;
    const size_t lens[3] = {(size_t)c->heads * c->head_dim, kv_len, kv_len};
    for (size_t part = 0; part < 3; part++)
        for (size_t i = 0; i < lens[part]; i++) bias[at[part] + i] = bias_at(part, i);
    for (size_t i = 0; i < 2 * (size_t)c->head_dim; i++) norms[i] = norm_at(i / c->head_dim, i % c->head_dim);
    return (struct gw_qkv_prep){.bias = c->bias ? bias : NULL,
                                .q_norm = c->norm ? norms : NULL,
                                .k_norm = c->norm ? norms + c->head_dim : NULL,
                                .eps = EPS};
}

static inline float *cos_sin_table(const struct config *c, uint32_t context)
{
    float *table = take_f32((size_t)context * c->head_dim);
    for (uint32_t p = 0; p < context; p++)
        for (uint32_t i = 0; i < c->head_dim / 2; i++) {
            double angle = p * gw_pow(10000.0, -2.0 * i / c->head_dim);
            table[(size_t)p * c->head_dim + 2 * i] = (float)gw_cos(angle);
            table[(size_t)p * c->head_dim + 2 * i + 1] = (float)gw_sin(angle);
        }
    return table;
}

/* The pages of up to SEQS_MAX sequences in slots of random order, all bytes poisoned. */
struct pool {
    struct gw_kv_layer kv;
    uint8_t *memory[8]; /* per cell */
    uint8_t *arena[8];
    uint32_t *blocks[SEQS_MAX];
    uint32_t slots;
    size_t page_bytes, layer_bytes;
};

static inline void pool_init(struct pool *p, struct gw_rng *r, const struct config *c,
                             const struct gw_ops *ops)
{
    uint32_t per_seq = (c->length + c->block_tokens - 1) / c->block_tokens;
    p->slots = per_seq * SEQS_MAX;
    p->layer_bytes = 2 * c->heads_per_cell * gw_kv_bytes(ops->kv, c->head_dim, c->block_tokens);
    p->page_bytes = LAYERS * p->layer_bytes;
    for (uint32_t cell = 0; cell < c->cells; cell++) {
        p->memory[cell] = take(p->slots * p->page_bytes);
        memset(p->memory[cell], POISON, p->slots * p->page_bytes);
        p->arena[cell] = p->memory[cell] + p->layer_bytes;
    }
    uint32_t *order = take(p->slots * sizeof *order);
    for (uint32_t i = 0; i < p->slots; i++) {
        uint32_t j = (uint32_t)gw_rng_below(r, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (int s = 0; s < SEQS_MAX; s++) p->blocks[s] = order + (uint32_t)s * per_seq;
    p->kv = (struct gw_kv_layer){.arena = p->arena,
                                 .page_bytes = p->page_bytes,
                                 .cells = c->cells,
                                 .heads_per_cell = c->heads_per_cell,
                                 .head_dim = c->head_dim,
                                 .block_tokens = c->block_tokens,
                                 .window = c->window};
}

/* What no row at `position` or behind it sees of a sequence becomes NaN, as if others had its slots. */
static inline void pool_forget(struct pool *p, uint32_t slot_list, uint32_t position)
{
    if (p->kv.window == 0 || position < p->kv.window) return;
    uint32_t blocks = (position + 1 - p->kv.window) / p->kv.block_tokens;
    for (uint32_t b = 0; b < blocks; b++)
        for (uint32_t cell = 0; cell < p->kv.cells; cell++)
            memset(p->memory[cell] + p->blocks[slot_list][b] * p->page_bytes, POISON, p->page_bytes);
}

static inline void pool_fini(struct pool *p)
{
    for (uint32_t cell = 0; cell < p->kv.cells; cell++) free(p->memory[cell]);
    free(p->blocks[0]);
}

struct step {
    const struct sequence *seqs[SEQS_MAX];
    uint32_t position[SEQS_MAX], rows[SEQS_MAX], slot[SEQS_MAX]; /* slot: which of the pool's block lists */
    uint32_t len;
};

/* Runs one step (rope_append, attention); the sequences' rows lie one after the other in the batch. outs[i]
 * gets the rows of seqs[i] at their positions. */
static inline void run_step(const struct gw_ops *ops, struct gw_device *dev, const struct config *c,
                            struct pool *pool, const float *cos_sin, const struct step *step,
                            uint8_t *const outs[SEQS_MAX])
{
    struct gw_seq_rows rows[SEQS_MAX];
    uint32_t m = 0, stride = row_floats(c) + 3;
    size_t out_row = (size_t)c->heads * c->head_dim * gw_dtype_bytes(ops->act);
    uint32_t q_at = kv_heads_of(c) * c->head_dim, k_at = 0,
             v_at = q_at + c->heads * c->head_dim; /* k | q | v */
    for (uint32_t i = 0; i < step->len; i++) m += step->rows[i];
    float *qkv = take_f32((size_t)m * stride);
    uint8_t *out = take(m * out_row);
    for (uint32_t i = 0, row = 0; i < step->len; row += step->rows[i++]) {
        rows[i] = (struct gw_seq_rows){row, step->rows[i], step->position[i], pool->blocks[step->slot[i]]};
        for (uint32_t j = 0; j < step->rows[i]; j++) {
            const float *from = step->seqs[i]->qkv + (size_t)(step->position[i] + j) * row_floats(c);
            float *to = qkv + (size_t)(row + j) * stride;
            memcpy(to + q_at, from, c->heads * c->head_dim * 4);
            memcpy(to + k_at, from + c->heads * c->head_dim, kv_heads_of(c) * c->head_dim * 4);
            memcpy(to + v_at, from + (c->heads + kv_heads_of(c)) * c->head_dim,
                   kv_heads_of(c) * c->head_dim * 4);
        }
    }
    float *bias = take_f32(stride), norms[2 * 256];
    const struct gw_qkv_prep prep = make_prep(c, (size_t[]){q_at, k_at, v_at}, bias, norms);
    for (uint32_t i = 0; i < step->len; i++) pool_forget(pool, step->slot[i], step->position[i]);
    ops->rope_append(dev, qkv, stride, q_at, k_at, v_at, c->heads, c->bias || c->norm ? &prep : NULL,
                     &pool->kv, cos_sin, rows, step->len);
    float scale = 1.0f / sqrtf((float)c->head_dim);
    ops->attention(dev, out, qkv, stride, q_at, c->heads, &pool->kv, scale, rows, step->len);
    for (uint32_t i = 0; i < step->len; i++)
        memcpy(outs[i] + step->position[i] * out_row, out + rows[i].row * out_row, step->rows[i] * out_row);
    free(qkv), free(out), free(bias);
}

static inline size_t out_bytes(const struct gw_ops *ops, const struct config *c, uint32_t length)
{
    return (size_t)length * c->heads * c->head_dim * gw_dtype_bytes(ops->act);
}

/* The whole sequence alone over the pool's first pages, in steps of `chunk` rows; returns [length, heads * head_dim] act. */
static inline uint8_t *run_over(const struct gw_ops *ops, struct gw_device *dev, const struct config *c,
                                struct pool *pool, const float *cos_sin, const struct sequence *seq,
                                uint32_t chunk)
{
    uint8_t *out = take(out_bytes(ops, c, seq->length));
    for (uint32_t at = 0; at < seq->length; at += chunk) {
        uint32_t rows = seq->length - at < chunk ? seq->length - at : chunk;
        struct step step = {.seqs = {seq}, .position = {at}, .rows = {rows}, .len = 1};
        run_step(ops, dev, c, pool, cos_sin, &step, (uint8_t *[SEQS_MAX]){out});
    }
    return out;
}

/* The same over pages of its own. */
static inline uint8_t *run_alone(const struct gw_ops *ops, struct gw_device *dev, struct gw_rng *r,
                                 const struct config *c, const float *cos_sin, const struct sequence *seq,
                                 uint32_t chunk)
{
    struct pool pool;
    pool_init(&pool, r, c, ops);
    uint8_t *out = run_over(ops, dev, c, &pool, cos_sin, seq, chunk);
    pool_fini(&pool);
    return out;
}

#endif
