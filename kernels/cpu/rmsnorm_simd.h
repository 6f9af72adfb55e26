/* RMSNorm of rows in 16 lanes, for the instruction set that the including file is compiled for.
 *
 * Owner: all memory is the caller's. Thread: rows are independent. Units: elements. Errors: none. Source:
 * kernels/cpu/rmsnorm.h. */
#ifndef GW_KERNELS_CPU_RMSNORM_SIMD_H
#define GW_KERNELS_CPU_RMSNORM_SIMD_H

#include "kernels/cpu/rmsnorm.h"
#include "kernels/cpu/simd.h"

/* Lanes not loaded add +0 to a sum of squares, which is never -0: they change no bit. */
GW_INLINE void gw_rmsnorm_rows16(const struct gw_rmsnorm_job *job, enum gw_dtype act, size_t first,
                                 size_t last)
{
    for (size_t row = first; row < last; row++) {
        const float *x = job->x + row * job->k;
        gw_v16 sum = gw_set16(0.0f);
        for (uint32_t i = 0; i < job->k; i += 16) {
            gw_v16 v = gw_load16(x, GW_F32, i, gw_block_lanes(job->k, i));
            sum = gw_fma16(v, v, sum);
        }
        gw_v16 inverse = gw_set16(gw_rms_inverse(gw_fold_sum16(sum), job->k, job->eps));
        for (uint32_t i = 0; i < job->k; i += 16) {
            uint32_t n = gw_block_lanes(job->k, i);
            gw_v16 v = gw_mul16(gw_load16(x, GW_F32, i, n), inverse);
            gw_store16(job->y, act, row * job->k + i, n, gw_mul16(v, gw_load16(job->w, GW_F32, i, n)));
        }
    }
}

#endif
