/* Routing: which experts take a row, and by what weight (kernels/cpu/route.c, and its bits).
 *
 *     taken    the `top` experts of the largest logits; of equal ones the lower id; NaN comes last
 *     e_i      exp(logit_i - max)
 *     weight   e_i / sum of e, over all experts or over those taken; ids ascending, one addition after the other
 *
 * A warp takes a row: `top` times, its lanes look for the best that is left; one lane adds up, for the order is part of the
 * bits. Limits: GW_EXPERTS_MAX experts. */
#include "kernels/cuda/launchers.h"

#include "kernels/cuda/device.cuh"

extern "C" {
#include "kernels/pick.h"
}

#define NONE UINT64_MAX

/* Ascending words are best first (kernels/pick.h); NaN behind all others. */
__device__ static inline uint64_t word_of(float logit, uint32_t id)
{
    return logit == logit ? gw_pick_word(logit, id) : (uint64_t)UINT32_MAX << 32 | id;
}

/* The least of all lanes' words, in all of them. */
__device__ static uint64_t least(uint64_t word)
{
    for (int lanes = 1; lanes < (int)GW_WARP; lanes *= 2) {
        uint64_t high = __shfl_xor_sync(GW_ALL_LANES, (uint32_t)(word >> 32), lanes);
        uint64_t other = high << 32 | __shfl_xor_sync(GW_ALL_LANES, (uint32_t)word, lanes);
        word = other < word ? other : word;
    }
    return word;
}

/* taken[i] of the `top` best; returns the best. */
__device__ static uint32_t take_best(uint32_t *taken, const float *logits, uint32_t experts, uint32_t top)
{
    uint32_t best = 0;
    for (uint32_t n = 0; n < top; n++) {
        uint64_t word = NONE;
        for (uint32_t i = threadIdx.x; i < experts; i += GW_WARP) {
            uint64_t mine = taken[i] ? NONE : word_of(logits[i], i);
            word = mine < word ? mine : word;
        }
        uint32_t id = (uint32_t)least(word);
        if (threadIdx.x == 0) taken[id] = 1;
        if (n == 0) best = id;
        __syncwarp();
    }
    return best;
}

__global__ static void route_rows(uint32_t *ids, float *weights, const float *all_logits, uint32_t experts,
                                  uint32_t top, bool over_taken)
{
    GW_SHARED(float, e, GW_EXPERTS_MAX);
    GW_SHARED(uint32_t, taken, GW_EXPERTS_MAX);
    const float *logits = all_logits + (size_t)blockIdx.x * experts;
    for (uint32_t i = threadIdx.x; i < experts; i += GW_WARP) taken[i] = 0;
    __syncwarp();
    float max = logits[take_best(taken, logits, experts, top)], sum = 0.0f;
    for (uint32_t i = threadIdx.x; i < experts; i += GW_WARP) e[i] = gw_expf(logits[i] - max);
    __syncwarp();
    if (threadIdx.x != 0) return;
    uint32_t *row_ids = ids + (size_t)blockIdx.x * top, len = 0;
    for (uint32_t i = 0; i < experts; i++) {
        if (taken[i] || !over_taken) sum += e[i];
        if (taken[i]) row_ids[len++] = i;
    }
    for (uint32_t n = 0; n < len; n++) weights[(size_t)blockIdx.x * top + n] = e[row_ids[n]] / sum;
}

extern "C" gw_err_t gw_cuda_route(gw_cuda_stream stream, uint32_t *ids, float *weights, const float *logits,
                                  uint32_t m, uint32_t experts, uint32_t top, bool over_taken,
                                  struct gw_err_ctx *ctx)
{
    GW_NEED(top >= 1 && top <= experts && experts <= GW_EXPERTS_MAX, "1 to all of 1024 experts at most");
    if (m == 0) return GW_OK;
    GW_LAUNCH(route_rows, m, GW_WARP, 0, stream, ids, weights, logits, experts, top, over_taken);
    return gw_launched(ctx, "route");
}
