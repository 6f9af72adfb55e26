/* The CPU's tables of operations, and which of them this machine can run. */
#include <string.h>

#include "kernels/cpu/variants.h"

static const struct gw_ops ops_bf16_c = {
    .name = "cpu-c",
    .profile = "cpu-bf16dot-2",
    .act = GW_BF16,
    .kv = GW_BF16,
    .weight = GW_BF16,
    .pack_bytes = gw_cpu_pack_bytes_bf16_any,
    .pack = gw_cpu_pack_bf16_any,
    .embed = gw_cpu_embed_any,
    .rmsnorm = gw_cpu_rmsnorm_bf16_c,
    .matmul = gw_cpu_matmul_bf16_c,
    .matmul_shares = gw_cpu_matmul_shares_bf16_c,
    .matmul_tree_add = gw_cpu_matmul_tree_add_bf16_c,
    .rope_append = gw_cpu_rope_append_bf16_c,
    .attention = gw_cpu_attention_bf16_c,
    .silu_mul = gw_cpu_silu_mul_bf16_c,
    .route = gw_cpu_route_any,
    .gather = gw_cpu_gather_any,
    .scatter_add = gw_cpu_scatter_add_any,
    .tree_add = gw_cpu_tree_add_any,
    .pick = gw_cpu_pick_c,
    .weigh = gw_cpu_weigh_c,
};

static const struct gw_ops ops_bf16_avx2 = {
    .name = "cpu-avx2",
    .profile = "cpu-bf16dot-2",
    .act = GW_BF16,
    .kv = GW_BF16,
    .weight = GW_BF16,
    .pack_bytes = gw_cpu_pack_bytes_bf16_any,
    .pack = gw_cpu_pack_bf16_any,
    .embed = gw_cpu_embed_any,
    .rmsnorm = gw_cpu_rmsnorm_bf16_avx2,
    .matmul = gw_cpu_matmul_bf16_avx2,
    .matmul_shares = gw_cpu_matmul_shares_bf16_avx2,
    .matmul_tree_add = gw_cpu_matmul_tree_add_bf16_avx2,
    .rope_append = gw_cpu_rope_append_bf16_avx2,
    .attention = gw_cpu_attention_bf16_avx2,
    .silu_mul = gw_cpu_silu_mul_bf16_avx2,
    .route = gw_cpu_route_any,
    .gather = gw_cpu_gather_any,
    .scatter_add = gw_cpu_scatter_add_any,
    .tree_add = gw_cpu_tree_add_any,
    .pick = gw_cpu_pick_avx2,
    .weigh = gw_cpu_weigh_avx2,
};

static const struct gw_ops ops_bf16_avx512 = {
    .name = "cpu-avx512",
    .profile = "cpu-bf16dot-2",
    .act = GW_BF16,
    .kv = GW_BF16,
    .weight = GW_BF16,
    .pack_bytes = gw_cpu_pack_bytes_bf16_any,
    .pack = gw_cpu_pack_bf16_any,
    .embed = gw_cpu_embed_any,
    .rmsnorm = gw_cpu_rmsnorm_bf16_avx512,
    .matmul = gw_cpu_matmul_bf16_avx512,
    .matmul_shares = gw_cpu_matmul_shares_bf16_avx512,
    .matmul_tree_add = gw_cpu_matmul_tree_add_bf16_avx512,
    .rope_append = gw_cpu_rope_append_bf16_avx512,
    .attention = gw_cpu_attention_bf16_avx512,
    .silu_mul = gw_cpu_silu_mul_bf16_avx512,
    .route = gw_cpu_route_any,
    .gather = gw_cpu_gather_any,
    .scatter_add = gw_cpu_scatter_add_any,
    .tree_add = gw_cpu_tree_add_any,
    .pick = gw_cpu_pick_avx512,
    .weigh = gw_cpu_weigh_avx512,
};

static const struct gw_ops ops_bf16_avx512bf16 = {
    .name = "cpu-avx512bf16",
    .profile = "cpu-bf16dot-2",
    .act = GW_BF16,
    .kv = GW_BF16,
    .weight = GW_BF16,
    .pack_bytes = gw_cpu_pack_bytes_bf16_any,
    .pack = gw_cpu_pack_bf16_any,
    .embed = gw_cpu_embed_any,
    .rmsnorm = gw_cpu_rmsnorm_bf16_avx512,
    .matmul = gw_cpu_matmul_bf16_avx512bf16,
    .matmul_shares = gw_cpu_matmul_shares_bf16_avx512bf16,
    .matmul_tree_add = gw_cpu_matmul_tree_add_bf16_avx512bf16,
    .rope_append = gw_cpu_rope_append_bf16_avx512,
    .attention = gw_cpu_attention_bf16_avx512,
    .silu_mul = gw_cpu_silu_mul_bf16_avx512,
    .route = gw_cpu_route_any,
    .gather = gw_cpu_gather_any,
    .scatter_add = gw_cpu_scatter_add_any,
    .tree_add = gw_cpu_tree_add_any,
    .pick = gw_cpu_pick_avx512,
    .weigh = gw_cpu_weigh_avx512,
};

static const struct gw_ops ops_f32_c = {
    .name = "cpu-c",
    .profile = "cpu-f32-2",
    .act = GW_F32,
    .kv = GW_F32,
    .weight = GW_F32,
    .pack_bytes = gw_cpu_pack_bytes_f32_any,
    .pack = gw_cpu_pack_f32_any,
    .embed = gw_cpu_embed_any,
    .rmsnorm = gw_cpu_rmsnorm_f32_c,
    .matmul = gw_cpu_matmul_f32_c,
    .matmul_shares = gw_cpu_matmul_shares_f32_c,
    .matmul_tree_add = gw_cpu_matmul_tree_add_f32_c,
    .rope_append = gw_cpu_rope_append_f32_c,
    .attention = gw_cpu_attention_f32_c,
    .silu_mul = gw_cpu_silu_mul_f32_c,
    .route = gw_cpu_route_any,
    .gather = gw_cpu_gather_any,
    .scatter_add = gw_cpu_scatter_add_any,
    .tree_add = gw_cpu_tree_add_any,
    .pick = gw_cpu_pick_c,
    .weigh = gw_cpu_weigh_c,
};

static const struct gw_ops ops_f32_avx2 = {
    .name = "cpu-avx2",
    .profile = "cpu-f32-2",
    .act = GW_F32,
    .kv = GW_F32,
    .weight = GW_F32,
    .pack_bytes = gw_cpu_pack_bytes_f32_any,
    .pack = gw_cpu_pack_f32_any,
    .embed = gw_cpu_embed_any,
    .rmsnorm = gw_cpu_rmsnorm_f32_avx2,
    .matmul = gw_cpu_matmul_f32_avx2,
    .matmul_shares = gw_cpu_matmul_shares_f32_avx2,
    .matmul_tree_add = gw_cpu_matmul_tree_add_f32_avx2,
    .rope_append = gw_cpu_rope_append_f32_avx2,
    .attention = gw_cpu_attention_f32_avx2,
    .silu_mul = gw_cpu_silu_mul_f32_avx2,
    .route = gw_cpu_route_any,
    .gather = gw_cpu_gather_any,
    .scatter_add = gw_cpu_scatter_add_any,
    .tree_add = gw_cpu_tree_add_any,
    .pick = gw_cpu_pick_avx2,
    .weigh = gw_cpu_weigh_avx2,
};

static const struct gw_ops ops_f32_avx512 = {
    .name = "cpu-avx512",
    .profile = "cpu-f32-2",
    .act = GW_F32,
    .kv = GW_F32,
    .weight = GW_F32,
    .pack_bytes = gw_cpu_pack_bytes_f32_any,
    .pack = gw_cpu_pack_f32_any,
    .embed = gw_cpu_embed_any,
    .rmsnorm = gw_cpu_rmsnorm_f32_avx512,
    .matmul = gw_cpu_matmul_f32_avx512,
    .matmul_shares = gw_cpu_matmul_shares_f32_avx512,
    .matmul_tree_add = gw_cpu_matmul_tree_add_f32_avx512,
    .rope_append = gw_cpu_rope_append_f32_avx512,
    .attention = gw_cpu_attention_f32_avx512,
    .silu_mul = gw_cpu_silu_mul_f32_avx512,
    .route = gw_cpu_route_any,
    .gather = gw_cpu_gather_any,
    .scatter_add = gw_cpu_scatter_add_any,
    .tree_add = gw_cpu_tree_add_any,
    .pick = gw_cpu_pick_avx512,
    .weigh = gw_cpu_weigh_avx512,
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
