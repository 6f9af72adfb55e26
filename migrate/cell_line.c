#include "migrate/cell_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "migrate/checksum.h"
#include "migrate/peer_fetch.h"
#include "migrate/peer_io.h"
#include "migrate/peer_line.h"

struct gw_cell_line {
    struct gw_cell_line_config config; /* key and address point to our copies */
    struct gw_shake_key key;
    char address[GW_FETCH_ADDRESS_BYTES];
    struct peer_line line;
    uint32_t last_request;

    pthread_mutex_t lock;
    bool is_cut;
};

/* ---- life ---- */

gw_err_t gw_cell_line_create(const struct gw_cell_line_config *c, struct gw_cell_line **out,
                             struct gw_err_ctx *ctx)
{
    if (c->key_len == 0 || c->key_len > GW_CLUSTER_KEY_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "the cluster key must have 1 to %d bytes", GW_CLUSTER_KEY_MAX);
    if (strlen(c->address) >= GW_FETCH_ADDRESS_BYTES)
        return gw_fail(ctx, GW_ERR_INPUT, "'%.80s' is too long for an address", c->address);
    struct gw_cell_line *l = calloc(1, sizeof *l);
    uint8_t *key = malloc(c->key_len);
    if (!l || !key) {
        free(l);
        free(key);
        return gw_fail(ctx, GW_ERR_MEMORY, "no memory for a source of weights");
    }
    memcpy(key, c->key, c->key_len);
    snprintf(l->address, sizeof l->address, "%s", c->address);
    l->config = *c;
    l->config.address = l->address;
    l->config.key = key;
    if (!l->config.stall_us) l->config.stall_us = GW_CELL_STALL_US;
    l->key = (struct gw_shake_key){key, c->key_len, c->tls};
    l->line = (struct peer_line){gw_socket_none(), &l->lock, &l->is_cut};
    pthread_mutex_init(&l->lock, NULL);
    *out = l;
    return GW_OK;
}

void gw_cell_line_destroy(struct gw_cell_line *l)
{
    if (!l) return;
    peer_line_close(&l->line);
    uint8_t *key = (uint8_t *)(uintptr_t)l->key.bytes; /* our own copy */
    gw_bytes_wipe(key, l->key.len);
    free(key);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void gw_cell_line_cut(struct gw_cell_line *l)
{
    pthread_mutex_lock(&l->lock);
    l->is_cut = true;
    peer_line_shut(&l->line);
    pthread_mutex_unlock(&l->lock);
}

/* ---- a part ---- */

static gw_err_t open_line(struct gw_cell_line *l, struct gw_err_ctx *ctx)
{
    const struct gw_page_fence *f = &l->config.fence;
    const struct peer_line_to to = {
        l->address, l->config.try_unix, &l->key, {f->term, f->generation, f->pipeline, 0, 0}};
    if (l->line.socket.fd >= 0 && gw_peer_io_idle_broken(&l->line.socket)) peer_line_close(&l->line);
    if (l->line.socket.fd >= 0) return GW_OK;
    return peer_line_open(&l->line, &to, gw_clock_mono_us() + GW_CELL_CONNECT_US, ctx);
}

static gw_err_t send_ask(struct gw_cell_line *l, const struct gw_cell_want *want, uint64_t from,
                         struct gw_err_ctx *ctx)
{
    const struct gw_cell_ask ask = {l->config.packing, want->part, want->bytes, from};
    const struct gw_page_head head = {.kind = GW_PAGE_CELL_ASK,
                                      .table_bytes = GW_CELL_ASK_BYTES,
                                      .request = ++l->last_request,
                                      .fence = l->config.fence,
                                      .model = l->config.model};
    uint8_t table[GW_CELL_ASK_BYTES], head_bytes[GW_PAGE_HEAD_BYTES];
    gw_cell_ask_put(table, &ask);
    gw_page_head_put(head_bytes, &head, table);
    struct iovec iov[] = {{head_bytes, sizeof head_bytes}, {table, sizeof table}};
    return gw_peer_io_writev(&l->line.socket, iov, 2, gw_clock_mono_us() + l->config.stall_us, ctx);
}

/* Head and table of an answer to the last question. */
static gw_err_t read_frame(struct gw_cell_line *l, struct gw_page_head *head,
                           uint8_t table[GW_CELL_PIECE_HEAD_BYTES], int64_t deadline_us,
                           struct gw_err_ctx *ctx)
{
    uint8_t head_bytes[GW_PAGE_HEAD_BYTES];
    TRY(gw_peer_io_read(&l->line.socket, head_bytes, sizeof head_bytes, deadline_us, ctx));
    TRY(gw_page_head_get(head_bytes, head, ctx));
    if ((head->kind != GW_PAGE_CELL_PIECE && head->kind != GW_PAGE_CELL_END) ||
        head->request != l->last_request || !gw_page_fence_equal(&head->fence, &l->config.fence))
        return gw_fail(ctx, GW_ERR_PROTO, "cells: not the answer to this question");
    TRY(gw_peer_io_read(&l->line.socket, table, head->table_bytes, deadline_us, ctx));
    return gw_page_check(head_bytes, head, table, ctx);
}

/* A piece whose head came: is it the next one, and as its source has it? */
static gw_err_t read_piece(struct gw_cell_line *l, const struct gw_cell_want *want,
                           const struct gw_page_head *head, const uint8_t *table, uint64_t whole,
                           int64_t deadline_us, struct gw_err_ctx *ctx)
{
    struct gw_cell_piece piece = gw_cell_piece_get(table);
    if (!gw_page_model_equal(&head->model, &l->config.model) || whole >= want->bytes || piece.at != whole ||
        head->payload_bytes != gw_cell_piece_bytes(want->bytes, whole))
        return gw_fail(ctx, GW_ERR_PROTO, "cells: not the piece that comes next");
    TRY(gw_peer_io_read(&l->line.socket, want->to + whole, head->payload_bytes, deadline_us, ctx));
    if (gw_checksum(want->to + whole, head->payload_bytes) != piece.checksum)
        return gw_fail(ctx, GW_ERR_PROTO, "cells: wrong checksum of a piece");
    want->sums[whole / GW_CELL_PIECE_BYTES] = piece.checksum;
    gw_failpoint("cell", "came");
    return GW_OK;
}

static gw_err_t end_of(enum gw_cell_status status, bool all, struct gw_err_ctx *ctx)
{
    static const char *const why[GW_CELL_STATUSES] = {
        [GW_CELL_STALE] = "takes this generation for over",
        [GW_CELL_FOREIGN] = "has another model, profile or packing",
        [GW_CELL_REFUSED] = "gives no weights",
        [GW_CELL_BUSY] = "gives weights to others",
    };
    if (status == GW_CELL_SERVED && all) return GW_OK;
    if (status == GW_CELL_SERVED) return gw_fail(ctx, GW_ERR_PROTO, "cells: an end before the end");
    if (status == GW_CELL_ABSENT) return gw_fail(ctx, GW_ERR_NOT_FOUND, "the part is not there");
    return gw_fail(ctx, GW_ERR_INPUT, "the source %s", why[status]);
}

static gw_err_t read_answer(struct gw_cell_line *l, const struct gw_cell_want *want, uint64_t *whole,
                            struct gw_err_ctx *ctx)
{
    uint8_t table[GW_CELL_PIECE_HEAD_BYTES];
    struct gw_page_head head;
    enum gw_cell_status status;
    for (;;) {
        int64_t deadline_us = gw_clock_mono_us() + l->config.stall_us;
        TRY(read_frame(l, &head, table, deadline_us, ctx));
        if (head.kind == GW_PAGE_CELL_END) break;
        TRY(read_piece(l, want, &head, table, *whole, deadline_us, ctx));
        *whole += head.payload_bytes;
        if (want->goes_on && !want->goes_on(want->arg, head.payload_bytes))
            return gw_fail(ctx, GW_ERR_LIMIT, "given up");
    }
    TRY(gw_cell_end_get(table, &status, ctx));
    return end_of(status, *whole == want->bytes, ctx);
}

gw_err_t gw_cell_line_get(struct gw_cell_line *l, const struct gw_cell_want *want, uint64_t *whole,
                          struct gw_err_ctx *ctx)
{
    TRY(open_line(l, ctx));
    gw_err_t err = send_ask(l, want, *whole, ctx);
    if (err == GW_OK) err = read_answer(l, want, whole, ctx);
    if (err != GW_OK && err != GW_ERR_NOT_FOUND) peer_line_close(&l->line);
    return err;
}
