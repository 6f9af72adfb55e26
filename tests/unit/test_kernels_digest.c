/* kernels/digest, migrate/profile: all variants have the profile's digest, and a changed bit in any operation
 * shows. */
#include "tests/lib/kernels_fixture.h"

#include "base/hash.h"
#include "kernels/digest.h"
#include "kernels/pick.h"
#include "migrate/profile.h"

static void digest_of(const struct gw_ops *ops, int threads, uint8_t out[32])
{
    struct gw_device *dev = device_with(threads);
    assert_int_equal(gw_ops_digest(ops, dev, out), GW_OK);
    gw_device_destroy(dev);
}

static void assert_has_profile_digest(const struct gw_ops *ops, int threads)
{
    uint8_t digest[32];
    char hex[65];
    digest_of(ops, threads, digest);
    gw_hex(digest, sizeof digest, hex);
    if (!gw_profile_digest_ok(ops->profile, digest))
        fail_msg("%s of %s: digest %s", ops->name, ops->profile, hex);
}

static void variant_has_profile_digest(enum gw_isa isa)
{
    for (int p = 0; p < PROFILES_NAMED; p++) {
        const struct gw_ops *ops;
        if (gw_ops_cpu(profiles[p], isa, &ops, NULL) != GW_OK) continue;
        assert_has_profile_digest(ops, 1);
        assert_has_profile_digest(ops, 3);
    }
}

static void test_digest_of_c_is_the_profiles_constant(void **state)
{
    (void)state;
    variant_has_profile_digest(GW_ISA_C);
}

static bool runs_here(enum gw_isa isa)
{
    const struct gw_ops *ops;
    bool int8 = isa == GW_ISA_AVX512VNNI || isa == GW_ISA_AMX;
    return gw_ops_cpu(int8 ? "cpu-bf16-int8-1" : "cpu-bf16dot-2", isa, &ops, NULL) == GW_OK;
}

static void test_digest_of_avx2_is_the_profiles_constant__skipped_if_cpu_lacks_avx2(void **state)
{
    (void)state;
    if (!runs_here(GW_ISA_AVX2)) skip();
    variant_has_profile_digest(GW_ISA_AVX2);
}

static void test_digest_of_avx512_is_the_profiles_constant__skipped_if_cpu_lacks_avx512(void **state)
{
    (void)state;
    if (!runs_here(GW_ISA_AVX512)) skip();
    variant_has_profile_digest(GW_ISA_AVX512);
}

static void test_digest_of_bf16dot_is_the_profiles_constant__skipped_if_cpu_lacks_avx512_bf16(void **state)
{
    (void)state;
    if (!runs_here(GW_ISA_AVX512BF16)) skip();
    variant_has_profile_digest(GW_ISA_AVX512BF16);
}

static void test_digest_of_vnni_is_the_profiles_constant__skipped_if_cpu_lacks_avx512_vnni(void **state)
{
    (void)state;
    if (!runs_here(GW_ISA_AVX512VNNI)) skip();
    variant_has_profile_digest(GW_ISA_AVX512VNNI);
}

static void test_digest_of_amx_is_the_profiles_constant__skipped_if_cpu_lacks_amx(void **state)
{
    (void)state;
    if (!runs_here(GW_ISA_AMX)) skip();
    variant_has_profile_digest(GW_ISA_AMX);
}

static void test_profile_known_by_name_only(void **state)
{
    (void)state;
    uint8_t zeros[32] = {0};
    assert_true(gw_profile_known("cpu-bf16dot-2") && gw_profile_known("cpu-f32-2"));
    assert_true(gw_profile_known("cpu-bf16dot-1") &&
                gw_profile_known("cpu-f32-1")); /* of the release before */
    assert_false(gw_profile_known("cpu-f32-3") || gw_profile_known(""));
    assert_false(gw_profile_digest_ok("cpu-f32-3", zeros));
    assert_false(gw_profile_digest_ok("cpu-f32-2", zeros));
}

/* A GPU's profile says in its name which digest it has: nobody else's is right. */
static void test_profile_of_a_gpu_names_its_digest(void **state)
{
    (void)state;
    uint8_t digest[32] = {0x01, 0xab, 0xff}, other[32] = {0x01, 0xab, 0xfe};
    char name[64], cut[24];
    gw_profile_name("cuda-sm90-exact-1", digest, name, sizeof name);
    assert_string_equal(name, "cuda-sm90-exact-1-01abff0000000000");
    assert_true(gw_profile_digest_ok(name, digest) && gw_profile_exact(name));
    assert_false(gw_profile_digest_ok(name, other));
    gw_profile_name("cuda-sm90-fast", digest, name, sizeof name);
    assert_true(gw_profile_digest_ok(name, digest));
    assert_false(gw_profile_exact(name) || gw_profile_exact("cuda-sm90-fast"));
    assert_true(gw_profile_exact("cuda-sm90-faster-1") && gw_profile_exact("cpu-f32-2"));
    gw_profile_name("cuda-sm90-exact-1", digest, cut, sizeof cut);
    assert_false(gw_profile_digest_ok(cut, digest));
    assert_false(gw_profile_digest_ok("cuda-sm90-exact-1", digest));
    assert_false(gw_profile_digest_ok("cpu-f32-9-01abff0000000000", digest));
    assert_false(gw_profile_digest_ok("cuda--01abff0000000000x", digest));
}

/* Operations that flip the lowest bit of the last value that the real one wrote. */
static const struct gw_ops *real(void)
{
    return ops_best("cpu-f32-2");
}

static void flip(void *values, size_t last)
{
    ((uint32_t *)values)[last] ^= 1;
}

static void bad_embed(struct gw_device *dev, float *y, const void *table, enum gw_dtype type,
                      const uint32_t *ids, uint32_t m, uint32_t hidden)
{
    real()->embed(dev, y, table, type, ids, m, hidden);
    flip(y, m * hidden - 1);
}

static void bad_rmsnorm(struct gw_device *dev, void *y, const float *x, const float *w, float eps, uint32_t m,
                        uint32_t k)
{
    real()->rmsnorm(dev, y, x, w, eps, m, k);
    flip(y, m * k - 1);
}

static void bad_matmul(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                       const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m)
{
    real()->matmul(dev, y, y_stride, x, x_stride, w, y_at, count, m);
    flip(y, (m - 1) * y_stride + w->n - 1);
}

static void bad_matmul_shares(struct gw_device *dev, float *y, const void *x, const struct gw_weight *w,
                              uint32_t shares, uint32_t m)
{
    real()->matmul_shares(dev, y, x, w, shares, m);
    flip(y, m * w->n - 1);
}

static void bad_matmul_tree_add(struct gw_device *dev, float *residual, const void *x,
                                const struct gw_weight *w, uint32_t shares, uint32_t m, float *scratch)
{
    real()->matmul_tree_add(dev, residual, x, w, shares, m, scratch);
    flip(residual, m * w->n - 1);
}

static void bad_rope_append(struct gw_device *dev, float *qkv, size_t qkv_stride, size_t q_at, size_t k_at,
                            size_t v_at, uint32_t heads, const struct gw_qkv_prep *prep,
                            const struct gw_kv_layer *kv, const float *cos_sin,
                            const struct gw_seq_rows *seqs, uint32_t seqs_len)
{
    real()->rope_append(dev, qkv, qkv_stride, q_at, k_at, v_at, heads, prep, kv, cos_sin, seqs, seqs_len);
    flip(kv->arena[0] + seqs[0].blocks[0] * kv->page_bytes, 0); /* K of position 0 */
}

static void bad_attention(struct gw_device *dev, void *out, const float *qkv, size_t qkv_stride, size_t q_at,
                          uint32_t heads, const struct gw_kv_layer *kv, float scale,
                          const struct gw_seq_rows *seqs, uint32_t seqs_len)
{
    real()->attention(dev, out, qkv, qkv_stride, q_at, heads, kv, scale, seqs, seqs_len);
    flip(out, (size_t)seqs[0].rows * heads * kv->head_dim - 1);
}

static void bad_silu_mul(struct gw_device *dev, void *y, const float *gate_up, uint32_t m, uint32_t shares,
                         uint32_t share_cols)
{
    real()->silu_mul(dev, y, gate_up, m, shares, share_cols);
    flip(y, m * shares * share_cols - 1);
}

static void bad_pick(struct gw_device *dev, const struct gw_pick_row *rows, uint32_t count)
{
    real()->pick(dev, rows, count);
    flip(rows[count - 1].part->weights, 1);
}

static void bad_weigh(struct gw_device *dev, float *y, const float *x, uint32_t n, float top, float inverse)
{
    real()->weigh(dev, y, x, n, top, inverse);
    flip(y, n - 1);
}

static void test_digest_shows_a_changed_bit_of_any_operation(void **state)
{
    (void)state;
    struct gw_ops bad[10];
    for (int i = 0; i < 10; i++) bad[i] = *real();
    bad[0].embed = bad_embed;
    bad[1].rmsnorm = bad_rmsnorm;
    bad[2].matmul = bad_matmul;
    bad[3].matmul_tree_add = bad_matmul_tree_add;
    bad[4].rope_append = bad_rope_append;
    bad[5].attention = bad_attention;
    bad[6].silu_mul = bad_silu_mul;
    bad[7].weigh = bad_weigh;
    bad[8].matmul_shares = bad_matmul_shares;
    bad[9].pick = bad_pick;
    for (int i = 0; i < 10; i++) {
        uint8_t digest[32];
        digest_of(&bad[i], 1, digest);
        assert_false(gw_profile_digest_ok("cpu-f32-2", digest));
    }
}

/* Of an int8 profile: the product for routers, which plain profiles have as any other. */
static void bad_matmul_plain(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                             const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m)
{
    ops_best("cpu-f32-int8-1")->matmul_plain(dev, y, y_stride, x, x_stride, w, y_at, count, m);
    flip(y, (m - 1) * y_stride + w->n - 1);
}

static void bad_matmul_int8(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                            const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m)
{
    ops_best("cpu-f32-int8-1")->matmul(dev, y, y_stride, x, x_stride, w, y_at, count, m);
    flip(y, (m - 1) * y_stride + w->n - 1);
}

static void bad_matmul_fp8(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                           const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m)
{
    ops_best("cpu-f32-fp8-1")->matmul(dev, y, y_stride, x, x_stride, w, y_at, count, m);
    flip(y, (m - 1) * y_stride + w->n - 1);
}

static void test_digest_of_8_bits_shows_a_changed_bit_of_its_products(void **state)
{
    (void)state;
    struct gw_ops bad[4] = {*ops_best("cpu-f32-int8-1"), *ops_best("cpu-f32-int8-1"),
                            *ops_best("cpu-f32-fp8-1"), *ops_best("cpu-f32-fp8-1")};
    bad[0].matmul_plain = bad[2].matmul_plain = bad_matmul_plain;
    bad[1].matmul = bad_matmul_int8;
    bad[3].matmul = bad_matmul_fp8;
    for (int i = 0; i < 4; i++) {
        uint8_t digest[32];
        digest_of(&bad[i], 1, digest);
        assert_false(gw_profile_digest_ok(bad[i].profile, digest));
    }
}

static void bad_rope_append_kv8(struct gw_device *dev, float *qkv, size_t qkv_stride, size_t q_at,
                                size_t k_at, size_t v_at, uint32_t heads, const struct gw_qkv_prep *prep,
                                const struct gw_kv_layer *kv, const float *cos_sin,
                                const struct gw_seq_rows *seqs, uint32_t seqs_len)
{
    ops_best("cpu-f32-kv8-1")
        ->rope_append(dev, qkv, qkv_stride, q_at, k_at, v_at, heads, prep, kv, cos_sin, seqs, seqs_len);
    size_t scales = (size_t)kv->block_tokens * kv->head_dim;
    kv->arena[0][seqs[0].blocks[0] * kv->page_bytes + scales] ^= 1; /* the lowest bit of K's first one */
}

static void bad_attention_kv8(struct gw_device *dev, void *out, const float *qkv, size_t qkv_stride,
                              size_t q_at, uint32_t heads, const struct gw_kv_layer *kv, float scale,
                              const struct gw_seq_rows *seqs, uint32_t seqs_len)
{
    ops_best("cpu-f32-kv8-1")->attention(dev, out, qkv, qkv_stride, q_at, heads, kv, scale, seqs, seqs_len);
    flip(out, (size_t)seqs[0].rows * heads * kv->head_dim - 1);
}

static void test_digest_of_kv8_shows_a_changed_bit_of_its_pages(void **state)
{
    (void)state;
    struct gw_ops bad[2] = {*ops_best("cpu-f32-kv8-1"), *ops_best("cpu-f32-kv8-1")};
    bad[0].rope_append = bad_rope_append_kv8;
    bad[1].attention = bad_attention_kv8;
    for (int i = 0; i < 2; i++) {
        uint8_t digest[32];
        digest_of(&bad[i], 1, digest);
        assert_false(gw_profile_digest_ok("cpu-f32-kv8-1", digest));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digest_of_c_is_the_profiles_constant),
        cmocka_unit_test(test_digest_of_avx2_is_the_profiles_constant__skipped_if_cpu_lacks_avx2),
        cmocka_unit_test(test_digest_of_avx512_is_the_profiles_constant__skipped_if_cpu_lacks_avx512),
        cmocka_unit_test(test_digest_of_bf16dot_is_the_profiles_constant__skipped_if_cpu_lacks_avx512_bf16),
        cmocka_unit_test(test_digest_of_vnni_is_the_profiles_constant__skipped_if_cpu_lacks_avx512_vnni),
        cmocka_unit_test(test_digest_of_amx_is_the_profiles_constant__skipped_if_cpu_lacks_amx),
        cmocka_unit_test(test_profile_known_by_name_only),
        cmocka_unit_test(test_profile_of_a_gpu_names_its_digest),
        cmocka_unit_test(test_digest_shows_a_changed_bit_of_any_operation),
        cmocka_unit_test(test_digest_of_8_bits_shows_a_changed_bit_of_its_products),
        cmocka_unit_test(test_digest_of_kv8_shows_a_changed_bit_of_its_pages),
    };
    return cmocka_run_group_tests_name("kernels_digest", tests, NULL, NULL);
}
