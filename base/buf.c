#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_FIRST_CAP 256 /* most messages fit; doubled from there */

void gw_buf_init(struct gw_buf *b, size_t max)
{
    *b = (struct gw_buf){.max = max};
}

void gw_buf_fini(struct gw_buf *b)
{
    free(b->data);
    *b = (struct gw_buf){.max = b->max};
}

void gw_buf_reset(struct gw_buf *b)
{
    b->len = 0;
    b->err = GW_OK;
}

/* Makes room for n more bytes plus a NUL; false (and sticky error) if that passes max or memory. */
static bool reserve(struct gw_buf *b, size_t n)
{
    if (b->err != GW_OK) return false;
    if (n > b->max - b->len || n == SIZE_MAX - b->len) {
        b->err = GW_ERR_LIMIT;
        return false;
    }
    size_t need = b->len + n + 1;
    if (need <= b->cap) return true;
    size_t cap = b->cap ? b->cap : BUF_FIRST_CAP;
    while (cap < need) cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    if (cap - 1 > b->max) cap = b->max + 1;
    uint8_t *data = realloc(b->data, cap);
    if (!data) {
        b->err = GW_ERR_MEMORY;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void gw_buf_put(struct gw_buf *b, const void *bytes, size_t len)
{
    if (len == 0 || !reserve(b, len)) return;
    memcpy(b->data + b->len, bytes, len);
    b->len += len;
}

void gw_buf_puts(struct gw_buf *b, const char *text)
{
    gw_buf_put(b, text, strlen(text));
}

void gw_buf_printf(struct gw_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 && b->err == GW_OK) b->err = GW_ERR_INTERNAL;
    if (n > 0 && reserve(b, (size_t)n)) {
        vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

static void put_le(struct gw_buf *b, uint64_t v, int bytes)
{
    uint8_t le[8];
    gw_put_le(le, v, bytes);
    gw_buf_put(b, le, (size_t)bytes);
}

void gw_buf_u8(struct gw_buf *b, uint8_t v)
{
    put_le(b, v, 1);
}

void gw_buf_u16(struct gw_buf *b, uint16_t v)
{
    put_le(b, v, 2);
}

void gw_buf_u32(struct gw_buf *b, uint32_t v)
{
    put_le(b, v, 4);
}

void gw_buf_u64(struct gw_buf *b, uint64_t v)
{
    put_le(b, v, 8);
}

void gw_buf_f32(struct gw_buf *b, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_le(b, bits, 4);
}

void gw_buf_f64(struct gw_buf *b, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_le(b, bits, 8);
}

void gw_buf_bytes(struct gw_buf *b, const void *bytes, size_t len)
{
    if (len > UINT32_MAX) {
        if (b->err == GW_OK) b->err = GW_ERR_LIMIT;
        return;
    }
    gw_buf_u32(b, (uint32_t)len);
    gw_buf_put(b, bytes, len);
}

void gw_buf_consume(struct gw_buf *b, size_t n)
{
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

const char *gw_buf_cstr(struct gw_buf *b)
{
    if (!reserve(b, 0)) return NULL;
    b->data[b->len] = '\0';
    return (const char *)b->data;
}

void gw_reader_init(struct gw_reader *r, const void *data, size_t len)
{
    *r = (struct gw_reader){.data = data, .len = len};
}

const uint8_t *gw_read_raw(struct gw_reader *r, size_t n)
{
    if (r->err != GW_OK || n > r->len - r->pos) {
        r->err = GW_ERR_PROTO;
        r->pos = r->len;
        return NULL;
    }
    const uint8_t *p = r->data + r->pos;
    r->pos += n;
    return p;
}

static uint64_t read_le(struct gw_reader *r, size_t bytes)
{
    const uint8_t *p = gw_read_raw(r, bytes);
    if (!p) return 0;
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

uint8_t gw_read_u8(struct gw_reader *r)
{
    return (uint8_t)read_le(r, 1);
}

uint16_t gw_read_u16(struct gw_reader *r)
{
    return (uint16_t)read_le(r, 2);
}

uint32_t gw_read_u32(struct gw_reader *r)
{
    return (uint32_t)read_le(r, 4);
}

uint64_t gw_read_u64(struct gw_reader *r)
{
    return read_le(r, 8);
}

float gw_read_f32(struct gw_reader *r)
{
    uint32_t bits = gw_read_u32(r);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

double gw_read_f64(struct gw_reader *r)
{
    uint64_t bits = gw_read_u64(r);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

size_t gw_read_bytes(struct gw_reader *r, size_t max, const uint8_t **out)
{
    size_t len = gw_read_u32(r);
    *out = NULL;
    if (len > max) {
        r->err = GW_ERR_PROTO;
        r->pos = r->len;
        return 0;
    }
    *out = gw_read_raw(r, len);
    return *out ? len : 0;
}

uint32_t gw_read_count(struct gw_reader *r, uint32_t max, size_t item_bytes)
{
    uint32_t n = gw_read_u32(r);
    if (r->err == GW_OK && n <= max && (size_t)n * item_bytes <= r->len - r->pos) return n;
    r->err = GW_ERR_PROTO;
    r->pos = r->len;
    return 0;
}

gw_err_t gw_reader_finish(const struct gw_reader *r)
{
    return r->err == GW_OK && r->pos == r->len ? GW_OK : GW_ERR_PROTO;
}
