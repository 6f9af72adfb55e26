#include "kernels/cpu/quantize.h"

float gw_quantize_c(uint8_t *to, const void *x, enum gw_dtype type, uint32_t k)
{
    uint32_t largest = 0;
    for (uint32_t i = 0; i < k; i++) {
        uint32_t bits = gw_f32_bits(gw_f32_at(x, type, i)) & 0x7FFFFFFFu;
        if (bits > largest) largest = bits;
    }
    float inverse, scale = gw_int8_scale(largest, &inverse);
    for (uint32_t i = 0; i < k; i++) to[i] = (uint8_t)gw_int8_of(gw_f32_at(x, type, i), inverse);
    return scale;
}
