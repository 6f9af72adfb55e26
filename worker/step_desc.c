#include "worker/step_desc.h"

#include <stdlib.h>
#include <string.h>

#define SEALED_BYTES (4 + GW_BLOCK_NAME_BYTES)

struct gw_step_reader {
    struct gw_step_limits limits;
    uint32_t table_len;             /* entries of one lane's table */
    uint32_t *tables;               /* [sequences][table_len] */
    uint32_t *known;                /* [sequences] entries that have been told */
    uint32_t *ids;                  /* [rows] */
    struct gw_step_sample *samples; /* [sequences] */
    struct gw_wish_room room;       /* of their wishes */
    struct gw_step_seq *seqs;       /* [sequences] */
    struct gw_slot_copy *copies;    /* [GW_STEP_DESC_COPIES_MAX] */
    struct gw_slot_name *sealed;    /* [sealed_cap] */
    uint32_t sealed_cap;
};

static void put_all(struct gw_buf *b, const uint32_t *values, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) gw_buf_u32(b, values[i]);
}

static void put_sealed(const struct gw_step_desc *d, struct gw_buf *b)
{
    gw_buf_u32(b, d->sealed_len);
    for (uint32_t i = 0; i < d->sealed_len; i++) {
        gw_buf_u32(b, d->sealed[i].slot);
        gw_buf_put(b, d->sealed[i].name.bytes, GW_BLOCK_NAME_BYTES);
    }
}

void gw_step_desc_put(const struct gw_step_desc *d, struct gw_buf *b)
{
    gw_buf_u32(b, d->rows);
    gw_buf_u32(b, d->seqs_len);
    gw_buf_u32(b, d->samples_len);
    gw_buf_u32(b, d->copies_len);
    for (uint32_t i = 0; i < d->copies_len; i++) {
        gw_buf_u32(b, d->copies[i].from);
        gw_buf_u32(b, d->copies[i].to);
    }
    put_all(b, d->ids, d->rows);
    for (uint32_t i = 0; i < d->seqs_len; i++) {
        const struct gw_step_seq *s = &d->seqs[i];
        gw_buf_u32(b, s->lane);
        gw_buf_u32(b, s->rows);
        gw_buf_u32(b, s->position);
        gw_buf_u32(b, s->blocks_at);
        gw_buf_u32(b, s->blocks_to - s->blocks_at);
        put_all(b, s->blocks + s->blocks_at, s->blocks_to - s->blocks_at);
    }
    for (uint32_t i = 0; i < d->samples_len; i++) {
        gw_buf_u32(b, d->samples[i].row);
        gw_wish_put(&d->samples[i].wish, b);
    }
    if (d->sealed_len > 0) put_sealed(d, b);
}

gw_err_t gw_step_reader_create(const struct gw_step_limits *limits, struct gw_step_reader **out)
{
    struct gw_step_reader *r = calloc(1, sizeof *r);
    if (!r) return GW_ERR_MEMORY;
    r->limits = *limits;
    r->table_len = (limits->positions + GW_BLOCK_TOKENS - 1) / GW_BLOCK_TOKENS;
    r->tables = calloc((size_t)limits->sequences * r->table_len, sizeof *r->tables);
    r->known = calloc(limits->sequences, sizeof *r->known);
    r->ids = calloc(limits->rows, sizeof *r->ids);
    r->samples = calloc(limits->sequences, sizeof *r->samples);
    r->seqs = calloc(limits->sequences, sizeof *r->seqs);
    r->copies = calloc(GW_STEP_DESC_COPIES_MAX, sizeof *r->copies);
    if (!r->tables || !r->known || !r->ids || !r->samples || !r->seqs || !r->copies ||
        gw_wish_room_init(&r->room, GW_WISH_IDS_MAX, GW_WISH_CHANGES_MAX) != GW_OK) {
        gw_step_reader_destroy(r);
        return GW_ERR_MEMORY;
    }
    *out = r;
    return GW_OK;
}

void gw_step_reader_destroy(struct gw_step_reader *r)
{
    if (!r) return;
    free(r->tables);
    free(r->known);
    free(r->ids);
    free(r->samples);
    gw_wish_room_fini(&r->room);
    free(r->seqs);
    free(r->copies);
    free(r->sealed);
    free(r);
}

static bool get_copies(struct gw_step_reader *r, struct gw_reader *in, uint32_t count)
{
    bool ok = true;
    for (uint32_t i = 0; i < count; i++) {
        r->copies[i] = (struct gw_slot_copy){.from = gw_read_u32(in)};
        r->copies[i].to = gw_read_u32(in);
        ok &= r->copies[i].from < r->limits.slots && r->copies[i].to < r->limits.slots;
    }
    return ok;
}

/* Reads numbers that must be below `limit`. */
static bool get_below(struct gw_reader *in, uint32_t *out, uint32_t count, uint32_t limit)
{
    bool ok = true;
    for (uint32_t i = 0; i < count; i++) {
        out[i] = gw_read_u32(in);
        ok &= out[i] < limit;
    }
    return ok;
}

/* Entries [at, at + count) of the lane's table; no gap may be left behind those known. */
static bool get_table(struct gw_step_reader *r, struct gw_reader *in, uint32_t lane, uint32_t at,
                      uint32_t count)
{
    if (at > r->known[lane] || at > r->table_len || count > r->table_len - at) return false;
    r->known[lane] = at; /* what is refused is not known */
    if (!get_below(in, r->tables + (size_t)lane * r->table_len + at, count, r->limits.slots)) return false;
    r->known[lane] = at + count;
    return true;
}

static bool get_seq(struct gw_step_reader *r, struct gw_reader *in, struct gw_step_seq *s)
{
    *s = (struct gw_step_seq){.lane = gw_read_u32(in)};
    s->rows = gw_read_u32(in);
    s->position = gw_read_u32(in);
    s->blocks_at = gw_read_u32(in);
    uint32_t count = gw_read_u32(in);
    if (in->err != GW_OK || s->lane >= r->limits.sequences || s->rows == 0 || s->rows > r->limits.rows)
        return false;
    if (!get_table(r, in, s->lane, s->blocks_at, count)) return false;
    s->blocks = r->tables + (size_t)s->lane * r->table_len;
    s->blocks_to = s->blocks_at + count;
    uint64_t end = (uint64_t)s->position + s->rows;
    return end <= r->limits.positions && end <= (uint64_t)r->known[s->lane] * GW_BLOCK_TOKENS;
}

static bool get_seqs(struct gw_step_reader *r, struct gw_reader *in, uint32_t seqs, uint32_t rows)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < seqs; i++) {
        if (!get_seq(r, in, &r->seqs[i])) return false;
        sum += r->seqs[i].rows;
    }
    return sum == rows;
}

static bool get_samples(struct gw_step_reader *r, struct gw_reader *in, uint32_t count, uint32_t rows)
{
    bool ok = true;
    gw_wish_room_clear(&r->room);
    for (uint32_t i = 0; ok && i < count; i++) {
        r->samples[i] = (struct gw_step_sample){.row = gw_read_u32(in)};
        ok &= gw_wish_get(in, r->limits.vocab, &r->room, &r->samples[i].wish) && r->samples[i].row < rows;
    }
    return ok;
}

/* Room for what is there to be read. */
static bool reserve_sealed(struct gw_step_reader *r, uint32_t count)
{
    if (count <= r->sealed_cap) return true;
    struct gw_slot_name *larger = realloc(r->sealed, count * sizeof *larger);
    if (!larger) return false;
    r->sealed = larger;
    r->sealed_cap = count;
    return true;
}

static bool get_sealed(struct gw_step_reader *r, struct gw_reader *in, struct gw_step_desc *d)
{
    bool ok = true;
    if (in->err != GW_OK || in->pos == in->len) return in->err == GW_OK;
    d->sealed_len = gw_read_count(in, GW_STEP_DESC_SEALED_MAX, SEALED_BYTES);
    if (in->err != GW_OK || d->sealed_len == 0 || !reserve_sealed(r, d->sealed_len)) return false;
    for (uint32_t i = 0; i < d->sealed_len; i++) {
        r->sealed[i].slot = gw_read_u32(in);
        const uint8_t *name = gw_read_raw(in, GW_BLOCK_NAME_BYTES);
        if (!name) return false;
        memcpy(r->sealed[i].name.bytes, name, GW_BLOCK_NAME_BYTES);
        ok &= r->sealed[i].slot < r->limits.slots;
    }
    d->sealed = r->sealed;
    return ok;
}

/* 0 rows: nothing but names. */
static bool get_names_only(struct gw_step_reader *r, struct gw_reader *in, struct gw_step_desc *d)
{
    if (d->seqs_len || d->samples_len || d->copies_len) return false;
    return get_sealed(r, in, d) && d->sealed_len > 0;
}

static bool get_desc(struct gw_step_reader *r, struct gw_reader *in, struct gw_step_desc *d)
{
    const struct gw_step_limits *l = &r->limits;
    *d =
        (struct gw_step_desc){.rows = gw_read_u32(in), .ids = r->ids, .seqs = r->seqs, .samples = r->samples};
    d->seqs_len = gw_read_u32(in);
    d->samples_len = gw_read_u32(in);
    d->copies = r->copies;
    d->copies_len = gw_read_count(in, GW_STEP_DESC_COPIES_MAX, sizeof *r->copies);
    if (in->err != GW_OK) return false;
    if (d->rows == 0) return get_names_only(r, in, d);
    if (d->rows > l->rows || d->seqs_len == 0 || d->seqs_len > l->sequences || d->samples_len > d->seqs_len)
        return false;
    return get_copies(r, in, d->copies_len) && get_below(in, r->ids, d->rows, l->vocab) &&
           get_seqs(r, in, d->seqs_len, d->rows) && get_samples(r, in, d->samples_len, d->rows) &&
           get_sealed(r, in, d);
}

gw_err_t gw_step_reader_get(struct gw_step_reader *r, const void *bytes, size_t len,
                            struct gw_step_desc *desc, struct gw_err_ctx *ctx)
{
    struct gw_reader in;
    gw_reader_init(&in, bytes, len);
    if (get_desc(r, &in, desc) && gw_reader_finish(&in) == GW_OK) return GW_OK;
    return gw_fail(ctx, GW_ERR_PROTO, "the leader sent a malformed step descriptor");
}
