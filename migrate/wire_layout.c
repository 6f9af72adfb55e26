#include "migrate/wire_internal.h"

#include <stdlib.h>
#include <string.h>

#define RANK_BYTES_MIN   36 /* an ASSIGN's rank with both names one byte long */
#define HOST_BYTES_MIN   10 /* a STORES' host, the same */
#define ZONE_BYTES_MIN   9  /* a ZONES' worker with an address of one byte and no zone */
#define SOURCE_BYTES_MIN 13 /* an ASSIGN's source, the same */

void wire_put_rect(struct gw_buf *b, struct gw_cell_rect rect)
{
    gw_buf_u16(b, rect.g0);
    gw_buf_u16(b, rect.g1);
    gw_buf_u16(b, rect.s0);
    gw_buf_u16(b, rect.s1);
}

struct gw_cell_rect wire_get_rect(struct gw_reader *r)
{
    struct gw_cell_rect rect;
    rect.g0 = gw_read_u16(r);
    rect.g1 = gw_read_u16(r);
    rect.s0 = gw_read_u16(r);
    rect.s1 = gw_read_u16(r);
    return rect;
}

/* HELLO's part from protocol 2 on
 *     0  4+a  data          "address:port"; text: u32 length, bytes; 1-64, printable ASCII
 *        4+b  device        1-64
 *        4+c  zone          0-64
 *         16  machine
 *          8  memory_bytes
 *          8  bytes_s
 *          8  flop_s
 *          8  holds         u16 each: g0, g1, s0, s1
 *             if proto >= 3 and there is one:
 *        4+d  pages         1-64
 *          8  store_bytes */
void wire_put_hello_layout(const struct gw_msg_hello *h, struct gw_buf *b)
{
    wire_put_text(b, h->data, GW_WIRE_NAME_MAX);
    wire_put_text(b, h->device, GW_WIRE_NAME_MAX);
    wire_put_text(b, h->zone, GW_WIRE_NAME_MAX);
    gw_buf_put(b, h->machine, sizeof h->machine);
    gw_buf_u64(b, h->memory_bytes);
    gw_buf_u64(b, h->bytes_s);
    gw_buf_u64(b, h->flop_s);
    wire_put_rect(b, h->holds);
    if (h->proto < 3 || h->pages[0] == '\0') return;
    wire_put_text(b, h->pages, GW_WIRE_NAME_MAX);
    gw_buf_u64(b, h->store_bytes);
}

void wire_get_hello_layout(struct gw_reader *r, struct gw_msg_hello *h)
{
    wire_get_name(r, h->data, false);
    wire_get_name(r, h->device, false);
    wire_get_name(r, h->zone, true);
    wire_get_raw(r, h->machine, sizeof h->machine);
    h->memory_bytes = gw_read_u64(r);
    h->bytes_s = gw_read_u64(r);
    h->flop_s = gw_read_u64(r);
    h->holds = wire_get_rect(r);
    if (h->proto < 3 || !wire_more(r)) return;
    wire_get_name(r, h->pages, false);
    h->store_bytes = gw_read_u64(r);
}

static bool have_pages(const struct gw_msg_assign *a)
{
    for (uint32_t i = 0; i < a->ranks_len; i++)
        if (a->ranks[i].pages[0] != '\0') return true;
    return false;
}

/* ASSIGN
 *     0  8  epoch
 *     8  4  self       < ranks
 *    12  4  ranks      1-64
 *    16     per rank   4+a worker, 4+b data (1-64 bytes each, printable ASCII), 16 machine, 2 stage,
 *                      8 cells (u16 each: g0, g1, s0, s1; g0 < g1, s0 < s1)
 *            if any rank has one, or there are sources, from protocol 3 on:
 *            per rank   4+c pages (0-64 bytes, printable ASCII)
 *            if there are any, from protocol 4 on:
 *         4  sources    1-8
 *            per source 4+d pages (1-64 bytes, printable ASCII), 8 cells (as above)
 * Ranks are sorted by (stage, s0); the first stage is 0, the others follow without gaps. Whether the rectangles are a
 * partition of the model's grid is the worker's check, who knows the grid. */
void wire_put_assign(const struct gw_msg *m, struct gw_buf *b)
{
    const struct gw_msg_assign *a = &m->assign;
    gw_buf_u64(b, a->epoch);
    gw_buf_u32(b, a->self);
    gw_buf_u32(b, a->ranks_len);
    for (uint32_t i = 0; i < a->ranks_len; i++) {
        wire_put_text(b, a->ranks[i].worker, GW_WIRE_NAME_MAX);
        wire_put_text(b, a->ranks[i].data, GW_WIRE_NAME_MAX);
        gw_buf_put(b, a->ranks[i].machine, sizeof a->ranks[i].machine);
        gw_buf_u16(b, a->ranks[i].stage);
        wire_put_rect(b, a->ranks[i].cells);
    }
    if (!have_pages(a) && a->sources_len == 0) return;
    for (uint32_t i = 0; i < a->ranks_len; i++) wire_put_text(b, a->ranks[i].pages, GW_WIRE_NAME_MAX);
    if (a->sources_len == 0) return;
    gw_buf_u32(b, a->sources_len);
    for (uint32_t i = 0; i < a->sources_len; i++) {
        wire_put_text(b, a->sources[i].pages, GW_WIRE_NAME_MAX);
        wire_put_rect(b, a->sources[i].cells);
    }
}

static void get_rank(struct gw_reader *r, struct gw_assign_rank *rank)
{
    wire_get_name(r, rank->worker, false);
    wire_get_name(r, rank->data, false);
    wire_get_raw(r, rank->machine, sizeof rank->machine);
    rank->stage = gw_read_u16(r);
    rank->cells = wire_get_rect(r);
}

static bool rank_ok(const struct gw_assign_rank *ranks, uint32_t i)
{
    const struct gw_assign_rank *rank = &ranks[i], *last = i > 0 ? &ranks[i - 1] : NULL;
    if (rank->cells.g0 >= rank->cells.g1 || rank->cells.s0 >= rank->cells.s1) return false;
    if (!last) return rank->stage == 0;
    if (rank->stage == last->stage) return rank->cells.s0 >= last->cells.s1;
    return rank->stage == last->stage + 1;
}

static gw_err_t get_sources(struct gw_reader *r, struct gw_msg_assign *a)
{
    a->sources_len = gw_read_count(r, GW_WIRE_SOURCES_MAX, SOURCE_BYTES_MIN);
    if (a->sources_len == 0) return GW_ERR_PROTO;
    a->sources = calloc(a->sources_len, sizeof *a->sources);
    if (!a->sources) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < a->sources_len; i++) {
        struct gw_cell_holder *h = &a->sources[i];
        wire_get_name(r, h->pages, false);
        h->cells = wire_get_rect(r);
        if (h->cells.g0 >= h->cells.g1 || h->cells.s0 >= h->cells.s1) return GW_ERR_PROTO;
    }
    return GW_OK;
}

gw_err_t wire_get_assign(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_assign *a = &m->assign;
    a->epoch = gw_read_u64(r);
    a->self = gw_read_u32(r);
    a->ranks_len = gw_read_count(r, GW_WIRE_RANKS_MAX, RANK_BYTES_MIN);
    if (a->ranks_len == 0 || a->self >= a->ranks_len) return GW_ERR_PROTO;
    a->ranks = calloc(a->ranks_len, sizeof *a->ranks);
    if (!a->ranks) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < a->ranks_len; i++) {
        get_rank(r, &a->ranks[i]);
        if (!rank_ok(a->ranks, i)) return GW_ERR_PROTO;
    }
    if (!wire_more(r)) return GW_OK;
    for (uint32_t i = 0; i < a->ranks_len; i++) wire_get_name(r, a->ranks[i].pages, true);
    return wire_more(r) ? get_sources(r, a) : GW_OK;
}

void wire_fini_assign(struct gw_msg *m)
{
    free(m->assign.ranks);
    free(m->assign.sources);
}

/* READY
 *     0  4  kv_tokens      >= 1
 *     4  4  context        >= 1
 *     8  4  max_sequences  >= 1
 *    12  8  loaded_bytes
 *    20  1  after_start    0 or 1 */
void wire_put_ready(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_u32(b, m->ready.kv_tokens);
    gw_buf_u32(b, m->ready.context);
    gw_buf_u32(b, m->ready.max_sequences);
    gw_buf_u64(b, m->ready.loaded_bytes);
    gw_buf_u8(b, m->ready.after_start);
}

gw_err_t wire_get_ready(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_ready *y = &m->ready;
    y->kv_tokens = gw_read_u32(r);
    y->context = gw_read_u32(r);
    y->max_sequences = gw_read_u32(r);
    y->loaded_bytes = gw_read_u64(r);
    uint8_t after_start = gw_read_u8(r);
    y->after_start = after_start == 1;
    bool ok = y->kv_tokens > 0 && y->context > 0 && y->max_sequences > 0 && after_start <= 1;
    return ok ? GW_OK : GW_ERR_PROTO;
}

/* STORES
 *     0  4  hosts     0-64
 *     4     per host  4+a address, 4+b instance (1-64 bytes each, printable ASCII); no address twice */
void wire_put_stores(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_u32(b, m->stores.len);
    for (uint32_t i = 0; i < m->stores.len; i++) {
        wire_put_text(b, m->stores.hosts[i].address, GW_WIRE_NAME_MAX);
        wire_put_text(b, m->stores.hosts[i].instance, GW_WIRE_NAME_MAX);
    }
}

gw_err_t wire_get_stores(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_stores *s = &m->stores;
    s->len = gw_read_count(r, GW_WIRE_STORES_MAX, HOST_BYTES_MIN);
    if (s->len == 0) return GW_OK;
    s->hosts = calloc(s->len, sizeof *s->hosts);
    if (!s->hosts) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < s->len; i++) {
        wire_get_name(r, s->hosts[i].address, false);
        wire_get_name(r, s->hosts[i].instance, false);
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(s->hosts[k].address, s->hosts[i].address) == 0) return GW_ERR_PROTO;
    }
    return GW_OK;
}

void wire_fini_stores(struct gw_msg *m)
{
    free(m->stores.hosts);
}

/* ZONES
 *     0  4  workers   1-256
 *     4     per worker  4+a address (1-64 bytes), 4+b zone (0-64 bytes), printable ASCII */
void wire_put_zones(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_u32(b, m->zones.len);
    for (uint32_t i = 0; i < m->zones.len; i++) {
        wire_put_text(b, m->zones.workers[i].address, GW_WIRE_NAME_MAX);
        wire_put_text(b, m->zones.workers[i].zone, GW_WIRE_NAME_MAX);
    }
}

gw_err_t wire_get_zones(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_zones *z = &m->zones;
    z->len = gw_read_count(r, GW_WIRE_ZONES_MAX, ZONE_BYTES_MIN);
    if (z->len == 0) return GW_ERR_PROTO;
    z->workers = calloc(z->len, sizeof *z->workers);
    if (!z->workers) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < z->len; i++) {
        wire_get_name(r, z->workers[i].address, false);
        wire_get_name(r, z->workers[i].zone, true);
    }
    return GW_OK;
}

void wire_fini_zones(struct gw_msg *m)
{
    free(m->zones.workers);
}

/* START and RELEASE are empty: the head says which pipeline and generation. */
void wire_put_nothing(const struct gw_msg *m, struct gw_buf *b)
{
    (void)m;
    (void)b;
}

gw_err_t wire_get_nothing(struct gw_reader *r, struct gw_msg *m)
{
    (void)r;
    (void)m;
    return GW_OK;
}

/* BROKEN
 *     0    4  rank   < 64, or 2^32 - 1: not known
 *     4    2  code   gw_err_t, not OK
 *     6  4+n  text   n <= 256 */
void wire_put_broken(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_u32(b, m->broken.rank);
    gw_buf_u16(b, m->broken.code);
    wire_put_text(b, m->broken.text, GW_WIRE_TEXT_MAX);
}

gw_err_t wire_get_broken(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_broken *k = &m->broken;
    k->rank = gw_read_u32(r);
    k->code = gw_read_u16(r);
    wire_get_text(r, k->text, GW_WIRE_TEXT_MAX);
    if (k->rank >= GW_WIRE_RANKS_MAX && k->rank != GW_RANK_NONE) return GW_ERR_PROTO;
    return k->code > GW_OK && k->code <= GW_ERR_INTERNAL ? GW_OK : GW_ERR_PROTO;
}
