#include "kernels/cpu/coll_out.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void gw_coll_out_fini(struct gw_coll_out *out)
{
    free(out->backlog);
    *out = (struct gw_coll_out){0};
}

void gw_coll_out_begin(struct gw_coll_out *out, const struct gw_coll_fence *fence,
                       const struct gw_coll_head *head, const struct iovec *pieces, uint32_t pieces_len)
{
    assert(!gw_coll_out_refers(out) && pieces_len <= GW_COLL_PIECES_MAX);
    gw_coll_head_put(out->head, fence, head);
    out->piece = 0;
    out->pieces_len = 0;
    out->pieces[out->pieces_len++] = (struct iovec){out->head, sizeof out->head};
    for (uint32_t i = 0; i < pieces_len; i++)
        if (pieces[i].iov_len > 0) out->pieces[out->pieces_len++] = pieces[i];
}

bool gw_coll_out_refers(const struct gw_coll_out *out)
{
    return out->piece < out->pieces_len;
}

bool gw_coll_out_pending(const struct gw_coll_out *out)
{
    return gw_coll_out_refers(out) || out->at < out->len;
}

/* Steps over bytes that are written. */
static void consume(struct gw_coll_out *out, size_t bytes)
{
    size_t old = out->len - out->at < bytes ? out->len - out->at : bytes;
    out->at += old;
    bytes -= old;
    if (out->at == out->len) out->at = out->len = 0;
    while (bytes > 0) {
        struct iovec *p = &out->pieces[out->piece];
        size_t n = p->iov_len < bytes ? p->iov_len : bytes;
        p->iov_base = (uint8_t *)p->iov_base + n;
        p->iov_len -= n;
        bytes -= n;
        if (p->iov_len == 0) out->piece++;
    }
}

gw_err_t gw_coll_out_write(struct gw_coll_out *out, struct gw_socket *socket, size_t *wrote,
                           struct gw_err_ctx *ctx)
{
    struct iovec iov[2 + GW_COLL_PIECES_MAX];
    uint32_t len = 0;
    if (out->at < out->len) iov[len++] = (struct iovec){out->backlog + out->at, out->len - out->at};
    for (uint32_t i = out->piece; i < out->pieces_len; i++) iov[len++] = out->pieces[i];
    TRY(gw_socket_writev(socket, iov, len, 0, wrote, ctx));
    consume(out, *wrote);
    return GW_OK;
}

/* Room for so many bytes behind len. */
static gw_err_t reserve(struct gw_coll_out *out, size_t bytes)
{
    size_t have = out->len - out->at;
    if (bytes > GW_COLL_BACKLOG_MAX - have) return GW_ERR_LIMIT;
    if (have + bytes > out->cap) {
        uint8_t *more = realloc(out->backlog, have + bytes > 2 * out->cap ? have + bytes : 2 * out->cap);
        if (!more) return GW_ERR_MEMORY;
        out->backlog = more;
        out->cap = have + bytes > 2 * out->cap ? have + bytes : 2 * out->cap;
    }
    if (out->len + bytes > out->cap) {
        memmove(out->backlog, out->backlog + out->at, have);
        out->at = 0;
        out->len = have;
    }
    return GW_OK;
}

gw_err_t gw_coll_out_copy(struct gw_coll_out *out)
{
    size_t bytes = 0;
    for (uint32_t i = out->piece; i < out->pieces_len; i++) bytes += out->pieces[i].iov_len;
    TRY(reserve(out, bytes));
    for (; out->piece < out->pieces_len; out->piece++) {
        const struct iovec *p = &out->pieces[out->piece];
        memcpy(out->backlog + out->len, p->iov_base, p->iov_len);
        out->len += p->iov_len;
    }
    return GW_OK;
}
