/* Routing: which experts take a row, and by what weight.
 *
 *     taken    the `top` experts of the largest logits; of equal ones the lower id
 *     e_i      exp(logit_i - max)
 *     weight   e_i / sum of e, over all experts or over those taken; ids ascending, one addition after the other
 *
 * Plain C for all tables: experts are some hundred at most, their products a thousand times as much. */
#include <assert.h>

#include "kernels/cpu/device.h"
#include "kernels/cpu/variants.h"
#include "kernels/vmath.h"

#define EXPERT_NS 20.0 /* of an expert, over all passes; measured at 128 experts of which 8 are taken */

struct route_job {
    uint32_t *ids;
    float *weights;
    const float *logits;
    uint32_t experts, top;
    bool over_taken;
};

struct route_scratch {
    float e[GW_EXPERTS_MAX];
    bool taken[GW_EXPERTS_MAX];
};
static_assert(sizeof(struct route_scratch) <= GW_SCRATCH_BYTES, "scratch of a thread");

/* The best that is not taken; there is one. Whatever the logits are, NaN too, it is below `experts`. */
static uint32_t best_left(const float *logits, const bool *taken, uint32_t experts)
{
    uint32_t best = experts;
    for (uint32_t i = 0; i < experts; i++)
        if (!taken[i] && (best == experts || logits[i] > logits[best])) best = i;
    return best;
}

static void route_row(const struct route_job *job, size_t row, struct route_scratch *s)
{
    const float *logits = job->logits + row * job->experts;
    uint32_t *ids = job->ids + row * job->top, len = 0;
    float *weights = job->weights + row * job->top, max = 0.0f, sum = 0.0f;
    for (uint32_t i = 0; i < job->experts; i++) s->taken[i] = false;
    for (uint32_t n = 0; n < job->top; n++) {
        uint32_t best = best_left(logits, s->taken, job->experts);
        s->taken[best] = true;
        if (n == 0) max = logits[best];
    }
    for (uint32_t i = 0; i < job->experts; i++) {
        s->e[i] = gw_expf(logits[i] - max);
        if (s->taken[i] || !job->over_taken) sum += s->e[i];
        if (s->taken[i]) ids[len++] = i;
    }
    for (uint32_t n = 0; n < len; n++) weights[n] = s->e[ids[n]] / sum;
}

static void route_rows(const void *arg, void *scratch, size_t first, size_t last)
{
    for (size_t row = first; row < last; row++) route_row(arg, row, scratch);
}

void gw_cpu_route_any(struct gw_device *dev, uint32_t *ids, float *weights, const float *logits, uint32_t m,
                      uint32_t experts, uint32_t top, bool over_taken)
{
    assert(top > 0 && top <= experts && experts <= GW_EXPERTS_MAX);
    struct route_job job = {.ids = ids,
                            .weights = weights,
                            .logits = logits,
                            .experts = experts,
                            .top = top,
                            .over_taken = over_taken};
    gw_device_parallel(dev, route_rows, &job, m, EXPERT_NS * experts);
}
