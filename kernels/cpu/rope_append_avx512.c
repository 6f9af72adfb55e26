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
static const struct gw_rope_isa isa_int8 = {.kv_type = GW_I8,
                                            .element_ns = 0.3,
                                            .rotate = gw_rope_rotate16,
                                            .prepare = gw_rope_prepare16,
                                            .quantize = gw_quantize_kv_avx512};

GW_ROPE_APPEND(bf16_avx512, isa_bf16)
GW_ROPE_APPEND(f32_avx512, isa_f32)
GW_ROPE_APPEND(int8_avx512, isa_int8)
