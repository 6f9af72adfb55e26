/* Scatter-add: y[share][rows[i]] += weights[i] · x[share][i], rounded after the product and after the sum. An item is
 * a row of one share; a row is in the list once at most, so no two items meet. Elementwise, so plain C that the
 * compiler makes vectors of gives the same bits as any other form. */
#include "kernels/cpu/device.h"
#include "kernels/cpu/variants.h"

struct scatter_job {
    float *y;
    const float *x;
    const uint32_t *rows;
    const float *weights;
    uint32_t y_rows, m, n;
};

static void scatter_items(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    const struct scatter_job *job = arg;
    for (size_t item = first; item < last; item++) {
        size_t share = item / job->m, i = item % job->m, n = job->n;
        float *restrict y = job->y + (share * job->y_rows + job->rows[i]) * n;
        const float *restrict x = job->x + item * n;
        const float weight = job->weights[i];
        for (size_t c = 0; c < n; c++) y[c] += weight * x[c];
    }
}

void gw_cpu_scatter_add_any(struct gw_device *dev, float *y, uint32_t y_rows, const float *x,
                            const uint32_t *rows, const float *weights, uint32_t shares, uint32_t m,
                            uint32_t n)
{
    struct scatter_job job = {
        .y = y, .x = x, .rows = rows, .weights = weights, .y_rows = y_rows, .m = m, .n = n};
    gw_device_parallel(dev, scatter_items, &job, (size_t)shares * m, 0.3 * n);
}
