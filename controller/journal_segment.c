#include "controller/journal_segment.h"

#include <stdlib.h>
#include <string.h>

#include "migrate/checksum.h"

#define MAGIC_BYTES 8
#define PLACE_BYTES (GW_SEGMENT_HEAD_BYTES + 8)

static const uint8_t head_magic[MAGIC_BYTES] = {'G', 'W', 'J', 'R', 'N', 'L', '0', '1'};
static const uint8_t frame_magic[4] = {'G', 'W', 'J', 'F'};

/* ---- changes ---- */

void gw_change_put(struct gw_buf *batch, const struct gw_change *c)
{
    gw_buf_u8(batch, (uint8_t)c->kind);
    gw_buf_u64(batch, c->entry);
    gw_buf_bytes(batch, c->piece, c->len);
}

gw_err_t gw_change_get(struct gw_reader *r, struct gw_change *out)
{
    struct gw_change c = {.kind = (enum gw_change_kind)gw_read_u8(r), .entry = gw_read_u64(r)};
    c.len = gw_read_bytes(r, GW_RECORD_BYTES_MAX, &c.piece);
    bool known = c.kind == GW_CHANGE_APPEND || (c.kind == GW_CHANGE_END && c.len == 0);
    if (r->err != GW_OK || !known || c.entry == 0) return GW_ERR_PROTO;
    *out = c;
    return GW_OK;
}

/* ---- writing ---- */

void gw_segment_put_head(struct gw_buf *b, const struct gw_segment_head *head)
{
    struct gw_buf h;
    gw_buf_init(&h, GW_SEGMENT_HEAD_BYTES);
    gw_buf_put(&h, head_magic, MAGIC_BYTES);
    gw_buf_u64(&h, head->number);
    gw_buf_u64(&h, head->term);
    gw_buf_put(&h, head->writer.bytes, GW_RECORD_WRITER_BYTES);
    if (h.err == GW_OK) gw_buf_u64(&h, gw_checksum(h.data, h.len));
    if (h.err == GW_OK)
        gw_buf_put(b, h.data, h.len);
    else
        b->err = h.err;
    gw_buf_fini(&h);
}

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get_u64(const uint8_t *p)
{
    return get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

/* What a frame's seal authenticates beside its batch. */
static void put_place(uint8_t place[PLACE_BYTES], const uint8_t *head, uint64_t offset)
{
    memcpy(place, head, GW_SEGMENT_HEAD_BYTES);
    gw_put_le(place + GW_SEGMENT_HEAD_BYTES, offset, 8);
}

static gw_err_t make_place(uint8_t place[PLACE_BYTES], const struct gw_segment_head *head, uint64_t offset)
{
    struct gw_buf b;
    gw_buf_init(&b, GW_SEGMENT_HEAD_BYTES);
    gw_segment_put_head(&b, head);
    gw_err_t err = b.err;
    if (err == GW_OK) put_place(place, b.data, offset);
    gw_buf_fini(&b);
    return err;
}

gw_err_t gw_segment_put_frame(struct gw_buf *b, struct gw_record_sealer *sealer,
                              const struct gw_segment_head *head, uint64_t sequence, uint64_t offset,
                              const void *batch, size_t len)
{
    uint8_t place[PLACE_BYTES];
    size_t n = len + GW_RECORD_SEAL_BYTES;
    if (n > GW_SEGMENT_FRAME_MAX) return GW_ERR_LIMIT;
    TRY(make_place(place, head, offset));
    uint8_t *frame = malloc(GW_SEGMENT_FRAME_BYTES + n);
    if (!frame) return GW_ERR_MEMORY;
    uint8_t *sealed = frame + GW_SEGMENT_FRAME_BYTES;
    memcpy(frame, frame_magic, sizeof frame_magic);
    gw_put_le(frame + 4, (uint32_t)n, 4);
    gw_err_t err = gw_record_seal(sealer, &head->writer, sequence, place, sizeof place, batch, len, sealed);
    gw_put_le(frame + 8, gw_checksum(sealed, n), 8);
    if (err == GW_OK) {
        gw_buf_put(b, frame, GW_SEGMENT_FRAME_BYTES + n);
        err = b->err;
    }
    free(frame);
    return err;
}

/* ---- reading ---- */

struct reading {
    const uint8_t *bytes;
    size_t len;
    struct gw_record_sealer *sealer;
    const struct gw_segment_reader *reader;
    struct gw_segment_head head;
    bool any;          /* a frame was read … */
    uint64_t sequence; /* … and its sequence */
};

static gw_err_t read_head(struct reading *s, struct gw_err_ctx *ctx)
{
    struct gw_reader r;
    if (s->len < GW_SEGMENT_HEAD_BYTES || memcmp(s->bytes, head_magic, MAGIC_BYTES) != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "it is no journal of this version");
    if (get_u64(s->bytes + GW_SEGMENT_HEAD_BYTES - 8) != gw_checksum(s->bytes, GW_SEGMENT_HEAD_BYTES - 8))
        return gw_fail(ctx, GW_ERR_INPUT, "its head is damaged");
    gw_reader_init(&r, s->bytes + MAGIC_BYTES, GW_SEGMENT_HEAD_BYTES - MAGIC_BYTES);
    s->head.number = gw_read_u64(&r);
    s->head.term = gw_read_u64(&r);
    memcpy(s->head.writer.bytes, gw_read_raw(&r, GW_RECORD_WRITER_BYTES), GW_RECORD_WRITER_BYTES);
    return GW_OK;
}

/* The length of the whole frame at `at`, 0 if there is none. */
static size_t whole_frame(const struct reading *s, size_t at)
{
    const uint8_t *frame = s->bytes + at;
    size_t left = s->len - at;
    if (left < GW_SEGMENT_FRAME_BYTES || memcmp(frame, frame_magic, sizeof frame_magic) != 0) return 0;
    size_t n = get_u32(frame + 4);
    if (n < GW_RECORD_SEAL_BYTES || n > GW_SEGMENT_FRAME_MAX || n > left - GW_SEGMENT_FRAME_BYTES) return 0;
    if (get_u64(frame + 8) != gw_checksum(frame + GW_SEGMENT_FRAME_BYTES, n)) return 0;
    return GW_SEGMENT_FRAME_BYTES + n;
}

/* Is there a whole frame anywhere behind `at`? */
static bool frame_follows(const struct reading *s, size_t at)
{
    for (at++; at < s->len; at++) {
        const uint8_t *next = memchr(s->bytes + at, frame_magic[0], s->len - at);
        if (!next) return false;
        at = (size_t)(next - s->bytes);
        if (whole_frame(s, at) > 0) return true;
    }
    return false;
}

static gw_err_t read_changes(const struct reading *s, const uint8_t *batch, size_t len)
{
    struct gw_reader r;
    struct gw_change change;
    gw_reader_init(&r, batch, len);
    while (r.pos < r.len) {
        TRY(gw_change_get(&r, &change));
        TRY(s->reader->change(s->reader->arg, &change));
    }
    return GW_OK;
}

static gw_err_t open_frame(struct reading *s, size_t at, const uint8_t *sealed, size_t len, uint8_t *batch,
                           struct gw_err_ctx *ctx)
{
    struct gw_record_writer writer;
    uint8_t place[PLACE_BYTES];
    uint64_t sequence = 0;
    put_place(place, s->bytes, at);
    gw_err_t err = gw_record_open(s->sealer, place, sizeof place, sealed, len, &writer, &sequence, batch);
    if (err != GW_OK && !s->any)
        return gw_fail(ctx, GW_ERR_INPUT, "it was sealed under another cluster key, or is damaged");
    if (err != GW_OK || memcmp(&writer, &s->head.writer, sizeof writer) != 0 ||
        (s->any && sequence <= s->sequence))
        return gw_fail(ctx, GW_ERR_INPUT, "it is damaged or forged at byte %zu", at);
    s->any = true;
    s->sequence = sequence;
    return GW_OK;
}

static gw_err_t read_frame(struct reading *s, size_t at, size_t frame_len, struct gw_err_ctx *ctx)
{
    const uint8_t *sealed = s->bytes + at + GW_SEGMENT_FRAME_BYTES;
    size_t len = frame_len - GW_SEGMENT_FRAME_BYTES;
    uint8_t *batch = malloc(len);
    if (!batch) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    gw_err_t err = open_frame(s, at, sealed, len, batch, ctx);
    if (err == GW_OK) err = read_changes(s, batch, len - GW_RECORD_SEAL_BYTES);
    if (err == GW_ERR_PROTO) err = gw_fail(ctx, GW_ERR_INPUT, "what it says at byte %zu cannot be", at);
    free(batch);
    return err;
}

gw_err_t gw_segment_read(const uint8_t *bytes, size_t len, struct gw_record_sealer *sealer,
                         const struct gw_segment_reader *reader, struct gw_segment_head *head, size_t *torn,
                         struct gw_err_ctx *ctx)
{
    struct reading s = {.bytes = bytes, .len = len, .sealer = sealer, .reader = reader};
    size_t at = GW_SEGMENT_HEAD_BYTES, frame_len;
    TRY(read_head(&s, ctx));
    while (at < len && (frame_len = whole_frame(&s, at)) > 0) {
        TRY(read_frame(&s, at, frame_len, ctx));
        at += frame_len;
    }
    if (frame_follows(&s, at)) return gw_fail(ctx, GW_ERR_INPUT, "it is damaged at byte %zu", at);
    *head = s.head;
    *torn = len - at;
    return GW_OK;
}
