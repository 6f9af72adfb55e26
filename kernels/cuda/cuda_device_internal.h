/* Inside of a CUDA device: its state, and what the operations (ops.c, ops_attention.c) ask of it.
 *
 * Thread: that of the operations, but where a member says "any".
 * What is told lies on the device from the step's room on until that is begun anew: an operation reserves all that it will
 * tell before it tells the first. */
#ifndef GW_KERNELS_CUDA_CUDA_DEVICE_INTERNAL_H
#define GW_KERNELS_CUDA_CUDA_DEVICE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "kernels/cpu/kv.h"
#include "kernels/cuda/cublas_matmul.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/launchers.h"
#include "kernels/device_backend.h"

#define GW_CUDA_PROFILE_MAX 64
#define GW_CUDA_PINNED_MAX  16 /* pieces of pinned memory that copies go straight to; others take the bounce */
#define GW_CUDA_ARENA_LISTS 1024 /* layers of all pipelines whose lists of arenas the device keeps */
#define GW_CUDA_ARENA_LIST_MAX                                                                               \
    128 /* arenas of a list: KV heads of a rank, no more than query heads (GW_SHARES_MAX) */

#define GW_CUDA_TILE_QUERIES 16u /* attention_decode.cu's */

#define GW_CUDA_PICK_ROWS 64 /* rows that one launch picks from */
#define GW_CUDA_PICKED_BYTES                                                                                 \
    ((size_t)512 << 10) /* what is found in them: 6 KiB of a row with all that can be asked */

static inline uint32_t gw_cuda_min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* A place through which bytes reach or leave unpinned memory. */
struct gw_cuda_bounce {
    const struct gw_cuda_lane *lane;
    struct gw_event *event;
    uint8_t *pinned; /* GW_CUDA_BOUNCE_BYTES */
};

/* The sequences of a step, as launchers want them: those of few rows first. */
struct gw_cuda_told {
    const struct gw_seq_rows *seqs; /* whose they are; NULL: none are told */
    const struct gw_seq_rows *copy; /* what these said */
    uint32_t seqs_len, group;
    struct gw_cuda_batch all, few, many;
};

struct gw_cuda_pinned {
    const uint8_t *host;
    size_t bytes;
};

struct gw_cuda_device {
    struct gw_device_base base;
    struct gw_ops ops;
    struct gw_ops exact; /* of the fast profile: what does the products that cuBLASLt does not */
    struct gw_cuda_device_config config;
    char name[GW_CUDA_NAME_MAX], profile[GW_CUDA_PROFILE_MAX];
    uint8_t *step_pinned, *step_device; /* config.step_bytes */
    size_t step_used;
    uint8_t *scratch; /* device, config.scratch_bytes */
    uint8_t *picked;  /* pinned, GW_CUDA_PICKED_BYTES */
    struct gw_cuda_told told;
    uint8_t *graph_seqs;      /* device, [GW_GRAPH_ROWS_MAX] gw_seq_rows: what graphs read (ops_graph.c) */
    struct gw_cublas *cublas; /* NULL: the exact profile */
    uint8_t *cublas_room;     /* device, GW_CUBLAS_WORKSPACE_BYTES */
    uint8_t *arena_lists;     /* device, [GW_CUDA_ARENA_LISTS][GW_CUDA_ARENA_LIST_MAX] pointers */
    uint8_t **arena_kept;     /* what they hold */
    uint32_t arenas_changed;  /* times that one of them has made room for another */
    struct gw_cuda_bounce in_order; /* on the compute stream */
    struct gw_cuda_bounce now;      /* on the transfer stream; under transfer_lock */
    pthread_mutex_t transfer_lock;
    pthread_mutex_t lock; /* guards what follows; any thread */
    struct gw_err_ctx error;
    struct gw_cuda_pinned pinned[GW_CUDA_PINNED_MAX];
    _Atomic bool failed, hangs; /* hangs: it may still use its memory */
    _Atomic uintptr_t recorder; /* the thread whose work becomes a graph; 0: none */
    bool spoiled;               /* what it asked for cannot be one; that thread's */
};

static inline struct gw_cuda_device *gw_cuda_of(struct gw_device *dev)
{
    return (struct gw_cuda_device *)(void *)dev;
}

/* The most query heads of one KV head. */
static inline uint32_t gw_cuda_group_of(const struct gw_kv_layer *kv, uint32_t heads)
{
    uint32_t kv_heads = gw_kv_heads(kv);
    return kv->query_group ? kv->query_group : (heads + kv_heads - 1) / kv_heads;
}

/* This thread's operations are recorded from here on: what fails, or wants something told, spoils the recording and is no error
 * of the device. */
void gw_cuda_record(struct gw_cuda_device *d);
/* Ends that. False: it is spoiled. */
bool gw_cuda_recorded(struct gw_cuda_device *d);

/* Keeps the first error; any thread. GW_OK is none. */
void gw_cuda_note(struct gw_cuda_device *d, gw_err_t err, const struct gw_err_ctx *ctx);

/* May an operation begin? False after an error. */
bool gw_cuda_begin(struct gw_cuda_device *d);

/* Room for `bytes`, in pieces that are padded to 16 each; waits for the stream if there was none. False after an error: also if
 * the whole room is too small. */
bool gw_cuda_reserve(struct gw_cuda_device *d, size_t bytes);
/* A piece of it: written at .pinned, and sent by gw_cuda_send to .device. */
struct gw_cuda_piece {
    uint8_t *pinned, *device;
    size_t bytes;
};
struct gw_cuda_piece gw_cuda_take(struct gw_cuda_device *d, size_t bytes);
/* False after an error: the device has not got it. */
bool gw_cuda_send(struct gw_cuda_device *d, struct gw_cuda_piece piece);
/* Both, of what is at `from`; NULL after an error. */
void *gw_cuda_tell(struct gw_cuda_device *d, const void *from, size_t bytes);

static inline size_t gw_cuda_padded(size_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

static inline gw_cuda_stream gw_cuda_compute(const struct gw_cuda_device *d)
{
    return (gw_cuda_stream)(void *)d->config.compute.stream;
}

/* The table's, of ops_attention.c. */
void gw_cuda_op_rope_append(struct gw_device *dev, float *qkv, size_t qkv_stride, size_t q_at, size_t k_at,
                            size_t v_at, uint32_t heads, const struct gw_qkv_prep *prep,
                            const struct gw_kv_layer *kv, const float *cos_sin,
                            const struct gw_seq_rows *seqs, uint32_t seqs_len);
void gw_cuda_op_attention(struct gw_device *dev, void *out, const float *qkv, size_t qkv_stride, size_t q_at,
                          uint32_t heads, const struct gw_kv_layer *kv, float scale,
                          const struct gw_seq_rows *seqs, uint32_t seqs_len);
/* The table's, of ops_pick.c. */
bool gw_cuda_op_pick_there(struct gw_device *dev, const struct gw_pick_row *rows, uint32_t count);
/* The table's products by a launcher, of ops.c for x of bf16 (it is padded where that needs it) and of ops_f32.c. */
void gw_cuda_op_matmul(struct gw_device *dev, gw_cuda_matmul_fn *launch, float *y, size_t y_stride,
                       const void *x, size_t x_stride, const struct gw_weight *w, const uint32_t *y_at,
                       uint32_t count, uint32_t m);
void gw_cuda_op_matmul_shares(struct gw_device *dev, gw_cuda_matmul_fn *launch, float *y, const void *x,
                              const struct gw_weight *w, uint32_t shares, uint32_t m);
void gw_cuda_op_matmul_f32(struct gw_device *dev, gw_cuda_matmul_f32_fn *launch, float *y, size_t y_stride,
                           const void *x, size_t x_stride, const struct gw_weight *w, const uint32_t *y_at,
                           uint32_t count, uint32_t m);
void gw_cuda_op_matmul_shares_f32(struct gw_device *dev, gw_cuda_matmul_f32_fn *launch, float *y,
                                  const void *x, const struct gw_weight *w, uint32_t shares, uint32_t m);
/* The same become those of fp8 weights, of ops_fp8.c; behind gw_cuda_use_f32, where that is called. */
void gw_cuda_use_fp8_weights(struct gw_ops *table);
/* The table's products and their packing become those of int8 weights; of ops_int8.c. */
void gw_cuda_use_int8_weights(struct gw_ops *table);
/* The table becomes that of f32: activations, weights and, until somebody says otherwise, KV; of ops_f32.c. Before that of
 * int8 weights, which takes their type from it. */
void gw_cuda_use_f32(struct gw_ops *table);
/* The table but for names and profile, of ops.c. */
extern const struct gw_ops gw_cuda_table;
/* Puts the fast profile's products into the device's table, of ops_fast.c. */
void gw_cuda_take_fast(struct gw_cuda_device *d);
/* Of ops_graph.c. */
extern const struct gw_graph_backend gw_cuda_graphs;

#endif
