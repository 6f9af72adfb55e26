/* Kernels that are wrong on purpose, and their right twins: what the host shim must find (tests/lib/cuda_shim.h).
 *
 * Each launches one block of 64 threads on out[64] and returns what cudaGetLastError says (0: nothing).
 * Owner: the caller's memory. Thread: any one. Errors: the launch's. Source: own design. */
#ifndef GW_TESTS_LIB_CUDA_SHIM_FAULTS_H
#define GW_TESTS_LIB_CUDA_SHIM_FAULTS_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* out[i] = what thread 63 - i has put into shared memory; wrong: without the barrier between. */
int gw_fault_reverse(float *out, bool wrong);
/* The same within a warp, by __syncwarp. */
int gw_fault_reverse_warp(float *out, bool wrong);
/* out[i] = shared[i], of which the last was never written if wrong. */
int gw_fault_unwritten(float *out, bool wrong);
/* Shared memory behind its end; static and dynamic. */
int gw_fault_behind_shared(float *out, bool wrong);
int gw_fault_behind_dynamic(float *out, bool wrong);
/* out[64] if wrong. */
int gw_fault_behind_global(float *out, bool wrong);
/* 16 bytes copied asynchronously from in[256]; wrong: read before the wait, or only the older group waited for. */
int gw_fault_copy(float *out, const float *in, bool wrong);
int gw_fault_copy_group(float *out, const float *in, bool wrong);
/* A barrier that half of the threads do not reach, and one in each branch. */
int gw_fault_barrier_missed(float *out, bool wrong);
int gw_fault_barrier_branches(float *out, bool wrong);
/* Shuffles: the upper lanes call with a mask of all while the lower have ended, by a mask without themselves, or want a
 * value from outside of the mask; lanes that disagree about the mask. */
int gw_fault_shuffle_ended(float *out, bool wrong);
int gw_fault_shuffle_outside(float *out, bool wrong);
int gw_fault_shuffle_from_outside(float *out, bool wrong);
int gw_fault_shuffle_disagree(float *out, bool wrong);
/* 64 KiB of shared memory; wrong: not allowed before. */
int gw_fault_much_shared(float *out, bool wrong);
/* Right: sums by votes and shuffles, out[i] as gw_fault_votes_want. */
int gw_fault_votes(float *out);

#ifdef __cplusplus
}
#endif

#endif
