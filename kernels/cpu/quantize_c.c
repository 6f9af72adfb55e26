#include "kernels/cpu/quantize.h"

static inline float quantize(uint8_t *to, const void *x, enum gw_dtype type, uint32_t k, int bias)
{
    float inverse, scale = gw_int8_scale(gw_largest_bits(x, type, 0, k), &inverse);
    for (uint32_t i = 0; i < k; i++) to[i] = (uint8_t)gw_int8_of(gw_f32_at(x, type, i), inverse, bias);
    return scale;
}

float gw_quantize_c(uint8_t *to, const void *x, enum gw_dtype type, uint32_t k)
{
    return quantize(to, x, type, k, GW_INT8_BIAS);
}

float gw_quantize_kv_c(int8_t *to, const float *x, uint32_t k)
{
    return quantize((uint8_t *)to, x, GW_F32, k, 0);
}
