/* Store memory: sealed pages of others' blocks in this process's memory, the least recently used block going first.
 *
 * A block has any of its pages. What is put must fit at once: it goes in whole, or not at all. Pages are counted references,
 * so that one that is being sent may be evicted meanwhile: its memory goes when it has been sent.
 *
 * Bytes are counted with what keeping them costs (GW_STORE_MEMORY_PAGE_COST, …_BLOCK_COST), so that many small pages cannot
 * pass the bound; pages that were evicted and are still being sent are the holder's to bound.
 *
 * Owner: gw_store_memory_destroy frees; a page is freed with its last reference. Thread: one. Units: bytes.
 * Errors: GW_ERR_LIMIT for what is larger than all of it, GW_ERR_MEMORY; then nothing has changed but what was evicted.
 * Source: own design. */
#ifndef GW_MIGRATE_STORE_MEMORY_H
#define GW_MIGRATE_STORE_MEMORY_H

#include "migrate/page_seal.h"

#define GW_STORE_MEMORY_PAGE_COST  64
#define GW_STORE_MEMORY_BLOCK_COST 256

struct gw_store_memory;

struct gw_memory_page {
    struct gw_page_id id;
    uint32_t refs, len;
    struct gw_memory_page *next; /* of its block */
    uint8_t bytes[];             /* [len] */
};

struct gw_store_memory_stats {
    uint64_t blocks, bytes; /* now */
    uint64_t evicted;       /* blocks, since the start */
};

gw_err_t gw_store_memory_create(size_t max_bytes, struct gw_store_memory **out) GW_MUST_USE;
void gw_store_memory_destroy(struct gw_store_memory *memory);

/* With one reference, the caller's; bytes are not set. NULL: out of memory. */
struct gw_memory_page *gw_memory_page_create(struct gw_page_id id, uint32_t len);
void gw_memory_page_ref(struct gw_memory_page *page);
void gw_memory_page_unref(struct gw_memory_page *page);

/* Adds pages to the block, in place of those of the same ids, and makes it the most recently used. On success the callers'
 * references are the memory's. */
gw_err_t gw_store_memory_put(struct gw_store_memory *memory, const struct gw_block_name *name,
                             struct gw_memory_page *const *pages, uint32_t pages_len) GW_MUST_USE;

/* The page, not referenced for the caller; NULL if it is not there. A block that is asked for is the most recently used. */
struct gw_memory_page *gw_store_memory_get(struct gw_store_memory *memory, const struct gw_block_name *name,
                                           struct gw_page_id id);

void gw_store_memory_stats(const struct gw_store_memory *memory, struct gw_store_memory_stats *out);

#endif
