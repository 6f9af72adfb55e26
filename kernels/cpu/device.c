#include "kernels/cpu/device.h"

#include <assert.h>
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/thread.h"
#include "kernels/device_backend.h"

#define DEVICE_THREADS_MAX 256

/* Waking a sleeper costs 5-50 us; between two operations of one step a spinning helper is met again. More
 * than 20 us would take a shared core from the process that could use it. */
#define SPIN_US 20
/* Below this a job is done before a helper has taken its first range. */
#define INLINE_NS 8000.0
/* A thread that has nothing to do spins for this part of the time that it has worked, too: in a long job the others may be so much
 * behind, and to be woken costs more. */
#define SPIN_PART 4

#define MXCSR_DAZ 0x0040u
#define MXCSR_FTZ 0x8000u

/* The job's state is one word, so that joining, closing and counting are single atomic steps:
 *
 *     63 .. 32      16     15 .. 0
 *     generation    open   helpers inside
 *
 * caller: writes the job, then generation + 1 with open set; works; clears open; waits until nobody is
 * inside. helper: sees a new generation; if open, adds itself by compare-and-swap (a closed or newer word
 * makes that fail); works; subtracts itself. The job is written only while the word is closed with nobody
 * inside. */
#define STATE_OPEN      (UINT64_C(1) << 16)
#define STATE_INSIDE    (STATE_OPEN - 1)
#define STATE_GEN_SHIFT 32

struct helper {
    struct gw_device *dev;
    pthread_t thread;
    int index; /* 1.. ; 0 is the caller */
};

struct gw_device {
    struct gw_device_base base;
    int threads;
    bool spins;
    uint8_t *scratch; /* [threads][GW_SCRATCH_BYTES] */
    void *quant;      /* GW_QUANT_BYTES */
    struct helper *helpers;
    int helpers_len; /* started */
    bool pinned;
    cpu_set_t unpinned; /* the caller's mask before */

    gw_work_fn *fn;
    const void *arg;
    size_t items, quarters;
    _Alignas(64) _Atomic size_t next; /* range */
    _Alignas(64) _Atomic uint64_t state;
    _Atomic int sleepers; /* helpers that wait for work_ready, or are about to */
    _Atomic bool caller_sleeps, stop;
    pthread_mutex_t lock; /* guards nothing but the sleeping: no wake-up may fall between check and wait */
    pthread_cond_t work_ready, work_done;
};

void gw_device_enter_thread(void)
{
    _mm_setcsr(_mm_getcsr() | MXCSR_DAZ | MXCSR_FTZ);
}

static bool thread_entered(void)
{
    return (_mm_getcsr() & (MXCSR_DAZ | MXCSR_FTZ)) == (MXCSR_DAZ | MXCSR_FTZ);
}

static uint32_t generation_of(uint64_t state)
{
    return (uint32_t)(state >> STATE_GEN_SHIFT);
}

/* So many quarters of what is left of a job are shared out evenly at a time: long ranges first, which read memory in long runs, then
 * ever shorter ones, so that threads of unequal speed end together ("factoring", Hummel, Schonberg and Flynn 1992). */
static size_t range_len(const struct gw_device *dev, size_t left)
{
    size_t len = left * dev->quarters / 4 / (size_t)dev->threads;
    return len > 0 ? len : 1;
}

/* Range number i of a job. False: there are not so many. */
static bool range_of(const struct gw_device *dev, size_t i, size_t *first, size_t *last)
{
    const size_t threads = (size_t)dev->threads;
    size_t begin = 0, len = range_len(dev, dev->items);
    for (; i >= threads; i -= threads) {
        begin += len * threads;
        if (begin >= dev->items) return false;
        len = range_len(dev, dev->items - begin);
    }
    *first = begin + i * len;
    *last = *first + len < dev->items ? *first + len : dev->items;
    return *first < dev->items;
}

static void take_ranges(struct gw_device *dev, int thread)
{
    uint8_t *scratch = dev->scratch + (size_t)thread * GW_SCRATCH_BYTES;
    size_t first, last;
    while (range_of(dev, atomic_fetch_add(&dev->next, 1), &first, &last))
        dev->fn(dev->arg, scratch, first, last);
}

static bool work_is_new(struct gw_device *dev, uint32_t seen)
{
    return generation_of(atomic_load(&dev->state)) != seen || atomic_load(&dev->stop);
}

/* Until when a thread spins that has worked since `begun`; 0: not at all. */
static int64_t spin_until(const struct gw_device *dev, int64_t begun)
{
    if (!dev->spins) return 0;
    int64_t now = gw_clock_mono_us();
    return now + SPIN_US + (now - begun) / SPIN_PART;
}

/* Returns when there is a generation other than `seen`, or the device stops. joined: the job before. */
static void helper_wait(struct gw_device *dev, uint32_t seen, int64_t joined)
{
    int64_t until = spin_until(dev, joined);
    while (until && gw_clock_mono_us() < until) {
        if (work_is_new(dev, seen)) return;
        _mm_pause();
    }
    pthread_mutex_lock(&dev->lock);
    atomic_fetch_add(&dev->sleepers, 1);
    while (!work_is_new(dev, seen)) pthread_cond_wait(&dev->work_ready, &dev->lock);
    atomic_fetch_sub(&dev->sleepers, 1);
    pthread_mutex_unlock(&dev->lock);
}

/* False if the job was closed before this helper came; *seen is the generation that it looked at. */
static bool helper_join(struct gw_device *dev, uint32_t *seen)
{
    uint64_t state = atomic_load(&dev->state);
    do {
        *seen = generation_of(state);
        if (!(state & STATE_OPEN)) return false;
    } while (!atomic_compare_exchange_weak(&dev->state, &state, state + 1));
    return true;
}

static void helper_leave(struct gw_device *dev)
{
    uint64_t before = atomic_fetch_sub(&dev->state, 1);
    if ((before & STATE_INSIDE) != 1 || !atomic_load(&dev->caller_sleeps)) return;
    pthread_mutex_lock(&dev->lock);
    pthread_cond_signal(&dev->work_done);
    pthread_mutex_unlock(&dev->lock);
}

static void *helper_main(void *arg)
{
    struct helper *h = arg;
    struct gw_device *dev = h->dev;
    gw_thread_name("gw-compute");
    gw_device_enter_thread();
    int64_t joined = gw_clock_mono_us();
    for (uint32_t seen = 0;;) {
        helper_wait(dev, seen, joined);
        if (atomic_load(&dev->stop)) return NULL;
        joined = gw_clock_mono_us();
        if (!helper_join(dev, &seen)) continue;
        take_ranges(dev, h->index);
        helper_leave(dev);
    }
}

static bool helpers_inside(struct gw_device *dev)
{
    return atomic_load(&dev->state) & STATE_INSIDE;
}

static void wait_for_helpers(struct gw_device *dev, int64_t opened)
{
    int64_t until = spin_until(dev, opened);
    do {
        if (!helpers_inside(dev)) return;
        _mm_pause();
    } while (until && gw_clock_mono_us() < until);
    pthread_mutex_lock(&dev->lock);
    atomic_store(&dev->caller_sleeps, true);
    while (helpers_inside(dev)) pthread_cond_wait(&dev->work_done, &dev->lock);
    atomic_store(&dev->caller_sleeps, false);
    pthread_mutex_unlock(&dev->lock);
}

static void open_job(struct gw_device *dev)
{
    uint32_t generation = generation_of(atomic_load(&dev->state)) + 1;
    atomic_store(&dev->state, (uint64_t)generation << STATE_GEN_SHIFT | STATE_OPEN);
    /* A helper counts itself a sleeper before it looks for the last time: seen here, or it sees the job. */
    if (atomic_load(&dev->sleepers) == 0) return;
    pthread_mutex_lock(&dev->lock);
    pthread_cond_broadcast(&dev->work_ready);
    pthread_mutex_unlock(&dev->lock);
}

static void run_job(struct gw_device *dev, gw_work_fn *fn, const void *arg, size_t items, double item_ns,
                    size_t quarters)
{
    assert(thread_entered());
    if (items == 0) return;
    if (dev->threads == 1 || items == 1 || (double)items * item_ns < INLINE_NS) {
        fn(arg, dev->scratch, 0, items);
        return;
    }
    dev->fn = fn;
    dev->arg = arg;
    dev->items = items;
    dev->quarters = quarters;
    atomic_store(&dev->next, 0);
    int64_t opened = gw_clock_mono_us();
    open_job(dev);
    take_ranges(dev, 0);
    atomic_fetch_and(&dev->state, ~STATE_OPEN);
    wait_for_helpers(dev, opened);
}

void gw_device_parallel(struct gw_device *dev, gw_work_fn *fn, const void *arg, size_t items, double item_ns)
{
    run_job(dev, fn, arg, items, item_ns, 3);
}

void gw_device_parallel_uneven(struct gw_device *dev, gw_work_fn *fn, const void *arg, size_t items,
                               double item_ns)
{
    run_job(dev, fn, arg, items, item_ns, 1);
}

/* Pins thread number i to the i-th core of the mask. Failing to is no error: the kernel places it then. */
static void pin_thread(pthread_t thread, const cpu_set_t *mask, int i)
{
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, mask) || i-- > 0) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        (void)pthread_setaffinity_np(thread, sizeof one, &one);
        return;
    }
}

static void pin_all(struct gw_device *dev, const cpu_set_t *mask)
{
    dev->pinned = true;
    dev->unpinned = *mask;
    pin_thread(pthread_self(), mask, 0);
    for (int i = 0; i < dev->helpers_len; i++) pin_thread(dev->helpers[i].thread, mask, i + 1);
}

static gw_err_t start_helpers(struct gw_device *dev, struct gw_err_ctx *ctx)
{
    for (int i = 0; i < dev->threads - 1; i++) {
        struct helper *h = &dev->helpers[i];
        *h = (struct helper){.dev = dev, .index = i + 1};
        int rc = pthread_create(&h->thread, NULL, helper_main, h);
        if (rc != 0) return gw_fail(ctx, GW_ERR_IO, "start compute thread: %s", strerror(rc));
        dev->helpers_len++;
    }
    return GW_OK;
}

static gw_err_t alloc_device(int threads, struct gw_device **out, struct gw_err_ctx *ctx)
{
    struct gw_device *dev = aligned_alloc(64, (sizeof *dev + 63) / 64 * 64);
    if (!dev) return gw_fail(ctx, GW_ERR_MEMORY, "compute device");
    memset(dev, 0, sizeof *dev);
    pthread_mutex_init(&dev->lock, NULL);
    pthread_cond_init(&dev->work_ready, NULL);
    pthread_cond_init(&dev->work_done, NULL);
    dev->threads = threads;
    dev->scratch = aligned_alloc(64, (size_t)threads * GW_SCRATCH_BYTES);
    dev->helpers = calloc((size_t)threads, sizeof *dev->helpers);
    *out = dev;
    if (!dev->scratch || !dev->helpers) return gw_fail(ctx, GW_ERR_MEMORY, "compute device");
    memset(dev->scratch, 0, (size_t)threads * GW_SCRATCH_BYTES);
    void *quant = mmap(NULL, GW_QUANT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (quant == MAP_FAILED) return gw_fail(ctx, GW_ERR_MEMORY, "compute device");
    (void)madvise(quant, GW_QUANT_BYTES,
                  MADV_HUGEPAGE); /* rows are pages apart: a tile of 16 is 16 TLB entries */
    dev->quant = quant;
    return GW_OK;
}

gw_err_t gw_device_cpu_create(int threads, bool pin, struct gw_device **out, struct gw_err_ctx *ctx)
{
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) != 0)
        return gw_fail(ctx, GW_ERR_IO, "read the affinity mask");
    int cores = CPU_COUNT(&mask);
    if (threads == 0) threads = cores < DEVICE_THREADS_MAX ? cores : DEVICE_THREADS_MAX;
    if (threads < 0 || threads > DEVICE_THREADS_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "%d compute threads: must be 0 to %d", threads, DEVICE_THREADS_MAX);
    struct gw_device *dev = NULL;
    gw_err_t err = alloc_device(threads, &dev, ctx);
    if (err == GW_OK) {
        dev->spins = threads <= cores;
        err = start_helpers(dev, ctx);
    }
    if (err != GW_OK) {
        gw_device_destroy(dev);
        return err;
    }
    /* A part of the mask is never pinned: several processes would all choose the same part. */
    if (pin && threads == cores) pin_all(dev, &mask);
    *out = dev;
    return GW_OK;
}

void gw_device_destroy(struct gw_device *dev)
{
    const struct gw_device_backend *backend = gw_device_backend(dev);
    if (!dev) return;
    if (backend) {
        backend->destroy(dev);
        return;
    }
    pthread_mutex_lock(&dev->lock);
    atomic_store(&dev->stop, true);
    pthread_cond_broadcast(&dev->work_ready);
    pthread_mutex_unlock(&dev->lock);
    for (int i = 0; i < dev->helpers_len; i++) pthread_join(dev->helpers[i].thread, NULL);
    if (dev->pinned) (void)pthread_setaffinity_np(pthread_self(), sizeof dev->unpinned, &dev->unpinned);
    pthread_cond_destroy(&dev->work_done);
    pthread_cond_destroy(&dev->work_ready);
    pthread_mutex_destroy(&dev->lock);
    free(dev->helpers);
    free(dev->scratch);
    if (dev->quant) munmap(dev->quant, GW_QUANT_BYTES);
    free(dev);
}

void *gw_device_quant(struct gw_device *dev)
{
    return dev->quant;
}

int gw_device_threads(const struct gw_device *dev)
{
    if (!gw_device_is_host(dev)) return ((const struct gw_device_base *)(const void *)dev)->host->threads;
    return dev->threads;
}
