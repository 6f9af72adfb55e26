/* kernels/cuda/cuda_device and the table over it, on the host shim: what is put there comes back, and products of any shape. */
#include "tests/lib/cuda_fixture.h"

#include <math.h>

#include "tests/lib/shim_device.h"

/* What a step tells the device fills this again and again. */
#define STEP_BYTES    4096
#define SCRATCH_BYTES 65536

static void open_device(struct shim_device *s)
{
    struct gw_err_ctx ctx = {0};
    memset(s, 0, sizeof *s);
    if (shim_device_open(s, STEP_BYTES, SCRATCH_BYTES, &ctx) != GW_OK) fail_msg("%s", ctx.text);
}

static struct gw_memory alloc(struct shim_device *s, size_t bytes, enum gw_memory_kind kind)
{
    struct gw_memory m;
    struct gw_err_ctx ctx = {0};
    if (gw_memory_alloc(s->device, bytes, kind, &m, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    assert_ptr_not_equal(m.host, m.device);
    return m;
}

/* ---- memory ---- */

/* More than a bounce and than a step's room hold, in bytes that no piece ends with. */
static void test_put_and_get_bring_every_byte(void **state)
{
    (void)state;
    struct shim_device s;
    const size_t bytes = GW_CUDA_BOUNCE_BYTES + 4097;
    open_device(&s);
    struct gw_rng r = seeded_rng(__func__);
    uint8_t *want = take(bytes), *got = take(bytes);
    for (size_t i = 0; i < bytes; i++) want[i] = (uint8_t)gw_rng_next(&r);
    for (int kind = GW_MEMORY_DEVICE; kind <= GW_MEMORY_PINNED; kind++) {
        struct gw_memory m = alloc(&s, bytes, kind), n = alloc(&s, bytes, GW_MEMORY_DEVICE);
        assert_true(kind == GW_MEMORY_DEVICE ? !m.host : *(const uint8_t *)m.host == 0);
        gw_memory_put(s.device, m.device, want, 5000);
        gw_memory_put_now(s.device, (uint8_t *)m.device + 5000, want + 5000, bytes - 5000);
        gw_memory_move(s.device, n.device, m.device, bytes);
        gw_memory_fill(s.device, (uint8_t *)n.device + 7, 0x5A, 3);
        gw_memory_get(s.device, got, n.device, bytes);
        assert_true(got[6] == want[6] && got[7] == 0x5A && got[9] == 0x5A && got[10] == want[10]);
        uint8_t *back = m.host ? m.host : got; /* of pinned memory straight */
        gw_memory_get(s.device, back, m.device, bytes);
        assert_memory_equal(back, want, bytes);
        gw_memory_free(&m);
        gw_memory_free(&n);
    }
    free(want), free(got);
    shim_device_end(&s);
}

static void test_alloc_that_fails_says_how_much_was_asked_for(void **state)
{
    (void)state;
    struct shim_device s;
    struct gw_err_ctx ctx = {0};
    struct gw_memory m = {.bytes = 77};
    open_device(&s);
    for (uint32_t at = 1; at <= 2; at++) { /* the device's side, the pinned one */
        gw_err_reset(&ctx);
        s.runtime.fail_at = s.runtime.calls + at;
        assert_int_equal(gw_memory_alloc(s.device, 1234, GW_MEMORY_PINNED, &m, &ctx), GW_ERR_CUDA);
        assert_non_null(strstr(ctx.text, "1234 bytes"));
        assert_int_equal(m.bytes, 77);
    }
    shim_device_end(&s);
}

/* What could not be had is zeros, so that nobody follows what nobody wrote. */
static void test_get_after_an_error_gives_zeros(void **state)
{
    (void)state;
    struct shim_device s;
    struct gw_err_ctx ctx = {0};
    uint32_t ids[4] = {9, 9, 9, 9};
    open_device(&s);
    struct gw_memory m = alloc(&s, sizeof ids, GW_MEMORY_DEVICE);
    s.runtime.fail_at = s.runtime.calls + 1;
    gw_memory_get(s.device, ids, m.device, sizeof ids);
    for (int i = 0; i < 4; i++) assert_int_equal(ids[i], 0);
    assert_int_equal(gw_device_finish(s.device, &ctx), GW_ERR_CUDA);
    gw_memory_free(&m);
    assert_int_equal(shim_device_close(&s), 0);
}

/* ---- products ---- */

#define SHARES 3u

struct product {
    uint32_t m, n, k;
    uint16_t *x;         /* [m, SHARES · k] */
    uint16_t *w[SHARES]; /* [n, k] */
    struct gw_weight there[SHARES];
    struct gw_memory weights, x_there, y;
};

static void open_product(struct product *p, struct shim_device *s, struct gw_rng *r)
{
    size_t bytes = s->ops->pack_bytes(p->n, p->k), x_bytes = (size_t)p->m * SHARES * p->k * 2;
    p->weights = alloc(s, SHARES * bytes, GW_MEMORY_MIRRORED);
    p->x_there = alloc(s, x_bytes, GW_MEMORY_DEVICE);
    p->y = alloc(s, (size_t)SHARES * p->m * p->n * sizeof(float), GW_MEMORY_MIRRORED);
    p->x = values_as(r, GW_BF16, (size_t)p->m * SHARES * p->k, false);
    gw_memory_put(s->device, p->x_there.device, p->x, x_bytes);
    for (uint32_t i = 0; i < SHARES; i++) {
        p->w[i] = values_as(r, GW_BF16, (size_t)p->n * p->k, false);
        s->ops->pack((uint8_t *)p->weights.host + i * bytes, p->w[i], GW_BF16, p->n, p->k, p->k);
        p->there[i] = (struct gw_weight){p->n, p->k, (uint8_t *)p->weights.device + i * bytes};
    }
    gw_memory_put(s->device, p->weights.device, p->weights.host, SHARES * bytes);
}

static void close_product(struct product *p)
{
    gw_memory_free(&p->weights);
    gw_memory_free(&p->x_there);
    gw_memory_free(&p->y);
    free(p->x);
    for (uint32_t i = 0; i < SHARES; i++) free(p->w[i]);
}

/* Of share i's columns of x and its matrix. */
static void expect_share(const struct product *p, const float *y, size_t y_stride, uint32_t share)
{
    for (uint32_t row = 0; row < p->m; row++)
        for (uint32_t n = 0; n < p->n; n++) {
            double want = 0, scale = 0;
            for (uint32_t k = 0; k < p->k; k++) {
                double part = (double)gw_f32_of_bf16(p->x[(size_t)row * SHARES * p->k + share * p->k + k]) *
                              (double)gw_f32_of_bf16(p->w[share][(size_t)n * p->k + k]);
                want += part;
                scale += fabs(part);
            }
            assert_near(y[row * y_stride + n], want, 1e-5 * scale + 1e-12, "product", n);
        }
}

/* Ks that the kernel does not take, rows that are not aligned, more of them than the scratch holds. */
static void test_products_of_any_k_match_double(void **state)
{
    (void)state;
    static const struct {
        uint32_t m, n, k;
    } shapes[] = {{1, 1, 1}, {3, 5, 9}, {2, 33, 12}, {2, 8, 24}, {70, 2, 490}};
    struct shim_device s;
    struct gw_rng r = seeded_rng(__func__);
    open_device(&s);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct product p = {.m = shapes[i].m, .n = shapes[i].n, .k = shapes[i].k};
        open_product(&p, &s, &r);
        size_t plane = (size_t)p.m * p.n, bytes = SHARES * plane * sizeof(float);
        s.ops->matmul_shares(s.device, p.y.device, p.x_there.device, p.there, SHARES, p.m);
        gw_memory_get(s.device, p.y.host, p.y.device, bytes);
        for (uint32_t share = 0; share < SHARES; share++)
            expect_share(&p, (float *)p.y.host + share * plane, p.n, share);
        const uint32_t at[] = {p.n}; /* the last share's columns alone, behind a gap */
        const uint16_t *x = (const uint16_t *)p.x_there.device + (size_t)(SHARES - 1) * p.k;
        s.ops->matmul(s.device, p.y.device, 2 * (size_t)p.n, x, SHARES * (size_t)p.k, &p.there[SHARES - 1],
                      at, 1, p.m);
        gw_memory_get(s.device, p.y.host, p.y.device, bytes);
        expect_share(&p, (float *)p.y.host + p.n, 2 * (size_t)p.n, SHARES - 1);
        close_product(&p);
    }
    shim_device_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_get_bring_every_byte),
        cmocka_unit_test(test_alloc_that_fails_says_how_much_was_asked_for),
        cmocka_unit_test(test_get_after_an_error_gives_zeros),
        cmocka_unit_test(test_products_of_any_k_match_double),
    };
    return cmocka_run_group_tests_name("cuda_device", tests, NULL, NULL);
}
