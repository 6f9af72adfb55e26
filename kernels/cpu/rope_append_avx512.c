#include "kernels/cpu/rope_append.h"

#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/variants.h"

static void rotate(void *out, enum gw_dtype type, const float *x, const float *cos_sin, uint32_t half)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (uint32_t i = 0; i < half; i += 16) {
        uint32_t n = half - i < 16 ? half - i : 16;
        __mmask16 mask = gw_lanes_mask(n);
        __m512 a = gw_load16(x, GW_F32, i, mask), b = gw_load16(x, GW_F32, half + i, mask);
        __m512 low = gw_load16(cos_sin, GW_F32, 2 * i, gw_lanes_mask(n < 8 ? 2 * n : 16));
        __m512 high = gw_load16(cos_sin, GW_F32, 2 * i + 16, gw_lanes_mask(n < 8 ? 0 : 2 * n - 16));
        __m512 c = _mm512_permutex2var_ps(low, even, high), s = _mm512_permutex2var_ps(low, odd, high);
        gw_store16(out, type, i, mask, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        gw_store16(out, type, half + i, mask, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
}

static void store(void *out, enum gw_dtype type, const float *x, uint32_t len)
{
    for (uint32_t i = 0; i < len; i += 16) {
        __mmask16 mask = gw_lanes_mask(len - i < 16 ? len - i : 16);
        gw_store16(out, type, i, mask, gw_load16(x, GW_F32, i, mask));
    }
}

static const struct gw_rope_isa isa_bf16 = {
    .kv_type = GW_BF16, .element_ns = 0.3, .rotate = rotate, .store = store};
static const struct gw_rope_isa isa_f32 = {
    .kv_type = GW_F32, .element_ns = 0.3, .rotate = rotate, .store = store};

void gw_cpu_rope_append_bf16_avx512(struct gw_device *dev, float *qkv, size_t qkv_stride, size_t q_at,
                                    size_t k_at, size_t v_at, uint32_t heads, const struct gw_kv_layer *kv,
                                    const float *cos_sin, const struct gw_seq_rows *seqs, uint32_t seqs_len)
{
    struct gw_rope_job job = {&isa_bf16, qkv, qkv_stride, q_at, k_at,    v_at,
                              heads,     kv,  cos_sin,    seqs, seqs_len};
    gw_rope_append_run(dev, &job);
}

void gw_cpu_rope_append_f32_avx512(struct gw_device *dev, float *qkv, size_t qkv_stride, size_t q_at,
                                   size_t k_at, size_t v_at, uint32_t heads, const struct gw_kv_layer *kv,
                                   const float *cos_sin, const struct gw_seq_rows *seqs, uint32_t seqs_len)
{
    struct gw_rope_job job = {&isa_f32, qkv, qkv_stride, q_at, k_at,    v_at,
                              heads,    kv,  cos_sin,    seqs, seqs_len};
    gw_rope_append_run(dev, &job);
}
