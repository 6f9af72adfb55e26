/* SiLU gate: y = silu(gate) * up, silu(g) = g / (1 + e^-g). What its variants share. An item is one share of
 * one row: gate_up [row][share][gate: cols | up: cols] f32, y [row][share][cols] act.
 *
 * Owner: all memory is the caller's. Thread: items are independent. Units: elements. Errors: none.
 * Source: Shazeer 2020. */
#ifndef GW_KERNELS_CPU_SILU_MUL_H
#define GW_KERNELS_CPU_SILU_MUL_H

#include "kernels/cpu/device.h"

struct gw_silu_job {
    void *y;
    const float *gate_up;
    uint32_t cols;
};

#endif
