/* A CUDA device as the worker sees it: memory of its own (kernels/device_memory.h) and a table of operations (kernels/op.h)
 * over the launchers.
 *
 *     operations ──► compute stream: copies of what they are told (slots, rows, products), kernels, in order
 *     put, get, move, fill ──► the same stream
 *     put_now ──► transfer stream: weights while another pipeline serves
 *     KV pages ──► two streams of their own, one for each way (copy_ring.h)
 *     pick, weigh ──► this machine's processors: of logit rows that were copied out whole
 *
 * A step is put on the stream operation by operation; gw_device_finish waits for it. What goes wrong on the way, a launch, a
 * copy or the end of a step that does not come by the deadline, is kept and said there; the process should end then, for a
 * device that failed stays so.
 *
 *     room      bytes          of                                                  when it is full
 *     step      32 MiB twice   what operations are told, of one step: pinned, and  the stream is waited for, and it is
 *                              on the device                                       begun anew
 *     scratch   256 MiB        parts of attention (decode), padded, int8 rows      sequences, rows are done in groups
 *     bounce    4 MiB          copies between the device and unpinned memory       the next piece waits
 *     cublas    32 MiB         what algorithms of cuBLASLt ask for (fast profile)  those that ask for more are not taken
 *
 * Nothing of CUDA is needed to build this: kernels come by launchers.h, the runtime by stream.h. The library
 * (cuda_library.h) brings both; tests bring the host shim (tests/lib/cuda_shim.h).
 *
 * Owner: gw_device_destroy frees; streams and the CPU's device are borrowed until then. Thread: as device_memory.h and op.h
 * say. Units: bytes, microseconds. Errors: GW_ERR_MEMORY, GW_ERR_CUDA, GW_ERR_INPUT (a shape outside of a kernel's limits).
 * Source: own design. */
#ifndef GW_KERNELS_CUDA_CUDA_DEVICE_H
#define GW_KERNELS_CUDA_CUDA_DEVICE_H

#include "kernels/cuda/cublas_api.h"
#include "kernels/cuda/stream.h"
#include "kernels/device_backend.h"

#define GW_CUDA_STEP_BYTES ((size_t)32 << 20) /* block tables of 256 sequences of 128 k tokens are 8 MiB */
#define GW_CUDA_SCRATCH_BYTES                                                                                \
    ((size_t)256 << 20) /* attention over 64 sequences of 16 k tokens, 8 KV heads of 128 */
#define GW_CUDA_BOUNCE_BYTES ((size_t)4 << 20) /* 80 us of PCIe 5.0 x16: what asking for a copy costs is 5 */
#define GW_CUDA_NAME_MAX     32
#define GW_CUDA_FAST_ROWS                                                                                    \
    65 /* from which on cuBLASLt multiplies: matmul.cu's tiles up to 64 rows are as fast as weights are read */

/* A stream and the calls for it. */
struct gw_cuda_lane {
    const struct gw_stream_ops *ops;
    void *self; /* ops' */
    struct gw_stream *stream;
};

struct gw_cuda_device_config {
    const char *name; /* "cuda-sm90"; copied. The profile: this and what gw_cuda_library.h says */
    enum gw_dtype act, weight,
        kv; /* act: GW_BF16 or GW_F32; weight: as act, GW_I8 or GW_F8; kv: as act, or GW_I8 */
    struct gw_cuda_lane compute, transfer;
    struct gw_stream *meet; /* where collectives connect, by compute's calls */
    struct gw_cuda_lane
        pages_out; /* KV pages to the host (copy_ring.h); apart from the others' calls: other threads make them */
    struct gw_stream *pages_in; /* and from there, by pages_out's calls */
    uint8_t gpu[GW_GPU_BYTES];
    struct gw_device *host;           /* this machine's processors */
    const struct gw_ops *host_ops;    /* theirs: pick, weigh */
    size_t step_bytes, scratch_bytes; /* 0: as above */
    const struct gw_cublas_api
        *cublas;         /* of the fast profile, where there is one; borrowed. NULL: the exact one */
    size_t cublas_bytes; /* 0: as above */
    uint32_t fast_rows;  /* 0: GW_CUDA_FAST_ROWS */
    bool graphs;         /* of decoding steps, where compute's calls have them */
    int64_t deadline_us; /* of a step, or of a copy */
};

/* Is there a fast profile of such weights? Of int8 there is none: their sums are exact whoever adds them up, so nothing would be
 * gained by giving the exact one's promise away. Of fp8 neither: cuBLASLt multiplies no e4m3 by bf16. A device is then of the exact profile, whatever it is asked for. */
static inline bool gw_cuda_can_be_fast(enum gw_dtype act, enum gw_dtype weight)
{
    return weight == act;
}

/* *ops: the device's table, as long as it lives. On error *out and *ops are unchanged. */
gw_err_t gw_cuda_device_create(const struct gw_cuda_device_config *config, struct gw_device **out,
                               const struct gw_ops **ops, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
