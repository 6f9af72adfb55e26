/* RMSNorm: y = (x * r) * w, r = 1 / sqrt(sum(x²) / k + eps); the sum over 16 virtual lanes. What its variants
 * share. Shapes: x [m, k] f32, w [k] f32, y [m, k] act.
 *
 * Owner: all memory is the caller's. Thread: rows are independent. Units: elements. Errors: none. Source:
 * Zhang & Sennrich 2019. */
#ifndef GW_KERNELS_CPU_RMSNORM_H
#define GW_KERNELS_CPU_RMSNORM_H

#include "kernels/cpu/device.h"

struct gw_rmsnorm_job {
    void *y;
    const float *x, *w;
    float eps;
    uint32_t k;
};

#endif
