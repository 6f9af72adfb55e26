/* The host shim's fibers and launches (tests/lib/cuda_shim.h).
 *
 *     READY ──chosen──► running ──┬─ __syncthreads ──► AT_BARRIER ── all that live are there ──┐
 *       ▲                         ├─ *_sync ─────────► AT_WARP ───── all of the mask are ──────┤
 *       │                         └─ returns ────────► DONE                                    │
 *       └──────────────────────────────────────────────────────────────────────────────────────┘
 *
 * Nobody READY and not all DONE: the launch fails, and each kind of waiting is told. A launch that fails leaves its fibers
 * where they are; kernels own nothing that would have to be given back. */
#include "tests/lib/cuda_shim.h"
#include "tests/lib/cuda_shim_report.h"

#include <cassert>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <numeric>
#include <pthread.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes)       ((void)(at), (void)(bytes))
#define __sanitizer_start_switch_fiber(save, at, n)  ((void)(save), (void)(at), (void)(n))
#define __sanitizer_finish_switch_fiber(save, at, n) ((void)(save), (void)(at), (void)(n))
#endif

namespace
{

constexpr unsigned THREADS_MAX = 1024;    /* of a block: CUDA's limit */
constexpr size_t STACK_BYTES = 64 * 1024; /* a kernel's frames under ASan, and then some */
constexpr size_t GUARD_BYTES = 4096;
constexpr unsigned SHARED_MAX = 16; /* arrays of one block */
constexpr size_t SHARED_DEFAULT_BYTES =
    48 * 1024;                                    /* what a launch may ask for without cudaFuncSetAttribute */
constexpr size_t SHARED_LIMIT_BYTES = 227 * 1024; /* of an H100 */
constexpr unsigned ALLOWED_MAX = 64;
constexpr unsigned COPIES_MAX = 64; /* of one thread, requested and not waited for */
constexpr int POISON = 0xFF;        /* NaN as f32, bf16 and f16 */

struct copy {
    void *to;
    const void *from; /* NULL: zeros */
    size_t bytes;
    unsigned group;
};

enum state { READY, AT_BARRIER, AT_WARP, DONE };

struct fiber {
    void *sp;
    uint8_t *stack; /* STACK_BYTES above a guard page */
    void *fake_stack;
    gw_shim_place place;
    unsigned index;
    enum state state;
    const char *waits_at; /* file of a barrier, name of a warp operation */
    int line;
    uint32_t mask;
    gw_shim_lane *lane;
    copy copies[COPIES_MAX];
    unsigned copies_len, group; /* group: the one that requests go to */
};

/* Lanes of a warp: that could run, that are at a warp operation, that have ended, that the block has. */
struct warp {
    uint32_t ready, waiting, ended, there;
};

struct shared_array {
    const void *site;
    void *data;
};

struct allowed {
    const void *kernel;
    size_t bytes;
};

struct device {
    fiber fibers[THREADS_MAX];
    warp warps[THREADS_MAX / 32];
    unsigned order[THREADS_MAX / 32]; /* of the block's warps */
    bool in_order;                    /* a later one runs when the earlier ones cannot; else any may */
    unsigned threads, ready_len, done, at_barrier;
    fiber *current;
    void *main_sp, *main_fake_stack;
    const void *main_stack;
    size_t main_stack_bytes;
    void (*call)(void *arg);
    void *arg;
    shared_array shared[SHARED_MAX];
    unsigned shared_len;
    void *dynamic;
    allowed allow[ALLOWED_MAX];
    unsigned allow_len;
    uint64_t rng;
    bool seeded, failed;
    cudaError_t error;
    char text[512];
};

device g; /* the device: there is one, as there is one process */

/* One launch at a time, whichever thread it comes from. */
pthread_mutex_t launching = PTHREAD_MUTEX_INITIALIZER;
struct hold {
    hold() { pthread_mutex_lock(&launching); }
    ~hold() { pthread_mutex_unlock(&launching); }
};

uint64_t draw(uint64_t below)
{
    g.rng += 0x9E3779B97F4A7C15u;
    uint64_t z = g.rng;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (z ^ z >> 31) % below;
}

void seed_once()
{
    if (g.seeded) return;
    const char *given = getenv("GW_SHIM_SEED");
    gw_shim_seed(given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL));
    printf("# shim: GW_SHIM_SEED=%llu\n", (unsigned long long)g.rng);
}

/* ---- switching ---- */

extern "C" void gw_shim_switch(void **save, void *to);
asm(R"(
.text
.globl gw_shim_switch
.type gw_shim_switch, @function
gw_shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size gw_shim_switch, .-gw_shim_switch
)");

void to_main(fiber *from)
{
    __sanitizer_start_switch_fiber(&from->fake_stack, g.main_stack, g.main_stack_bytes);
    gw_shim_switch(&from->sp, g.main_sp);
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
}

/* One of the lanes of a mask that is not 0. */
unsigned any_lane(uint32_t mask)
{
    unsigned from = (unsigned)draw(32);
    uint32_t turned = from ? mask >> from | mask << (32 - from) : mask;
    return ((unsigned)__builtin_ctz(turned) + from) % 32;
}

/* Somebody is ready. Warps that always go first, and so wait for nothing but what they say they wait for, find what a fair order
 * hides: by the time that a fair order comes to use something, everybody has long made it. */
fiber *choose()
{
    unsigned warps = (g.threads + 31) / 32, at = g.in_order ? 0 : (unsigned)draw(warps);
    while (g.warps[g.order[at]].ready == 0) at = (at + 1) % warps;
    warp *w = &g.warps[g.order[at]];
    unsigned lane = any_lane(w->ready);
    w->ready &= ~(1u << lane);
    g.ready_len--;
    return &g.fibers[g.order[at] * 32 + lane];
}

/* Lets another fiber run; returns when `from` is chosen again. */
void leave(fiber *from)
{
    if (g.ready_len == 0) {
        to_main(from);
        return;
    }
    fiber *to = choose();
    g.current = to;
    if (to == from) return;
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, STACK_BYTES);
    gw_shim_switch(&from->sp, to->sp);
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
}

void make_ready(fiber *f)
{
    f->state = READY;
    g.warps[f->index / 32].ready |= 1u << f->index % 32;
    g.ready_len++;
}

/* All that have not ended are at the barrier: go on. */
void open_barrier()
{
    if (g.at_barrier == 0 || g.at_barrier + g.done < g.threads) return;
    g.at_barrier = 0;
    for (unsigned i = 0; i < g.threads; i++)
        if (g.fibers[i].state == AT_BARRIER) make_ready(&g.fibers[i]);
}

/* A lane that ends while others of its warp wait for it. */
void check_not_awaited(const fiber *f)
{
    for (unsigned lane = 0, first = f->index / 32 * 32; lane < 32 && first + lane < g.threads; lane++) {
        const fiber *other = &g.fibers[first + lane];
        if (other->state == AT_WARP && other->mask >> f->index % 32 & 1)
            gw_shim_fail("%s of mask %08x: lane %u, which is in it, has ended", other->waits_at, other->mask,
                         f->index % 32);
    }
}

void fiber_main()
{
    /* the first fiber of all comes from the main stack, and is told where that lies */
    const void **bottom = g.main_stack ? NULL : &g.main_stack;
    __sanitizer_finish_switch_fiber(NULL, bottom, bottom ? &g.main_stack_bytes : NULL);
    g.call(g.arg);
    fiber *f = g.current;
    check_not_awaited(f);
    f->state = DONE;
    g.warps[f->index / 32].ended |= 1u << f->index % 32;
    g.done++;
    open_barrier();
    leave(f);
    assert(!"a fiber that has ended runs on");
}

/* ---- a block ---- */

uint8_t *new_stack()
{
    void *at = mmap(NULL, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert(at != MAP_FAILED);
    int rc = mprotect(at, GUARD_BYTES, PROT_NONE);
    assert(rc == 0);
    return static_cast<uint8_t *>(at) + GUARD_BYTES;
}

/* What gw_shim_switch pops: six registers and where to go. There, the stack is as behind a call: 8 past a multiple of 16. */
void fiber_init(fiber *f, unsigned index, const gw_shim_place &block)
{
    if (!f->stack) f->stack = new_stack();
    ASAN_UNPOISON_MEMORY_REGION(f->stack, STACK_BYTES);
    void **top = static_cast<void **>(static_cast<void *>(f->stack + STACK_BYTES - 32));
    top[0] = reinterpret_cast<void *>(fiber_main);
    for (int i = 1; i <= 6; i++) top[-i] = NULL;
    f->sp = top - 6;
    f->fake_stack = NULL;
    f->place = block;
    f->place.thread = dim3(index % block.threads.x, index / block.threads.x % block.threads.y,
                           index / block.threads.x / block.threads.y);
    f->index = index;
    f->copies_len = f->group = 0;
    make_ready(f);
}

void *poisoned(size_t bytes)
{
    void *data = NULL;
    int rc = posix_memalign(&data, 16, bytes ? bytes : 1);
    assert(rc == 0);
    memset(data, POISON, bytes);
    return data;
}

void block_fini()
{
    for (unsigned i = 0; i < g.shared_len; i++) free(g.shared[i].data);
    g.shared_len = 0;
    free(g.dynamic);
    g.dynamic = NULL;
}

void tell_who_waits()
{
    const fiber *barrier = NULL, *warp = NULL;
    for (unsigned i = 0; i < g.threads; i++) {
        if (g.fibers[i].state == AT_BARRIER) barrier = &g.fibers[i];
        if (g.fibers[i].state == AT_WARP) warp = &g.fibers[i];
    }
    g.failed = true;
    if (barrier && warp)
        snprintf(
            g.text, sizeof g.text,
            "nobody can go on: thread %u is at the __syncthreads of %s:%d, thread %u at a %s of mask %08x",
            barrier->index, barrier->waits_at, barrier->line, warp->index, warp->waits_at, warp->mask);
    else if (warp)
        snprintf(g.text, sizeof g.text, "nobody can go on: thread %u is at a %s of mask %08x", warp->index,
                 warp->waits_at, warp->mask);
}

/* The block's warps in an order of their own, which every second block keeps to. */
void draw_order(unsigned warps)
{
    g.in_order = draw(2) == 0;
    for (unsigned i = 0; i < warps; i++) {
        unsigned other = (unsigned)draw(i + 1);
        g.order[i] = g.order[other];
        g.order[other] = i;
    }
}

void run_block(const gw_shim_place &block, size_t shared_bytes)
{
    g.threads = block.threads.x * block.threads.y * block.threads.z;
    g.ready_len = g.done = g.at_barrier = 0;
    g.dynamic = poisoned(shared_bytes);
    memset(g.warps, 0, sizeof g.warps);
    draw_order((g.threads + 31) / 32);
    for (unsigned i = 0; i < g.threads; i++) {
        fiber_init(&g.fibers[i], i, block);
        g.warps[i / 32].there |= 1u << i % 32;
    }
    fiber *first = choose();
    g.current = first;
    __sanitizer_start_switch_fiber(&g.main_fake_stack, first->stack, STACK_BYTES);
    gw_shim_switch(&g.main_sp, first->sp);
    __sanitizer_finish_switch_fiber(g.main_fake_stack, NULL, NULL);
    g.current = NULL;
    if (!g.failed && g.done < g.threads) tell_who_waits();
    block_fini();
}

cudaError_t check_launch(const void *kernel, dim3 blocks, dim3 threads, size_t shared_bytes)
{
    size_t most = SHARED_DEFAULT_BYTES;
    for (unsigned i = 0; i < g.allow_len; i++)
        if (g.allow[i].kernel == kernel) most = g.allow[i].bytes;
    unsigned of_block = threads.x * threads.y * threads.z;
    bool fits = of_block >= 1 && of_block <= THREADS_MAX && blocks.x >= 1 && blocks.y >= 1 && blocks.z >= 1 &&
                blocks.y <= 65535 && blocks.z <= 65535 && shared_bytes <= most;
    return fits ? cudaSuccess : cudaErrorInvalidConfiguration;
}

} // namespace

/* ---- launches ---- */

void gw_shim_run(const void *kernel, dim3 blocks, dim3 threads, size_t shared_bytes, void (*call)(void *arg),
                 void *arg, size_t arg_bytes)
{
    if (gw_shim_keeps(kernel, blocks, threads, shared_bytes, call, arg, arg_bytes)) return;
    hold held;
    seed_once();
    g.main_stack = NULL; /* launches may come from any thread */
    cudaError_t error = check_launch(kernel, blocks, threads, shared_bytes);
    if (error != cudaSuccess) {
        g.error = error;
        return;
    }
    g.call = call;
    g.arg = arg;
    g.failed = false;
    /* any step that has no divisor in common with the number of blocks visits them all */
    uint64_t count = (uint64_t)blocks.x * blocks.y * blocks.z, at = draw(count), step = 1 + draw(count);
    while (std::gcd(step, count) != 1) step++;
    for (uint64_t i = 0; i < count && !g.failed; i++, at = (at + step) % count) {
        dim3 block((unsigned)(at % blocks.x), (unsigned)(at / blocks.x % blocks.y),
                   (unsigned)(at / blocks.x / blocks.y));
        run_block(gw_shim_place{block, dim3(), blocks, threads}, shared_bytes);
    }
    if (g.failed) g.error = cudaErrorLaunchFailure;
}

cudaError_t gw_shim_allow_shared(const void *kernel, size_t bytes)
{
    if (bytes > SHARED_LIMIT_BYTES) return cudaErrorInvalidConfiguration;
    unsigned i = 0;
    while (i < g.allow_len && g.allow[i].kernel != kernel) i++;
    assert(i < ALLOWED_MAX);
    g.allow[i] = allowed{kernel, bytes};
    if (i == g.allow_len) g.allow_len++;
    return cudaSuccess;
}

cudaError_t cudaGetLastError()
{
    cudaError_t error = g.error;
    g.error = cudaSuccess;
    return error;
}

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaSuccess ? "no error" : g.failed ? g.text : "invalid configuration argument";
}

void gw_shim_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(g.text, sizeof g.text, format, args);
    va_end(args);
    g.failed = true;
    to_main(g.current);
    abort(); /* nobody comes back to a fiber of a launch that has failed */
}

extern "C" const char *gw_shim_error(void)
{
    return g.text;
}

extern "C" void gw_shim_forget(void)
{
    g.text[0] = '\0';
    g.error = cudaSuccess;
}

extern "C" void gw_shim_seed(uint64_t seed)
{
    g.rng = seed;
    g.seeded = true;
}

/* ---- what a fiber asks for ---- */

const gw_shim_place &gw_shim_here()
{
    return g.current->place;
}

unsigned gw_shim_lane_id()
{
    return g.current->index % 32;
}

void gw_shim_syncthreads(const char *file, int line)
{
    fiber *f = g.current;
    for (unsigned i = 0; g.at_barrier > 0 && i < g.threads; i++) {
        const fiber *other = &g.fibers[i];
        if (other->state != AT_BARRIER) continue;
        if (other->line != line || strcmp(other->waits_at, file) != 0)
            gw_shim_fail("thread %u is at the __syncthreads of %s:%d, thread %u at that of %s:%d", f->index,
                         file, line, other->index, other->waits_at, other->line);
        break;
    }
    f->state = AT_BARRIER;
    f->waits_at = file;
    f->line = line;
    g.at_barrier++;
    open_barrier();
    leave(f);
}

/* The lowest lane of a mask that is not 0. */
static unsigned lowest(uint32_t mask)
{
    return (unsigned)__builtin_ctz(mask);
}

/* Fails if some lane of the mask never will be there. */
static void check_mask(const fiber *f, const warp *w)
{
    if (!(f->mask >> f->index % 32 & 1))
        gw_shim_fail("%s of mask %08x by lane %u, which is not in it", f->waits_at, f->mask, f->index % 32);
    if (f->mask & ~w->there)
        gw_shim_fail("%s of mask %08x: the block has no lane %u", f->waits_at, f->mask,
                     lowest(f->mask & ~w->there));
    if (f->mask & w->ended)
        gw_shim_fail("%s of mask %08x: lane %u, which is in it, has ended", f->waits_at, f->mask,
                     lowest(f->mask & w->ended));
}

/* All lanes of the mask wait: for the same? */
static void check_agreement(const fiber *f, const fiber *lanes)
{
    for (unsigned lane = 0; lane < 32; lane++) {
        const fiber *other = &lanes[lane];
        if (!(f->mask >> lane & 1) || (other->mask == f->mask && other->waits_at == f->waits_at)) continue;
        if (other->mask != f->mask || strcmp(other->waits_at, f->waits_at) != 0)
            gw_shim_fail("lane %u is at a %s of mask %08x, lane %u at a %s of mask %08x", f->index % 32,
                         f->waits_at, f->mask, lane, other->waits_at, other->mask);
    }
}

void gw_shim_warp(const char *name, uint32_t mask, gw_shim_join_fn *join, gw_shim_lane *lane)
{
    fiber *f = g.current, *first = f - f->index % 32;
    warp *w = &g.warps[f->index / 32];
    f->waits_at = name;
    f->mask = mask;
    f->lane = lane;
    check_mask(f, w);
    f->state = AT_WARP;
    w->waiting |= 1u << f->index % 32;
    if ((w->waiting & mask) == mask) {
        gw_shim_lane *lanes[32] = {};
        check_agreement(f, first);
        for (unsigned i = 0; i < 32; i++)
            if (mask >> i & 1) lanes[i] = first[i].lane;
        join(lanes, mask);
        w->waiting &= ~mask;
        for (unsigned i = 0; i < 32; i++)
            if (mask >> i & 1) make_ready(&first[i]);
    }
    leave(f);
}

void *gw_shim_shared(const void *site, size_t bytes)
{
    for (unsigned i = 0; i < g.shared_len; i++)
        if (g.shared[i].site == site) return g.shared[i].data;
    assert(g.shared_len < SHARED_MAX);
    g.shared[g.shared_len] = shared_array{site, poisoned(bytes)};
    return g.shared[g.shared_len++].data;
}

void *gw_shim_shared_dynamic()
{
    return g.dynamic;
}

/* ---- asynchronous copies ---- */

void gw_shim_copy_async(void *shared, const void *global, size_t bytes, bool whole)
{
    fiber *f = g.current;
    if (f->copies_len == COPIES_MAX) gw_shim_fail("%u copies are requested and not waited for", COPIES_MAX);
    if ((uintptr_t)shared % bytes != 0 || (whole && (uintptr_t)global % bytes != 0))
        gw_shim_fail("an asynchronous copy of %zu bytes is not aligned", bytes);
    memset(shared, POISON, bytes);
    f->copies[f->copies_len++] = copy{shared, whole ? global : NULL, bytes, f->group};
}

void gw_copies_commit()
{
    g.current->group++;
}

void gw_shim_copies_wait(int groups)
{
    fiber *f = g.current;
    unsigned left = 0, newest = f->group > (unsigned)groups ? f->group - (unsigned)groups : 0;
    for (unsigned i = 0; i < f->copies_len; i++) {
        const copy c = f->copies[i];
        if (c.group >= newest)
            f->copies[left++] = c;
        else if (c.from)
            memcpy(c.to, c.from, c.bytes);
        else
            memset(c.to, 0, c.bytes);
    }
    f->copies_len = left;
}
