#include "migrate/store_peer_wire.h"

#include <event2/buffer.h>
#include <string.h>

#include "base/buf.h"

#define MAGIC    0x31535747u /* "GWS1" */
#define PAGE_MAX (GW_PAGE_BYTES_MAX + GW_PAGE_SEAL_BYTES)

void peer_reader_init(struct peer_reader *r, const struct peer_listener *listener)
{
    *r = (struct peer_reader){.listener = *listener};
}

bool peer_reader_is_amid(const struct peer_reader *r)
{
    return r->head_len > 0;
}

static gw_err_t parse_head(struct peer_reader *r, struct gw_err_ctx *ctx)
{
    struct gw_reader in;
    struct peer_frame *f = &r->frame;
    gw_reader_init(&in, r->head, PEER_HEAD_BYTES);
    uint32_t magic = gw_read_u32(&in);
    uint8_t type = gw_read_u8(&in), outcome = gw_read_u8(&in);
    *f = (struct peer_frame){.type = type, .refused = outcome == 1, .items = r->items};
    f->items_len = gw_read_u16(&in);
    f->bytes = gw_read_u32(&in);
    memcpy(f->name.bytes, gw_read_raw(&in, GW_BLOCK_NAME_BYTES), GW_BLOCK_NAME_BYTES);
    if (magic != MAGIC || type < PEER_PUT || type > PEER_ANSWER || outcome > (type == PEER_ANSWER ? 1 : 0))
        return gw_fail(ctx, GW_ERR_PROTO, "it does not speak our protocol");
    if (f->items_len == 0 || f->items_len > GW_STORE_PAGES_MAX || f->bytes > PEER_BYTES_MAX)
        return gw_fail(ctx, GW_ERR_PROTO, "%u pages of %u bytes in one frame", f->items_len, f->bytes);
    return GW_OK;
}

/* What the lengths of a table must be: those of the pages behind it, or lengths alone. */
static bool lengths_fit(const struct peer_frame *f, uint64_t sum, bool any_zero)
{
    switch (f->type) {
    case PEER_PUT: return sum == f->bytes && !any_zero;
    case PEER_GET:
    case PEER_HAS: return sum == 0 && f->bytes == 0;
    case PEER_ANSWER: return f->bytes == 0 || f->bytes == sum;
    }
    return false;
}

static gw_err_t parse_table(struct peer_reader *r, struct gw_err_ctx *ctx)
{
    struct gw_reader in;
    uint64_t sum = 0;
    bool any_zero = false;
    gw_reader_init(&in, r->head + PEER_HEAD_BYTES, PEER_ITEM_BYTES * r->frame.items_len);
    for (uint32_t i = 0; i < r->frame.items_len; i++) {
        struct peer_item *item = &r->items[i];
        item->id.group = gw_read_u16(&in);
        item->id.head = gw_read_u16(&in);
        item->len = gw_read_u32(&in);
        if (item->len > PAGE_MAX) return gw_fail(ctx, GW_ERR_PROTO, "a page of %u bytes", item->len);
        sum += item->len;
        any_zero |= item->len == 0;
    }
    if (!lengths_fit(&r->frame, sum, any_zero))
        return gw_fail(ctx, GW_ERR_PROTO, "lengths that do not add up");
    return GW_OK;
}

/* To the next page that has bytes, or the frame's end. */
static gw_err_t next_page(struct peer_reader *r, struct gw_err_ctx *ctx)
{
    while (r->frame.bytes > 0 && r->item < r->frame.items_len && r->items[r->item].len == 0) r->item++;
    r->to_len = 0;
    if (r->frame.bytes == 0 || r->item == r->frame.items_len) {
        r->head_len = 0;
        r->in_pages = false;
        return r->listener.frame_over(r->listener.arg);
    }
    r->to = r->listener.page(r->listener.arg, r->item);
    return r->to ? GW_OK : gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
}

static size_t take(uint8_t *to, size_t *to_len, size_t want, const uint8_t *bytes, size_t len)
{
    size_t n = want - *to_len < len ? want - *to_len : len;
    memcpy(to + *to_len, bytes, n);
    *to_len += n;
    return n;
}

static gw_err_t feed_head(struct peer_reader *r, const uint8_t **bytes, size_t *len, struct gw_err_ctx *ctx)
{
    bool had_head = r->head_len >= PEER_HEAD_BYTES;
    size_t want = PEER_HEAD_BYTES + (had_head ? PEER_ITEM_BYTES * r->frame.items_len : 0);
    size_t n = take(r->head, &r->head_len, want, *bytes, *len);
    *bytes += n;
    *len -= n;
    if (r->head_len < want) return GW_OK;
    if (!had_head) return parse_head(r, ctx);
    TRY(parse_table(r, ctx));
    TRY(r->listener.frame(r->listener.arg, &r->frame));
    r->in_pages = true;
    r->item = 0;
    return next_page(r, ctx);
}

static gw_err_t feed_page(struct peer_reader *r, const uint8_t **bytes, size_t *len, struct gw_err_ctx *ctx)
{
    size_t want = r->items[r->item].len;
    size_t n = take(r->to, &r->to_len, want, *bytes, *len);
    *bytes += n;
    *len -= n;
    if (r->to_len < want) return GW_OK;
    r->listener.page_over(r->listener.arg, r->item++);
    return next_page(r, ctx);
}

gw_err_t peer_reader_feed(struct peer_reader *r, const void *bytes, size_t len, struct gw_err_ctx *ctx)
{
    const uint8_t *at = bytes;
    while (len > 0) TRY(r->in_pages ? feed_page(r, &at, &len, ctx) : feed_head(r, &at, &len, ctx));
    return GW_OK;
}

gw_err_t peer_put_head(struct evbuffer *out, const struct peer_frame *f)
{
    struct gw_buf b;
    gw_buf_init(&b, PEER_HEAD_BYTES + PEER_ITEM_BYTES * GW_STORE_PAGES_MAX);
    gw_buf_u32(&b, MAGIC);
    gw_buf_u8(&b, (uint8_t)f->type);
    gw_buf_u8(&b, f->refused);
    gw_buf_u16(&b, (uint16_t)f->items_len);
    gw_buf_u32(&b, f->bytes);
    gw_buf_put(&b, f->name.bytes, GW_BLOCK_NAME_BYTES);
    for (uint32_t i = 0; i < f->items_len; i++) {
        gw_buf_u16(&b, f->items[i].id.group);
        gw_buf_u16(&b, f->items[i].id.head);
        gw_buf_u32(&b, f->items[i].len);
    }
    gw_err_t err = b.err;
    if (err == GW_OK && evbuffer_add(out, b.data, b.len) != 0) err = GW_ERR_MEMORY;
    gw_buf_fini(&b);
    return err;
}
