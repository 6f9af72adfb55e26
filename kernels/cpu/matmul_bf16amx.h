/* Products of cpu-bf16amx-1 (kernels/op.h): what its variants share. All but AMX's emulate TDPBF16PS: over 32 k the even products and
 * the odd ones are added up apart, in registers, and then folded into the sum.
 *
 * k that is no multiple of 32 is followed by zeros. One of them is a product of zeros more for the even and the odd ones, which
 * makes -0 (of products below the least normal) +0; more change nothing. That is to be seen: where the sum is -0, too.
 *
 * Owner: all memory is the caller's. Thread: as in kernels/op.h. Units: elements. Errors: none. Source: Intel's instruction set
 * extensions programming reference, TDPBF16PS. */
#ifndef GW_KERNELS_CPU_MATMUL_BF16AMX_H
#define GW_KERNELS_CPU_MATMUL_BF16AMX_H

#include "kernels/cpu/matmul.h"

#define GW_FOLD_STEPS 16u /* pairs of k that a tile has */

/* AVX-512's, which AMX's leaves few rows to. */
extern const struct gw_matmul_kernel gw_bf16amx_avx512;

#endif
