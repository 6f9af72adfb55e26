/* What the kernel tests share: devices, tables, values, comparison by bits. */
#ifndef GW_TESTS_LIB_KERNELS_FIXTURE_H
#define GW_TESTS_LIB_KERNELS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "kernels/op.h"
#include "tests/lib/seeded_rng.h"

#define PROFILES       2  /* of different operations on rows */
#define PROFILES_INT8  4  /* of these or int8 products */
#define PROFILES_FP8   6  /* or fp8 */
#define PROFILES_ALL   7  /* of different products */
#define PROFILES_NAMED 14 /* of KV pages in int8, too */
#define VARIANTS_MAX   6
#define TABLES_MAX     (PROFILES_ALL * VARIANTS_MAX)

static const char *const profiles[PROFILES_NAMED] = {
    "cpu-bf16dot-2",     "cpu-f32-2",           "cpu-bf16-int8-1",    "cpu-f32-int8-1",
    "cpu-bf16-fp8-1",    "cpu-f32-fp8-1",       "cpu-bf16amx-1",      "cpu-bf16-kv8-1",
    "cpu-f32-kv8-1",     "cpu-bf16-int8-kv8-1", "cpu-f32-int8-kv8-1", "cpu-bf16-fp8-kv8-1",
    "cpu-f32-fp8-kv8-1", "cpu-bf16amx-kv8-1"};

static inline struct gw_device *device_with(int threads)
{
    struct gw_device *dev = NULL;
    gw_device_enter_thread();
    assert_int_equal(gw_device_cpu_create(threads, false, &dev, NULL), GW_OK);
    return dev;
}

/* The reference table of a profile. */
static inline const struct gw_ops *ops_c(const char *profile)
{
    const struct gw_ops *ops = NULL;
    assert_int_equal(gw_ops_cpu(profile, GW_ISA_C, &ops, NULL), GW_OK);
    return ops;
}

/* All tables of a profile that this machine runs; returns how many. */
static inline int ops_all(const char *profile, const struct gw_ops *out[VARIANTS_MAX])
{
    static const enum gw_isa isas[VARIANTS_MAX] = {GW_ISA_C,          GW_ISA_AVX2,       GW_ISA_AVX512,
                                                   GW_ISA_AVX512BF16, GW_ISA_AVX512VNNI, GW_ISA_AMX};
    int len = 0;
    for (int i = 0; i < VARIANTS_MAX; i++)
        if (gw_ops_cpu(profile, isas[i], &out[len], NULL) == GW_OK) len++;
    return len;
}

/* All tables of all profiles but those in plain C, which is slow (unless there is no other); returns how many. */
static inline int ops_fast(const struct gw_ops *out[TABLES_MAX])
{
    int len = 0;
    for (int p = 0; p < PROFILES_ALL; p++) {
        const struct gw_ops *all[VARIANTS_MAX];
        int all_len = ops_all(profiles[p], all);
        for (int v = all_len > 1 ? 1 : 0; v < all_len; v++) out[len++] = all[v];
    }
    return len;
}

/* The best of a profile. */
static inline const struct gw_ops *ops_best(const char *profile)
{
    const struct gw_ops *ops = NULL;
    assert_int_equal(gw_ops_cpu(profile, GW_ISA_AUTO, &ops, NULL), GW_OK);
    return ops;
}

/* Of the exact size, so that ASan sees the first byte behind it. */
static inline void *take(size_t bytes)
{
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, bytes ? bytes : 1), 0);
    return p;
}

static inline float *take_f32(size_t len)
{
    return take(len * sizeof(float));
}

/* Values around 1 of both signs, one in 16 of them special: zeros, denormals, ties of bf16, large and small.
 */
static inline float value(struct gw_rng *r)
{
    static const uint32_t special[] = {0x00000000, 0x80000000, 0x00000001, 0x807FFFFF,
                                       0x00400000, 0x3F808000, 0x3F818000, 0xBF808000,
                                       0x5F000000, 0xDF000000, 0x1F000000, 0x00800000};
    uint64_t bits = gw_rng_next(r);
    if (bits % 16 == 0) return gw_f32_of_bits(special[(bits >> 8) % (sizeof special / sizeof *special)]);
    return (float)((double)(bits >> 11) * 0x1p-52 - 1.0);
}

static inline float plain_value(struct gw_rng *r)
{
    return (float)(gw_rng_unit(r) * 2 - 1);
}

static inline float *random_f32(struct gw_rng *r, size_t len)
{
    float *p = take_f32(len);
    for (size_t i = 0; i < len; i++) p[i] = plain_value(r);
    return p;
}

/* len values as an array of `type`. */
static inline void *values_as(struct gw_rng *r, enum gw_dtype type, size_t len, bool directed)
{
    void *p = take(len * gw_dtype_bytes(type));
    for (size_t i = 0; i < len; i++) {
        float x = directed ? value(r) : plain_value(r);
        if (type == GW_BF16)
            ((uint16_t *)p)[i] = (uint16_t)(gw_f32_bits(x) >> 16); /* keeps denormals */
        else
            ((float *)p)[i] = x;
    }
    return p;
}

/* n rows of k of the activation type, packed. The caller frees w.data. */
static inline struct gw_weight packed(const struct gw_ops *ops, const void *src, uint32_t n, uint32_t k)
{
    struct gw_weight w = {.n = n, .k = k, .data = take(ops->pack_bytes(n, k))};
    ops->pack(w.data, src, ops->act, n, k, k);
    return w;
}

/* First difference in bits is told by its index. */
static inline void assert_same_bits(const void *a, const void *b, size_t bytes, const char *what)
{
    if (memcmp(a, b, bytes) == 0) return;
    size_t i = 0;
    while (((const uint8_t *)a)[i] == ((const uint8_t *)b)[i]) i++;
    fail_msg("%s: differs at byte %zu of %zu", what, i, bytes);
}

static inline void assert_near(double got, double want, double tolerance, const char *what, size_t index)
{
    double error = got > want ? got - want : want - got;
    if (!(error <= tolerance))
        fail_msg("%s[%zu]: %.9g, reference %.9g (tolerance %.3g)", what, index, got, want, tolerance);
}

#endif
