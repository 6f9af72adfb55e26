/* A CELL_ASK on a connection of a peer server: read, judged, answered from the pinned part, piece after piece.
 *
 * A connection that has asked once counts among those that get weights until it ends, and its thread comes behind those that
 * serve requests from then on: who asks for weights asks for nothing else (cell_line.h). */
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "migrate/cell_codec.h"
#include "migrate/peer_io.h"
#include "migrate/peer_server_internal.h"

static gw_err_t send_frame(struct peer_conn *c, const struct gw_page_head *asked, enum gw_page_kind kind,
                           const uint8_t *table, uint32_t table_bytes, const uint8_t *payload, uint32_t bytes,
                           struct gw_err_ctx *ctx)
{
    uint8_t head_bytes[GW_PAGE_HEAD_BYTES];
    struct gw_page_head head = *asked;
    head.kind = kind;
    head.model = c->server->config.model;
    head.table_bytes = table_bytes;
    head.payload_bytes = bytes;
    gw_page_head_put(head_bytes, &head, table);
    struct iovec iov[] = {{head_bytes, sizeof head_bytes},
                          {(void *)(uintptr_t)table, table_bytes},
                          {(void *)(uintptr_t)payload, bytes}}; /* only read */
    return gw_peer_io_writev(&c->socket, iov, bytes > 0 ? 3 : 2,
                             gw_clock_mono_us() + c->server->config.lease_us, ctx);
}

/* Counts what has gone at the rate of now. */
static void charge(struct gw_peer_server *s, uint32_t bytes)
{
    const struct gw_cell_source *source = &s->config.cells;
    double bytes_s = source->rate ? source->rate(source->arg) : 0;
    pthread_mutex_lock(&s->lock);
    s->cell_rate.bytes_s = bytes_s;
    s->stats.cell_bytes += bytes;
    gw_rate_charge(&s->cell_rate, bytes, gw_clock_mono_us());
    pthread_mutex_unlock(&s->lock);
}

static gw_err_t send_piece(struct peer_conn *c, const struct gw_page_head *asked,
                           const struct gw_cell_ask *ask, const uint8_t *part, uint64_t at,
                           struct gw_err_ctx *ctx)
{
    struct gw_peer_server *s = c->server;
    uint8_t table[GW_CELL_PIECE_HEAD_BYTES];
    uint32_t bytes = gw_cell_piece_bytes(ask->bytes, at);
    if (!peer_server_wait_rate(s, &s->cell_rate)) return gw_fail(ctx, GW_ERR_IO, "stopping");
    const struct gw_cell_piece piece = {at, s->config.cells.sum(s->config.cells.arg, ask->part, at)};
    gw_cell_piece_put(table, &piece);
    TRY(send_frame(c, asked, GW_PAGE_CELL_PIECE, table, sizeof table, part + at, bytes, ctx));
    charge(s, bytes);
    gw_failpoint("cell", "served");
    return GW_OK;
}

static gw_err_t send_end(struct peer_conn *c, const struct gw_page_head *asked, enum gw_cell_status status,
                         struct gw_err_ctx *ctx)
{
    uint8_t table[GW_CELL_END_BYTES];
    gw_cell_end_put(table, status);
    return send_frame(c, asked, GW_PAGE_CELL_END, table, sizeof table, NULL, 0, ctx);
}

/* Is there room among those that get weights? */
static bool enter(struct peer_conn *c)
{
    struct gw_peer_server *s = c->server;
    if (c->takes_cells) return true;
    pthread_mutex_lock(&s->lock);
    c->takes_cells = s->cell_peers < GW_CELL_PEERS_MAX;
    s->cell_peers += c->takes_cells;
    pthread_mutex_unlock(&s->lock);
    if (c->takes_cells) setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), GW_CELL_NICE);
    return c->takes_cells;
}

static enum gw_cell_status judge(struct peer_conn *c, const struct gw_page_head *asked,
                                 const struct gw_cell_ask *ask)
{
    struct gw_peer_server *s = c->server;
    enum gw_page_status status = peer_server_judge(s, asked);
    if (status == GW_PAGE_STALE) return GW_CELL_STALE;
    if (status != GW_PAGE_SERVED) return GW_CELL_FOREIGN;
    if (!s->config.cells.pin) return GW_CELL_REFUSED;
    if (ask->packing != s->config.cells.packing) return GW_CELL_FOREIGN;
    return enter(c) ? GW_CELL_SERVED : GW_CELL_BUSY;
}

gw_err_t peer_conn_cells(struct peer_conn *c, const uint8_t head[GW_PAGE_HEAD_BYTES],
                         const struct gw_page_head *asked, int64_t deadline_us, struct gw_err_ctx *ctx)
{
    const struct gw_cell_source *source = &c->server->config.cells;
    uint8_t table[GW_CELL_ASK_BYTES];
    struct gw_cell_ask ask;
    TRY(gw_peer_io_read(&c->socket, table, sizeof table, deadline_us, ctx));
    TRY(gw_page_check(head, asked, table, ctx));
    TRY(gw_cell_ask_get(table, &ask, ctx));
    enum gw_cell_status status = judge(c, asked, &ask);
    const uint8_t *part = status == GW_CELL_SERVED ? source->pin(source->arg, ask.part, ask.bytes) : NULL;
    if (!part) return send_end(c, asked, status == GW_CELL_SERVED ? GW_CELL_ABSENT : status, ctx);
    gw_err_t err = GW_OK;
    for (uint64_t at = ask.from; err == GW_OK && at < ask.bytes; at += GW_CELL_PIECE_BYTES)
        err = send_piece(c, asked, &ask, part, at, ctx);
    source->unpin(source->arg, ask.part);
    return err == GW_OK ? send_end(c, asked, status, ctx) : err;
}
