/* Device: what a worker computes on, by its --device: this machine's processors, or a GPU through a library that is loaded.
 *
 *     cpu       the profile's table for the best instruction set that gives its bits (prove.h)
 *     cuda:N    kernels/cuda/cuda_library.h, a file beside the program, in ../lib/godwit, or where the system looks. Its digest is
 *               taken here, and names its profile: cuda-sm90-exact-1-<digest> (migrate/profile.h), cuda-sm90-exact-int8-kv8-1-… with int8,
 *               cuda-sm90-exact-f32-1-… of f32 (whose bits are the CPU's; with int8, too),
 *               cuda-sm90-fast-<digest>
 *
 * Owner: gw_worker_device_close frees. Thread: start-up, and that of the operations, which has FTZ and DAZ on afterwards. Units:
 * bytes. Errors: GW_ERR_INPUT (flags that do not go together), else what is needed and what there is: GW_ERR_NOT_FOUND,
 * GW_ERR_MEMORY, GW_ERR_CUDA; *out is then good for close only. Source: own design. */
#ifndef GW_WORKER_DEVICE_H
#define GW_WORKER_DEVICE_H

#include "base/log.h"
#include "kernels/cuda/cuda_library.h"
#include "migrate/kv_format.h"
#include "migrate/weight_format.h"
#include "migrate/wire.h"
#include "worker/model.h"

struct gw_worker_device_config {
    int cuda;            /* ordinal of a GPU; -1: processors */
    const char *version; /* GW_VERSION, which the library's must be */
    const char
        *profile; /* of processors, which says their formats; a GPU's is its own, and this not looked at */
    enum gw_weight_format weights; /* a GPU's */
    enum gw_kv_format kv;
    bool f32;  /* a GPU's: of a model whose matrices are not all bf16 */
    bool fast; /* a GPU's: -fast, not -exact-1, where weights are not int8 (cuda_device.h says why) */
    uint32_t fast_rows; /* as cuda_library.h's; 0: its own */
    bool graphs;        /* a GPU's */
    enum gw_isa isa;
    int threads;
    bool pin;
    int64_t step_timeout_us;
    const struct gw_log *log;
};

struct gw_worker_device {
    const struct gw_ops *ops;
    struct gw_device *device;
    uint64_t memory_bytes; /* of its own that is free; 0: it uses the machine's */
    char about[GW_WIRE_NAME_MAX + 1];
    uint8_t digest[GW_DIGEST_BYTES];
    /* inside */
    struct gw_device *cpu;
    struct gw_ops table; /* a GPU's, under the name that its digest gives it */
    char profile[GW_WIRE_NAME_MAX + 1];
    const struct gw_cuda_library *library;
    struct gw_cuda_opened gpu;
};

gw_err_t gw_worker_device_open(const struct gw_worker_device_config *config, struct gw_worker_device *out,
                               struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_worker_device_close(struct gw_worker_device *d);

/* Can it compute this model? */
gw_err_t gw_worker_device_fits(const struct gw_worker_device *d, const struct gw_model_config *model,
                               struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
