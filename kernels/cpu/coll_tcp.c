#include "kernels/cpu/coll_tcp.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernels/cpu/coll_in.h"
#include "kernels/cpu/coll_out.h"

/* How long a wait reads sockets in turn before it sleeps; it yields between two rounds, for the ranks that share its core
 * (coll_shm.c has the measurements). */
#define SPIN_US 100
/* gw_coll_tcp_let_go: a rank that takes nothing for so long is computing; its bytes are copied and wait for it. */
#define LET_GO_US 100

struct peer {
    struct gw_socket socket; /* none: no traffic */
    bool closed;
    uint8_t frame_kind; /* of the frame that is waited for, 0: none */
    int64_t moved_us;   /* when bytes last moved either way */
    struct gw_coll_in in;
    struct gw_coll_out out;
    bool flushed;                /* its backlog is waited for, too */
    atomic_uint_least64_t *sent; /* NULL: nobody counts */
};

struct gw_coll_tcp {
    struct gw_coll_fence fence;
    uint32_t ranks;
    int64_t deadline_us;
    int wake_fd;
    atomic_bool aborted, woken;
    struct pollfd polls[GW_COLL_RANKS_MAX + 1];
    struct peer peers[];
};

static gw_err_t init_peer(struct gw_coll_tcp *tcp, struct peer *p)
{
    int on = 1;
    /* Fails on sockets that are not TCP: these have no such delay. */
    (void)setsockopt(p->socket.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return gw_coll_in_init(&p->in, &tcp->fence);
}

static gw_err_t init_peers(struct gw_coll_tcp *tcp, struct gw_err_ctx *ctx)
{
    for (uint32_t i = 0; i < tcp->ranks; i++)
        if (tcp->peers[i].socket.fd >= 0 && init_peer(tcp, &tcp->peers[i]) != GW_OK)
            return gw_fail(ctx, GW_ERR_MEMORY, "no memory for collectives");
    tcp->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (tcp->wake_fd < 0) return gw_fail(ctx, GW_ERR_IO, "eventfd: %s", strerror(errno));
    return GW_OK;
}

gw_err_t gw_coll_tcp_create(const struct gw_coll_config *config, struct gw_coll_tcp **out,
                            struct gw_err_ctx *ctx)
{
    struct gw_coll_tcp *tcp = calloc(1, sizeof *tcp + config->ranks * sizeof *tcp->peers);
    if (!tcp) {
        for (uint32_t i = 0; i < config->ranks; i++) {
            struct gw_socket s = config->sockets[i];
            gw_socket_close(&s);
        }
        return gw_fail(ctx, GW_ERR_MEMORY, "no memory for collectives");
    }
    tcp->fence = (struct gw_coll_fence){config->term, config->generation, config->pipeline};
    tcp->ranks = config->ranks;
    tcp->deadline_us = config->deadline_us;
    tcp->wake_fd = -1;
    for (uint32_t i = 0; i < tcp->ranks; i++) tcp->peers[i].socket = config->sockets[i];
    for (uint32_t i = 0; config->sent && i < tcp->ranks; i++) tcp->peers[i].sent = config->sent[i];
    gw_err_t err = init_peers(tcp, ctx);
    if (err != GW_OK)
        gw_coll_tcp_destroy(tcp);
    else
        *out = tcp;
    return err;
}

void gw_coll_tcp_destroy(struct gw_coll_tcp *tcp)
{
    if (!tcp) return;
    for (uint32_t i = 0; i < tcp->ranks; i++) {
        struct peer *p = &tcp->peers[i];
        gw_socket_close(&p->socket);
        gw_coll_in_fini(&p->in);
        gw_coll_out_fini(&p->out);
    }
    if (tcp->wake_fd >= 0) close(tcp->wake_fd);
    free(tcp);
}

static uint32_t rank_of(const struct gw_coll_tcp *tcp, const struct peer *p)
{
    return (uint32_t)(p - tcp->peers);
}

/* Prefixes the text of an error with the rank that it came from. */
static gw_err_t from_rank(const struct gw_coll_tcp *tcp, const struct peer *p, gw_err_t err,
                          struct gw_err_ctx *ctx)
{
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "rank %u", rank_of(tcp, p));
}

static gw_err_t fail_rank(const struct gw_coll_tcp *tcp, const struct peer *p, const char *what,
                          struct gw_err_ctx *ctx)
{
    return gw_fail(ctx, GW_ERR_IO, "rank %u %s", rank_of(tcp, p), what);
}

/* Reads once. *moved is set if there was something. */
static gw_err_t peer_read(struct gw_coll_tcp *tcp, struct peer *p, bool *moved, struct gw_err_ctx *ctx)
{
    struct iovec iov[2];
    uint32_t len = (uint32_t)gw_coll_in_room(&p->in, iov);
    size_t n = 0;
    p->closed = gw_socket_readv(&p->socket, iov, len, &n, NULL) != GW_OK;
    if (n == 0) return GW_OK;
    *moved = true;
    return from_rank(tcp, p, gw_coll_in_got(&p->in, n, ctx), ctx);
}

static gw_err_t peer_write(struct gw_coll_tcp *tcp, struct peer *p, bool *moved, struct gw_err_ctx *ctx)
{
    size_t wrote;
    TRY(from_rank(tcp, p, gw_coll_out_write(&p->out, &p->socket, &wrote, ctx), ctx));
    if (wrote > 0) *moved = true;
    if (p->sent) atomic_fetch_add_explicit(p->sent, wrote, memory_order_relaxed);
    return GW_OK;
}

/* Reads and writes once. */
static gw_err_t peer_turn(struct gw_coll_tcp *tcp, struct peer *p, bool *moved, struct gw_err_ctx *ctx)
{
    bool here = false;
    if (gw_coll_out_pending(&p->out)) TRY(peer_write(tcp, p, &here, ctx));
    if (!p->closed) TRY(peer_read(tcp, p, &here, ctx));
    if (here) {
        p->moved_us = gw_clock_mono_us();
        *moved = true;
    }
    return GW_OK;
}

/* Does the wait go on for this rank? */
static bool awaited(const struct peer *p)
{
    struct gw_coll_head head;
    if (p->socket.fd < 0) return false;
    if (p->frame_kind && !gw_coll_in_first(&p->in, p->frame_kind, &head)) return true;
    return p->in.want.to || gw_coll_out_refers(&p->out) || (p->flushed && gw_coll_out_pending(&p->out));
}

static bool any_awaited(const struct gw_coll_tcp *tcp)
{
    for (uint32_t i = 0; i < tcp->ranks; i++)
        if (awaited(&tcp->peers[i])) return true;
    return false;
}

static gw_err_t check_aborted(struct gw_coll_tcp *tcp, struct gw_err_ctx *ctx)
{
    if (atomic_load(&tcp->aborted)) return gw_fail(ctx, GW_ERR_IO, "aborted");
    return GW_OK;
}

/* A turn with the ranks that are waited for, until one is over or SPIN_US have passed without a byte. */
static gw_err_t spin(struct gw_coll_tcp *tcp, struct gw_err_ctx *ctx)
{
    int64_t until = gw_clock_mono_us() + SPIN_US;
    do {
        bool moved = false, over = false;
        for (uint32_t i = 0; i < tcp->ranks; i++) {
            struct peer *p = &tcp->peers[i];
            if (!awaited(p)) continue;
            TRY(peer_turn(tcp, p, &moved, ctx));
            over = over || p->closed || !awaited(p);
        }
        if (over || atomic_load(&tcp->aborted)) return GW_OK;
        if (moved)
            until = gw_clock_mono_us() + SPIN_US;
        else
            sched_yield();
    } while (gw_clock_mono_us() < until);
    return GW_OK;
}

/* Clears the wake-up of a poll; what it was for is in the flags. */
static void drain_wake_fd(struct gw_coll_tcp *tcp)
{
    uint64_t count;
    while (read(tcp->wake_fd, &count, sizeof count) > 0) continue;
}

/* Bytes of its TLS session, which poll does not see. */
static bool has_more(const struct peer *p)
{
    return !p->closed && gw_socket_has_more(&p->socket);
}

/* Sleeps for at most wait_us (0: not at all) until a socket is ready, then a turn with those that are. *moved is set if
 * bytes were. */
static gw_err_t poll_all(struct gw_coll_tcp *tcp, int64_t wait_us, bool *moved, struct gw_err_ctx *ctx)
{
    for (uint32_t i = 0; i < tcp->ranks; i++) {
        struct peer *p = &tcp->peers[i];
        short events = p->closed ? 0 : POLLIN;
        if (gw_coll_out_pending(&p->out)) events |= POLLOUT;
        tcp->polls[i] = (struct pollfd){.fd = events ? p->socket.fd : -1, .events = events};
        if (has_more(p)) wait_us = 0;
    }
    tcp->polls[tcp->ranks] = (struct pollfd){.fd = tcp->wake_fd, .events = POLLIN};
    struct timespec wait = {.tv_sec = wait_us / GW_US_PER_S, .tv_nsec = wait_us % GW_US_PER_S * 1000};
    int n = ppoll(tcp->polls, tcp->ranks + 1, &wait, NULL);
    if (n < 0 && errno != EINTR) return gw_fail(ctx, GW_ERR_IO, "poll: %s", strerror(errno));
    if (n > 0 && tcp->polls[tcp->ranks].revents) drain_wake_fd(tcp);
    for (uint32_t i = 0; i < tcp->ranks; i++)
        if (tcp->polls[i].revents || has_more(&tcp->peers[i]))
            TRY(peer_turn(tcp, &tcp->peers[i], moved, ctx));
    return GW_OK;
}

/* Fails for a rank that is waited for in vain. *left_us: until the next of them is too slow. */
static gw_err_t check_awaited(struct gw_coll_tcp *tcp, int64_t start_us, bool deadline, int64_t *left_us,
                              struct gw_err_ctx *ctx)
{
    int64_t now = gw_clock_mono_us();
    *left_us = tcp->deadline_us;
    for (uint32_t i = 0; i < tcp->ranks; i++) {
        const struct peer *p = &tcp->peers[i];
        if (!awaited(p)) continue;
        if (p->closed) return fail_rank(tcp, p, "closed its socket", ctx);
        int64_t since = p->moved_us > start_us ? p->moved_us : start_us;
        int64_t left = since + tcp->deadline_us - now;
        if (deadline && left <= 0) return fail_rank(tcp, p, "is slow", ctx);
        if (left < *left_us) *left_us = left;
    }
    return GW_OK;
}

gw_err_t gw_coll_tcp_send(struct gw_coll_tcp *tcp, uint32_t rank, const struct gw_coll_head *head,
                          const struct iovec *pieces, uint32_t pieces_len, struct gw_err_ctx *ctx)
{
    struct peer *p = &tcp->peers[rank];
    bool moved = false;
    assert(p->socket.fd >= 0);
    gw_coll_out_begin(&p->out, &tcp->fence, head, pieces, pieces_len);
    return peer_write(tcp, p, &moved, ctx);
}

gw_err_t gw_coll_tcp_want(struct gw_coll_tcp *tcp, uint32_t rank, void *to, size_t bytes, uint64_t step,
                          struct gw_err_ctx *ctx)
{
    struct peer *p = &tcp->peers[rank];
    assert(p->socket.fd >= 0);
    return from_rank(tcp, p, gw_coll_in_want(&p->in, to, bytes, step, ctx), ctx);
}

gw_err_t gw_coll_tcp_finish(struct gw_coll_tcp *tcp, struct gw_err_ctx *ctx)
{
    int64_t start_us = gw_clock_mono_us(), left_us;
    bool moved;
    TRY(check_aborted(tcp, ctx));
    while (any_awaited(tcp)) {
        TRY(spin(tcp, ctx));
        TRY(check_aborted(tcp, ctx));
        TRY(check_awaited(tcp, start_us, true, &left_us, ctx));
        if (any_awaited(tcp)) TRY(poll_all(tcp, left_us, &moved, ctx));
    }
    return GW_OK;
}

gw_err_t gw_coll_tcp_flush(struct gw_coll_tcp *tcp, struct gw_err_ctx *ctx)
{
    for (uint32_t i = 0; i < tcp->ranks; i++) tcp->peers[i].flushed = true;
    gw_err_t err = gw_coll_tcp_finish(tcp, ctx);
    for (uint32_t i = 0; i < tcp->ranks; i++) tcp->peers[i].flushed = false;
    return err;
}

gw_err_t gw_coll_tcp_let_go(struct gw_coll_tcp *tcp, uint32_t rank, struct gw_err_ctx *ctx)
{
    struct peer *p = &tcp->peers[rank];
    int64_t start_us = gw_clock_mono_us(), left_us;
    bool moved;
    while (gw_coll_out_refers(&p->out)) {
        TRY(check_aborted(tcp, ctx));
        TRY(check_awaited(tcp, start_us, true, &left_us, ctx));
        int64_t since = p->moved_us > start_us ? p->moved_us : start_us;
        if (gw_clock_mono_us() - since < LET_GO_US) {
            TRY(poll_all(tcp, LET_GO_US, &moved, ctx));
            continue;
        }
        gw_err_t err = gw_coll_out_copy(&p->out);
        if (err == GW_ERR_LIMIT)
            TRY(poll_all(tcp, left_us, &moved, ctx)); /* no room: it has to read first */
        else if (err != GW_OK)
            return gw_fail(ctx, err, "no memory for what rank %u has not read", rank);
    }
    return GW_OK;
}

gw_err_t gw_coll_tcp_turn(struct gw_coll_tcp *tcp, bool *moved, struct gw_err_ctx *ctx)
{
    *moved = false;
    TRY(check_aborted(tcp, ctx));
    return poll_all(tcp, 0, moved, ctx);
}

bool gw_coll_tcp_closed(const struct gw_coll_tcp *tcp, uint32_t rank)
{
    return tcp->peers[rank].closed;
}

bool gw_coll_tcp_backlogged(const struct gw_coll_tcp *tcp)
{
    for (uint32_t i = 0; i < tcp->ranks; i++)
        if (gw_coll_out_pending(&tcp->peers[i].out)) return true;
    return false;
}

static gw_err_t check_all_open(const struct gw_coll_tcp *tcp, struct gw_err_ctx *ctx)
{
    for (uint32_t i = 0; i < tcp->ranks; i++)
        if (tcp->peers[i].closed) return fail_rank(tcp, &tcp->peers[i], "closed its socket", ctx);
    return GW_OK;
}

/* Waits for p's frame_kind until until_us, 0: until it is slow. */
static gw_err_t wait_frame(struct gw_coll_tcp *tcp, struct peer *p, int64_t until_us, struct gw_err_ctx *ctx)
{
    int64_t start_us = gw_clock_mono_us(), left_us;
    bool moved;
    if (awaited(p)) TRY(poll_all(tcp, 0, &moved, ctx));
    while (awaited(p)) {
        int64_t now = gw_clock_mono_us();
        TRY(check_aborted(tcp, ctx));
        TRY(check_all_open(tcp, ctx));
        TRY(check_awaited(tcp, start_us, until_us == 0, &left_us, ctx));
        if (until_us > 0 && (now >= until_us || atomic_load(&tcp->woken))) return GW_OK;
        TRY(spin(tcp, ctx));
        if (!awaited(p) || p->closed) continue;
        now = gw_clock_mono_us();
        if (until_us > 0) left_us = until_us > now ? until_us - now : 0;
        TRY(poll_all(tcp, left_us, &moved, ctx));
    }
    return GW_OK;
}

gw_err_t gw_coll_tcp_frame(struct gw_coll_tcp *tcp, uint32_t rank, uint8_t kind, int64_t until_us,
                           bool *there, struct gw_coll_head *head, struct gw_err_ctx *ctx)
{
    struct peer *p = &tcp->peers[rank];
    assert(p->socket.fd >= 0);
    TRY(check_aborted(tcp, ctx));
    p->frame_kind = kind;
    gw_err_t err = wait_frame(tcp, p, until_us, ctx);
    p->frame_kind = 0;
    if (err != GW_OK) return err;
    *there = gw_coll_in_first(&p->in, kind, head);
    if (!*there) atomic_store(&tcp->woken, false);
    return GW_OK;
}

gw_err_t gw_coll_tcp_take(struct gw_coll_tcp *tcp, uint32_t rank, uint8_t kind, void *to, size_t bytes,
                          struct gw_err_ctx *ctx)
{
    struct peer *p = &tcp->peers[rank];
    struct gw_coll_head head;
    bool there = gw_coll_in_first(&p->in, kind, &head);
    assert(there);
    if (head.bytes != bytes)
        return gw_fail(ctx, GW_ERR_PROTO, "rank %u: a frame of %u bytes, not %zu", rank, head.bytes, bytes);
    gw_coll_in_take(&p->in, kind, to);
    return GW_OK;
}

static void ring(struct gw_coll_tcp *tcp)
{
    uint64_t one = 1;
    /* It fails only when 2^64 - 1 rings are unheard: then the sleeper wakes anyway. */
    (void)!write(tcp->wake_fd, &one, sizeof one);
}

void gw_coll_tcp_wake(struct gw_coll_tcp *tcp)
{
    atomic_store(&tcp->woken, true);
    ring(tcp);
}

void gw_coll_tcp_abort(struct gw_coll_tcp *tcp)
{
    atomic_store(&tcp->aborted, true);
    ring(tcp);
}

bool gw_coll_tcp_aborted(const struct gw_coll_tcp *tcp)
{
    return atomic_load(&tcp->aborted);
}
