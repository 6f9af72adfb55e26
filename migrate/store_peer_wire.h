/* Store peer wire: what a worker and the buddy that keeps its pages say to each other.
 *
 *     byte  size   field
 *        0     4   magic "GWS1"
 *        4     1   type
 *        5     1   outcome, of an ANSWER: 0 done, 1 refused; else 0
 *        6     2   n: pages, 1 .. GW_STORE_PAGES_MAX
 *        8     4   bytes of pages behind the table
 *       12    16   block name
 *       28   8·n   table: layer group (u16), KV head (u16), length (u32; 0: absent)
 *                  pages, in the table's order
 *
 *     PUT    pages                          ──► ANSWER  table repeated, no pages
 *     GET    table, lengths 0               ──► ANSWER  table with lengths, pages
 *     HAS    table, lengths 0               ──► ANSWER  table with lengths, no pages
 *
 * Integers are little-endian. Requests may be sent ahead; answers come in their order. A connection that breaks loses what
 * was not answered; nothing is repeated. Pages are sealed (page_seal.h), so there is no checksum here.
 *
 * Owner: the reader owns its table. Thread: one reader, one thread. Units: bytes. Errors: GW_ERR_PROTO as soon as something
 * cannot be right, or what the listener returned; the connection is over then. Source: own design. */
#ifndef GW_MIGRATE_STORE_PEER_WIRE_H
#define GW_MIGRATE_STORE_PEER_WIRE_H

#include "migrate/store.h"

struct evbuffer;

#define PEER_HEAD_BYTES 28
#define PEER_ITEM_BYTES 8
#define PEER_BYTES_MAX                                                                                       \
    (GW_STORE_CALL_BYTES_MAX + GW_STORE_PAGES_MAX * GW_PAGE_SEAL_BYTES) /* of a frame's pages */

enum peer_type { PEER_PUT = 1, PEER_GET, PEER_HAS, PEER_ANSWER };

struct peer_item {
    struct gw_page_id id;
    uint32_t len;
};

struct peer_frame {
    enum peer_type type;
    bool refused;
    struct gw_block_name name;
    uint32_t items_len, bytes; /* bytes: of pages that follow */
    const struct peer_item *items;
};

/* What a reader tells of. */
struct peer_listener {
    void *arg;
    /* A head and its table came, and were checked against the limits. */
    gw_err_t (*frame)(void *arg, const struct peer_frame *frame);
    /* Where page i goes ([items[i].len], never 0); NULL: out of memory. */
    uint8_t *(*page)(void *arg, uint32_t i);
    /* It is there. */
    void (*page_over)(void *arg, uint32_t i);
    /* All is there. */
    gw_err_t (*frame_over)(void *arg);
};

struct peer_reader {
    struct peer_listener listener;
    struct peer_frame frame;
    struct peer_item items[GW_STORE_PAGES_MAX];
    uint8_t head[PEER_HEAD_BYTES + PEER_ITEM_BYTES * GW_STORE_PAGES_MAX]; /* and table */
    size_t head_len;
    bool in_pages;
    uint32_t item; /* whose page comes */
    uint8_t *to;   /* where it goes */
    size_t to_len; /* bytes of it that are there */
};

void peer_reader_init(struct peer_reader *reader, const struct peer_listener *listener);
gw_err_t peer_reader_feed(struct peer_reader *reader, const void *bytes, size_t len,
                          struct gw_err_ctx *ctx) GW_MUST_USE;
/* Is there half a frame in it? */
bool peer_reader_is_amid(const struct peer_reader *reader);

/* Appends head and table; the frame's bytes of pages are the caller's to append. */
gw_err_t peer_put_head(struct evbuffer *out, const struct peer_frame *frame) GW_MUST_USE;

#endif
