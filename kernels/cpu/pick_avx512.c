#include "kernels/cpu/pick_simd.h"

#include "kernels/cpu/variants.h"

void gw_cpu_pick_avx512(struct gw_device *dev, const struct gw_pick_row *rows, uint32_t count)
{
    const struct gw_pick_job job = {.rows = rows, .variant = &gw_pick_variant16};
    if (count > 0) gw_device_parallel_uneven(dev, gw_pick_rows, &job, count, GW_PICK_COLUMN_NS * rows->vocab);
}

void gw_cpu_weigh_avx512(struct gw_device *dev, float *y, const float *x, uint32_t n, float top,
                         float inverse)
{
    const struct gw_weigh_job job = {.y = y, .x = x, .n = n, .top = top, .inverse = inverse};
    gw_device_parallel(dev, gw_weigh16, &job, gw_weigh_blocks(n), 0.3 * GW_WEIGH_BLOCK);
}
