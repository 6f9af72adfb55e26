/* Embedding: rows of the table, widened (exact) and copied. */
#include "kernels/convert.h"
#include "kernels/cpu/device.h"
#include "kernels/cpu/variants.h"

struct embed_job {
    float *y;
    const void *table;
    enum gw_dtype type;
    const uint32_t *ids;
    uint32_t hidden;
};

static void embed_rows(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    const struct embed_job *job = arg;
    for (size_t row = first; row < last; row++) {
        float *y = job->y + row * job->hidden;
        size_t from = (size_t)job->ids[row] * job->hidden;
        for (uint32_t i = 0; i < job->hidden; i++) y[i] = gw_f32_at(job->table, job->type, from + i);
    }
}

void gw_cpu_embed_any(struct gw_device *dev, float *y, const void *table, enum gw_dtype table_type,
                      const uint32_t *ids, uint32_t m, uint32_t hidden)
{
    struct embed_job job = {.y = y, .table = table, .type = table_type, .ids = ids, .hidden = hidden};
    gw_device_parallel(dev, embed_rows, &job, m, 0.3 * hidden);
}
