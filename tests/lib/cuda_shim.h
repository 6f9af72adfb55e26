/* A CUDA device played by this process: the kernels' own .cu sources, compiled as C++, run on it.
 *
 * One fiber per CUDA thread, one block at a time, on the calling OS thread. A fiber runs until it waits (barrier, warp
 * operation) or ends; who goes on then, and which block comes next, is drawn from a seed that is printed
 * (GW_SHIM_SEED=... replays it); in half of the blocks some warps always go first. The source is given this header by `-include`,
 * in place of what nvcc brings.
 *
 *     found                                               how
 *     a barrier that some threads do not reach            nobody can go on: the launch fails and says who waits where
 *     a __syncthreads() or __syncwarp() that is missing   another fiber order reads NaN or older values: wrong results
 *     a warp operation with a wrong mask                  a lane that is not in its own mask, one that has ended, one that
 *                                                         does something else, a shuffle from outside: the launch fails
 *     shared memory that nobody has written               it holds NaN (0xFF) when a block starts
 *     a read or write out of bounds                       ASan: shared arrays are heap blocks of their exact size
 *     a copy that is used before it was waited for        its destination holds NaN from the request to the wait
 *     arithmetic that C++ does not define                 UBSan
 *
 * It cannot find: races that only weak memory order shows (a fiber's writes are seen at once, in order, by all), what depends
 * on timing or on threads of one warp running in step, races between blocks (they run one after the other), bank conflicts,
 * registers, occupancy; nor how a tensor core rounds: gw_mma_bf16 here adds 16 exact products and the accumulator, and rounds
 * once, where hardware cuts bits off inside.
 *
 * Owner: the launch owns stacks and shared memory. Thread: any; launches wait for each other. Units: bytes, threads. Errors: a
 * launch that fails leaves its text in gw_shim_error() and cudaGetLastError() != 0, of whichever thread asks first. Source: own
 * design. */
#ifndef GW_TESTS_LIB_CUDA_SHIM_H
#define GW_TESTS_LIB_CUDA_SHIM_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

/* ---- the language ---- */

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

template <class T> static inline T min(T a, T b)
{
    return a < b ? a : b;
}
template <class T> static inline T max(T a, T b)
{
    return a > b ? a : b;
}

struct uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

/* ---- the runtime, as much as launchers use ---- */

typedef struct CUstream_st *cudaStream_t;
typedef int cudaError_t;
enum { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9, cudaErrorLaunchFailure = 719 };
cudaError_t cudaGetLastError();
const char *cudaGetErrorString(cudaError_t error);

/* ---- where a fiber is ---- */

struct gw_shim_place {
    dim3 block, thread, blocks, threads;
};
const gw_shim_place &gw_shim_here();
#define blockIdx  (gw_shim_here().block)
#define threadIdx (gw_shim_here().thread)
#define gridDim   (gw_shim_here().blocks)
#define blockDim  (gw_shim_here().threads)

/* Ends the launch with a text. Does not return. */
[[noreturn]] void gw_shim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- waiting ---- */

/* What a lane brings to a warp operation, and takes away. */
struct gw_shim_lane {
    uint32_t in[10];
    uint32_t out[4];
    const void *row;
};
typedef void gw_shim_join_fn(gw_shim_lane *const lanes[32], uint32_t mask);

void gw_shim_syncthreads(const char *file, int line);
/* Waits for all lanes of `mask`; the last one does `join`. */
void gw_shim_warp(const char *name, uint32_t mask, gw_shim_join_fn *join, gw_shim_lane *lane);
void gw_shim_join_nothing(gw_shim_lane *const lanes[32], uint32_t mask);
/* in[0]: value, in[1]: lane that it is wanted from. */
void gw_shim_join_shuffle(gw_shim_lane *const lanes[32], uint32_t mask);
void gw_shim_join_ballot(gw_shim_lane *const lanes[32], uint32_t mask);
unsigned gw_shim_lane_id();

#define __syncthreads() gw_shim_syncthreads(__FILE__, __LINE__)

static inline void __syncwarp(unsigned mask = 0xFFFFFFFFu)
{
    gw_shim_lane lane = {};
    gw_shim_warp("__syncwarp", mask, gw_shim_join_nothing, &lane);
}

template <class T> static inline T gw_shim_shuffle(unsigned mask, T value, unsigned from)
{
    static_assert(sizeof(T) == 4, "32 bits are shuffled");
    gw_shim_lane lane = {};
    memcpy(&lane.in[0], &value, 4);
    lane.in[1] = from < 32 ? from : gw_shim_lane_id();
    gw_shim_warp("shuffle", mask, gw_shim_join_shuffle, &lane);
    memcpy(&value, &lane.out[0], 4);
    return value;
}

template <class T> static inline T __shfl_sync(unsigned mask, T value, int from)
{
    return gw_shim_shuffle(mask, value, (unsigned)from % 32);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int lanes)
{
    return gw_shim_shuffle(mask, value, gw_shim_lane_id() ^ (unsigned)lanes);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned lanes)
{
    return gw_shim_shuffle(mask, value, gw_shim_lane_id() + lanes);
}

static inline unsigned __ballot_sync(unsigned mask, int yes)
{
    gw_shim_lane lane = {};
    lane.in[0] = yes != 0;
    gw_shim_warp("vote", mask, gw_shim_join_ballot, &lane);
    return lane.out[0];
}
static inline int __any_sync(unsigned mask, int yes)
{
    return __ballot_sync(mask, yes) != 0;
}
static inline int __all_sync(unsigned mask, int yes)
{
    return __ballot_sync(mask, yes) == mask;
}

/* ---- shared memory ---- */

/* The block's array of this site; the first fiber that asks makes it. */
void *gw_shim_shared(const void *site, size_t bytes);
void *gw_shim_shared_dynamic();

#define GW_SHARED(type, name, len)                                                                           \
    static const char name##_site = 0;                                                                       \
    type *const name = static_cast<type *>(gw_shim_shared(&name##_site, (len) * sizeof(type)))
#define GW_SHARED_DYNAMIC(name)                                                                              \
    unsigned char *const name = static_cast<unsigned char *>(gw_shim_shared_dynamic())

/* ---- PTX (kernels/cuda/ptx.cuh) ---- */

void gw_ldmatrix_x4(uint32_t r[4], const void *row);
void gw_ldmatrix_x2_trans(uint32_t r[2], const void *row);
void gw_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2]);
void gw_mma_int8(int32_t d[4], const uint32_t a[4], const uint32_t b[2]);
uint32_t gw_rebias_bf16x2(uint32_t pair);
void gw_shim_copy_async(void *shared, const void *global, size_t bytes, bool whole);
static inline void gw_copy16_async(void *shared, const void *global, bool whole)
{
    gw_shim_copy_async(shared, global, 16, whole);
}
template <int bytes> static inline void gw_copy_small_async(void *shared, const void *global, bool whole)
{
    gw_shim_copy_async(shared, global, bytes, whole);
}
void gw_copies_commit();
void gw_shim_copies_wait(int groups);
template <int groups> static inline void gw_copies_wait()
{
    gw_shim_copies_wait(groups);
}

/* ---- launches ---- */

/* kernel: its address, by which GW_ALLOW_SHARED has allowed more than 48 KiB. arg: arg_bytes, of which a thread that records
 * (cuda_shim_graph.h) keeps a copy. */
void gw_shim_run(const void *kernel, dim3 blocks, dim3 threads, size_t shared_bytes, void (*call)(void *arg),
                 void *arg, size_t arg_bytes);
/* Has the thread's recording taken it? */
bool gw_shim_keeps(const void *kernel, dim3 blocks, dim3 threads, size_t shared_bytes,
                   void (*call)(void *arg), const void *arg, size_t arg_bytes);
cudaError_t gw_shim_allow_shared(const void *kernel, size_t bytes);

/* A launch: its arguments are made what the kernel takes when it is asked for, as by CUDA, and lie there as plain bytes. */
template <class... P> struct gw_shim_args {
    template <class K, class... D> void call(K *kernel, const D &...done) const { kernel(done...); }
};
template <class H, class... T> struct gw_shim_args<H, T...> {
    H head;
    gw_shim_args<T...> tail;
    template <class K, class... D> void call(K *kernel, const D &...done) const
    {
        tail.call(kernel, done..., head);
    }
};

static inline gw_shim_args<> gw_shim_pack(gw_shim_args<> *)
{
    return gw_shim_args<>{};
}
template <class H, class... T, class A, class... B>
static inline gw_shim_args<H, T...> gw_shim_pack(gw_shim_args<H, T...> *, A first, B... rest)
{
    return gw_shim_args<H, T...>{static_cast<H>(first),
                                 gw_shim_pack(static_cast<gw_shim_args<T...> *>(nullptr), rest...)};
}

template <class K, class S> struct gw_shim_call {
    K *kernel;
    S args;
};

template <class... P, class... A>
static inline void gw_shim_launch(void (*kernel)(P...), dim3 blocks, dim3 threads, size_t shared_bytes,
                                  A... args)
{
    using packed = gw_shim_args<P...>;
    using call = gw_shim_call<void(P...), packed>;
    static_assert(std::is_trivially_copyable<call>::value, "a graph keeps arguments as bytes");
    call body = {kernel, gw_shim_pack(static_cast<packed *>(nullptr), args...)};
    gw_shim_run((const void *)kernel, blocks, threads, shared_bytes,
                [](void *arg) {
                    const call *c = static_cast<call *>(arg);
                    c->args.call(c->kernel);
                },
                &body, sizeof body);
}

#define GW_LAUNCH(kernel, blocks, threads, shared_bytes, stream, ...)                                        \
    ((void)(stream), gw_shim_launch((kernel), blocks, threads, shared_bytes, __VA_ARGS__))
#define GW_ALLOW_SHARED(kernel, bytes) gw_shim_allow_shared((const void *)(kernel), bytes)

#endif
