/* Fetch items: what a run wants, who was asked for it, what is there (states: peer_fetch.h).
 *
 * An item is one page of one block. Its source is the plan's, then the others that hold the page, in the order of their
 * numbers from that one on; dead ones are passed over.
 *
 * Owner: fetch_items_fini frees. Thread: the fetch's lock guards all of it. Units: indices of blocks, pages (in the wanted
 * rectangle) and sources. Errors: GW_ERR_MEMORY. Source: own design. */
#ifndef GW_MIGRATE_FETCH_ITEMS_H
#define GW_MIGRATE_FETCH_ITEMS_H

#include "migrate/peer_fetch.h"

struct fetch_block;

struct fetch_items {
    const struct gw_peer_fetch_config *config; /* with a plan */
    const struct gw_block_name *names;
    uint32_t names_len, pages_len;
    uint8_t *items; /* [names][pages]: state and tries */
    uint64_t *sums; /* [names][pages]: checksums of those that are there */
    struct fetch_block *blocks;
    uint32_t unsettled;                      /* blocks that are neither there nor lost */
    uint32_t first[GW_GEOMETRY_SOURCES_MAX]; /* blocks before it have nothing to ask of the source */
    bool dead[GW_GEOMETRY_SOURCES_MAX];
    bool *there;
    struct gw_fetch_result *result;
};

/* A request that is under way; what it still waits for is what request.wanted says. */
struct fetch_ask {
    bool used;
    uint32_t id, source;
    size_t bytes;
    struct gw_page_request request;
    uint32_t blocks[GW_PAGE_NAMES_MAX]; /* of the request's names */
    uint32_t last_name;                 /* of the last answer: index in the request */
    uint16_t *page_at; /* [pages]: where the request has it; FETCH_NOWHERE. The stream's memory */
};

#define FETCH_NOWHERE UINT16_MAX

/* How an item that was asked for ends without its page: the source has it not; the connection broke. */
enum fetch_end { FETCH_REFUSED, FETCH_RETURNED };

gw_err_t fetch_items_init(struct fetch_items *it, const struct gw_peer_fetch_config *config,
                          const struct gw_block_name *names, uint32_t len, bool *there,
                          struct gw_fetch_result *result) GW_MUST_USE;
/* Abandons what is claimed; no item may be asked for. */
void fetch_items_fini(struct fetch_items *it);

/* Is there anything to ask of the source now? */
bool fetch_items_any(struct fetch_items *it, uint32_t source);

/* Fills the request with items of the source, in order; they are asked then. False: there are none. */
bool fetch_items_ask(struct fetch_items *it, uint32_t source, struct fetch_ask *ask);

/* An entry has come: the request's name, the page, and where its bytes go. False: not asked for (any more), or of another
 * length. */
bool fetch_items_take(struct fetch_items *it, struct fetch_ask *ask, const struct gw_page_entry *entry,
                      uint32_t *name, uint32_t *page, uint8_t **to);

/* A page that was taken is there: its bytes have this checksum. */
void fetch_items_give(struct fetch_items *it, struct fetch_ask *ask, uint32_t name, uint32_t page,
                      uint64_t checksum);

/* A page that was taken ends, and is not there. */
void fetch_items_end(struct fetch_items *it, struct fetch_ask *ask, uint32_t name, uint32_t page,
                     enum fetch_end end);

/* One block of the ask, or one page of it, is absent. False: not asked for. */
bool fetch_items_absent(struct fetch_items *it, struct fetch_ask *ask, const struct gw_page_absent *absent);

/* The ask is over: all its items that have not ended do so; it is free then. */
void fetch_items_finish(struct fetch_items *it, struct fetch_ask *ask, enum fetch_end end);

/* The source gives nothing more in this run. */
void fetch_items_kill(struct fetch_items *it, uint32_t source);

#endif
