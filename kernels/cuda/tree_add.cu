/* residual[elems] += the fixed binary tree over partials[shares][elems] (kernels/share_tree.h).
 *
 * A thread takes an element and reads its partial of each share once, ascending. level[b] holds the sum of a whole subtree of 2^b
 * shares that waits for its neighbour, like a bit of a counter: share s closes as many subtrees as s has ones at its end, and
 * what is left when all are there is added from the smallest up. These are the tree's additions, and the CPU's bits:
 *
 *     S = 7    share 1: 0+1    share 3: 2+3, 01+23    share 5: 4+5    end: 45+6, 0123+456 */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launchers.h"

#define THREADS 256u
#define LEVELS  8 /* 2^7 = GW_SHARES_MAX */

static_assert(GW_SHARES_MAX < 1 << LEVELS, "a level for each size of subtree");

__device__ static float sum_of_shares(const float *partial, uint32_t shares, size_t elems)
{
    float level[LEVELS], sum = 0.0f;
    for (uint32_t s = 0; s < shares; s++) {
        float v = partial[s * elems];
        int b = 0;
        for (; s >> b & 1; b++) v = level[b] + v;
        level[b] = v;
    }
    bool any = false;
    for (int b = 0; b < LEVELS; b++) {
        if (!(shares >> b & 1)) continue;
        sum = any ? level[b] + sum : level[b];
        any = true;
    }
    return sum;
}

__global__ static void tree_elements(float *residual, const float *partials, uint32_t shares, size_t elems)
{
    size_t step = (size_t)gridDim.x * THREADS;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < elems; i += step)
        residual[i] += sum_of_shares(partials + i, shares, elems);
}

extern "C" gw_err_t gw_cuda_tree_add(gw_cuda_stream stream, float *residual, const float *partials,
                                     uint32_t shares, size_t elems, struct gw_err_ctx *ctx)
{
    GW_NEED(shares >= 1 && shares <= GW_SHARES_MAX, "1 to 128 shares");
    if (elems == 0) return GW_OK;
    GW_LAUNCH(tree_elements, gw_stride_blocks(elems, THREADS), THREADS, 0, stream, residual, partials, shares,
              elems);
    return gw_launched(ctx, "tree_add");
}
