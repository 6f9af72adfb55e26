/* Bounded byte buffers: one to write into, one to read from.
 *
 * gw_buf grows on the heap up to a fixed maximum; the first failure (memory, maximum) is sticky, so a
 * serializer writes all its fields and looks once at the end. gw_reader walks over bytes that a peer sent:
 * reading past the end is sticky too and yields zeros, so a parser reads all its fields and looks once.
 *
 * Invariants: len <= max; len < cap <= max + 1 once there is data (room for a NUL); data is NULL iff cap ==
 * 0. pos <= len; after failure pos == len. Owner: gw_buf owns its bytes (gw_buf_fini frees); gw_reader
 * borrows. Thread: one at a time. Units: bytes; integers are little-endian. Errors: sticky `err`. Source: own
 * design, after s2n_stuffer. */
#ifndef GW_BASE_BUF_H
#define GW_BASE_BUF_H

#include <stdint.h>

#include "base/err.h"

struct gw_buf {
    uint8_t *data;
    size_t len, cap, max;
    gw_err_t err;
};

void gw_buf_init(struct gw_buf *b, size_t max);
void gw_buf_fini(struct gw_buf *b);
/* Empties it and forgets the error; keeps the memory. */
void gw_buf_reset(struct gw_buf *b);

void gw_buf_put(struct gw_buf *b, const void *bytes, size_t len);
void gw_buf_puts(struct gw_buf *b, const char *text);
void gw_buf_printf(struct gw_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void gw_buf_u8(struct gw_buf *b, uint8_t v);
void gw_buf_u16(struct gw_buf *b, uint16_t v);
void gw_buf_u32(struct gw_buf *b, uint32_t v);
void gw_buf_u64(struct gw_buf *b, uint64_t v);
void gw_buf_f32(struct gw_buf *b, float v);
void gw_buf_f64(struct gw_buf *b, double v);
/* u32 length, then the bytes. */
void gw_buf_bytes(struct gw_buf *b, const void *bytes, size_t len);
/* Drops the first n bytes (n <= len). */
void gw_buf_consume(struct gw_buf *b, size_t n);
/* The content with a NUL behind it (not counted in len); NULL after a sticky error. Valid until the next
 * write. */
const char *gw_buf_cstr(struct gw_buf *b);

/* The lowest `bytes` bytes of v (8 at most), the least first; returns where the next ones go. */
static inline uint8_t *gw_put_le(uint8_t *at, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) *at++ = (uint8_t)(v >> 8 * i);
    return at;
}

struct gw_reader {
    const uint8_t *data;
    size_t len, pos;
    gw_err_t err; /* GW_ERR_PROTO once something was missing */
};

void gw_reader_init(struct gw_reader *r, const void *data, size_t len);
uint8_t gw_read_u8(struct gw_reader *r);
uint16_t gw_read_u16(struct gw_reader *r);
uint32_t gw_read_u32(struct gw_reader *r);
uint64_t gw_read_u64(struct gw_reader *r);
float gw_read_f32(struct gw_reader *r);
double gw_read_f64(struct gw_reader *r);
/* n raw bytes, or NULL (and the sticky error). The pointer is into the borrowed data. */
const uint8_t *gw_read_raw(struct gw_reader *r, size_t n);
/* u32 length + bytes; length > max fails. *out points into the borrowed data; returns the length. */
size_t gw_read_bytes(struct gw_reader *r, size_t max, const uint8_t **out);
/* A u32 count of items that each take at least item_bytes: fails unless count <= max and the bytes are there.
 * Call it before allocating by the count. */
uint32_t gw_read_count(struct gw_reader *r, uint32_t max, size_t item_bytes);
/* OK only if nothing failed and nothing is left over. */
gw_err_t gw_reader_finish(const struct gw_reader *r) GW_MUST_USE;

#endif
