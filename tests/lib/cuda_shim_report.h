/* What tests ask the host shim for CUDA (tests/lib/cuda_shim.h) about the last launches.
 *
 * Owner: the text is the shim's, until the next launch fails. Thread: that of the launches. Errors: none.
 * Source: own design. */
#ifndef GW_TESTS_LIB_CUDA_SHIM_REPORT_H
#define GW_TESTS_LIB_CUDA_SHIM_REPORT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Text of the launch that failed last; "" if none has since gw_shim_forget. */
const char *gw_shim_error(void);
void gw_shim_forget(void);

/* The order of fibers and blocks from here on. */
void gw_shim_seed(uint64_t seed);

#ifdef __cplusplus
}
#endif

#endif
