#include "worker/mesh_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"

#define ACCEPTS_PER_TURN 64 /* handshakes under way go on in between */

/* Where each group begins in `polled`. */
enum { AT_LISTENER, AT_WAKE, AT_ACCEPTED, AT_DIALS = AT_ACCEPTED + GW_MESH_PENDING_MAX };

static void earliest(int64_t *due_us, int64_t candidate_us)
{
    if (*due_us == 0 || candidate_us < *due_us) *due_us = candidate_us;
}

/* ---- proven connections ---- */

static bool same_pair(const struct gw_shake_pair *a, const struct gw_shake_pair *b)
{
    return a->term == b->term && a->generation == b->generation && a->pipeline == b->pipeline &&
           a->from == b->from && a->to == b->to;
}

static bool is_claimed(const struct gw_mesh *m, const struct gw_shake_pair *pair)
{
    for (const struct mesh_gather *g = m->gathers; g; g = g->next)
        if (mesh_claims(g, pair)) return true;
    return false;
}

/* The slot for a connection of that pair: the older one's of the same pair, a free one, else that of the one that nobody
 * claims and that has waited longest. NULL when all are claimed. */
static struct mesh_waiting *waiting_slot(struct gw_mesh *m, const struct gw_shake_pair *pair)
{
    struct mesh_waiting *free_slot = NULL, *oldest = NULL;
    for (int i = 0; i < GW_MESH_PENDING_MAX; i++) {
        struct mesh_waiting *w = &m->waiting[i];
        if (w->shake.socket.fd < 0)
            free_slot = w;
        else if (same_pair(&w->shake.pair, pair))
            return w;
        else if (!is_claimed(m, &w->shake.pair) && (!oldest || w->since_us < oldest->since_us))
            oldest = w;
    }
    return free_slot ? free_slot : oldest;
}

/* Takes the socket over, or leaves it where it is: then nobody will gather it. */
static void keep(struct gw_mesh *m, struct gw_shake *s, int64_t now_us)
{
    if (mesh_is_stale(m, s->pair.term, s->pair.generation)) return;
    struct mesh_waiting *w = waiting_slot(m, &s->pair);
    if (!w) return;
    gw_shake_close(&w->shake);
    *w = (struct mesh_waiting){.shake = *s, .since_us = now_us};
    s->socket = gw_socket_none();
    if (!is_claimed(m, &w->shake.pair)) return;
    mesh_admit(m, w);
    pthread_cond_broadcast(&m->changed);
}

static void expire_waiting(struct gw_mesh *m, int64_t now_us, int64_t *due_us)
{
    for (int i = 0; i < GW_MESH_PENDING_MAX; i++) {
        struct mesh_waiting *w = &m->waiting[i];
        const struct gw_shake_pair *p = &w->shake.pair;
        if (w->shake.socket.fd < 0 || is_claimed(m, p)) continue;
        if (now_us < w->since_us + m->wait_us) {
            earliest(due_us, w->since_us + m->wait_us);
            continue;
        }
        gw_logf(m->log, GW_LOG_DEBUG, "mesh: nobody gathered rank %u: pipeline=%u gen=%llu term=%llu",
                p->from, p->pipeline, (unsigned long long)p->generation, (unsigned long long)p->term);
        gw_shake_close(&w->shake);
    }
}

/* ---- accepted connections ---- */

/* A free slot, else that of the one that has been at it longest: an honest handshake takes two round trips, one that idles
 * has had its chance. So strangers cannot keep ranks out by connecting and saying nothing. */
static struct gw_shake *accepted_slot(struct gw_mesh *m)
{
    struct gw_shake *oldest = &m->accepted[0];
    for (int i = 0; i < GW_MESH_PENDING_MAX; i++) {
        struct gw_shake *s = &m->accepted[i];
        if (s->socket.fd < 0) return s;
        if (s->deadline_us < oldest->deadline_us) oldest = s;
    }
    gw_shake_close(oldest);
    return oldest;
}

static void accept_all(struct gw_mesh *m, int64_t now_us)
{
    const int on = 1;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(m->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
            m->accept_again_us = now_us + MESH_ACCEPT_PAUSE_US;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        gw_shake_accept(accepted_slot(m), fd, GW_SHAKE_MESH, &m->key, now_us + m->shake_us);
    }
}

static void step_accepted(struct gw_mesh *m, struct gw_shake *s, int64_t now_us)
{
    enum gw_shake_result result = gw_shake_step(s, &m->key);
    if (result == GW_SHAKE_MORE) return;
    if (result == GW_SHAKE_PROVEN)
        keep(m, s, now_us);
    else
        mesh_failed(m, s, now_us);
    gw_shake_close(s);
}

static void expire_accepted(struct gw_mesh *m, int64_t now_us, int64_t *due_us)
{
    for (int i = 0; i < GW_MESH_PENDING_MAX; i++) {
        struct gw_shake *s = &m->accepted[i];
        if (s->socket.fd < 0) continue;
        if (now_us >= s->deadline_us)
            gw_shake_close(s);
        else
            earliest(due_us, s->deadline_us);
    }
}

/* ---- dials ---- */

static void retry_later(struct mesh_dial *d, int64_t now_us)
{
    d->why = d->shake.why;
    d->why_errno = d->shake.why_errno;
    gw_shake_close(&d->shake);
    d->next_us = now_us + d->backoff_us;
    d->backoff_us = d->backoff_us * 2 < MESH_BACKOFF_MAX_US ? d->backoff_us * 2 : MESH_BACKOFF_MAX_US;
}

static void step_dial(struct gw_mesh *m, struct mesh_dial *d, int64_t now_us)
{
    enum gw_shake_result result = gw_shake_step(&d->shake, &m->key);
    if (result == GW_SHAKE_PROVEN || d->shake.stage == GW_SHAKE_WANTS_PROOF) d->reached = true;
    if (result == GW_SHAKE_FAILED) {
        mesh_failed(m, &d->shake, now_us);
        retry_later(d, now_us);
    }
    if (result != GW_SHAKE_PROVEN) return;
    d->proven = true;
    pthread_cond_broadcast(&m->changed);
}

static void tend_dial(struct gw_mesh *m, struct mesh_dial *d, int64_t now_us, int64_t *due_us)
{
    struct gw_shake *s = &d->shake;
    if (s->socket.fd >= 0 && s->deadline_us && now_us >= s->deadline_us) {
        s->why = "it does not answer";
        s->why_errno = 0;
        retry_later(d, now_us);
    }
    if (s->socket.fd < 0 && now_us >= d->next_us &&
        !gw_shake_dial(s, &d->addr, d->addr_len, GW_SHAKE_MESH, &d->pair, &m->key, now_us + m->shake_us))
        retry_later(d, now_us);
    if (s->socket.fd < 0)
        earliest(due_us, d->next_us);
    else if (s->deadline_us)
        earliest(due_us, s->deadline_us);
}

static void tend_dials(struct gw_mesh *m, int64_t now_us, int64_t *due_us)
{
    for (int i = 0; i < MESH_DIALS_MAX; i++) {
        struct mesh_dial *d = &m->dials[i];
        if (d->used && d->over) {
            gw_shake_close(&d->shake);
            d->used = false;
        } else if (d->used && !d->proven) {
            tend_dial(m, d, now_us, due_us);
        }
    }
}

/* ---- the thread ---- */

/* Every slot has its place; poll passes over those with a negative descriptor. */
static void fill_polled(struct gw_mesh *m)
{
    m->polled[AT_LISTENER] = (struct pollfd){m->accept_again_us ? -1 : m->listen_fd, POLLIN, 0};
    m->polled[AT_WAKE] = (struct pollfd){m->wake_fd, POLLIN, 0};
    for (int i = 0; i < GW_MESH_PENDING_MAX; i++)
        m->polled[AT_ACCEPTED + i] =
            (struct pollfd){m->accepted[i].socket.fd, gw_shake_events(&m->accepted[i]), 0};
    for (int i = 0; i < MESH_DIALS_MAX; i++) {
        const struct mesh_dial *d = &m->dials[i];
        int fd = d->used && !d->proven ? d->shake.socket.fd : -1;
        m->polled[AT_DIALS + i] = (struct pollfd){fd, gw_shake_events(&d->shake), 0};
    }
}

static void handle_polled(struct gw_mesh *m, int64_t now_us)
{
    uint64_t wakes;
    if (m->polled[AT_WAKE].revents && read(m->wake_fd, &wakes, sizeof wakes) < 0) wakes = 0;
    for (int i = 0; i < GW_MESH_PENDING_MAX; i++)
        if (m->polled[AT_ACCEPTED + i].revents) step_accepted(m, &m->accepted[i], now_us);
    for (int i = 0; i < MESH_DIALS_MAX; i++)
        if (m->polled[AT_DIALS + i].revents && !m->dials[i].over) step_dial(m, &m->dials[i], now_us);
    if (m->polled[AT_LISTENER].revents) accept_all(m, now_us);
}

/* Does what is due; returns how long poll may take, in milliseconds (-1: for ever). */
static int tend(struct gw_mesh *m, int64_t now_us)
{
    int64_t due_us = 0;
    if (m->accept_again_us && now_us >= m->accept_again_us) m->accept_again_us = 0;
    if (m->accept_again_us) earliest(&due_us, m->accept_again_us);
    expire_accepted(m, now_us, &due_us);
    expire_waiting(m, now_us, &due_us);
    tend_dials(m, now_us, &due_us);
    if (due_us == 0) return -1;
    return due_us <= now_us ? 0 : (int)((due_us - now_us + GW_US_PER_MS - 1) / GW_US_PER_MS);
}

void *mesh_io(void *arg)
{
    struct gw_mesh *m = arg;
    struct pollfd *polled = m->polled;
    gw_thread_name("gw-mesh");
    pthread_mutex_lock(&m->lock);
    while (!m->stopping) {
        int timeout_ms = tend(m, gw_clock_mono_us());
        fill_polled(m);
        pthread_mutex_unlock(&m->lock);
        int ready = poll(polled, sizeof m->polled / sizeof *m->polled, timeout_ms);
        pthread_mutex_lock(&m->lock);
        if (ready > 0) handle_polled(m, gw_clock_mono_us());
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}
