#include "kernels/cpu/coll_shm.h"

#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "kernels/cpu/coll_sum.h"

/* How long a wait looks at the mark before it sleeps: what ranks in step differ by. It yields between two looks, so that
 * ranks that share a core run in turn instead of spinning their slices away: with 4 ranks on 2 cores a layer of 0.5 ms takes
 * 0.6 to 0.7 ms, without yielding 0.8 to 1.6; ranks alone on their cores lose nothing measurable by it. */
#define SPIN_US  100
#define SLICE_US 2000 /* of a sleep: how late a closed peer or an abort is noticed at most */

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* A rank's post number n (from 1) is for marks[rank].posts[n % 2]. */
struct mark {
    _Alignas(128) _Atomic uint32_t posted; /* two lines: neighbours are fetched in pairs */
    _Atomic uint32_t sleepers;             /* ranks that sleep on posted, or are about to */
    struct {
        uint64_t step, elems;
    } posts[2];
};

/* At the segment's beginning; areas follow, in the order of struct area. */
struct segment {
    uint64_t nonce; /* as the SETUP frame has it */
    struct mark marks[GW_COLL_RANKS_MAX];
};

/* Where a rank's memory begins, in elements from the segment's beginning. */
struct area {
    size_t exchange[2], whole, slice;
};

struct gw_coll_shm {
    struct gw_coll_tcp *tcp;
    uint32_t first, self, ranks; /* of the stage; self from 0 */
    uint32_t posts;              /* of this rank */
    int64_t deadline_us;
    struct segment *segment;
    size_t bytes;
    struct area areas[GW_COLL_RANKS_MAX];
};

/* What the SETUP frames of the first rank say; the others answer, and it decides, by one u32: 1 = yes. */
struct offer {
    uint32_t pid, fd; /* pid 0: there is no segment */
    uint64_t bytes, nonce;
};

static size_t place(size_t *at, size_t elems)
{
    size_t here = *at;
    *at += (elems + 31) / 32 * 32;
    return here;
}

static void lay_out(struct gw_coll_shm *shm, const struct gw_coll_config *c, size_t exchange_elems)
{
    size_t at = sizeof(struct segment) / sizeof(float);
    for (uint32_t i = 0; i < shm->ranks; i++) {
        struct area *a = &shm->areas[i];
        size_t own = (size_t)(c->share_at[i + 1] - c->share_at[i]);
        for (int k = 0; k < 2; k++) a->exchange[k] = place(&at, own * exchange_elems);
        if (c->max_elems <= exchange_elems) continue;
        a->whole = place(&at, own * c->max_elems);
        a->slice = place(&at, gw_sum_slice_max(c->max_elems, shm->ranks));
    }
    shm->bytes = at * sizeof(float);
}

static bool map_segment(struct gw_coll_shm *shm, int fd)
{
    void *p = mmap(NULL, shm->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED) shm->segment = p;
    return p != MAP_FAILED;
}

/* Makes the segment; its memory is there before anyone relies on it. Returns its descriptor, -1: not possible. */
static int make_segment(struct gw_coll_shm *shm, struct offer *offer)
{
    int fd = memfd_create("godwit-stage", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -1;
    *offer = (struct offer){.pid = (uint32_t)getpid(), .fd = (uint32_t)fd, .bytes = shm->bytes};
    if (posix_fallocate(fd, 0, (off_t)shm->bytes) == 0 && fcntl(fd, F_ADD_SEALS, SEALS) == 0 &&
        getrandom(&offer->nonce, sizeof offer->nonce, 0) == sizeof offer->nonce && map_segment(shm, fd)) {
        shm->segment->nonce = offer->nonce;
        return fd;
    }
    close(fd);
    *offer = (struct offer){0};
    return -1;
}

/* Is it what the offer says? A number may name another file in another process namespace. */
static bool check_segment(const struct gw_coll_shm *shm, const struct offer *offer, int fd)
{
    struct stat st;
    return offer->bytes == shm->bytes && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
           (uint64_t)st.st_size == offer->bytes && fcntl(fd, F_GET_SEALS) == SEALS;
}

static bool open_segment(struct gw_coll_shm *shm, const struct offer *offer)
{
    char path[64];
    if (offer->pid == 0) return false;
    snprintf(path, sizeof path, "/proc/%u/fd/%u", offer->pid, offer->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return false;
    bool ok = check_segment(shm, offer, fd) && map_segment(shm, fd) && shm->segment->nonce == offer->nonce;
    close(fd);
    return ok;
}

static gw_err_t send_setup(struct gw_coll_shm *shm, uint32_t rank, const struct gw_buf *b,
                           struct gw_err_ctx *ctx)
{
    if (b->err != GW_OK) return gw_fail(ctx, b->err, "no memory for a setup frame");
    struct gw_coll_head head = {.kind = GW_COLL_SETUP, .bytes = (uint32_t)b->len};
    TRY(gw_coll_tcp_send(shm->tcp, shm->first + rank, &head, &(struct iovec){b->data, b->len}, 1, ctx));
    return gw_coll_tcp_let_go(shm->tcp, shm->first + rank, ctx);
}

static gw_err_t recv_setup(struct gw_coll_shm *shm, uint32_t rank, void *to, size_t bytes,
                           struct gw_err_ctx *ctx)
{
    struct gw_coll_head head;
    bool there;
    TRY(gw_coll_tcp_frame(shm->tcp, shm->first + rank, GW_COLL_SETUP, 0, &there, &head, ctx));
    return gw_coll_tcp_take(shm->tcp, shm->first + rank, GW_COLL_SETUP, to, bytes, ctx);
}

static gw_err_t send_word(struct gw_coll_shm *shm, uint32_t rank, bool yes, struct gw_err_ctx *ctx)
{
    struct gw_buf b;
    gw_buf_init(&b, GW_COLL_SETUP_BYTES);
    gw_buf_u32(&b, yes);
    gw_err_t err = send_setup(shm, rank, &b, ctx);
    gw_buf_fini(&b);
    return err;
}

static gw_err_t recv_word(struct gw_coll_shm *shm, uint32_t rank, bool *yes, struct gw_err_ctx *ctx)
{
    uint8_t bytes[4];
    struct gw_reader r;
    TRY(recv_setup(shm, rank, bytes, sizeof bytes, ctx));
    gw_reader_init(&r, bytes, sizeof bytes);
    *yes = gw_read_u32(&r) == 1;
    return GW_OK;
}

#define OFFER_BYTES 24

static gw_err_t send_offer(struct gw_coll_shm *shm, uint32_t rank, const struct offer *offer,
                           struct gw_err_ctx *ctx)
{
    struct gw_buf b;
    gw_buf_init(&b, GW_COLL_SETUP_BYTES);
    gw_buf_u32(&b, offer->pid);
    gw_buf_u32(&b, offer->fd);
    gw_buf_u64(&b, offer->bytes);
    gw_buf_u64(&b, offer->nonce);
    gw_err_t err = send_setup(shm, rank, &b, ctx);
    gw_buf_fini(&b);
    return err;
}

static gw_err_t recv_offer(struct gw_coll_shm *shm, struct offer *offer, struct gw_err_ctx *ctx)
{
    uint8_t bytes[OFFER_BYTES];
    struct gw_reader r;
    TRY(recv_setup(shm, 0, bytes, sizeof bytes, ctx));
    gw_reader_init(&r, bytes, sizeof bytes);
    offer->pid = gw_read_u32(&r);
    offer->fd = gw_read_u32(&r);
    offer->bytes = gw_read_u64(&r);
    offer->nonce = gw_read_u64(&r);
    return GW_OK;
}

static gw_err_t offer_to_all(struct gw_coll_shm *shm, const struct offer *offer, bool *all,
                             struct gw_err_ctx *ctx)
{
    *all = offer->pid != 0;
    for (uint32_t i = 1; i < shm->ranks; i++) TRY(send_offer(shm, i, offer, ctx));
    for (uint32_t i = 1; i < shm->ranks; i++) {
        bool yes;
        TRY(recv_word(shm, i, &yes, ctx));
        *all = *all && yes;
    }
    for (uint32_t i = 1; i < shm->ranks; i++) TRY(send_word(shm, i, *all, ctx));
    return GW_OK;
}

static gw_err_t set_up_first(struct gw_coll_shm *shm, bool *all, struct gw_err_ctx *ctx)
{
    struct offer offer = {0};
    int fd = make_segment(shm, &offer);
    gw_err_t err = offer_to_all(shm, &offer, all, ctx);
    if (fd >= 0) close(fd);
    return err;
}

static gw_err_t set_up_other(struct gw_coll_shm *shm, bool *all, struct gw_err_ctx *ctx)
{
    struct offer offer;
    TRY(recv_offer(shm, &offer, ctx));
    bool mine = open_segment(shm, &offer);
    TRY(send_word(shm, 0, mine, ctx));
    TRY(recv_word(shm, 0, all, ctx));
    if (*all && !mine)
        return gw_fail(ctx, GW_ERR_PROTO, "rank %u uses a segment that was declined", shm->first);
    return GW_OK;
}

gw_err_t gw_coll_shm_create(const struct gw_coll_config *config, size_t exchange_elems,
                            struct gw_coll_tcp *tcp, struct gw_coll_shm **out, struct gw_err_ctx *ctx)
{
    struct gw_coll_shm *shm = calloc(1, sizeof *shm);
    if (!shm) return gw_fail(ctx, GW_ERR_MEMORY, "no memory for collectives");
    shm->tcp = tcp;
    shm->first = config->stage_first;
    shm->self = config->self - config->stage_first;
    shm->ranks = config->stage_ranks;
    shm->deadline_us = config->deadline_us;
    lay_out(shm, config, exchange_elems);
    bool all = false;
    gw_err_t err = shm->self == 0 ? set_up_first(shm, &all, ctx) : set_up_other(shm, &all, ctx);
    if (err != GW_OK || !all) {
        gw_coll_shm_destroy(shm);
        shm = NULL;
    }
    if (err == GW_OK) *out = shm;
    return err;
}

void gw_coll_shm_destroy(struct gw_coll_shm *shm)
{
    if (!shm) return;
    if (shm->segment) munmap(shm->segment, shm->bytes);
    free(shm);
}

static float *at(const struct gw_coll_shm *shm, size_t elem)
{
    return (float *)shm->segment + elem;
}

float *gw_coll_shm_exchange(const struct gw_coll_shm *shm, uint32_t rank)
{
    return at(shm, shm->areas[rank].exchange[shm->posts % 2]);
}

float *gw_coll_shm_whole(const struct gw_coll_shm *shm, uint32_t rank)
{
    return at(shm, shm->areas[rank].whole);
}

float *gw_coll_shm_slice(const struct gw_coll_shm *shm, uint32_t rank)
{
    return at(shm, shm->areas[rank].slice);
}

static void futex_wake_all(_Atomic uint32_t *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t us)
{
    struct timespec wait = {.tv_sec = us / GW_US_PER_S, .tv_nsec = us % GW_US_PER_S * 1000};
    (void)syscall(SYS_futex, word, FUTEX_WAIT, value, &wait, NULL, 0);
}

static void post(struct gw_coll_shm *shm, uint64_t step, size_t elems)
{
    struct mark *m = &shm->segment->marks[shm->self];
    uint32_t n = ++shm->posts;
    m->posts[n % 2].step = step;
    m->posts[n % 2].elems = elems;
    atomic_store(&m->posted, n);
    /* A sleeper counts itself before it looks for the last time: seen here, or it sees the post. */
    if (atomic_load(&m->sleepers) > 0) futex_wake_all(&m->posted);
}

/* Has the rank posted as often as this one? Numbers wrap around. */
static bool posted(const struct gw_coll_shm *shm, struct mark *m)
{
    return (int32_t)(atomic_load_explicit(&m->posted, memory_order_acquire) - shm->posts) >= 0;
}

static bool spin(const struct gw_coll_shm *shm, struct mark *m)
{
    int64_t until = gw_clock_mono_us() + SPIN_US;
    do {
        for (int i = 0; i < 16; i++) {
            if (posted(shm, m)) return true;
            _mm_pause();
        }
        sched_yield();
    } while (gw_clock_mono_us() < until);
    return false;
}

static void sleep_slice(const struct gw_coll_shm *shm, struct mark *m)
{
    atomic_fetch_add(&m->sleepers, 1);
    uint32_t value = atomic_load(&m->posted);
    if ((int32_t)(value - shm->posts) < 0) futex_wait(&m->posted, value, SLICE_US);
    atomic_fetch_sub(&m->sleepers, 1);
}

/* Serves the sockets for as long as there are bytes and no post. */
static gw_err_t turn_sockets(struct gw_coll_shm *shm, struct mark *m, struct gw_err_ctx *ctx)
{
    bool moved;
    do TRY(gw_coll_tcp_turn(shm->tcp, &moved, ctx));
    while (moved && !posted(shm, m));
    return GW_OK;
}

static gw_err_t await(struct gw_coll_shm *shm, uint32_t rank, struct gw_err_ctx *ctx)
{
    struct mark *m = &shm->segment->marks[rank];
    if (spin(shm, m)) return GW_OK;
    int64_t late_us = gw_clock_mono_us() + shm->deadline_us;
    while (!posted(shm, m)) {
        sleep_slice(shm, m);
        TRY(turn_sockets(shm, m, ctx));
        if (posted(shm, m)) break;
        if (gw_coll_tcp_closed(shm->tcp, shm->first + rank))
            return gw_fail(ctx, GW_ERR_IO, "rank %u closed its socket", shm->first + rank);
        if (gw_clock_mono_us() > late_us)
            return gw_fail(ctx, GW_ERR_IO, "rank %u is slow", shm->first + rank);
    }
    return GW_OK;
}

static gw_err_t check(const struct gw_coll_shm *shm, uint32_t rank, uint64_t step, size_t elems,
                      struct gw_err_ctx *ctx)
{
    const struct mark *m = &shm->segment->marks[rank];
    uint64_t its_step = m->posts[shm->posts % 2].step, its_elems = m->posts[shm->posts % 2].elems;
    if (its_step != step)
        return gw_fail(ctx, GW_ERR_PROTO, "rank %u: a sum of step %" PRIu64 ", not %" PRIu64,
                       shm->first + rank, its_step, step);
    if (its_elems != elems)
        return gw_fail(ctx, GW_ERR_PROTO, "rank %u: a sum of %" PRIu64 " elements, not %zu",
                       shm->first + rank, its_elems, elems);
    return GW_OK;
}

gw_err_t gw_coll_shm_meet(struct gw_coll_shm *shm, uint64_t step, size_t elems, struct gw_err_ctx *ctx)
{
    post(shm, step, elems);
    for (uint32_t i = 0; i < shm->ranks; i++) {
        if (i == shm->self) continue;
        TRY(await(shm, i, ctx));
        TRY(check(shm, i, step, elems, ctx));
    }
    return GW_OK;
}
