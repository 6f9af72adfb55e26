/* SiLU gate in 16 lanes, for the instruction set that the including file is compiled for.
 *
 * Owner: all memory is the caller's. Thread: items are independent. Units: elements. Errors: none. Source:
 * kernels/cpu/silu_mul.h. */
#ifndef GW_KERNELS_CPU_SILU_MUL_SIMD_H
#define GW_KERNELS_CPU_SILU_MUL_SIMD_H

#include "kernels/cpu/silu_mul.h"
#include "kernels/cpu/simd.h"

GW_INLINE void gw_silu_items16(const struct gw_silu_job *job, enum gw_dtype act, size_t first, size_t last)
{
    for (size_t item = first; item < last; item++) {
        const float *gate = job->gate_up + item * 2 * job->cols, *up = gate + job->cols;
        for (uint32_t i = 0; i < job->cols; i += 16) {
            uint32_t n = gw_block_lanes(job->cols, i);
            gw_v16 y = gw_mul16(gw_siluf16(gw_load16(gate, GW_F32, i, n)), gw_load16(up, GW_F32, i, n));
            gw_store16(job->y, act, item * job->cols + i, n, y);
        }
    }
}

#endif
