/* Pick in 16 lanes, for the instruction set that the including file is compiled for.
 *
 * Owner: all memory is the caller's. Thread: safe. Units: elements. Errors: none. Source: kernels/cpu/pick.h. */
#ifndef GW_KERNELS_CPU_PICK_SIMD_H
#define GW_KERNELS_CPU_PICK_SIMD_H

#include "kernels/cpu/keyed_simd.h"
#include "kernels/cpu/pick.h"

/* Bits of 16 elements from x on, of which the first n are. */
GW_INLINE uint32_t gw_lanes_of(uint32_t n)
{
    return n >= 16 ? 0xFFFFu : (1u << n) - 1;
}

static void gw_push_above16(struct gw_pick_heap *h, const float *x, uint32_t n, uint32_t id)
{
    uint32_t lanes = gw_above16(gw_load16(x, GW_F32, 0, n), gw_set16(h->bar)) & gw_lanes_of(n);
    for (; lanes; lanes &= lanes - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(lanes);
        gw_pick_push(h, x[i], id + i);
    }
}

/* Is any of GW_PICK_BLOCK elements above the bar? */
GW_INLINE bool gw_any_above64(const float *x, gw_v16 bar)
{
    gw_v16 max = bar; /* second, so that NaN leaves it */
    for (uint32_t i = 0; i < GW_PICK_BLOCK; i += 16) max = gw_max16(gw_get16(x + i), max);
    return gw_above16(max, bar) != 0;
}

static void gw_best16(struct gw_pick_heap *h, const float *x, uint32_t columns, uint32_t first)
{
    uint32_t i = gw_pick_fill(h, x, columns, first);
    for (; i + GW_PICK_BLOCK <= columns; i += GW_PICK_BLOCK) {
        if (!gw_any_above64(x + i, gw_set16(h->bar))) continue;
        for (uint32_t k = i; k < i + GW_PICK_BLOCK; k += 16) gw_push_above16(h, x + k, 16, first + k);
        gw_pick_heap_make_room(h);
    }
    for (; i < columns; i += 16) gw_push_above16(h, x + i, gw_block_lanes(columns, i), first + i);
}

/* How many ln 2 the elements are below the best score, within [1, 53]. */
GW_INLINE gw_v16 gw_steps16(const struct gw_pick_draw *d, gw_v16 x, gw_v16 best)
{
    gw_v16 z = gw_mul16(gw_sub16(x, gw_set16(d->reference)), gw_set16(d->inverse));
    gw_v16 steps = gw_mul16(gw_sub16(best, z), gw_set16((float)(1 / GW_LN2)));
    const gw_v16 max = gw_set16(GW_GUMBEL_STEPS_MAX), min = gw_set16(GW_GUMBEL_STEPS_MIN);
    steps = gw_choose_less16(steps, max, steps, max); /* NaN too */
    return gw_choose_less16(min, steps, steps, min);
}

static void gw_draw16(struct gw_pick_draw *d, const float *x, uint32_t columns, uint32_t first)
{
    gw_v16 best = gw_set16(gw_pick_relative_best(d));
    for (uint32_t i = 0; i < columns; i += 16) {
        uint32_t n = gw_block_lanes(columns, i);
        gw_v16 steps = gw_steps16(d, gw_load16(x, GW_F32, i, n), best);
        uint32_t lanes = gw_hopeful16(gw_keyed_at(d->stream, first + i), steps) & gw_lanes_of(n);
        for (; lanes; lanes &= lanes - 1) {
            uint32_t k = i + (uint32_t)__builtin_ctz(lanes);
            if (gw_pick_try(d, x[k], first + k)) best = gw_set16(gw_pick_relative_best(d));
        }
    }
}

/* e^((x - top) · inverse); NaN has none. */
GW_INLINE gw_v16 gw_weight16(gw_v16 x, float top, float inverse)
{
    gw_v16 e = gw_expf16(gw_mul16(gw_sub16(x, gw_set16(top)), gw_set16(inverse)));
    return gw_choose_less16(x, gw_set16(INFINITY), e, gw_set16(0.0f));
}

static void gw_weigh16(const void *arg, void *scratch, size_t first, size_t last)
{
    const struct gw_weigh_job *job = arg;
    (void)scratch;
    for (size_t block = first; block < last; block++) {
        uint32_t at = (uint32_t)block * GW_WEIGH_BLOCK, end = gw_weigh_end(job, at);
        for (uint32_t i = at; i < end; i += 16) {
            uint32_t n = gw_block_lanes(end, i);
            gw_v16 x = gw_load16(job->x, GW_F32, i, n);
            gw_store16(job->y, GW_F32, i, n, gw_weight16(x, job->top, job->inverse));
        }
    }
}

static struct gw_pick_sum gw_sum16(const float *x, uint32_t columns, float inverse)
{
    gw_v16 max16 = gw_set16(-FLT_MAX), sum16 = gw_set16(0.0f);
    for (uint32_t i = 0; i < columns; i += 16) {
        uint32_t n = gw_block_lanes(columns, i);
        max16 = gw_first16(gw_max16(gw_load16(x, GW_F32, i, n), max16), n, max16);
    }
    float max = gw_fold_max16(max16);
    for (uint32_t i = 0; i < columns; i += 16) {
        uint32_t n = gw_block_lanes(columns, i);
        gw_v16 e = gw_weight16(gw_load16(x, GW_F32, i, n), max, inverse);
        sum16 = gw_first16(gw_add16(sum16, e), n, sum16);
    }
    return (struct gw_pick_sum){.max = max, .sum = gw_fold_sum16(sum16)};
}

static const struct gw_pick_variant gw_pick_variant16 = {
    .best = gw_best16, .draw = gw_draw16, .sum = gw_sum16};

#endif
