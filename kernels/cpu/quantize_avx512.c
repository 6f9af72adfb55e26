#include "kernels/cpu/quantize_simd.h"

float gw_quantize_avx512(uint8_t *to, const void *x, enum gw_dtype type, uint32_t k)
{
    return type == GW_F32 ? gw_quantize_row(to, x, GW_F32, k, GW_INT8_BIAS)
                          : gw_quantize_row(to, x, GW_BF16, k, GW_INT8_BIAS);
}

float gw_quantize_kv_avx512(int8_t *to, const float *x, uint32_t k)
{
    return gw_quantize_row((uint8_t *)to, x, GW_F32, k, 0);
}
