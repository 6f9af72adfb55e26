/* The CPU's tables of operations, and which of them this machine can run. */
#include <string.h>

#include "kernels/cpu/variants.h"

/* A table is put together of what goes by the ISA alone, by activation type and ISA, and the products. */
#define ANY_OPS(isa)                                                                                         \
    .embed = gw_cpu_embed_any, .route = gw_cpu_route_any, .gather = gw_cpu_gather_any,                       \
    .scatter_add = gw_cpu_scatter_add_any, .tree_add = gw_cpu_tree_add_any, .pick = gw_cpu_pick_##isa,       \
    .weigh = gw_cpu_weigh_##isa
#define ROW_OPS(type, isa)                                                                                   \
    .rmsnorm = gw_cpu_rmsnorm_##type##_##isa, .rope_append = gw_cpu_rope_append_##type##_##isa,              \
    .attention = gw_cpu_attention_##type##_##isa, .silu_mul = gw_cpu_silu_mul_##type##_##isa
#define PLAIN_OPS(type, isa)                                                                                 \
    .pack_bytes_plain = gw_cpu_pack_bytes_##type##_any, .pack_plain = gw_cpu_pack_##type##_any,              \
    .matmul_plain = gw_cpu_matmul_##type##_##isa
/* format: type, or int8_<type> with packing int8 */
#define PRODUCT_OPS(format, packing, isa)                                                                    \
    .pack_bytes = gw_cpu_pack_bytes_##packing##_any, .pack = gw_cpu_pack_##packing##_any,                    \
    .matmul = gw_cpu_matmul_##format##_##isa, .matmul_shares = gw_cpu_matmul_shares_##format##_##isa,        \
    .matmul_tree_add = gw_cpu_matmul_tree_add_##format##_##isa
#define BF16      .profile = "cpu-bf16dot-2", .act = GW_BF16, .kv = GW_BF16, .weight = GW_BF16
#define F32       .profile = "cpu-f32-2", .act = GW_F32, .kv = GW_F32, .weight = GW_F32
#define BF16_INT8 .profile = "cpu-bf16-int8-1", .act = GW_BF16, .kv = GW_BF16, .weight = GW_I8
#define F32_INT8  .profile = "cpu-f32-int8-1", .act = GW_F32, .kv = GW_F32, .weight = GW_I8

static const struct gw_ops ops_bf16_c = {
    .name = "cpu-c",
    BF16,
    ANY_OPS(c),
    ROW_OPS(bf16, c),
    PLAIN_OPS(bf16, c),
    PRODUCT_OPS(bf16, bf16, c),
};

static const struct gw_ops ops_bf16_avx2 = {
    .name = "cpu-avx2",
    BF16,
    ANY_OPS(avx2),
    ROW_OPS(bf16, avx2),
    PLAIN_OPS(bf16, avx2),
    PRODUCT_OPS(bf16, bf16, avx2),
};

static const struct gw_ops ops_bf16_avx512 = {
    .name = "cpu-avx512",
    BF16,
    ANY_OPS(avx512),
    ROW_OPS(bf16, avx512),
    PLAIN_OPS(bf16, avx512),
    PRODUCT_OPS(bf16, bf16, avx512),
};

static const struct gw_ops ops_bf16_avx512bf16 = {
    .name = "cpu-avx512bf16",
    BF16,
    ANY_OPS(avx512),
    ROW_OPS(bf16, avx512),
    PLAIN_OPS(bf16, avx512bf16),
    PRODUCT_OPS(bf16, bf16, avx512bf16),
};

static const struct gw_ops ops_f32_c = {
    .name = "cpu-c",
    F32,
    ANY_OPS(c),
    ROW_OPS(f32, c),
    PLAIN_OPS(f32, c),
    PRODUCT_OPS(f32, f32, c),
};

static const struct gw_ops ops_f32_avx2 = {
    .name = "cpu-avx2",
    F32,
    ANY_OPS(avx2),
    ROW_OPS(f32, avx2),
    PLAIN_OPS(f32, avx2),
    PRODUCT_OPS(f32, f32, avx2),
};

static const struct gw_ops ops_f32_avx512 = {
    .name = "cpu-avx512",
    F32,
    ANY_OPS(avx512),
    ROW_OPS(f32, avx512),
    PLAIN_OPS(f32, avx512),
    PRODUCT_OPS(f32, f32, avx512),
};

static const struct gw_ops ops_bf16_int8_c = {
    .name = "cpu-c",
    BF16_INT8,
    ANY_OPS(c),
    ROW_OPS(bf16, c),
    PLAIN_OPS(bf16, c),
    PRODUCT_OPS(int8_bf16, int8, c),
};

static const struct gw_ops ops_bf16_int8_avx2 = {
    .name = "cpu-avx2",
    BF16_INT8,
    ANY_OPS(avx2),
    ROW_OPS(bf16, avx2),
    PLAIN_OPS(bf16, avx2),
    PRODUCT_OPS(int8_bf16, int8, avx2),
};

static const struct gw_ops ops_bf16_int8_avx512vnni = {
    .name = "cpu-avx512vnni",
    BF16_INT8,
    ANY_OPS(avx512),
    ROW_OPS(bf16, avx512),
    PLAIN_OPS(bf16, avx512),
    PRODUCT_OPS(int8_bf16, int8, avx512vnni),
};

static const struct gw_ops ops_f32_int8_c = {
    .name = "cpu-c",
    F32_INT8,
    ANY_OPS(c),
    ROW_OPS(f32, c),
    PLAIN_OPS(f32, c),
    PRODUCT_OPS(int8_f32, int8, c),
};

static const struct gw_ops ops_f32_int8_avx2 = {
    .name = "cpu-avx2",
    F32_INT8,
    ANY_OPS(avx2),
    ROW_OPS(f32, avx2),
    PLAIN_OPS(f32, avx2),
    PRODUCT_OPS(int8_f32, int8, avx2),
};

static const struct gw_ops ops_f32_int8_avx512vnni = {
    .name = "cpu-avx512vnni",
    F32_INT8,
    ANY_OPS(avx512),
    ROW_OPS(f32, avx512),
    PLAIN_OPS(f32, avx512),
    PRODUCT_OPS(int8_f32, int8, avx512vnni),
};

static const struct choice {
    enum gw_isa isa;
    const struct gw_ops *ops;
} choices[] = {
    /* per profile, best first */
    {GW_ISA_AVX512BF16, &ops_bf16_avx512bf16},
    {GW_ISA_AVX512, &ops_bf16_avx512},
    {GW_ISA_AVX2, &ops_bf16_avx2},
    {GW_ISA_C, &ops_bf16_c},
    {GW_ISA_AVX512, &ops_f32_avx512},
    {GW_ISA_AVX2, &ops_f32_avx2},
    {GW_ISA_C, &ops_f32_c},
    {GW_ISA_AVX512VNNI, &ops_bf16_int8_avx512vnni},
    {GW_ISA_AVX2, &ops_bf16_int8_avx2},
    {GW_ISA_C, &ops_bf16_int8_c},
    {GW_ISA_AVX512VNNI, &ops_f32_int8_avx512vnni},
    {GW_ISA_AVX2, &ops_f32_int8_avx2},
    {GW_ISA_C, &ops_f32_int8_c},
};

/* The CPU flag that this machine lacks for the ISA; NULL if it lacks none. */
static const char *missing_flag(enum gw_isa isa)
{
    __builtin_cpu_init();
    if (isa == GW_ISA_C)
        return __builtin_cpu_supports("fma") ? NULL : "fma"; /* fmaf must honour FTZ and DAZ */
    if (isa == GW_ISA_AVX2) {
        if (!__builtin_cpu_supports("avx2")) return "avx2";
        return __builtin_cpu_supports("fma") ? NULL : "fma";
    }
    if (!__builtin_cpu_supports("avx512f")) return "avx512f";
    if (!__builtin_cpu_supports("avx512bw")) return "avx512bw";
    if (!__builtin_cpu_supports("avx512dq")) return "avx512dq";
    if (!__builtin_cpu_supports("avx512vl")) return "avx512vl";
    if (isa == GW_ISA_AVX512BF16 && !__builtin_cpu_supports("avx512bf16")) return "avx512_bf16";
    if (isa == GW_ISA_AVX512VNNI && !__builtin_cpu_supports("avx512vnni")) return "avx512_vnni";
    return NULL;
}

gw_err_t gw_ops_cpu(const char *profile, enum gw_isa isa, const struct gw_ops **out, struct gw_err_ctx *ctx)
{
    const char *missing = NULL;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        const struct choice *c = &choices[i];
        if (strcmp(c->ops->profile, profile) != 0 || (isa != GW_ISA_AUTO && isa != c->isa)) continue;
        const char *lacks = missing_flag(c->isa);
        if (!lacks) {
            *out = c->ops;
            return GW_OK;
        }
        missing = lacks;
    }
    if (missing) return gw_fail(ctx, GW_ERR_NOT_FOUND, "profile %s: this CPU lacks %s", profile, missing);
    return gw_fail(ctx, GW_ERR_NOT_FOUND, "this build has no such form of profile %s for a CPU", profile);
}
