#include "kernels/cpu/rope_append_simd.h"

#include "kernels/cpu/variants.h"

static const struct gw_rope_isa isa_bf16 = {.kv_type = GW_BF16,
                                            .element_ns = 0.3,
                                            .rotate = gw_rope_rotate16,
                                            .prepare = gw_rope_prepare16,
                                            .store = gw_rope_store16};
static const struct gw_rope_isa isa_f32 = {.kv_type = GW_F32,
                                           .element_ns = 0.3,
                                           .rotate = gw_rope_rotate16,
                                           .prepare = gw_rope_prepare16,
                                           .store = gw_rope_store16};

void gw_cpu_rope_append_bf16_avx512(struct gw_device *dev, float *qkv, size_t qkv_stride, size_t q_at,
                                    size_t k_at, size_t v_at, uint32_t heads, const struct gw_qkv_prep *prep,
                                    const struct gw_kv_layer *kv, const float *cos_sin,
                                    const struct gw_seq_rows *seqs, uint32_t seqs_len)
{
    struct gw_rope_job job = {&isa_bf16, qkv,  qkv_stride, q_at,    k_at, v_at,
                              heads,     prep, kv,         cos_sin, seqs, seqs_len};
    gw_rope_append_run(dev, &job);
}

void gw_cpu_rope_append_f32_avx512(struct gw_device *dev, float *qkv, size_t qkv_stride, size_t q_at,
                                   size_t k_at, size_t v_at, uint32_t heads, const struct gw_qkv_prep *prep,
                                   const struct gw_kv_layer *kv, const float *cos_sin,
                                   const struct gw_seq_rows *seqs, uint32_t seqs_len)
{
    struct gw_rope_job job = {&isa_f32, qkv,  qkv_stride, q_at,    k_at, v_at,
                              heads,    prep, kv,         cos_sin, seqs, seqs_len};
    gw_rope_append_run(dev, &job);
}
