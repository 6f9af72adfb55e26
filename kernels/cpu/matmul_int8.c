#include "kernels/cpu/matmul_int8.h"

#include <assert.h>

#include "kernels/cpu/device.h"

#define QUANTIZE_NS 0.15 /* per element, on one thread */
#define STEPS_IN_L1 128u /* 32 KB of a tile's weights; more do not stay there beside x */

struct quantize_job {
    const struct gw_int8_kernel *kernel;
    enum gw_dtype type;
    const void *x;
    size_t x_stride;
    const struct gw_weight *w;
    const struct gw_int8_x *to;
};

void gw_int8_place(struct gw_device *dev, const struct gw_weight *w, uint32_t segments, uint32_t rows,
                   struct gw_int8_x *out)
{
    size_t stride = 0;
    for (uint32_t i = 0; i < segments; i++) {
        assert(w[i].k <= GW_INT8_K_MAX);
        stride += gw_int8_segment(w[i].k);
    }
    /* rows a power of two apart would fall into the same cache sets */
    stride += 64;
    size_t fit = (GW_QUANT_BYTES - 64) / (stride + segments * sizeof(float));
    assert(fit > 0);
    *out = (struct gw_int8_x){.scales = gw_device_quant(dev),
                              .stride = stride,
                              .rows = fit < rows ? (uint32_t)fit : rows,
                              .room = (uint32_t)fit,
                              .segments = segments};
    size_t scales_bytes = ((size_t)out->rows * segments * sizeof(float) + 63) / 64 * 64;
    out->bytes = (uint8_t *)out->scales + scales_bytes;
}

static void quantize_rows(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    const struct quantize_job *j = arg;
    size_t item = gw_dtype_bytes(j->type);
    for (size_t row = first; row < last; row++) {
        const uint8_t *x = (const uint8_t *)j->x + row * j->x_stride * item;
        uint8_t *to = j->to->bytes + row * j->to->stride;
        for (uint32_t i = 0; i < j->to->segments; i++) {
            uint32_t k = j->w[i].k;
            j->to->scales[row * j->to->segments + i] = j->kernel->quantize(to, x, j->type, k);
            x += k * item;
            to += gw_int8_segment(k);
        }
    }
}

void gw_int8_quantize(const struct gw_matmul_kernel *kernel, struct gw_device *dev, const void *x,
                      size_t x_stride, const struct gw_weight *w, const struct gw_int8_x *to)
{
    const struct quantize_job job = {
        .kernel = kernel->int8, .type = kernel->act, .x = x, .x_stride = x_stride, .w = w, .to = to};
    gw_device_parallel(dev, quantize_rows, &job, to->rows, QUANTIZE_NS * (double)to->stride);
}

/* Rows by one tile, as many at a time as the kernel takes. The first of them bring its weights near; all ask for what is ahead, each
 * for a part. */
static void multiply_tile(const struct gw_int8_kernel *kernel, struct gw_int8_tile *t, uint32_t rows)
{
    const size_t part = (size_t)t->steps * t->fetch.step;
    for (uint32_t n, asked = t->fetch.step; rows > 0; rows -= n, asked += t->fetch.step) {
        n = rows < kernel->rows ? rows : kernel->rows;
        kernel->micro(t, n);
        t->place.row += n;
        t->x += n * t->x_stride;
        t->x_rows -= n;
        t->x_scale += n * t->x_scale_stride;
        t->fetch.from = t->steps <= STEPS_IN_L1 ? GW_FROM_L1 : GW_FROM_L2;
        t->fetch.at = t->fetch.at && asked < GW_STEP_BYTES ? t->fetch.at + part : NULL;
    }
}

void gw_int8_multiply(const struct gw_int8_kernel *kernel, const struct gw_int8_x *x, const struct gw_pass *p)
{
    const size_t tile_bytes = gw_int8_tile_bytes(p->w->k), step = p->k / GW_INT8_K_STEP;
    struct gw_int8_tile t;
    t.x_stride = x->stride;
    t.x_scale_stride = x->segments;
    t.steps = gw_steps(p->k_len, GW_INT8_K_STEP);
    for (uint32_t tile = 0; tile < p->tiles; tile++) {
        const uint8_t *packed = (const uint8_t *)p->w->data + (p->tile + tile) * tile_bytes;
        t.w = packed + sizeof(struct gw_int8_head) + step * GW_STEP_BYTES;
        t.head = (const struct gw_int8_head *)(const void *)packed;
        t.x = x->bytes + p->x_row * x->stride + p->x_k + p->k;
        t.x_rows = x->room - p->x_row;
        t.x_scale = x->scales + (size_t)p->x_row * x->segments + p->segment;
        gw_pass_place(p, tile, &t.place);
        gw_pass_fetch(p, tile, t.w, tile_bytes, &t.fetch);
        multiply_tile(kernel, &t, p->rows);
    }
}
