#include "tests/lib/cuda_shim_faults.h"

#include "kernels/cuda/ptx.cuh"

#define THREADS 64u

__global__ static void reverse(float *out, bool wrong)
{
    GW_SHARED(float, row, THREADS);
    row[threadIdx.x] = (float)threadIdx.x;
    if (!wrong) __syncthreads();
    out[threadIdx.x] = row[THREADS - 1 - threadIdx.x];
}

__global__ static void reverse_warp(float *out, bool wrong)
{
    GW_SHARED(float, row, THREADS);
    row[threadIdx.x] = (float)threadIdx.x;
    if (!wrong) __syncwarp();
    out[threadIdx.x] = row[threadIdx.x ^ 31];
}

__global__ static void unwritten(float *out, bool wrong)
{
    GW_SHARED(float, row, THREADS);
    if (!wrong || threadIdx.x < THREADS - 1) row[threadIdx.x] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = row[threadIdx.x];
}

__global__ static void behind_shared(float *out, bool wrong)
{
    GW_SHARED(float, row, THREADS);
    row[threadIdx.x + (wrong ? 1 : 0)] = 1.0f;
    out[threadIdx.x] = 0.0f;
}

__global__ static void behind_dynamic(float *out, bool wrong)
{
    GW_SHARED_DYNAMIC(memory);
    float *row = gw_as<float>(memory);
    out[threadIdx.x] = row[threadIdx.x + (wrong ? 1 : 0)];
}

__global__ static void behind_global(float *out, bool wrong)
{
    out[threadIdx.x + (wrong ? 1 : 0)] = 1.0f;
}

__global__ static void copy(float *out, const float *in, bool wrong)
{
    GW_SHARED(float, row, 4 * THREADS);
    gw_copy16_async(&row[4 * threadIdx.x], &in[4 * threadIdx.x], true);
    gw_copies_commit();
    if (!wrong) gw_copies_wait<0>();
    out[threadIdx.x] = row[4 * threadIdx.x + 3];
}

__global__ static void copy_group(float *out, const float *in, bool wrong)
{
    GW_SHARED(float, row, 8 * THREADS);
    for (uint32_t i = 0; i < 2; i++) {
        gw_copy16_async(&row[(2 * threadIdx.x + i) * 4], &in[4 * threadIdx.x], true);
        gw_copies_commit();
    }
    gw_copies_wait<1>();
    out[threadIdx.x] = row[8 * threadIdx.x + (wrong ? 7 : 3)];
    gw_copies_wait<0>();
}

__global__ static void barrier_missed(float *out, bool wrong)
{
    out[threadIdx.x] = 1.0f;
    if (wrong && threadIdx.x == 0)
        __syncwarp();
    else
        __syncthreads();
}

__global__ static void barrier_branches(float *out, bool wrong)
{
    out[threadIdx.x] = 1.0f;
    if (wrong && threadIdx.x < 32)
        __syncthreads();
    else if (wrong)
        __syncthreads();
}

__global__ static void shuffle_ended(float *out, bool wrong)
{
    out[threadIdx.x] = 1.0f;
    if (wrong && threadIdx.x % 32 < 16) return;
    out[threadIdx.x] = __shfl_xor_sync(GW_ALL_LANES, 1.0f, 1);
}

__global__ static void shuffle_outside(float *out, bool wrong)
{
    uint32_t mine = threadIdx.x % 32 < 16 ? 0x0000FFFFu : 0xFFFF0000u;
    out[threadIdx.x] = __shfl_xor_sync(wrong ? ~mine : mine, 1.0f, 1);
}

__global__ static void shuffle_from_outside(float *out, bool wrong)
{
    uint32_t mine = threadIdx.x % 32 < 16 ? 0x0000FFFFu : 0xFFFF0000u;
    out[threadIdx.x] = __shfl_xor_sync(mine, 1.0f, wrong ? 16 : 8);
}

__global__ static void shuffle_disagree(float *out, bool wrong)
{
    uint32_t mask = wrong && threadIdx.x % 32 == 7 ? 0x0000FFFFu : GW_ALL_LANES;
    out[threadIdx.x] = __shfl_xor_sync(mask, 1.0f, 1);
}

__global__ static void votes(float *out)
{
    uint32_t odd = __ballot_sync(GW_ALL_LANES, threadIdx.x % 2);
    float sum = (float)threadIdx.x;
    for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(GW_ALL_LANES, sum, lanes);
    bool all = __all_sync(GW_ALL_LANES, odd == 0xAAAAAAAAu),
         any = __any_sync(GW_ALL_LANES, threadIdx.x % 32 == 5);
    out[threadIdx.x] = all && any ? __shfl_down_sync(GW_ALL_LANES, sum + (float)threadIdx.x, 1) : -1.0f;
}

#define FAULT(name)                                                                                          \
    extern "C" int gw_fault_##name(float *out, bool wrong)                                                   \
    {                                                                                                        \
        GW_LAUNCH(name, 1, THREADS, 0, NULL, out, wrong);                                                    \
        return cudaGetLastError();                                                                           \
    }
FAULT(reverse)
FAULT(reverse_warp)
FAULT(unwritten)
FAULT(behind_shared)
FAULT(behind_global)
FAULT(barrier_missed)
FAULT(barrier_branches)
FAULT(shuffle_ended)
FAULT(shuffle_outside)
FAULT(shuffle_from_outside)
FAULT(shuffle_disagree)

extern "C" int gw_fault_behind_dynamic(float *out, bool wrong)
{
    GW_LAUNCH(behind_dynamic, 1, THREADS, THREADS * sizeof(float), NULL, out, wrong);
    return cudaGetLastError();
}

extern "C" int gw_fault_copy(float *out, const float *in, bool wrong)
{
    GW_LAUNCH(copy, 1, THREADS, 0, NULL, out, in, wrong);
    return cudaGetLastError();
}

extern "C" int gw_fault_copy_group(float *out, const float *in, bool wrong)
{
    GW_LAUNCH(copy_group, 1, THREADS, 0, NULL, out, in, wrong);
    return cudaGetLastError();
}

extern "C" int gw_fault_much_shared(float *out, bool wrong)
{
    if (!wrong) GW_ALLOW_SHARED(behind_dynamic, 64 * 1024);
    GW_LAUNCH(behind_dynamic, 1, THREADS, 64 * 1024, NULL, out, false);
    return cudaGetLastError();
}

extern "C" int gw_fault_votes(float *out)
{
    GW_LAUNCH(votes, 1, THREADS, 0, NULL, out);
    return cudaGetLastError();
}
