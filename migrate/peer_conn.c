/* One connection of a peer server: reads requests, answers them from pinned pages. */
#include "migrate/peer_server_internal.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sockaddr.h"
#include "base/thread.h"
#include "migrate/peer_io.h"

#define IOV_FIXED  2          /* head, table */
#define PIPE_BYTES (1u << 20) /* what a user may have; a batch then takes one or two turns */
/* Requests whose pages the peer may not have read yet: as many as it has under way at once. */
#define HELD_REQUESTS 2

/* What a connection's thread works with; too large for its stack. */
struct answer {
    struct gw_peer_server *server;
    struct peer_conn *conn;
    struct gw_socket *socket;  /* the connection's */
    int pipe_fds[2];           /* -1: pages are copied */
    uint32_t lend_min_bytes;   /* pages that are as large are not */
    struct gw_page_head asked; /* the REQUEST's */
    struct gw_page_request request;
    struct gw_page_done done;
    struct gw_err_ctx ctx;

    /* the batch that is being filled */
    uint8_t head[GW_PAGE_HEAD_BYTES];
    uint8_t table[GW_PAGE_TABLE_MAX]; /* the REQUEST's, then each batch's entries */
    struct iovec iov[IOV_FIXED + GW_PAGE_ENTRIES_MAX];
    uint32_t entries, batch_bytes;

    struct held {
        uint32_t slots[GW_PAGE_NAMES_MAX], len;
    } held[HELD_REQUESTS], *holds; /* pins; those of this request */

    struct found {
        struct gw_page_entry entry;
        const uint8_t *bytes; /* NULL: this rank holds no such page */
    } found[GW_PAGE_IDS_MAX]; /* wanted pages of the block that is being answered */
    uint32_t found_len;

    uint8_t absents[GW_PAGE_ABSENT_BYTES * GW_PAGE_ENTRIES_MAX];
    uint32_t absents_len;
};

/* ---- frames out ---- */

/* Sends a frame whose payload is at a->iov[IOV_FIXED...] */
static gw_err_t send_frame(struct answer *a, enum gw_page_kind kind, uint8_t *table, uint32_t table_bytes,
                           uint32_t payload_bytes, uint32_t pieces)
{
    struct gw_page_head head = a->asked;
    head.kind = kind;
    head.table_bytes = table_bytes;
    head.payload_bytes = payload_bytes;
    head.model = a->server->config.model;
    gw_page_head_put(a->head, &head, table);
    a->iov[0] = (struct iovec){a->head, sizeof a->head};
    a->iov[1] = (struct iovec){table, table_bytes};
    int64_t deadline_us = gw_clock_mono_us() + a->server->config.lease_us;
    if (a->pipe_fds[0] >= 0 && pieces > 0 && payload_bytes / pieces >= a->lend_min_bytes)
        return gw_peer_io_lend(a->socket, a->pipe_fds, a->iov, IOV_FIXED, IOV_FIXED + pieces, deadline_us,
                               &a->ctx);
    return gw_peer_io_writev(a->socket, a->iov, IOV_FIXED + pieces, deadline_us, &a->ctx);
}

static void let_go(struct answer *a, struct held *held)
{
    const struct gw_page_source *source = &a->server->config.source;
    while (held->len > 0) source->unpin(source->arg, held->slots[--held->len]);
}

static void let_go_all(struct answer *a)
{
    for (int i = 0; i < HELD_REQUESTS; i++) let_go(a, &a->held[i]);
}

/* A request has come: the peer has read the answer to the one before the last. */
static void turn_held(struct answer *a)
{
    a->holds = a->holds == &a->held[0] ? &a->held[1] : &a->held[0];
    let_go(a, a->holds);
}

static void count_batch(struct answer *a)
{
    struct gw_peer_server *s = a->server;
    pthread_mutex_lock(&s->lock);
    s->stats.pages += a->entries;
    s->stats.bytes += a->batch_bytes;
    gw_rate_charge(&s->rate, a->batch_bytes, gw_clock_mono_us());
    pthread_mutex_unlock(&s->lock);
    a->done.given += a->entries;
    a->entries = a->batch_bytes = 0;
}

static gw_err_t flush_pages(struct answer *a)
{
    if (a->entries == 0) return GW_OK;
    gw_err_t err =
        send_frame(a, GW_PAGE_PAGES, a->table, a->entries * GW_PAGE_ENTRY_BYTES, a->batch_bytes, a->entries);
    if (err == GW_OK) count_batch(a);
    return err;
}

static gw_err_t flush_absents(struct answer *a)
{
    if (a->absents_len == 0) return GW_OK;
    uint32_t bytes = a->absents_len * GW_PAGE_ABSENT_BYTES;
    a->absents_len = 0;
    return send_frame(a, GW_PAGE_ABSENT, a->absents, bytes, 0, 0);
}

static gw_err_t send_done(struct answer *a, enum gw_page_status status)
{
    uint8_t table[GW_PAGE_DONE_BYTES];
    a->done.status = status;
    gw_page_done_put(table, &a->done);
    return send_frame(a, GW_PAGE_DONE, table, sizeof table, 0, 0);
}

/* ---- one request ---- */

/* An answer may have entries of pages and of absent ones at once, each in its own buffer. */
static gw_err_t add_absent(struct answer *a, uint32_t name, struct gw_page_id id)
{
    const struct gw_page_absent absent = {a->request.names[name], id};
    gw_page_absent_put(a->absents + (size_t)a->absents_len++ * GW_PAGE_ABSENT_BYTES, &absent);
    if (a->absents_len < GW_PAGE_ENTRIES_MAX) return GW_OK;
    TRY(flush_pages(a)); /* the order is the request's */
    return flush_absents(a);
}

static gw_err_t add_page(struct answer *a, const struct found *page)
{
    gw_page_entry_put(a->table + (size_t)a->entries * GW_PAGE_ENTRY_BYTES, &page->entry);
    a->iov[IOV_FIXED + a->entries++] =
        (struct iovec){(void *)(uintptr_t)page->bytes, page->entry.bytes}; /* only read */
    a->batch_bytes += page->entry.bytes;
    if (a->entries < GW_PAGE_ENTRIES_MAX && a->batch_bytes < GW_PAGE_BATCH_BYTES) return GW_OK;
    return flush_pages(a);
}

/* Pins the block for this request. False: it is not here. */
static bool hold(struct answer *a, uint32_t name, uint32_t *slot)
{
    const struct gw_page_source *source = &a->server->config.source;
    if (!source->pin(source->arg, &a->request.names[name], slot)) return false;
    a->holds->slots[a->holds->len++] = *slot;
    return true;
}

/* Is the block at that slot still? Then what was read of the slot before is of that block. */
static bool is_still_at(struct answer *a, uint32_t name, uint32_t slot)
{
    const struct gw_page_source *source = &a->server->config.source;
    uint32_t now;
    if (!source->pin(source->arg, &a->request.names[name], &now)) return false;
    source->unpin(source->arg, now);
    return now == slot;
}

/* Finds the wanted pages of a block. False: it is not here. */
static bool find_pages(struct answer *a, uint32_t name)
{
    const struct gw_page_source *source = &a->server->config.source;
    uint32_t slot;
    a->found_len = 0;
    if (!hold(a, name, &slot)) return false;
    for (uint32_t p = 0; p < a->request.pages_len; p++) {
        if (!gw_page_wanted(&a->request, name, p)) continue;
        struct found *page = &a->found[a->found_len++];
        page->entry = (struct gw_page_entry){a->request.names[name], a->request.pages[p], 0, 0};
        page->bytes =
            source->page(source->arg, slot, page->entry.id, &page->entry.bytes, &page->entry.checksum);
    }
    return is_still_at(a, name, slot);
}

static uint32_t count_wanted(const struct gw_page_request *r, uint32_t name)
{
    uint32_t count = 0;
    for (uint32_t p = 0; p < r->pages_len; p++) count += gw_page_wanted(r, name, p);
    return count;
}

/* Before each batch, the bytes of those before must be paid for. */
static gw_err_t may_begin(struct answer *a)
{
    if (a->entries > 0 || peer_server_wait_rate(a->server, &a->server->rate)) return GW_OK;
    return gw_fail(&a->ctx, GW_ERR_IO, "stopping");
}

static gw_err_t answer_block(struct answer *a, uint32_t name)
{
    uint32_t wanted = count_wanted(&a->request, name);
    if (wanted == 0) return GW_OK;
    TRY(may_begin(a));
    if (!find_pages(a, name)) {
        a->done.absent += wanted;
        return add_absent(a, name, (struct gw_page_id){GW_PAGE_ALL, GW_PAGE_ALL});
    }
    for (uint32_t i = 0; i < a->found_len; i++) {
        TRY(may_begin(a));
        if (a->found[i].bytes) {
            TRY(add_page(a, &a->found[i]));
        } else {
            a->done.absent++;
            TRY(add_absent(a, name, a->found[i].entry.id));
        }
    }
    return GW_OK;
}

static gw_err_t answer_all(struct answer *a)
{
    gw_err_t err = GW_OK;
    for (uint32_t name = 0; err == GW_OK && name < a->request.names_len; name++) err = answer_block(a, name);
    if (err == GW_OK) err = flush_pages(a);
    a->entries = a->batch_bytes = 0;
    if (err == GW_OK) err = flush_absents(a);
    return err == GW_OK ? send_done(a, GW_PAGE_SERVED) : err;
}

/* ---- the connection ---- */

/* Waits for the first byte of a frame. When the lease of the last answers is over, nothing is pinned any more. */
static bool wait_for_frame(struct answer *a)
{
    const struct gw_peer_server_config *config = &a->server->config;
    int64_t now_us = gw_clock_mono_us(), idle_us = config->idle_us, lease_us = config->lease_us;
    gw_err_t err =
        gw_peer_io_wait(a->socket, POLLIN, now_us + (lease_us < idle_us ? lease_us : idle_us), NULL);
    if (err == GW_ERR_LIMIT && lease_us < idle_us) {
        let_go_all(a);
        err = gw_peer_io_wait(a->socket, POLLIN, now_us + idle_us, NULL);
    }
    return err == GW_OK;
}

/* A frame's head; the rest of it must come by *deadline_us. */
static gw_err_t read_head(struct answer *a, int64_t *deadline_us)
{
    if (!wait_for_frame(a)) return GW_ERR_IO;
    *deadline_us = gw_clock_mono_us() + a->server->config.message_us;
    TRY(gw_peer_io_read(a->socket, a->head, sizeof a->head, *deadline_us, &a->ctx));
    return gw_page_head_get(a->head, &a->asked, &a->ctx);
}

static gw_err_t read_request(struct answer *a, int64_t deadline_us)
{
    TRY(gw_peer_io_read(a->socket, a->table, a->asked.table_bytes, deadline_us, &a->ctx));
    TRY(gw_page_check(a->head, &a->asked, a->table, &a->ctx));
    TRY(gw_page_request_get(a->table, a->asked.table_bytes, &a->request, &a->ctx));
    turn_held(a);
    return GW_OK;
}

static gw_err_t serve_request(struct answer *a, int64_t deadline_us)
{
    TRY(read_request(a, deadline_us));
    a->done = (struct gw_page_done){0};
    enum gw_page_status status = peer_server_judge(a->server, &a->asked);
    gw_err_t err = status == GW_PAGE_SERVED ? answer_all(a) : send_done(a, status);
    pthread_mutex_lock(&a->server->lock);
    a->server->stats.absent += a->done.absent;
    pthread_mutex_unlock(&a->server->lock);
    return err;
}

static gw_err_t serve_one(struct answer *a)
{
    int64_t deadline_us;
    TRY(read_head(a, &deadline_us));
    switch (a->asked.kind) {
    case GW_PAGE_REQUEST: return serve_request(a, deadline_us);
    case GW_PAGE_PULL:
        let_go_all(a); /* a pull may last; what was asked for before it is read by now */
        return peer_conn_pull(a->server, a->socket, a->head, &a->asked, deadline_us, &a->ctx);
    case GW_PAGE_CELL_ASK:
        let_go_all(a);
        return peer_conn_cells(a->conn, a->head, &a->asked, deadline_us, &a->ctx);
    default: return gw_fail(&a->ctx, GW_ERR_PROTO, "pages: kind %d of a peer that asks", a->asked.kind);
    }
}

/* An idle or closed connection is no news; the others are counted. */
static void count_end(struct answer *a, gw_err_t err)
{
    struct gw_peer_server *s = a->server;
    pthread_mutex_lock(&s->lock);
    if (err == GW_ERR_PROTO) s->stats.bad++;
    if (err == GW_ERR_LIMIT) s->stats.slow++;
    pthread_mutex_unlock(&s->lock);
    if (a->ctx.code != GW_OK)
        gw_logf(s->config.log, GW_LOG_DEBUG, "pages: a peer's connection ends: %s", a->ctx.text);
}

static uint32_t lend_min_bytes(const struct peer_conn *c)
{
    if (c->server->config.lend_min_bytes) return c->server->config.lend_min_bytes;
    return gw_sockaddr_stays_here(c->socket.fd) ? UINT32_MAX : GW_PEER_LEND_MIN;
}

static struct answer *open_answer(struct peer_conn *c)
{
    struct answer *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->server = c->server;
    a->conn = c;
    a->socket = &c->socket;
    a->lend_min_bytes = lend_min_bytes(c);
    if (pipe2(a->pipe_fds, O_CLOEXEC | O_NONBLOCK) == 0)
        (void)fcntl(a->pipe_fds[1], F_SETPIPE_SZ, PIPE_BYTES); /* else it is smaller */
    else
        a->pipe_fds[0] = a->pipe_fds[1] = -1;
    return a;
}

static void close_answer(struct answer *a)
{
    for (int i = 0; i < 2; i++)
        if (a->pipe_fds[i] >= 0) close(a->pipe_fds[i]);
    free(a);
}

void *peer_conn_main(void *arg)
{
    struct peer_conn *c = arg;
    struct gw_peer_server *s = c->server;
    struct answer *a = open_answer(c);
    gw_err_t err = GW_OK;
    gw_thread_name("gw-peer");
    if (a) {
        while (err == GW_OK) err = serve_one(a);
        shutdown(c->socket.fd,
                 SHUT_RDWR); /* the peer sees it now; the number stays ours until the thread is joined */
        let_go_all(a);
        count_end(a, err);
        close_answer(a);
    }
    pthread_mutex_lock(&s->lock);
    if (c->takes_cells) s->cell_peers--;
    c->over = true;
    pthread_mutex_unlock(&s->lock);
    peer_server_wake(s);
    return NULL;
}
