/* Gather: chosen rows of a matrix, one behind the other. */
#include <string.h>

#include "kernels/cpu/device.h"
#include "kernels/cpu/variants.h"

struct gather_job {
    uint8_t *y;
    const uint8_t *x;
    const uint32_t *rows;
    size_t row_bytes;
};

static void gather_rows(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    const struct gather_job *job = arg;
    for (size_t i = first; i < last; i++)
        memcpy(job->y + i * job->row_bytes, job->x + job->rows[i] * job->row_bytes, job->row_bytes);
}

void gw_cpu_gather_any(struct gw_device *dev, void *y, const void *x, enum gw_dtype type,
                       const uint32_t *rows, uint32_t m, uint32_t k)
{
    struct gather_job job = {.y = y, .x = x, .rows = rows, .row_bytes = (size_t)k * (type == GW_F32 ? 4 : 2)};
    gw_device_parallel(dev, gather_rows, &job, m, 0.05 * (double)job.row_bytes);
}
