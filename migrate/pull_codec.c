#include "migrate/pull_codec.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"

#define TWINS_CAP (2 * GW_PULL_NAMES_MAX) /* a power of two, half full at most */

/* ---- limits ---- */

/* Are all items[len][size] different? Open addressing; a place holds an item's index + 1. */
static bool all_differ(const void *items, uint32_t len, size_t size)
{
    uint16_t places[TWINS_CAP] = {0};
    assert(len <= GW_PULL_NAMES_MAX);
    for (uint32_t i = 0; i < len; i++) {
        const uint8_t *item = (const uint8_t *)items + i * size;
        uint32_t at = (uint32_t)gw_hash64(item, size, 0) % TWINS_CAP;
        for (; places[at]; at = (at + 1) % TWINS_CAP)
            if (memcmp((const uint8_t *)items + (places[at] - 1) * size, item, size) == 0) return false;
        places[at] = (uint16_t)(i + 1);
    }
    return true;
}

static bool holder_fits(const struct gw_fetch_source *h)
{
    const uint8_t *end = memchr(h->address, 0, sizeof h->address);
    return h->rank < GW_WIRE_RANKS_MAX && gw_page_rect_pages(h->pages) > 0 &&
           h->pages.g1 <= GW_GEOMETRY_GROUPS_MAX && h->pages.h1 <= GW_GEOMETRY_HEADS_MAX && end &&
           end != (const uint8_t *)h->address;
}

gw_err_t gw_pull_check(const struct gw_pull *p, struct gw_err_ctx *ctx)
{
    if (p->names_len == 0 || p->names_len > GW_PULL_NAMES_MAX || p->holders_len > GW_FETCH_SOURCES_MAX ||
        p->budget_ms > GW_PULL_BUDGET_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "a pull of %u blocks, %u holders, %u ms", p->names_len,
                       p->holders_len, p->budget_ms);
    if (!all_differ(p->names, p->names_len, sizeof *p->names) ||
        !all_differ(p->slots, p->names_len, sizeof *p->slots))
        return gw_fail(ctx, GW_ERR_INPUT, "a pull with a block or a slot in it twice");
    for (uint32_t i = 0; i < p->holders_len; i++)
        if (!holder_fits(&p->holders[i])) return gw_fail(ctx, GW_ERR_INPUT, "holder %u of a pull is none", i);
    return GW_OK;
}

/* ---- PULL ---- */

static void put_holder(struct gw_buf *b, const struct gw_fetch_source *h)
{
    char address[GW_FETCH_ADDRESS_BYTES] = {0}; /* nothing of ours goes out behind the NUL */
    memcpy(address, h->address, strlen(h->address));
    gw_buf_u32(b, h->rank);
    gw_buf_u16(b, h->pages.g0);
    gw_buf_u16(b, h->pages.g1);
    gw_buf_u16(b, h->pages.h0);
    gw_buf_u16(b, h->pages.h1);
    gw_buf_put(b, address, sizeof address);
}

gw_err_t gw_pull_put(struct gw_buf *b, const struct gw_pull *p)
{
    gw_buf_u16(b, (uint16_t)p->names_len);
    gw_buf_u8(b, (uint8_t)p->holders_len);
    gw_buf_u8(b, p->background);
    gw_buf_u32(b, p->budget_ms);
    gw_buf_u64(b, p->after_step);
    gw_buf_put(b, p->names, p->names_len * sizeof *p->names);
    for (uint32_t i = 0; i < p->names_len; i++) gw_buf_u32(b, p->slots[i]);
    for (uint32_t i = 0; i < p->holders_len; i++) put_holder(b, &p->holders[i]);
    return b->err;
}

static void read_raw(struct gw_reader *r, void *out, size_t len)
{
    const uint8_t *bytes = gw_read_raw(r, len);
    if (bytes) memcpy(out, bytes, len);
}

/* False: behind the address there is more than zeros. */
static bool read_holder(struct gw_reader *r, struct gw_fetch_source *h)
{
    memset(h, 0, sizeof *h);
    h->rank = gw_read_u32(r);
    h->pages.g0 = gw_read_u16(r);
    h->pages.g1 = gw_read_u16(r);
    h->pages.h0 = gw_read_u16(r);
    h->pages.h1 = gw_read_u16(r);
    read_raw(r, h->address, sizeof h->address);
    for (size_t i = strnlen(h->address, sizeof h->address); i < sizeof h->address; i++)
        if (h->address[i] != '\0') return false;
    return true;
}

static bool read_table(struct gw_reader *r, struct gw_pull_table *t)
{
    struct gw_pull *p = &t->pull;
    p->names_len = gw_read_u16(r);
    p->holders_len = gw_read_u8(r);
    uint8_t background = gw_read_u8(r);
    p->background = background == 1;
    p->budget_ms = gw_read_u32(r);
    p->after_step = gw_read_u64(r);
    if (background > 1 || p->names_len > GW_PULL_NAMES_MAX || p->holders_len > GW_FETCH_SOURCES_MAX)
        return false;
    read_raw(r, t->names, p->names_len * sizeof *t->names);
    for (uint32_t i = 0; i < p->names_len; i++) t->slots[i] = gw_read_u32(r);
    for (uint32_t i = 0; i < p->holders_len; i++)
        if (!read_holder(r, &t->holders[i])) return false;
    return gw_reader_finish(r) == GW_OK;
}

gw_err_t gw_pull_get(const struct gw_page_head *head, const uint8_t *table, struct gw_pull_table *t,
                     struct gw_err_ctx *ctx)
{
    struct gw_reader r;
    gw_reader_init(&r, table, head->table_bytes);
    t->pull =
        (struct gw_pull){.fence = head->fence, .names = t->names, .slots = t->slots, .holders = t->holders};
    if (!read_table(&r, t)) return gw_fail(ctx, GW_ERR_PROTO, "pages: a pull that is not as long as it says");
    return gw_pull_check(&t->pull, ctx) == GW_OK ? GW_OK : GW_ERR_PROTO;
}

/* ---- PULLED ---- */

uint32_t gw_pulled_put(uint8_t *out, enum gw_page_status status, const uint8_t *from, uint32_t len)
{
    const uint8_t first[4] = {(uint8_t)status};
    assert(len <= GW_PULL_NAMES_MAX);
    memcpy(out, first, sizeof first);
    if (len > 0) memcpy(out + sizeof first, from, len);
    return (uint32_t)sizeof first + len;
}

gw_err_t gw_pulled_get(const uint8_t *table, uint32_t table_bytes, enum gw_page_status *status, uint8_t *from,
                       uint32_t len, struct gw_err_ctx *ctx)
{
    struct gw_reader r;
    gw_reader_init(&r, table, table_bytes);
    uint32_t said = gw_read_u32(&r);
    if (said >= GW_PAGE_STATUSES) return gw_fail(ctx, GW_ERR_PROTO, "pages: no status %u", said);
    *status = (enum gw_page_status)said;
    const uint8_t *bytes = gw_read_raw(&r, said == GW_PAGE_SERVED ? len : 0);
    if (gw_reader_finish(&r) != GW_OK)
        return gw_fail(ctx, GW_ERR_PROTO, "pages: an answer to a pull, of a wrong length");
    if (said != GW_PAGE_SERVED) return GW_OK;
    for (uint32_t i = 0; i < len; i++)
        if (bytes[i] >= GW_PULL_FROMS) return gw_fail(ctx, GW_ERR_PROTO, "pages: from nowhere");
    memcpy(from, bytes, len);
    return GW_OK;
}
