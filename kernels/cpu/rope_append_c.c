#include "kernels/cpu/rope_append.h"

#include "kernels/cpu/simd_c.h"
#include "kernels/cpu/variants.h"
#include "kernels/vmath.h"

static void rotate(void *out, enum gw_dtype type, const float *x, const float *cos_sin, uint32_t half)
{
    for (uint32_t i = 0; i < half; i++) {
        float a = x[i], b = x[half + i], c = cos_sin[2 * i], s = cos_sin[2 * i + 1];
        gw_f32_put(out, type, i, fmaf(a, c, -(b * s)));
        gw_f32_put(out, type, half + i, fmaf(b, c, a * s));
    }
}

static void store(void *out, enum gw_dtype type, const float *x, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) gw_f32_put(out, type, i, x[i]);
}

static void prepare(float *x, const float *bias, const float *norm, float eps, uint32_t len)
{
    float lanes[GW_LANES] = {0};
    for (uint32_t i = 0; bias && i < len; i++) x[i] += bias[i];
    if (!norm) return;
    for (uint32_t i = 0; i < len; i++) lanes[i % GW_LANES] = fmaf(x[i], x[i], lanes[i % GW_LANES]);
    float inverse = gw_rms_inverse(gw_fold_sum_c(lanes), len, eps);
    for (uint32_t i = 0; i < len; i++) x[i] = x[i] * inverse * norm[i];
}

static const struct gw_rope_isa isa_bf16 = {
    .kv_type = GW_BF16, .element_ns = 6, .rotate = rotate, .prepare = prepare, .store = store};
static const struct gw_rope_isa isa_f32 = {
    .kv_type = GW_F32, .element_ns = 6, .rotate = rotate, .prepare = prepare, .store = store};
static const struct gw_rope_isa isa_int8 = {
    .kv_type = GW_I8, .element_ns = 6, .rotate = rotate, .prepare = prepare, .quantize = gw_quantize_kv_c};

GW_ROPE_APPEND(bf16_c, isa_bf16)
GW_ROPE_APPEND(f32_c, isa_f32)
GW_ROPE_APPEND(int8_c, isa_int8)
