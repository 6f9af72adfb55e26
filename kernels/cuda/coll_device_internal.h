/* What the carriers of device collectives share: their common beginning, memory, and the one loop that waits.
 *
 * A carrier's struct begins with struct gw_coll_device. Its functions return the error; that it stays, and that give_up is
 * called once behind the first, is coll_device.c's affair. */
#ifndef GW_KERNELS_CUDA_COLL_DEVICE_INTERNAL_H
#define GW_KERNELS_CUDA_COLL_DEVICE_INTERNAL_H

#include <stdatomic.h>

#include "base/clock.h"
#include "kernels/cuda/coll_device.h"

#define GW_COLL_BUFFERS_MAX 8

/* FNV-1a over whole numbers. */
#define GW_COLL_DIGEST_BEGIN 0xcbf29ce484222325u
static inline uint64_t gw_coll_digest(uint64_t digest, uint64_t value)
{
    return (digest ^ value) * 0x100000001b3u;
}

struct gw_coll_carrier {
    const char *name;
    void (*begin)(struct gw_coll_device *d, uint64_t step); /* NULL: nothing to do */
    /* gw_coll_block(d, own), of `elems` of each root, to all others of the stage, and theirs to gw_coll_block(d, rank). */
    gw_err_t (*gather)(struct gw_coll_device *d, size_t elems, struct gw_err_ctx *ctx);
    gw_err_t (*send)(struct gw_coll_device *d, uint32_t rank, const void *data, size_t bytes,
                     struct gw_err_ctx *ctx);
    gw_err_t (*recv)(struct gw_coll_device *d, uint32_t rank, void *data, size_t bytes,
                     struct gw_err_ctx *ctx);
    gw_err_t (*finish)(struct gw_coll_device *d, struct gw_err_ctx *ctx);
    void (*wake)(struct gw_coll_device *d);    /* d->aborted was set, from any thread. NULL: nothing to do */
    void (*give_up)(struct gw_coll_device *d); /* after the first error: ends what is under way */
    bool (*close)(struct gw_coll_device *d);   /* before memory is freed; false: it may still be used */
};

struct gw_coll_stage_rank {
    uint32_t first, last; /* shares */
    uint32_t roots_len;
    uint8_t roots[GW_SHARE_ROOTS_MAX];
};

struct gw_coll_device {
    const struct gw_coll_carrier *carrier;
    struct gw_coll_device_config config; /* share_at is not kept */
    uint32_t stage_self;
    uint64_t step;
    uint64_t sums, sums_digest; /* of this step: how many, and of their lengths in order */
    struct gw_coll_stage_rank stage[GW_COLL_RANKS_MAX];
    uint32_t roots_max;
    uint32_t within_len, rest_len;
    struct gw_share_add within[GW_SHARE_ADDS_MAX], rest[GW_SHARE_ADDS_MAX];
    float *partials; /* device, [own shares][max_elems] */
    float *gathered; /* device, [stage_ranks][roots_max][max_elems]: gw_coll_block */
    struct gw_event *event;
    struct gw_coll_buffer {
        void *memory;
        bool pinned;
    } buffers[GW_COLL_BUFFERS_MAX];
    uint32_t buffers_len;
    _Atomic bool aborted;
    struct gw_err_ctx failed;
};

/* d is zeroed. On error gw_coll_device_fini takes back what there is. */
gw_err_t gw_coll_device_init(struct gw_coll_device *d, const struct gw_coll_device_config *config,
                             const struct gw_coll_carrier *carrier, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Device or pinned memory, freed with d. */
gw_err_t gw_coll_device_alloc(struct gw_coll_device *d, bool pinned, size_t bytes, void **out,
                              struct gw_err_ctx *ctx) GW_MUST_USE;

/* Copies on the stream. */
gw_err_t gw_coll_device_copy(struct gw_coll_device *d, void *to, const void *from, size_t bytes,
                             struct gw_err_ctx *ctx) GW_MUST_USE;

/* Where the roots of a rank of the stage are gathered, of sums of so many elements: [roots_max][elems]. */
float *gw_coll_block(const struct gw_coll_device *d, uint32_t stage_rank, size_t elems);

/* Asks something that must not wait: is it done? */
typedef gw_err_t gw_coll_look_fn(struct gw_coll_device *d, void *arg, bool *done, struct gw_err_ctx *ctx);

/* Asks until it is done, it fails, d is aborted, or `us` have passed: "<what> is slow". */
gw_err_t gw_coll_device_await(struct gw_coll_device *d, gw_coll_look_fn *look, void *arg, int64_t us,
                              const char *what, struct gw_err_ctx *ctx) GW_MUST_USE;

/* The same for what ends d: no abort stops it. False: it failed, or config.end_us have passed. */
bool gw_coll_device_await_end(struct gw_coll_device *d, gw_coll_look_fn *look, void *arg);

/* A look: is the event (arg) done? */
gw_err_t gw_coll_look_event(struct gw_coll_device *d, void *arg, bool *done, struct gw_err_ctx *ctx);

#endif
