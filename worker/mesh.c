#include "worker/mesh_internal.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sockaddr.h"
#include "base/thread.h"
#include "migrate/block_name.h"

/* ---- shared with the I/O thread ---- */

void mesh_wake(struct gw_mesh *m)
{
    uint64_t one = 1;
    ssize_t ignored = write(m->wake_fd, &one, sizeof one);
    (void)ignored;
}

void mesh_failed(struct gw_mesh *m, const struct gw_shake *s, int64_t now_us)
{
    bool tells = s->strange && now_us >= m->tell_again_us;
    m->strangers += s->strange;
    if (tells) m->tell_again_us = now_us + MESH_TELL_PAUSE_US;
    gw_logf(m->log, tells ? GW_LOG_WARN : GW_LOG_DEBUG, "mesh: a connection was closed: %s", s->why);
}

uint64_t gw_mesh_strangers(struct gw_mesh *m)
{
    pthread_mutex_lock(&m->lock);
    uint64_t strangers = m->strangers;
    pthread_mutex_unlock(&m->lock);
    return strangers;
}

bool mesh_is_stale(const struct gw_mesh *m, uint64_t term, uint64_t generation)
{
    return term < m->term || (term == m->term && generation <= m->cancelled);
}

bool mesh_claims(const struct mesh_gather *g, const struct gw_shake_pair *pair)
{
    return pair->term == g->term && pair->generation == g->generation && pair->pipeline == g->pipeline &&
           pair->to == g->assign->self && pair->from < g->assign->ranks_len;
}

void mesh_admit(struct gw_mesh *m, struct mesh_waiting *w)
{
    if (!gw_shake_admit(&w->shake, &m->key)) gw_shake_close(&w->shake);
}

static void close_stale(struct gw_mesh *m)
{
    for (int i = 0; i < GW_MESH_PENDING_MAX; i++) {
        struct gw_shake *s = &m->waiting[i].shake;
        if (s->socket.fd >= 0 && mesh_is_stale(m, s->pair.term, s->pair.generation)) gw_shake_close(s);
    }
    pthread_cond_broadcast(&m->changed);
}

static void raise_term(struct gw_mesh *m, uint64_t term)
{
    if (term <= m->term) return;
    if (m->term != 0) m->cancelled = 0;
    m->term = term;
    close_stale(m);
}

void gw_mesh_set_term(struct gw_mesh *m, uint64_t term)
{
    pthread_mutex_lock(&m->lock);
    raise_term(m, term);
    pthread_mutex_unlock(&m->lock);
}

void gw_mesh_cancel(struct gw_mesh *m, uint64_t generation)
{
    pthread_mutex_lock(&m->lock);
    if (generation > m->cancelled) m->cancelled = generation;
    close_stale(m);
    pthread_mutex_unlock(&m->lock);
}

/* ---- gather: its dials ---- */

static struct mesh_dial *free_dial(struct gw_mesh *m)
{
    for (int i = 0; i < MESH_DIALS_MAX; i++)
        if (!m->dials[i].used) return &m->dials[i];
    return NULL;
}

static gw_err_t add_dial(struct gw_mesh *m, struct mesh_gather *g, uint32_t to, struct gw_err_ctx *ctx)
{
    const struct gw_assign_rank *rank = &g->assign->ranks[to];
    char host[MESH_ADDRESS_MAX];
    uint16_t port;
    struct mesh_dial dial = {
        .used = true,
        .shake = {.socket = gw_socket_none()},
        .pair = {g->term, g->generation, g->pipeline, g->assign->self, to},
        .next_us = gw_clock_mono_us(),
        .backoff_us = MESH_BACKOFF_MIN_US,
    };
    gw_err_t err = gw_sockaddr_split(rank->data, host, sizeof host, &port, ctx);
    if (err == GW_OK) err = gw_sockaddr_parse(host, port, &dial.addr, &dial.addr_len, ctx);
    if (err != GW_OK) return gw_fail_prefix(ctx, err, "rank %u (%s)", to, rank->worker);
    struct mesh_dial *d = free_dial(m);
    if (!d) return gw_fail(ctx, GW_ERR_LIMIT, "more than %d connections are being dialed", MESH_DIALS_MAX);
    *d = dial;
    g->dials[to] = d;
    return GW_OK;
}

/* The slot is the thread's as long as it polls its socket. */
static void end_dial(struct mesh_dial *d)
{
    if (d->shake.socket.fd >= 0 && !d->proven) {
        d->over = true;
        return;
    }
    gw_shake_close(&d->shake);
    d->used = false;
}

static gw_err_t begin(struct gw_mesh *m, struct mesh_gather *g, struct gw_err_ctx *ctx)
{
    raise_term(m, g->term);
    g->next = m->gathers;
    m->gathers = g;
    if (mesh_is_stale(m, g->term, g->generation)) return GW_OK; /* the wait says so */
    for (uint32_t to = 0; to < g->assign->self; to++) TRY(add_dial(m, g, to, ctx));
    for (int i = 0; i < GW_MESH_PENDING_MAX; i++) {
        struct mesh_waiting *w = &m->waiting[i];
        if (w->shake.socket.fd >= 0 && mesh_claims(g, &w->shake.pair)) mesh_admit(m, w);
    }
    return GW_OK;
}

/* What it has not taken is closed. */
static void end(struct gw_mesh *m, struct mesh_gather *g)
{
    struct mesh_gather **at = &m->gathers;
    while (*at != g) at = &(*at)->next;
    *at = g->next;
    for (uint32_t to = 0; to < g->assign->self; to++)
        if (g->dials[to]) end_dial(g->dials[to]);
    for (int i = 0; i < GW_MESH_PENDING_MAX; i++)
        if (mesh_claims(g, &m->waiting[i].shake.pair)) gw_shake_close(&m->waiting[i].shake);
}

/* ---- gather: what it has ---- */

static struct gw_shake *waiting_from(struct gw_mesh *m, const struct mesh_gather *g, uint32_t from)
{
    for (int i = 0; i < GW_MESH_PENDING_MAX; i++) {
        struct gw_shake *s = &m->waiting[i].shake;
        if (s->socket.fd >= 0 && s->pair.from == from && mesh_claims(g, &s->pair)) return s;
    }
    return NULL;
}

/* That rank's proven connection; NULL: not there yet. */
static struct gw_shake *proven_of(struct gw_mesh *m, const struct mesh_gather *g, uint32_t rank)
{
    if (rank > g->assign->self) return waiting_from(m, g, rank);
    return g->dials[rank]->proven ? &g->dials[rank]->shake : NULL;
}

/* Others may take long: a peer that was here has perhaps gone (or come again) since. */
static void drop_closed(struct gw_mesh *m, const struct mesh_gather *g, uint32_t rank)
{
    gw_shake_close(proven_of(m, g, rank));
    if (rank > g->assign->self) return;
    struct mesh_dial *d = g->dials[rank];
    d->proven = false;
    d->next_us = gw_clock_mono_us() + d->backoff_us;
    d->why = "it closed the connection";
    d->why_errno = 0;
    mesh_wake(m);
}

/* How many ranks have not met us; *first: the lowest of them. */
static uint32_t count_missing(struct gw_mesh *m, const struct mesh_gather *g, uint32_t *first)
{
    uint32_t missing = 0;
    for (uint32_t rank = 0; rank < g->assign->ranks_len; rank++) {
        if (rank == g->assign->self || proven_of(m, g, rank)) continue;
        if (missing++ == 0) *first = rank;
    }
    return missing;
}

static bool is_complete(struct gw_mesh *m, const struct mesh_gather *g)
{
    uint32_t first;
    if (count_missing(m, g, &first) > 0) return false;
    for (uint32_t rank = 0; rank < g->assign->ranks_len; rank++)
        if (rank != g->assign->self && gw_socket_is_closed(&proven_of(m, g, rank)->socket))
            drop_closed(m, g, rank);
    return count_missing(m, g, &first) == 0;
}

static void take(struct gw_mesh *m, const struct mesh_gather *g, struct gw_socket *sockets)
{
    for (uint32_t rank = 0; rank < g->assign->ranks_len; rank++) {
        if (rank == g->assign->self) continue;
        struct gw_shake *s = proven_of(m, g, rank);
        sockets[rank] = s->socket;
        s->socket = gw_socket_none();
    }
}

/* ---- gather ---- */

static void explain(const struct mesh_dial *d, char *out, size_t out_bytes)
{
    if (!d)
        snprintf(out, out_bytes, "it did not connect");
    else if (d->shake.socket.fd >= 0 && d->shake.stage == GW_SHAKE_WANTS_PROOF)
        snprintf(out, out_bytes, "it has not joined the pipeline");
    else if (d->why && d->why_errno)
        snprintf(out, out_bytes, "%s: %s", d->why, strerrordesc_np(d->why_errno));
    else
        snprintf(out, out_bytes, "%s", d->why ? d->why : "it does not answer");
}

static gw_err_t fail_late(struct gw_mesh *m, const struct mesh_gather *g, struct gw_err_ctx *ctx)
{
    uint32_t rank = 0;
    char why[128], others[32] = "";
    uint32_t missing = count_missing(m, g, &rank);
    const struct gw_assign_rank *r = &g->assign->ranks[rank];
    explain(rank < g->assign->self ? g->dials[rank] : NULL, why, sizeof why);
    if (missing > 1) snprintf(others, sizeof others, " (and %u more)", missing - 1);
    return gw_fail(ctx, GW_ERR_IO, "rank %u (%s, %s): %s%s", rank, r->worker, r->data, why, others);
}

/* The lowest rank that we dial and have never reached; GW_RANK_NONE if there is none. */
static uint32_t first_unreached(const struct mesh_gather *g)
{
    for (uint32_t rank = 0; rank < g->assign->self; rank++)
        if (!g->dials[rank]->reached) return rank;
    return GW_RANK_NONE;
}

static gw_err_t fail_unreached(struct mesh_gather *g, uint32_t rank, struct gw_err_ctx *ctx)
{
    char why[128];
    const struct gw_assign_rank *r = &g->assign->ranks[rank];
    explain(g->dials[rank], why, sizeof why);
    g->unreached = rank;
    return gw_fail(ctx, GW_ERR_IO, "rank %u (%s, %s) cannot be reached: %s", rank, r->worker, r->data, why);
}

static void wait_until(struct gw_mesh *m, int64_t until_us)
{
    const struct timespec t = {.tv_sec = until_us / GW_US_PER_S, .tv_nsec = until_us % GW_US_PER_S * 1000};
    pthread_cond_timedwait(&m->changed, &m->lock, &t);
}

static gw_err_t wait_for_all(struct gw_mesh *m, struct mesh_gather *g, int64_t until_us,
                             struct gw_err_ctx *ctx)
{
    for (;;) {
        if (mesh_is_stale(m, g->term, g->generation))
            return gw_fail(ctx, GW_ERR_IO, "cancelled: generation %llu of term %llu is over",
                           (unsigned long long)g->generation, (unsigned long long)g->term);
        if (is_complete(m, g)) return GW_OK;
        int64_t now_us = gw_clock_mono_us();
        uint32_t unreached = first_unreached(g);
        bool must_reach = unreached != GW_RANK_NONE && g->reach_us < until_us;
        if (must_reach && now_us >= g->reach_us) return fail_unreached(g, unreached, ctx);
        if (now_us >= until_us) return fail_late(m, g, ctx);
        wait_until(m, must_reach ? g->reach_us : until_us);
    }
}

gw_err_t gw_mesh_gather(struct gw_mesh *m, uint64_t term, uint32_t pipeline, uint64_t generation,
                        const struct gw_msg_assign *assign, int64_t deadline_us, struct gw_socket *sockets,
                        uint32_t *unreached, struct gw_err_ctx *ctx)
{
    int64_t now_us = gw_clock_mono_us(), until_us = now_us + deadline_us;
    struct mesh_gather g = {.term = term,
                            .generation = generation,
                            .pipeline = pipeline,
                            .assign = assign,
                            .reach_us = now_us + m->reach_us,
                            .unreached = GW_RANK_NONE};
    assert(assign->self < assign->ranks_len && assign->ranks_len <= GW_WIRE_RANKS_MAX);
    for (uint32_t rank = 0; rank < assign->ranks_len; rank++) sockets[rank] = gw_socket_none();
    pthread_mutex_lock(&m->lock);
    gw_err_t err = begin(m, &g, ctx);
    if (err == GW_OK) {
        mesh_wake(m);
        err = wait_for_all(m, &g, until_us, ctx);
    }
    if (err == GW_OK) take(m, &g, sockets);
    end(m, &g);
    pthread_mutex_unlock(&m->lock);
    mesh_wake(m);
    *unreached = g.unreached;
    return err;
}

/* ---- life ---- */

static gw_err_t name_address(struct gw_mesh *m, struct gw_err_ctx *ctx)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    char host[INET6_ADDRSTRLEN], port[8];
    if (getsockname(m->listen_fd, (struct sockaddr *)&addr, &len) != 0 ||
        getnameinfo((struct sockaddr *)&addr, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return gw_fail(ctx, GW_ERR_IO, "the data port has no address");
    snprintf(m->address, sizeof m->address, addr.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return GW_OK;
}

static gw_err_t listen_on(struct gw_mesh *m, const char *host, uint16_t port, struct gw_err_ctx *ctx)
{
    const int on = 1;
    struct sockaddr_storage addr;
    socklen_t len;
    TRY(gw_sockaddr_parse(host, port, &addr, &len, ctx));
    m->listen_fd = socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (m->listen_fd < 0 || setsockopt(m->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(m->listen_fd, (struct sockaddr *)&addr, len) != 0 ||
        listen(m->listen_fd, GW_MESH_PENDING_MAX) != 0)
        return gw_fail(ctx, GW_ERR_IO, "cannot listen on %s, data port %u: %s", host, port,
                       strerrordesc_np(errno));
    return name_address(m, ctx);
}

static void init_lock(struct gw_mesh *m)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->changed, &attr);
    pthread_condattr_destroy(&attr);
}

static struct gw_mesh *alloc_mesh(const struct gw_mesh_config *config)
{
    struct gw_mesh *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->listen_fd = m->wake_fd = -1;
    for (int i = 0; i < GW_MESH_PENDING_MAX; i++)
        m->accepted[i].socket = m->waiting[i].shake.socket = gw_socket_none();
    m->shake_us = config->shake_us ? config->shake_us : GW_MESH_SHAKE_S * GW_US_PER_S;
    m->wait_us = config->wait_us ? config->wait_us : GW_MESH_WAIT_S * GW_US_PER_S;
    m->reach_us = config->reach_us ? config->reach_us : GW_MESH_REACH_S * GW_US_PER_S;
    m->log = config->log;
    init_lock(m);
    return m;
}

static gw_err_t copy_key(struct gw_mesh *m, const struct gw_mesh_config *config, struct gw_err_ctx *ctx)
{
    m->key_bytes = malloc(config->key_len);
    if (!m->key_bytes) return gw_fail(ctx, GW_ERR_MEMORY, "mesh: out of memory");
    memcpy(m->key_bytes, config->key, config->key_len);
    m->key = (struct gw_shake_key){m->key_bytes, config->key_len, config->tls};
    return GW_OK;
}

static gw_err_t start_thread(struct gw_mesh *m, struct gw_err_ctx *ctx)
{
    m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (m->wake_fd < 0) return gw_fail(ctx, GW_ERR_IO, "mesh: %s", strerrordesc_np(errno));
    TRY(gw_thread_start(&m->thread, 0, mesh_io, m, ctx));
    m->thread_started = true;
    return GW_OK;
}

gw_err_t gw_mesh_create(const struct gw_mesh_config *config, struct gw_mesh **out, struct gw_err_ctx *ctx)
{
    gw_err_t err;
    if (config->key_len == 0 || config->key_len > GW_CLUSTER_KEY_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "the cluster key must have 1 to %d bytes", GW_CLUSTER_KEY_MAX);
    struct gw_mesh *m = alloc_mesh(config);
    if (!m) return gw_fail(ctx, GW_ERR_MEMORY, "mesh: out of memory");
    TRY_GOTO(copy_key(m, config, ctx), out);
    TRY_GOTO(listen_on(m, config->host, config->port, ctx), out);
    TRY_GOTO(start_thread(m, ctx), out);
    *out = m;
    return GW_OK;
out:
    gw_mesh_destroy(m);
    return err;
}

static void stop_thread(struct gw_mesh *m)
{
    pthread_mutex_lock(&m->lock);
    assert(!m->gathers);
    m->stopping = true;
    pthread_mutex_unlock(&m->lock);
    mesh_wake(m);
    pthread_join(m->thread, NULL);
}

void gw_mesh_destroy(struct gw_mesh *m)
{
    if (!m) return;
    if (m->thread_started) stop_thread(m);
    for (int i = 0; i < GW_MESH_PENDING_MAX; i++) {
        gw_shake_close(&m->accepted[i]);
        gw_shake_close(&m->waiting[i].shake);
    }
    for (int i = 0; i < MESH_DIALS_MAX; i++)
        if (m->dials[i].used) gw_shake_close(&m->dials[i].shake);
    if (m->listen_fd >= 0) close(m->listen_fd);
    if (m->wake_fd >= 0) close(m->wake_fd);
    if (m->key_bytes) gw_bytes_wipe(m->key_bytes, m->key.len);
    free(m->key_bytes);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

const char *gw_mesh_address(const struct gw_mesh *m)
{
    return m->address;
}
