/* The CUDA operations' launchers, gw_cuda_<operation>, one .cu each: the twins of kernels/cpu/variants.h.
 *
 * What an operation means stands in kernels/op.h; shapes are the same. All pointers are to device memory, those inside of
 * structs too (gw_kv_layer.arena and what it points to, gw_qkv_prep, gw_seq_rows.blocks); the structs themselves, unless
 * a comment says "device", lie with the caller and are read before the launcher returns.
 *
 * A launcher checks shapes, picks a grid, launches on `stream` and returns; nothing is allocated, nobody waits. act is GW_F32 or
 * GW_BF16.
 *
 * Owner: all memory is the caller's, until the stream has passed the launch. Thread: any; order is the stream's. Units: elements
 * unless named _bytes. Errors: GW_ERR_INPUT for a shape outside of an operation's limits (each .cu names them), GW_ERR_CUDA if
 * the launch fails; nothing was then launched. Source: own design. */
#ifndef GW_KERNELS_CUDA_LAUNCHERS_H
#define GW_KERNELS_CUDA_LAUNCHERS_H

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/convert.h"
#include "kernels/op.h"
#include "kernels/pick.h"

struct CUstream_st;
typedef struct CUstream_st *gw_cuda_stream; /* = cudaStream_t */

/* The sequences of a step; rows_max and length_max are bounds that shape the grid: what it has too many ends at once. */
struct gw_cuda_batch {
    const struct gw_seq_rows *seqs; /* device, [seqs_len] */
    uint32_t seqs_len;
    uint32_t rows_max;   /* of one sequence */
    uint32_t length_max; /* position + rows of one sequence */
};

/* Where q, k and v begin in a row of qkv. */
struct gw_cuda_qkv {
    float *data;
    size_t stride, q_at, k_at, v_at;
    uint32_t heads;
};

#define GW_CUDA_PRODUCTS_MAX GW_SHARES_MAX /* of one launch; what it needs goes with the launch: 4 KiB */

/* y columns [y_at, y_at + n) = x columns [x_at, x_at + k) · wᵀ, w [n, k], row after row, of the launcher's type:
 *
 *     bf16, f32    as it is
 *     fp8          each row [k padded to GW_CUDA_FP8_STEP] e4m3, zeros behind k; behind all rows [n] f32 scales. For x of bf16 the
 *                  bytes 4 j .. 4 j + 3 of 16 are k 2 j, 2 j + 8, 2 j + 1, 2 j + 9; for x of f32 they are in order */
struct gw_cuda_product {
    const void *w;
    size_t x_at, y_at;
    uint32_t n, k;
};

#define GW_CUDA_FP8_STEP 16u

/* Elements of a packed row: k, filled up to whole steps of its product's kernel. */
GW_BOTH static inline uint32_t gw_cuda_whole_steps(uint32_t k, uint32_t step)
{
    return (k + step - 1) / step * step;
}

/* Rows quantized to int8: bytes [m][segments][k], scales [m][segments]. */
struct gw_cuda_int8_rows {
    int8_t *bytes;
    float *scales;
    uint32_t segments, k; /* k: a multiple of 16, zeros behind those of x */
};

/* y columns [y_at, y_at + n) = a segment of x · wᵀ; w: [n, k of x] int8, then [n] scales f32. */
struct gw_cuda_int8_product {
    const void *w;
    size_t y_at;
    uint32_t n, segment;
};

gw_err_t gw_cuda_embed(gw_cuda_stream stream, float *y, const void *table, enum gw_dtype table_type,
                       const uint32_t *ids, uint32_t m, uint32_t hidden, struct gw_err_ctx *ctx) GW_MUST_USE;

/* delta[m, k] f32, unless NULL, is added to x first, and stays there. */
gw_err_t gw_cuda_rmsnorm(gw_cuda_stream stream, void *y, enum gw_dtype act, float *x, const float *delta,
                         const float *w, float eps, uint32_t m, uint32_t k,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

/* Products of one x [m rows] side by side in y f32, which may be planes, too (y_at). list: the caller's, [count]. */
typedef gw_err_t gw_cuda_matmul_fn(gw_cuda_stream stream, float *y, size_t y_stride, const uint16_t *x,
                                   size_t x_stride, const struct gw_cuda_product *list, uint32_t count,
                                   uint32_t m, struct gw_err_ctx *ctx) GW_MUST_USE;
gw_cuda_matmul_fn gw_cuda_matmul, gw_cuda_matmul_fp8;

/* The same of x in f32; w of f32, or of fp8. */
typedef gw_err_t gw_cuda_matmul_f32_fn(gw_cuda_stream stream, float *y, size_t y_stride, const float *x,
                                       size_t x_stride, const struct gw_cuda_product *list, uint32_t count,
                                       uint32_t m, struct gw_err_ctx *ctx) GW_MUST_USE;
gw_cuda_matmul_f32_fn gw_cuda_matmul_f32, gw_cuda_matmul_f32_fp8;

/* x [m] of [to->segments][k] act, rows x_stride apart, quantized. */
gw_err_t gw_cuda_quantize(gw_cuda_stream stream, const struct gw_cuda_int8_rows *to, const void *x,
                          enum gw_dtype act, size_t x_stride, uint32_t m, uint32_t k,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

/* gw_cuda_matmul of int8. */
gw_err_t gw_cuda_matmul_int8(gw_cuda_stream stream, float *y, size_t y_stride,
                             const struct gw_cuda_int8_rows *x, const struct gw_cuda_int8_product *list,
                             uint32_t count, uint32_t m, struct gw_err_ctx *ctx) GW_MUST_USE;

/* y [m][parts][k_padded] bf16 = x's rows of [parts][k], zeros behind each k. */
gw_err_t gw_cuda_pad(gw_cuda_stream stream, uint16_t *y, const uint16_t *x, size_t x_stride, uint32_t m,
                     uint32_t parts, uint32_t k, uint32_t k_padded, struct gw_err_ctx *ctx) GW_MUST_USE;

gw_err_t gw_cuda_rope_append(gw_cuda_stream stream, const struct gw_cuda_qkv *qkv,
                             const struct gw_qkv_prep *prep, const struct gw_kv_layer *kv,
                             enum gw_dtype kv_type, const float *cos_sin, const struct gw_cuda_batch *batch,
                             struct gw_err_ctx *ctx) GW_MUST_USE;

gw_err_t gw_cuda_silu_mul(gw_cuda_stream stream, void *y, enum gw_dtype act, const float *gate_up, uint32_t m,
                          uint32_t shares, uint32_t share_cols, struct gw_err_ctx *ctx) GW_MUST_USE;

gw_err_t gw_cuda_route(gw_cuda_stream stream, uint32_t *ids, float *weights, const float *logits, uint32_t m,
                       uint32_t experts, uint32_t top, bool over_taken, struct gw_err_ctx *ctx) GW_MUST_USE;

gw_err_t gw_cuda_weigh(gw_cuda_stream stream, float *y, const float *x, uint32_t n, float top, float inverse,
                       struct gw_err_ctx *ctx) GW_MUST_USE;

gw_err_t gw_cuda_gather(gw_cuda_stream stream, void *y, const void *x, enum gw_dtype type,
                        const uint32_t *rows, uint32_t m, uint32_t k, struct gw_err_ctx *ctx) GW_MUST_USE;

gw_err_t gw_cuda_scatter_add(gw_cuda_stream stream, float *y, uint32_t y_rows, const float *x,
                             const uint32_t *rows, const float *weights, uint32_t shares, uint32_t m,
                             uint32_t n, struct gw_err_ctx *ctx) GW_MUST_USE;

gw_err_t gw_cuda_tree_add(gw_cuda_stream stream, float *residual, const float *partials, uint32_t shares,
                          size_t elems, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Page to_slots[i] of `to` = page from_slots[i] of `from`; slots NULL: page i. So NULL, slots is a gather; slots, NULL a scatter.
 * No page that is written is read by the same call. */
gw_err_t gw_cuda_pages(gw_cuda_stream stream, void *to, const uint32_t *to_slots, const void *from,
                       const uint32_t *from_slots, uint32_t pages, size_t page_bytes,
                       struct gw_err_ctx *ctx) GW_MUST_USE;

/* out[m, heads * head_dim] bf16 of rows that rope_append has left; KV of bf16 or int8. Both give the same bits: decode spreads a sequence's
 * chunks over the device, and is the faster one for few rows; prefill needs no workspace. */
gw_err_t gw_cuda_attention_prefill(gw_cuda_stream stream, uint16_t *out, const struct gw_cuda_qkv *qkv,
                                   const struct gw_kv_layer *kv, enum gw_dtype kv_type, float scale,
                                   const struct gw_cuda_batch *batch, struct gw_err_ctx *ctx) GW_MUST_USE;

/* workspace: gw_cuda_attention_decode_bytes of device memory, of any content. */
gw_err_t gw_cuda_attention_decode(gw_cuda_stream stream, uint16_t *out, const struct gw_cuda_qkv *qkv,
                                  const struct gw_kv_layer *kv, enum gw_dtype kv_type, float scale,
                                  const struct gw_cuda_batch *batch, float *workspace,
                                  struct gw_err_ctx *ctx) GW_MUST_USE;
size_t gw_cuda_attention_decode_bytes(const struct gw_kv_layer *kv, uint32_t heads,
                                      const struct gw_cuda_batch *batch);

/* out[m, heads * head_dim] f32; KV of f32 or int8. workspace: gw_cuda_attention_f32_bytes of device memory, over which a sequence's
 * chunks are spread; NULL: they are not. The same bits. */
gw_err_t gw_cuda_attention_f32(gw_cuda_stream stream, float *out, const struct gw_cuda_qkv *qkv,
                               const struct gw_kv_layer *kv, enum gw_dtype kv_type, float scale,
                               const struct gw_cuda_batch *batch, float *workspace,
                               struct gw_err_ctx *ctx) GW_MUST_USE;
size_t gw_cuda_attention_f32_bytes(const struct gw_kv_layer *kv, uint32_t heads,
                                   const struct gw_cuda_batch *batch);

/* rows[to] += rows[from] of a share tree's program, then residual += rows[0]: a gw_row_sum_fn (stream_cuda.h). */
struct gw_row_sum;
struct gw_stream;
gw_err_t gw_cuda_row_sum(const struct gw_row_sum *sum, struct gw_stream *stream,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

/* ---- pick (kernels/pick.h), of rows that lie on the device ---- */

#define GW_CUDA_DRAW_BLOCKS                                                                                  \
    16 /* of a row: the best score of each is told, and the host takes the best of them */

/* The best score among some of a row's columns. */
struct gw_cuda_draw {
    double score;
    uint32_t id;
    float logit, raw;
};

/* The best `keep` of x, best first, as words (gw_pick_word); UINT64_MAX where there are not so many. */
struct gw_cuda_best {
    const float *x;
    uint32_t keep;        /* 0: nothing is wanted */
    uint64_t *out;        /* [keep] */
    uint64_t *between[2]; /* [gw_cuda_pick_between(columns, keep, 0 and 1)] */
};

/* One row; what is not wanted is not looked at. All that it points to is the device's. */
struct gw_cuda_pick_row {
    const float *raw; /* [columns] */
    float *x;         /* a copy of it, which is edited; or raw itself, if there are no edits */
    uint32_t columns, first;
    uint32_t vocab, shares, share_first, share_last;
    struct gw_pick_edits edits;
    float inverse;
    uint64_t stream;
    struct gw_cuda_best best, top;       /* of x and of raw */
    float *best_raw;                     /* [best.keep] */
    struct gw_cuda_draw *draws;          /* [GW_CUDA_DRAW_BLOCKS]; NULL: not by score. best.keep is 1 then */
    struct gw_pick_sum *weights, *stats; /* [share_last - share_first]; NULL: not wanted */
};

/* The largest of a batch's: they shape the grids. */
struct gw_cuda_pick_bounds {
    uint32_t columns, keep;
    uint32_t shares; /* of sums; 0: nobody wants any */
    uint32_t edits;  /* 0: nobody has any */
    uint32_t draws;  /* GW_CUDA_DRAW_BLOCKS; 0: nobody is drawn by score */
};

/* rows: device, [count]. */
gw_err_t gw_cuda_pick(gw_cuda_stream stream, const struct gw_cuda_pick_row *rows, uint32_t count,
                      const struct gw_cuda_pick_bounds *max, struct gw_err_ctx *ctx) GW_MUST_USE;
/* Words between two rounds of looking for the best; which: 0 or 1. */
size_t gw_cuda_pick_between(uint32_t columns, uint32_t keep, uint32_t which);

#ifdef __cplusplus
}
#endif

#endif
