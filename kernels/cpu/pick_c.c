#include "kernels/cpu/pick.h"

#include "kernels/cpu/variants.h"

static void best(struct gw_pick_heap *h, const float *x, uint32_t columns, uint32_t first)
{
    uint32_t i = gw_pick_fill(h, x, columns, first);
    for (; i < columns; i++) {
        if (!(x[i] > h->bar)) continue;
        gw_pick_push(h, x[i], first + i);
        gw_pick_heap_make_room(h);
    }
}

static void draw(struct gw_pick_draw *d, const float *x, uint32_t columns, uint32_t first)
{
    for (uint32_t i = 0; i < columns; i++) {
        float z = (x[i] - d->reference) * d->inverse;
        uint64_t bits = gw_keyed_bits(d->stream, first + i);
        if (gw_gumbel_hopeless(bits, gw_gumbel_shift(z, gw_pick_relative_best(d)))) continue;
        gw_pick_try(d, x[i], first + i);
    }
}

/* NaN has none. */
static float weight(float x, float top, float inverse)
{
    return x < INFINITY ? gw_expf((x - top) * inverse) : 0.0f;
}

static void weigh(const void *arg, void *scratch, size_t first, size_t last)
{
    const struct gw_weigh_job *job = arg;
    (void)scratch;
    for (size_t block = first; block < last; block++) {
        uint32_t at = (uint32_t)block * GW_WEIGH_BLOCK, end = gw_weigh_end(job, at);
        for (uint32_t i = at; i < end; i++) job->y[i] = weight(job->x[i], job->top, job->inverse);
    }
}

static struct gw_pick_sum sum(const float *x, uint32_t columns, float inverse)
{
    float lanes[GW_LANES];
    for (int i = 0; i < GW_LANES; i++) lanes[i] = -FLT_MAX;
    for (uint32_t i = 0; i < columns; i++) lanes[i % GW_LANES] = gw_max_c(x[i], lanes[i % GW_LANES]);
    float max = gw_fold_max_c(lanes);
    for (int i = 0; i < GW_LANES; i++) lanes[i] = 0.0f;
    for (uint32_t i = 0; i < columns; i++) lanes[i % GW_LANES] += weight(x[i], max, inverse);
    return (struct gw_pick_sum){.max = max, .sum = gw_fold_sum_c(lanes)};
}

static const struct gw_pick_variant variant = {.best = best, .draw = draw, .sum = sum};

void gw_cpu_pick_c(struct gw_device *dev, const struct gw_pick_row *rows, uint32_t count)
{
    const struct gw_pick_job job = {.rows = rows, .variant = &variant};
    if (count > 0) gw_device_parallel_uneven(dev, gw_pick_rows, &job, count, 40.0 * rows->vocab);
}

void gw_cpu_weigh_c(struct gw_device *dev, float *y, const float *x, uint32_t n, float top, float inverse)
{
    const struct gw_weigh_job job = {.y = y, .x = x, .n = n, .top = top, .inverse = inverse};
    gw_device_parallel(dev, weigh, &job, gw_weigh_blocks(n), 10.0 * GW_WEIGH_BLOCK);
}
