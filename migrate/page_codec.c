#include "migrate/page_codec.h"

#include <assert.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"
#include "migrate/cell_codec.h"
#include "migrate/checksum.h"
#include "migrate/pull_codec.h"

#define MAGIC         0x324B5747u /* "GWK2" */
#define CHECKSUM_AT   72
#define REQUEST_FIXED 8 /* before the names */
#define ID_BYTES      4

static uint8_t *put_raw(uint8_t *at, const void *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

static uint8_t *put_id(uint8_t *at, struct gw_page_id id)
{
    return gw_put_le(gw_put_le(at, id.group, 2), id.head, 2);
}

static struct gw_page_id read_id(struct gw_reader *r)
{
    uint16_t group = gw_read_u16(r), head = gw_read_u16(r);
    return (struct gw_page_id){group, head};
}

static void read_raw(struct gw_reader *r, void *out, size_t len)
{
    const uint8_t *bytes = gw_read_raw(r, len);
    if (bytes) memcpy(out, bytes, len);
}

uint64_t gw_page_numerics(const char *profile, const char *kv_type)
{
    uint64_t h = gw_hash64(profile, strlen(profile), GW_BLOCK_TOKENS);
    return gw_hash64(kv_type, strlen(kv_type), h);
}

bool gw_page_model_equal(const struct gw_page_model *a, const struct gw_page_model *b)
{
    return memcmp(a->fingerprint, b->fingerprint, sizeof a->fingerprint) == 0 && a->numerics == b->numerics &&
           a->layer_bytes == b->layer_bytes;
}

bool gw_page_fence_equal(const struct gw_page_fence *a, const struct gw_page_fence *b)
{
    return a->term == b->term && a->generation == b->generation && a->pipeline == b->pipeline;
}

/* ---- head ---- */

static uint64_t checksum_of(const uint8_t *head, const uint8_t *table, uint32_t table_bytes)
{
    return gw_mix64(gw_checksum(head, CHECKSUM_AT)) ^ gw_checksum(table, table_bytes);
}

void gw_page_head_put(uint8_t out[GW_PAGE_HEAD_BYTES], const struct gw_page_head *head, const uint8_t *table)
{
    uint8_t *at = gw_put_le(out, MAGIC, 4);
    at = gw_put_le(at, head->kind, 4);
    at = gw_put_le(at, head->table_bytes, 4);
    at = gw_put_le(at, head->payload_bytes, 4);
    at = gw_put_le(at, head->fence.term, 8);
    at = gw_put_le(at, head->fence.generation, 8);
    at = gw_put_le(at, head->fence.pipeline, 4);
    at = gw_put_le(at, head->request, 4);
    at = put_raw(at, head->model.fingerprint, sizeof head->model.fingerprint);
    at = gw_put_le(at, head->model.numerics, 8);
    at = gw_put_le(at, head->model.layer_bytes, 4);
    at = gw_put_le(at, 0, 4);
    gw_put_le(at, checksum_of(out, table, head->table_bytes), 8);
}

/* Can a frame of that kind have a table and a payload of that many bytes? */
static bool lengths_fit(const struct gw_page_head *h)
{
    uint32_t table = h->table_bytes;
    bool has_payload = h->kind == GW_PAGE_PAGES || h->kind == GW_PAGE_CELL_PIECE;
    if (!has_payload && h->payload_bytes != 0) return false;
    switch (h->kind) {
    case GW_PAGE_REQUEST: return table > REQUEST_FIXED && table <= GW_PAGE_TABLE_MAX;
    case GW_PAGE_PAGES:
        return table > 0 && table % GW_PAGE_ENTRY_BYTES == 0 &&
               table <= GW_PAGE_ENTRY_BYTES * GW_PAGE_ENTRIES_MAX && h->payload_bytes > 0 &&
               h->payload_bytes <= GW_PAGE_PAYLOAD_MAX;
    case GW_PAGE_ABSENT:
        return table > 0 && table % GW_PAGE_ABSENT_BYTES == 0 &&
               table <= GW_PAGE_ABSENT_BYTES * GW_PAGE_ENTRIES_MAX;
    case GW_PAGE_DONE: return table == GW_PAGE_DONE_BYTES;
    case GW_PAGE_PULL: return table > 0 && table <= GW_PULL_TABLE_MAX;
    case GW_PAGE_PULLED: return table > 0 && table <= GW_PULLED_TABLE_MAX;
    case GW_PAGE_CELL_ASK: return table == GW_CELL_ASK_BYTES;
    case GW_PAGE_CELL_PIECE:
        return table == GW_CELL_PIECE_HEAD_BYTES && h->payload_bytes > 0 &&
               h->payload_bytes <= GW_CELL_PIECE_BYTES;
    case GW_PAGE_CELL_END: return table == GW_CELL_END_BYTES;
    }
    return false;
}

gw_err_t gw_page_head_get(const uint8_t in[GW_PAGE_HEAD_BYTES], struct gw_page_head *out,
                          struct gw_err_ctx *ctx)
{
    struct gw_reader r;
    gw_reader_init(&r, in, GW_PAGE_HEAD_BYTES);
    if (gw_read_u32(&r) != MAGIC) return gw_fail(ctx, GW_ERR_PROTO, "pages: wrong magic");
    uint32_t kind = gw_read_u32(&r);
    if (kind < GW_PAGE_REQUEST || kind > GW_PAGE_CELL_END)
        return gw_fail(ctx, GW_ERR_PROTO, "pages: no kind %u", kind);
    out->kind = (enum gw_page_kind)kind;
    out->table_bytes = gw_read_u32(&r);
    out->payload_bytes = gw_read_u32(&r);
    out->fence.term = gw_read_u64(&r);
    out->fence.generation = gw_read_u64(&r);
    out->fence.pipeline = gw_read_u32(&r);
    out->request = gw_read_u32(&r);
    read_raw(&r, out->model.fingerprint, sizeof out->model.fingerprint);
    out->model.numerics = gw_read_u64(&r);
    out->model.layer_bytes = gw_read_u32(&r);
    if (gw_read_u32(&r) != 0) return gw_fail(ctx, GW_ERR_PROTO, "pages: bytes that should be 0");
    if (!lengths_fit(out))
        return gw_fail(ctx, GW_ERR_PROTO, "pages: kind %u with %u and %u bytes", kind, out->table_bytes,
                       out->payload_bytes);
    return GW_OK;
}

gw_err_t gw_page_check(const uint8_t in[GW_PAGE_HEAD_BYTES], const struct gw_page_head *head,
                       const uint8_t *table, struct gw_err_ctx *ctx)
{
    struct gw_reader r;
    gw_reader_init(&r, in + CHECKSUM_AT, GW_PAGE_HEAD_BYTES - CHECKSUM_AT);
    if (gw_read_u64(&r) == checksum_of(in, table, head->table_bytes)) return GW_OK;
    return gw_fail(ctx, GW_ERR_PROTO, "pages: wrong checksum of a head");
}

/* ---- REQUEST ---- */

static uint32_t wanted_bytes(uint32_t names, uint32_t pages)
{
    return (names * pages + 7) / 8;
}

uint32_t gw_page_request_put(uint8_t *out, const struct gw_page_request *q)
{
    assert(q->names_len <= GW_PAGE_NAMES_MAX && q->pages_len <= GW_PAGE_IDS_MAX &&
           (uint32_t)q->names_len * q->pages_len <= GW_PAGE_ITEMS_MAX);
    uint8_t *at = gw_put_le(out, q->names_len, 2);
    at = gw_put_le(at, q->pages_len, 2);
    at = gw_put_le(at, 0, 4);
    at = put_raw(at, q->names, q->names_len * sizeof *q->names);
    for (uint32_t i = 0; i < q->pages_len; i++) at = put_id(at, q->pages[i]);
    at = put_raw(at, q->wanted, wanted_bytes(q->names_len, q->pages_len));
    return (uint32_t)(at - out);
}

/* Behind the last item there is nothing to want. */
static bool spare_bits_are_zero(const struct gw_page_request *q)
{
    uint32_t items = (uint32_t)q->names_len * q->pages_len;
    return items % 8 == 0 || q->wanted[items / 8] >> (items % 8) == 0;
}

gw_err_t gw_page_request_get(const uint8_t *table, uint32_t len, struct gw_page_request *q,
                             struct gw_err_ctx *ctx)
{
    struct gw_reader r;
    gw_reader_init(&r, table, len);
    q->names_len = gw_read_u16(&r);
    q->pages_len = gw_read_u16(&r);
    uint32_t zero = gw_read_u32(&r), items = (uint32_t)q->names_len * q->pages_len;
    if (q->names_len > GW_PAGE_NAMES_MAX || q->pages_len > GW_PAGE_IDS_MAX || items == 0 ||
        items > GW_PAGE_ITEMS_MAX || zero != 0)
        return gw_fail(ctx, GW_ERR_PROTO, "pages: a request of %u blocks, %u pages each", q->names_len,
                       q->pages_len);
    read_raw(&r, q->names, q->names_len * sizeof *q->names);
    for (uint32_t i = 0; i < q->pages_len; i++) q->pages[i] = read_id(&r);
    read_raw(&r, q->wanted, wanted_bytes(q->names_len, q->pages_len));
    if (gw_reader_finish(&r) != GW_OK || !spare_bits_are_zero(q))
        return gw_fail(ctx, GW_ERR_PROTO, "pages: a request that is not as long as it says");
    return GW_OK;
}

/* ---- PAGES ---- */

void gw_page_entry_put(uint8_t out[GW_PAGE_ENTRY_BYTES], const struct gw_page_entry *e)
{
    uint8_t *at = put_raw(out, e->name.bytes, sizeof e->name.bytes);
    at = put_id(at, e->id);
    at = gw_put_le(at, e->bytes, 4);
    gw_put_le(at, e->checksum, 8);
}

static struct gw_page_entry read_entry(struct gw_reader *r)
{
    struct gw_page_entry e = {0};
    read_raw(r, e.name.bytes, sizeof e.name.bytes);
    e.id = read_id(r);
    e.bytes = gw_read_u32(r);
    e.checksum = gw_read_u64(r);
    return e;
}

gw_err_t gw_page_entries_get(const struct gw_page_head *head, const uint8_t *table,
                             struct gw_page_entry out[GW_PAGE_ENTRIES_MAX], uint32_t *out_len,
                             struct gw_err_ctx *ctx)
{
    struct gw_reader r;
    uint64_t sum = 0;
    uint32_t len = head->table_bytes / GW_PAGE_ENTRY_BYTES;
    assert(len <= GW_PAGE_ENTRIES_MAX);
    gw_reader_init(&r, table, head->table_bytes);
    for (uint32_t i = 0; i < len; i++) {
        out[i] = read_entry(&r);
        if (out[i].bytes == 0 || out[i].bytes > GW_PAGE_BYTES_MAX)
            return gw_fail(ctx, GW_ERR_PROTO, "pages: a page of %u bytes", out[i].bytes);
        sum += out[i].bytes;
    }
    if (sum != head->payload_bytes)
        return gw_fail(ctx, GW_ERR_PROTO, "pages: %u bytes hold pages of other lengths", head->payload_bytes);
    *out_len = len;
    return gw_reader_finish(&r);
}

/* ---- ABSENT, DONE ---- */

void gw_page_absent_put(uint8_t out[GW_PAGE_ABSENT_BYTES], const struct gw_page_absent *a)
{
    put_id(put_raw(out, a->name.bytes, sizeof a->name.bytes), a->id);
}

struct gw_page_absent gw_page_absent_get(const uint8_t *table, uint32_t i)
{
    struct gw_page_absent a = {0};
    struct gw_reader r;
    gw_reader_init(&r, table + (size_t)i * GW_PAGE_ABSENT_BYTES, GW_PAGE_ABSENT_BYTES);
    read_raw(&r, a.name.bytes, sizeof a.name.bytes);
    a.id = read_id(&r);
    return a;
}

void gw_page_done_put(uint8_t out[GW_PAGE_DONE_BYTES], const struct gw_page_done *done)
{
    gw_put_le(gw_put_le(gw_put_le(out, done->status, 4), done->given, 4), done->absent, 4);
}

gw_err_t gw_page_done_get(const uint8_t table[GW_PAGE_DONE_BYTES], struct gw_page_done *out,
                          struct gw_err_ctx *ctx)
{
    struct gw_reader r;
    gw_reader_init(&r, table, GW_PAGE_DONE_BYTES);
    uint32_t status = gw_read_u32(&r);
    if (status >= GW_PAGE_STATUSES) return gw_fail(ctx, GW_ERR_PROTO, "pages: no status %u", status);
    out->status = (enum gw_page_status)status;
    out->given = gw_read_u32(&r);
    out->absent = gw_read_u32(&r);
    return GW_OK;
}
