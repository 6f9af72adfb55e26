/* Int8 on a device, asked by the worker's table: what has the CPU's bits has them there, too. */
#ifndef GW_TESTS_GPU_GPU_INT8_H
#define GW_TESTS_GPU_GPU_INT8_H

#include "tests/lib/kernels_fixture.h"

#include "kernels/device_memory.h"
#include "migrate/profile.h"
#include "worker/device.h"

/* Of int8 the sums are exact: the CPU's bits, of products side by side and of shares with scales of their own. */
static inline void gpu_check_int8_products(const struct gw_worker_device *gpu)
{
    enum { N = 136, K = 712, M = 200, SHARES = 3 };
    static const uint32_t rows[] = {1, 16, 17, 64, 65, M};
    struct gw_rng r = seeded_rng(__func__);
    const struct gw_ops *cpu = ops_best(GW_PROFILE_CPU_BF16_INT8);
    struct gw_memory w, x, y;
    struct gw_err_ctx ctx = {0};
    struct gw_weight there[SHARES], here[SHARES];
    size_t w_bytes = (gpu->ops->pack_bytes(N, K) + 63) / 64 * 64, x_len = (size_t)M * SHARES * K;
    size_t y_len = (size_t)SHARES * M * N;
    uint16_t *x_src = values_as(&r, GW_BF16, x_len, false);
    float *want = take_f32(y_len);
    assert_int_equal(gw_memory_alloc(gpu->device, SHARES * w_bytes, GW_MEMORY_MIRRORED, &w, NULL), GW_OK);
    assert_int_equal(gw_memory_alloc(gpu->device, x_len * 2, GW_MEMORY_DEVICE, &x, NULL), GW_OK);
    assert_int_equal(gw_memory_alloc(gpu->device, y_len * 4, GW_MEMORY_MIRRORED, &y, NULL), GW_OK);
    for (uint32_t s = 0; s < SHARES; s++) {
        uint16_t *src = values_as(&r, GW_BF16, (size_t)N * K, false);
        here[s] = packed(cpu, src, N, K);
        gpu->ops->pack((uint8_t *)w.host + s * w_bytes, src, GW_BF16, N, K, K);
        there[s] = (struct gw_weight){N, K, (uint8_t *)w.device + s * w_bytes};
        free(src);
    }
    gw_memory_put(gpu->device, w.device, w.host, SHARES * w_bytes);
    gw_memory_put(gpu->device, x.device, x_src, x_len * 2);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static const uint32_t y_at[SHARES] = {0, N, 2 * N};
        uint32_t m = rows[i];
        size_t bytes = (size_t)SHARES * m * N * 4;
        cpu->matmul(gw_device_host(gpu->device), want, SHARES * N, x_src, SHARES * K, here, y_at, SHARES, m);
        gpu->ops->matmul(gpu->device, y.device, SHARES * N, x.device, SHARES * K, there, y_at, SHARES, m);
        gw_memory_get(gpu->device, y.host, y.device, bytes);
        assert_same_bits(y.host, want, bytes, "products");
        cpu->matmul_shares(gw_device_host(gpu->device), want, x_src, here, SHARES, m);
        gpu->ops->matmul_shares(gpu->device, y.device, x.device, there, SHARES, m);
        gw_memory_get(gpu->device, y.host, y.device, bytes);
        if (gw_device_finish(gpu->device, &ctx) != GW_OK) fail_msg("%s", ctx.text);
        assert_same_bits(y.host, want, bytes, "shares");
    }
    for (uint32_t s = 0; s < SHARES; s++) free(here[s].data);
    gw_memory_free(&w);
    gw_memory_free(&x);
    gw_memory_free(&y);
    free(x_src), free(want);
}

/* Numbers, scales and their places, over two blocks. */
static inline void gpu_check_int8_pages(const struct gw_worker_device *gpu)
{
    enum { HEADS = 2, HEAD_DIM = 64, ROWS = 20, TOKENS = 16, COLUMNS = (HEADS + 2) * HEAD_DIM };
    static const uint32_t blocks[] = {1, 0};
    const struct gw_seq_rows seq = {.rows = ROWS, .blocks = blocks};
    const size_t k_at = HEADS * HEAD_DIM, v_at = k_at + HEAD_DIM,
                 page = 2 * gw_kv_bytes(GW_I8, HEAD_DIM, TOKENS);
    struct gw_rng r = seeded_rng(__func__);
    struct gw_memory x, angles, pages;
    struct gw_err_ctx ctx = {0};
    float *rows = random_f32(&r, ROWS * COLUMNS), *cos_sin = random_f32(&r, ROWS * HEAD_DIM);
    uint8_t *want = take(2 * page), *arena = want;
    struct gw_kv_layer kv = {.arena = &arena,
                             .page_bytes = page,
                             .cells = 1,
                             .heads_per_cell = 1,
                             .head_dim = HEAD_DIM,
                             .block_tokens = TOKENS};
    assert_int_equal(gw_memory_alloc(gpu->device, ROWS * COLUMNS * 4, GW_MEMORY_DEVICE, &x, NULL), GW_OK);
    assert_int_equal(gw_memory_alloc(gpu->device, ROWS * HEAD_DIM * 4, GW_MEMORY_DEVICE, &angles, NULL),
                     GW_OK);
    assert_int_equal(gw_memory_alloc(gpu->device, 2 * page, GW_MEMORY_MIRRORED, &pages, NULL), GW_OK);
    gw_memory_put(gpu->device, x.device, rows, ROWS * COLUMNS * 4);
    gw_memory_put(gpu->device, angles.device, cos_sin, ROWS * HEAD_DIM * 4);
    gw_memory_fill(gpu->device, pages.device, 0xFF, 2 * page);
    memset(want, 0xFF, 2 * page);
    ops_best(GW_PROFILE_CPU_BF16_KV8)
        ->rope_append(gw_device_host(gpu->device), rows, COLUMNS, 0, k_at, v_at, HEADS, NULL, &kv, cos_sin,
                      &seq, 1);
    arena = pages.device;
    gpu->ops->rope_append(gpu->device, x.device, COLUMNS, 0, k_at, v_at, HEADS, NULL, &kv, angles.device,
                          &seq, 1);
    gw_memory_get(gpu->device, pages.host, pages.device, 2 * page);
    if (gw_device_finish(gpu->device, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    assert_same_bits(pages.host, want, 2 * page, "pages");
    gw_memory_free(&x);
    gw_memory_free(&angles);
    gw_memory_free(&pages);
    free(rows), free(cos_sin), free(want);
}

#endif
