#include "kernels/cpu/quantize_simd.h"

float gw_quantize_avx512(uint8_t *to, const void *x, enum gw_dtype type, uint32_t k)
{
    return type == GW_F32 ? gw_quantize_row(to, x, GW_F32, k) : gw_quantize_row(to, x, GW_BF16, k);
}
