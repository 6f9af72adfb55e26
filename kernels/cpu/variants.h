/* Every operation's variants on the CPU, by name: gw_cpu_<operation>_<activation type>_<ISA>.
 *
 * Variants of one operation and type give the same bits. `_any` is one plain C function for all tables: those
 * copy or convert and gain nothing from an ISA of their own. int8_<activation type>: of weights quantized to int8; fp8_: to e4m3.
 *
 * Owner: as in kernels/op.h. Thread: likewise. Units: likewise. Errors: likewise. Source: own design. */
#ifndef GW_KERNELS_CPU_VARIANTS_H
#define GW_KERNELS_CPU_VARIANTS_H

#include "kernels/op.h"
#include "kernels/pick.h"

typedef size_t gw_pack_bytes_fn(uint32_t n, uint32_t k);
typedef void gw_pack_fn(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                        size_t row_stride);
typedef void gw_embed_fn(struct gw_device *dev, float *y, const void *table, enum gw_dtype table_type,
                         const uint32_t *ids, uint32_t m, uint32_t hidden);
typedef void gw_rmsnorm_fn(struct gw_device *dev, void *y, const float *x, const float *w, float eps,
                           uint32_t m, uint32_t k);
typedef void gw_matmul_fn(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                          const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m);
typedef void gw_matmul_shares_fn(struct gw_device *dev, float *y, const void *x, const struct gw_weight *w,
                                 uint32_t shares, uint32_t m);
typedef void gw_matmul_tree_add_fn(struct gw_device *dev, float *residual, const void *x,
                                   const struct gw_weight *w, uint32_t shares, uint32_t m, float *scratch);
typedef void gw_rope_append_fn(struct gw_device *dev, float *qkv, size_t qkv_stride, size_t q_at, size_t k_at,
                               size_t v_at, uint32_t heads, const struct gw_qkv_prep *prep,
                               const struct gw_kv_layer *kv, const float *cos_sin,
                               const struct gw_seq_rows *seqs, uint32_t seqs_len);
typedef void gw_attention_fn(struct gw_device *dev, void *out, const float *qkv, size_t qkv_stride,
                             size_t q_at, uint32_t heads, const struct gw_kv_layer *kv, float scale,
                             const struct gw_seq_rows *seqs, uint32_t seqs_len);
typedef void gw_silu_mul_fn(struct gw_device *dev, void *y, const float *gate_up, uint32_t m, uint32_t shares,
                            uint32_t share_cols);
typedef void gw_route_fn(struct gw_device *dev, uint32_t *ids, float *weights, const float *logits,
                         uint32_t m, uint32_t experts, uint32_t top, bool over_taken);
typedef void gw_gather_fn(struct gw_device *dev, void *y, const void *x, enum gw_dtype type,
                          const uint32_t *rows, uint32_t m, uint32_t k);
typedef void gw_scatter_add_fn(struct gw_device *dev, float *y, uint32_t y_rows, const float *x,
                               const uint32_t *rows, const float *weights, uint32_t shares, uint32_t m,
                               uint32_t n);
typedef void gw_tree_add_fn(struct gw_device *dev, float *residual, const float *partials, uint32_t shares,
                            size_t elems);
typedef void gw_pick_fn(struct gw_device *dev, const struct gw_pick_row *rows, uint32_t count);
typedef void gw_weigh_fn(struct gw_device *dev, float *y, const float *x, uint32_t n, float top,
                         float inverse);

gw_pack_bytes_fn gw_cpu_pack_bytes_bf16_any, gw_cpu_pack_bytes_f32_any;
gw_pack_fn gw_cpu_pack_bf16_any, gw_cpu_pack_f32_any;
gw_embed_fn gw_cpu_embed_any;
gw_route_fn gw_cpu_route_any;
gw_gather_fn gw_cpu_gather_any;
gw_scatter_add_fn gw_cpu_scatter_add_any;
gw_tree_add_fn gw_cpu_tree_add_any;

gw_rmsnorm_fn gw_cpu_rmsnorm_bf16_c, gw_cpu_rmsnorm_f32_c;
gw_rmsnorm_fn gw_cpu_rmsnorm_bf16_avx2, gw_cpu_rmsnorm_f32_avx2;
gw_rmsnorm_fn gw_cpu_rmsnorm_bf16_avx512, gw_cpu_rmsnorm_f32_avx512;

gw_matmul_fn gw_cpu_matmul_bf16_c, gw_cpu_matmul_f32_c;
gw_matmul_fn gw_cpu_matmul_bf16_avx2, gw_cpu_matmul_f32_avx2;
gw_matmul_fn gw_cpu_matmul_bf16_avx512, gw_cpu_matmul_f32_avx512;
gw_matmul_fn gw_cpu_matmul_bf16_avx512bf16;

gw_matmul_shares_fn gw_cpu_matmul_shares_bf16_c, gw_cpu_matmul_shares_f32_c;
gw_matmul_shares_fn gw_cpu_matmul_shares_bf16_avx2, gw_cpu_matmul_shares_f32_avx2;
gw_matmul_shares_fn gw_cpu_matmul_shares_bf16_avx512, gw_cpu_matmul_shares_f32_avx512;
gw_matmul_shares_fn gw_cpu_matmul_shares_bf16_avx512bf16;

gw_matmul_tree_add_fn gw_cpu_matmul_tree_add_bf16_c, gw_cpu_matmul_tree_add_f32_c;
gw_matmul_tree_add_fn gw_cpu_matmul_tree_add_bf16_avx2, gw_cpu_matmul_tree_add_f32_avx2;
gw_matmul_tree_add_fn gw_cpu_matmul_tree_add_bf16_avx512, gw_cpu_matmul_tree_add_f32_avx512;
gw_matmul_tree_add_fn gw_cpu_matmul_tree_add_bf16_avx512bf16;

/* Of cpu-bf16amx-1: weights and activations as bf16, added up as AMX's tiles do it. */
gw_matmul_fn gw_cpu_matmul_bf16amx_c, gw_cpu_matmul_bf16amx_avx2, gw_cpu_matmul_bf16amx_avx512;
gw_matmul_fn gw_cpu_matmul_bf16amx_amx;
gw_matmul_shares_fn gw_cpu_matmul_shares_bf16amx_c, gw_cpu_matmul_shares_bf16amx_avx2;
gw_matmul_shares_fn gw_cpu_matmul_shares_bf16amx_avx512, gw_cpu_matmul_shares_bf16amx_amx;
gw_matmul_tree_add_fn gw_cpu_matmul_tree_add_bf16amx_c, gw_cpu_matmul_tree_add_bf16amx_avx2;
gw_matmul_tree_add_fn gw_cpu_matmul_tree_add_bf16amx_avx512, gw_cpu_matmul_tree_add_bf16amx_amx;

gw_pack_bytes_fn gw_cpu_pack_bytes_int8_any;
gw_pack_fn gw_cpu_pack_int8_any;

gw_matmul_fn gw_cpu_matmul_int8_bf16_c, gw_cpu_matmul_int8_f32_c;
gw_matmul_fn gw_cpu_matmul_int8_bf16_avx2, gw_cpu_matmul_int8_f32_avx2;
gw_matmul_fn gw_cpu_matmul_int8_bf16_avx512vnni, gw_cpu_matmul_int8_f32_avx512vnni;
gw_matmul_fn gw_cpu_matmul_int8_bf16_amx, gw_cpu_matmul_int8_f32_amx;

gw_matmul_shares_fn gw_cpu_matmul_shares_int8_bf16_c, gw_cpu_matmul_shares_int8_f32_c;
gw_matmul_shares_fn gw_cpu_matmul_shares_int8_bf16_avx2, gw_cpu_matmul_shares_int8_f32_avx2;
gw_matmul_shares_fn gw_cpu_matmul_shares_int8_bf16_avx512vnni, gw_cpu_matmul_shares_int8_f32_avx512vnni;
gw_matmul_shares_fn gw_cpu_matmul_shares_int8_bf16_amx, gw_cpu_matmul_shares_int8_f32_amx;

gw_matmul_tree_add_fn gw_cpu_matmul_tree_add_int8_bf16_c, gw_cpu_matmul_tree_add_int8_f32_c;
gw_matmul_tree_add_fn gw_cpu_matmul_tree_add_int8_bf16_avx2, gw_cpu_matmul_tree_add_int8_f32_avx2;
gw_matmul_tree_add_fn gw_cpu_matmul_tree_add_int8_bf16_avx512vnni, gw_cpu_matmul_tree_add_int8_f32_avx512vnni;
gw_matmul_tree_add_fn gw_cpu_matmul_tree_add_int8_bf16_amx, gw_cpu_matmul_tree_add_int8_f32_amx;

gw_pack_bytes_fn gw_cpu_pack_bytes_fp8_any;
gw_pack_fn gw_cpu_pack_fp8_any;

gw_matmul_fn gw_cpu_matmul_fp8_bf16_c, gw_cpu_matmul_fp8_f32_c;
gw_matmul_fn gw_cpu_matmul_fp8_bf16_avx2, gw_cpu_matmul_fp8_f32_avx2;
gw_matmul_fn gw_cpu_matmul_fp8_bf16_avx512, gw_cpu_matmul_fp8_f32_avx512;
gw_matmul_fn gw_cpu_matmul_fp8_bf16_avx512bf16;

gw_matmul_shares_fn gw_cpu_matmul_shares_fp8_bf16_c, gw_cpu_matmul_shares_fp8_f32_c;
gw_matmul_shares_fn gw_cpu_matmul_shares_fp8_bf16_avx2, gw_cpu_matmul_shares_fp8_f32_avx2;
gw_matmul_shares_fn gw_cpu_matmul_shares_fp8_bf16_avx512, gw_cpu_matmul_shares_fp8_f32_avx512;
gw_matmul_shares_fn gw_cpu_matmul_shares_fp8_bf16_avx512bf16;

gw_matmul_tree_add_fn gw_cpu_matmul_tree_add_fp8_bf16_c, gw_cpu_matmul_tree_add_fp8_f32_c;
gw_matmul_tree_add_fn gw_cpu_matmul_tree_add_fp8_bf16_avx2, gw_cpu_matmul_tree_add_fp8_f32_avx2;
gw_matmul_tree_add_fn gw_cpu_matmul_tree_add_fp8_bf16_avx512, gw_cpu_matmul_tree_add_fp8_f32_avx512;
gw_matmul_tree_add_fn gw_cpu_matmul_tree_add_fp8_bf16_avx512bf16;

gw_rope_append_fn gw_cpu_rope_append_bf16_c, gw_cpu_rope_append_f32_c;
gw_rope_append_fn gw_cpu_rope_append_bf16_avx2, gw_cpu_rope_append_f32_avx2;
gw_rope_append_fn gw_cpu_rope_append_bf16_avx512, gw_cpu_rope_append_f32_avx512;

gw_attention_fn gw_cpu_attention_bf16_c, gw_cpu_attention_f32_c;
gw_attention_fn gw_cpu_attention_bf16_avx2, gw_cpu_attention_f32_avx2;
gw_attention_fn gw_cpu_attention_bf16_avx512, gw_cpu_attention_f32_avx512;

/* Of int8 pages. What is stored there does not depend on the activations' type. */
gw_rope_append_fn gw_cpu_rope_append_int8_c, gw_cpu_rope_append_int8_avx2, gw_cpu_rope_append_int8_avx512;

gw_attention_fn gw_cpu_attention_int8_bf16_c, gw_cpu_attention_int8_f32_c;
gw_attention_fn gw_cpu_attention_int8_bf16_avx2, gw_cpu_attention_int8_f32_avx2;
gw_attention_fn gw_cpu_attention_int8_bf16_avx512, gw_cpu_attention_int8_f32_avx512;

gw_silu_mul_fn gw_cpu_silu_mul_bf16_c, gw_cpu_silu_mul_f32_c;
gw_silu_mul_fn gw_cpu_silu_mul_bf16_avx2, gw_cpu_silu_mul_f32_avx2;
gw_silu_mul_fn gw_cpu_silu_mul_bf16_avx512, gw_cpu_silu_mul_f32_avx512;

gw_pick_fn gw_cpu_pick_c, gw_cpu_pick_avx2, gw_cpu_pick_avx512;
gw_weigh_fn gw_cpu_weigh_c, gw_cpu_weigh_avx2, gw_cpu_weigh_avx512;

#endif
