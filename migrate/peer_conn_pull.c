/* A PULL on a connection of a peer server: read, judged, done by the pull sink, answered. */
#include <stdlib.h>

#include "base/clock.h"
#include "migrate/peer_io.h"
#include "migrate/peer_server_internal.h"
#include "migrate/pull_codec.h"

/* One pull at work: 180 KiB, too large for a thread's stack and too rarely needed for a connection's memory. */
struct pulling {
    uint8_t bytes[GW_PULL_TABLE_MAX];
    struct gw_pull_table table;
    uint8_t from[GW_PULL_NAMES_MAX];
};

static gw_err_t answer(struct gw_peer_server *s, struct gw_socket *socket, const struct gw_page_head *asked,
                       enum gw_page_status status, const struct pulling *p, struct gw_err_ctx *ctx)
{
    uint8_t head_bytes[GW_PAGE_HEAD_BYTES], table[GW_PULLED_TABLE_MAX];
    struct gw_page_head head = *asked;
    head.kind = GW_PAGE_PULLED;
    head.model = s->config.model;
    head.table_bytes =
        gw_pulled_put(table, status, p->from, status == GW_PAGE_SERVED ? p->table.pull.names_len : 0);
    gw_page_head_put(head_bytes, &head, table);
    struct iovec iov[] = {{head_bytes, sizeof head_bytes}, {table, head.table_bytes}};
    return gw_peer_io_writev(socket, iov, 2, gw_clock_mono_us() + s->config.lease_us, ctx);
}

static gw_err_t pull_and_answer(struct gw_peer_server *s, struct gw_socket *socket,
                                const uint8_t head[GW_PAGE_HEAD_BYTES], const struct gw_page_head *asked,
                                int64_t deadline_us, struct pulling *p, struct gw_err_ctx *ctx)
{
    TRY(gw_peer_io_read(socket, p->bytes, asked->table_bytes, deadline_us, ctx));
    TRY(gw_page_check(head, asked, p->bytes, ctx));
    TRY(gw_pull_get(asked, p->bytes, &p->table, ctx));
    enum gw_page_status status = peer_server_judge(s, asked);
    if (status == GW_PAGE_SERVED && !s->config.pull.pull) status = GW_PAGE_REFUSED;
    if (status == GW_PAGE_SERVED) s->config.pull.pull(s->config.pull.arg, &p->table.pull, p->from);
    return answer(s, socket, asked, status, p, ctx);
}

gw_err_t peer_conn_pull(struct gw_peer_server *s, struct gw_socket *socket,
                        const uint8_t head[GW_PAGE_HEAD_BYTES], const struct gw_page_head *asked,
                        int64_t deadline_us, struct gw_err_ctx *ctx)
{
    struct pulling *p = calloc(1, sizeof *p); /* GW_PULL_LOST everywhere */
    if (!p) return gw_fail(ctx, GW_ERR_MEMORY, "no memory for a pull");
    gw_err_t err = pull_and_answer(s, socket, head, asked, deadline_us, p, ctx);
    free(p);
    return err;
}
