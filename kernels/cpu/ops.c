/* The CPU's tables of operations, and which of them this machine can run. */
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/cpu/variants.h"

/* Linux's numbers: the call's asm/prctl.h (before 5.16 it has none), and the state's in XCR0 (Intel's manual, volume 1, 13.1). */
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA  18

/* A table is put together of what goes by the ISA alone, by activation type and ISA, by the pages' type, and the products.
 * products: the ISA of those. */
#define ANY_OPS(isa)                                                                                         \
    .embed = gw_cpu_embed_any, .route = gw_cpu_route_any, .gather = gw_cpu_gather_any,                       \
    .scatter_add = gw_cpu_scatter_add_any, .tree_add = gw_cpu_tree_add_any, .pick = gw_cpu_pick_##isa,       \
    .weigh = gw_cpu_weigh_##isa
#define ROW_OPS(TYPE, type, isa)                                                                             \
    .act = GW_##TYPE, .rmsnorm = gw_cpu_rmsnorm_##type##_##isa, .silu_mul = gw_cpu_silu_mul_##type##_##isa
#define KV_PLAIN(TYPE, type, isa)                                                                            \
    .kv = GW_##TYPE, .rope_append = gw_cpu_rope_append_##type##_##isa,                                       \
    .attention = gw_cpu_attention_##type##_##isa
#define KV_INT8(TYPE, type, isa)                                                                             \
    .kv = GW_I8, .rope_append = gw_cpu_rope_append_int8_##isa,                                               \
    .attention = gw_cpu_attention_int8_##type##_##isa
/* format: type, int8_<type> with packing int8, so fp8, or bf16amx; plain: of matrices that are never quantized, by the ISA behind it */
#define PRODUCT_OPS(format, packing, type, plain, isa, products)                                             \
    .pack_bytes = gw_cpu_pack_bytes_##packing##_any, .pack = gw_cpu_pack_##packing##_any,                    \
    .matmul = gw_cpu_matmul_##format##_##products,                                                           \
    .matmul_shares = gw_cpu_matmul_shares_##format##_##products,                                             \
    .matmul_tree_add = gw_cpu_matmul_tree_add_##format##_##products,                                         \
    .pack_bytes_plain = gw_cpu_pack_bytes_##type##_any, .pack_plain = gw_cpu_pack_##type##_any,              \
    .matmul_plain = gw_cpu_matmul_##plain##_##isa
#define PLAIN(TYPE, type, isa, products, kv_ops)                                                             \
    .name = "cpu-" #products, .weight = GW_##TYPE, ANY_OPS(isa), ROW_OPS(TYPE, type, isa),                   \
    kv_ops(TYPE, type, isa), PRODUCT_OPS(type, type, type, type, products, products)
#define INT8(TYPE, type, isa, products, kv_ops)                                                              \
    .name = "cpu-" #products, .weight = GW_I8, ANY_OPS(isa), ROW_OPS(TYPE, type, isa),                       \
    kv_ops(TYPE, type, isa), PRODUCT_OPS(int8_##type, int8, type, type, isa, products)
#define FP8(TYPE, type, isa, products, kv_ops)                                                               \
    .name = "cpu-" #products, .weight = GW_F8, ANY_OPS(isa), ROW_OPS(TYPE, type, isa),                       \
    kv_ops(TYPE, type, isa), PRODUCT_OPS(fp8_##type, fp8, type, type, isa, products)
#define BF16AMX(isa, products, kv_ops)                                                                       \
    .name = "cpu-" #products, .weight = GW_BF16, ANY_OPS(isa), ROW_OPS(BF16, bf16, isa),                     \
    kv_ops(BF16, bf16, isa), PRODUCT_OPS(bf16amx, bf16, bf16, bf16amx, products, products)

static const struct choice {
    enum gw_isa isa;
    struct gw_ops ops;
} choices[] = {
    /* per profile, best first */
    {GW_ISA_AVX512BF16, {.profile = "cpu-bf16dot-2", PLAIN(BF16, bf16, avx512, avx512bf16, KV_PLAIN)}},
    {GW_ISA_AVX512, {.profile = "cpu-bf16dot-2", PLAIN(BF16, bf16, avx512, avx512, KV_PLAIN)}},
    {GW_ISA_AVX2, {.profile = "cpu-bf16dot-2", PLAIN(BF16, bf16, avx2, avx2, KV_PLAIN)}},
    {GW_ISA_C, {.profile = "cpu-bf16dot-2", PLAIN(BF16, bf16, c, c, KV_PLAIN)}},
    {GW_ISA_AVX512, {.profile = "cpu-f32-2", PLAIN(F32, f32, avx512, avx512, KV_PLAIN)}},
    {GW_ISA_AVX2, {.profile = "cpu-f32-2", PLAIN(F32, f32, avx2, avx2, KV_PLAIN)}},
    {GW_ISA_C, {.profile = "cpu-f32-2", PLAIN(F32, f32, c, c, KV_PLAIN)}},
    {GW_ISA_AMX, {.profile = "cpu-bf16-int8-1", INT8(BF16, bf16, avx512, amx, KV_PLAIN)}},
    {GW_ISA_AVX512VNNI, {.profile = "cpu-bf16-int8-1", INT8(BF16, bf16, avx512, avx512vnni, KV_PLAIN)}},
    {GW_ISA_AVX2, {.profile = "cpu-bf16-int8-1", INT8(BF16, bf16, avx2, avx2, KV_PLAIN)}},
    {GW_ISA_C, {.profile = "cpu-bf16-int8-1", INT8(BF16, bf16, c, c, KV_PLAIN)}},
    {GW_ISA_AMX, {.profile = "cpu-f32-int8-1", INT8(F32, f32, avx512, amx, KV_PLAIN)}},
    {GW_ISA_AVX512VNNI, {.profile = "cpu-f32-int8-1", INT8(F32, f32, avx512, avx512vnni, KV_PLAIN)}},
    {GW_ISA_AVX2, {.profile = "cpu-f32-int8-1", INT8(F32, f32, avx2, avx2, KV_PLAIN)}},
    {GW_ISA_C, {.profile = "cpu-f32-int8-1", INT8(F32, f32, c, c, KV_PLAIN)}},
    {GW_ISA_AVX512BF16, {.profile = "cpu-bf16-kv8-1", PLAIN(BF16, bf16, avx512, avx512bf16, KV_INT8)}},
    {GW_ISA_AVX512, {.profile = "cpu-bf16-kv8-1", PLAIN(BF16, bf16, avx512, avx512, KV_INT8)}},
    {GW_ISA_AVX2, {.profile = "cpu-bf16-kv8-1", PLAIN(BF16, bf16, avx2, avx2, KV_INT8)}},
    {GW_ISA_C, {.profile = "cpu-bf16-kv8-1", PLAIN(BF16, bf16, c, c, KV_INT8)}},
    {GW_ISA_AVX512, {.profile = "cpu-f32-kv8-1", PLAIN(F32, f32, avx512, avx512, KV_INT8)}},
    {GW_ISA_AVX2, {.profile = "cpu-f32-kv8-1", PLAIN(F32, f32, avx2, avx2, KV_INT8)}},
    {GW_ISA_C, {.profile = "cpu-f32-kv8-1", PLAIN(F32, f32, c, c, KV_INT8)}},
    {GW_ISA_AMX, {.profile = "cpu-bf16-int8-kv8-1", INT8(BF16, bf16, avx512, amx, KV_INT8)}},
    {GW_ISA_AVX512VNNI, {.profile = "cpu-bf16-int8-kv8-1", INT8(BF16, bf16, avx512, avx512vnni, KV_INT8)}},
    {GW_ISA_AVX2, {.profile = "cpu-bf16-int8-kv8-1", INT8(BF16, bf16, avx2, avx2, KV_INT8)}},
    {GW_ISA_C, {.profile = "cpu-bf16-int8-kv8-1", INT8(BF16, bf16, c, c, KV_INT8)}},
    {GW_ISA_AMX, {.profile = "cpu-f32-int8-kv8-1", INT8(F32, f32, avx512, amx, KV_INT8)}},
    {GW_ISA_AVX512VNNI, {.profile = "cpu-f32-int8-kv8-1", INT8(F32, f32, avx512, avx512vnni, KV_INT8)}},
    {GW_ISA_AVX2, {.profile = "cpu-f32-int8-kv8-1", INT8(F32, f32, avx2, avx2, KV_INT8)}},
    {GW_ISA_C, {.profile = "cpu-f32-int8-kv8-1", INT8(F32, f32, c, c, KV_INT8)}},
    {GW_ISA_AVX512BF16, {.profile = "cpu-bf16-fp8-1", FP8(BF16, bf16, avx512, avx512bf16, KV_PLAIN)}},
    {GW_ISA_AVX512, {.profile = "cpu-bf16-fp8-1", FP8(BF16, bf16, avx512, avx512, KV_PLAIN)}},
    {GW_ISA_AVX2, {.profile = "cpu-bf16-fp8-1", FP8(BF16, bf16, avx2, avx2, KV_PLAIN)}},
    {GW_ISA_C, {.profile = "cpu-bf16-fp8-1", FP8(BF16, bf16, c, c, KV_PLAIN)}},
    {GW_ISA_AVX512, {.profile = "cpu-f32-fp8-1", FP8(F32, f32, avx512, avx512, KV_PLAIN)}},
    {GW_ISA_AVX2, {.profile = "cpu-f32-fp8-1", FP8(F32, f32, avx2, avx2, KV_PLAIN)}},
    {GW_ISA_C, {.profile = "cpu-f32-fp8-1", FP8(F32, f32, c, c, KV_PLAIN)}},
    {GW_ISA_AVX512BF16, {.profile = "cpu-bf16-fp8-kv8-1", FP8(BF16, bf16, avx512, avx512bf16, KV_INT8)}},
    {GW_ISA_AVX512, {.profile = "cpu-bf16-fp8-kv8-1", FP8(BF16, bf16, avx512, avx512, KV_INT8)}},
    {GW_ISA_AVX2, {.profile = "cpu-bf16-fp8-kv8-1", FP8(BF16, bf16, avx2, avx2, KV_INT8)}},
    {GW_ISA_C, {.profile = "cpu-bf16-fp8-kv8-1", FP8(BF16, bf16, c, c, KV_INT8)}},
    {GW_ISA_AVX512, {.profile = "cpu-f32-fp8-kv8-1", FP8(F32, f32, avx512, avx512, KV_INT8)}},
    {GW_ISA_AVX2, {.profile = "cpu-f32-fp8-kv8-1", FP8(F32, f32, avx2, avx2, KV_INT8)}},
    {GW_ISA_C, {.profile = "cpu-f32-fp8-kv8-1", FP8(F32, f32, c, c, KV_INT8)}},
    {GW_ISA_AMX, {.profile = "cpu-bf16amx-1", BF16AMX(avx512, amx, KV_PLAIN)}},
    {GW_ISA_AVX512, {.profile = "cpu-bf16amx-1", BF16AMX(avx512, avx512, KV_PLAIN)}},
    {GW_ISA_AVX2, {.profile = "cpu-bf16amx-1", BF16AMX(avx2, avx2, KV_PLAIN)}},
    {GW_ISA_C, {.profile = "cpu-bf16amx-1", BF16AMX(c, c, KV_PLAIN)}},
    {GW_ISA_AMX, {.profile = "cpu-bf16amx-kv8-1", BF16AMX(avx512, amx, KV_INT8)}},
    {GW_ISA_AVX512, {.profile = "cpu-bf16amx-kv8-1", BF16AMX(avx512, avx512, KV_INT8)}},
    {GW_ISA_AVX2, {.profile = "cpu-bf16amx-kv8-1", BF16AMX(avx2, avx2, KV_INT8)}},
    {GW_ISA_C, {.profile = "cpu-bf16amx-kv8-1", BF16AMX(c, c, KV_INT8)}},
};

/* Tiles are 8 KB more to save of a thread, so Linux has a process ask for them (once; asking again changes nothing). It refuses
 * where a thread's alternative signal stack has no room for that. */
static bool tiles_granted(void)
{
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static const char *missing_of_amx(enum gw_dtype weight)
{
    if (!__builtin_cpu_supports("amx-tile")) return "amx_tile";
    if (weight == GW_BF16 && !__builtin_cpu_supports("amx-bf16")) return "amx_bf16";
    if (weight == GW_I8 && !__builtin_cpu_supports("avx512vnni")) return "avx512_vnni"; /* for few rows */
    if (weight == GW_I8 && !__builtin_cpu_supports("amx-int8")) return "amx_int8";
    return tiles_granted() ? NULL : "the kernel's leave to use amx_tile";
}

/* The CPU flag that this machine lacks for the ISA, of tables with such weights; NULL if it lacks none. */
static const char *missing_flag(enum gw_isa isa, enum gw_dtype weight)
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
    return isa == GW_ISA_AMX ? missing_of_amx(weight) : NULL;
}

/* Intel's cores do a VDPBF16PS in two cycles (105 GFLOP/s at 3 GHz), and two fused multiply-adds in each: widened, the products of
 * matmul_avx512.c are 1.4 to 1.5 times as fast from 16 rows on, and never slower. */
bool gw_isa_slow(enum gw_isa isa)
{
    __builtin_cpu_init();
    return isa == GW_ISA_AVX512BF16 && __builtin_cpu_is("intel");
}

gw_err_t gw_ops_cpu(const char *profile, enum gw_isa isa, const struct gw_ops **out, struct gw_err_ctx *ctx)
{
    const char *missing = NULL;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        const struct choice *c = &choices[i];
        if (strcmp(c->ops.profile, profile) != 0) continue;
        if (isa == GW_ISA_AUTO ? gw_isa_slow(c->isa) : isa != c->isa) continue;
        const char *lacks = missing_flag(c->isa, c->ops.weight);
        if (!lacks) {
            *out = &c->ops;
            return GW_OK;
        }
        missing = lacks;
    }
    if (missing) return gw_fail(ctx, GW_ERR_NOT_FOUND, "profile %s: this CPU lacks %s", profile, missing);
    return gw_fail(ctx, GW_ERR_NOT_FOUND, "this build has no such form of profile %s for a CPU", profile);
}
