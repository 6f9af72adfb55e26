/* Block manager: who uses which slot of the page pool, and which sealed blocks can be found by name.
 *
 *     state      references  name     where
 *     free       0           no       the free stack
 *     used       >= 1        no       somebody's block table: being written, or a duplicate
 *     sealed     >= 1        yes      block tables and the name table; never written again
 *     cached     0           yes      the name table and the LRU list: the prefix cache
 *
 *     take: free → used, else the least recently released cached one is evicted → used
 *     restore: free → cached
 *     seal: used → sealed    ref: + 1; cached → sealed    unref: - 1; at 0 used → free, sealed → cached
 *
 * Sequences release their blocks last one first, so a chain is evicted from its end and what stays in the
 * cache is a prefix that can be found. Every operation is O(1).
 *
 * Owner: gw_blocks_destroy frees; page memory is whose it is. Thread: one. Units: slots.
 * Errors: GW_ERR_LIMIT when every slot is referenced, GW_ERR_MEMORY. Source: own design, after vLLM's block
 * manager. */
#ifndef GW_WORKER_BLOCK_MANAGER_H
#define GW_WORKER_BLOCK_MANAGER_H

#include <stdbool.h>

#include "base/err.h"
#include "worker/page_dir.h"

#define GW_BLOCKS_MAX (1u << 28) /* slots; 4 G tokens */

struct gw_blocks;

/* Who holds the pages. */
struct gw_blocks_pages {
    void *arg;
    void (*copy)(void *arg, uint32_t from, uint32_t to);
    void (*forget)(void *arg, uint32_t slot);                                   /* its content is dead */
    void (*sealed)(void *arg, uint32_t slot, const struct gw_block_name *name); /* it was computed here */
};

/* pages may be NULL (tests of the bookkeeping alone); copied. */
gw_err_t gw_blocks_create(uint32_t slots, const struct gw_blocks_pages *pages,
                          struct gw_blocks **out) GW_MUST_USE;
void gw_blocks_destroy(struct gw_blocks *blocks);

/* Of a new manager: its pages hold these sealed blocks. The last ones are evicted first: chains took slots in ascending order. */
void gw_blocks_restore(struct gw_blocks *blocks, const struct gw_page_dir_block *list, uint32_t len);

uint32_t gw_blocks_total(const struct gw_blocks *blocks);
/* Slots that take can hand out now: free and cached ones. */
uint32_t gw_blocks_available(const struct gw_blocks *blocks);

/* No more than `slots` are in use or cached from now on, but for those that are already: others need the memory. */
void gw_blocks_set_limit(struct gw_blocks *blocks, uint32_t slots);

/* A slot with one reference and no name. */
gw_err_t gw_blocks_take(struct gw_blocks *blocks, uint32_t *slot) GW_MUST_USE;
void gw_blocks_ref(struct gw_blocks *blocks, uint32_t slot);
void gw_blocks_unref(struct gw_blocks *blocks, uint32_t slot);
/* How many references the slot has. */
uint32_t gw_blocks_refs(const struct gw_blocks *blocks, uint32_t slot);

/* Copies the pages of one slot to another. */
void gw_blocks_copy(struct gw_blocks *blocks, uint32_t from, uint32_t to);

/* Is there a block of this name? *slot is set, nothing is referenced. */
bool gw_blocks_find(const struct gw_blocks *blocks, const struct gw_block_name *name, uint32_t *slot);

/* The block in `slot` (used, the caller's reference) is complete: gives it its name. If another slot has that
 * name already, the caller's reference moves there and its own slot is released: the two hold the same bits.
 * Returns the slot to use from now on. */
uint32_t gw_blocks_seal(struct gw_blocks *blocks, uint32_t slot, const struct gw_block_name *name);

/* The same for a block that came from elsewhere, whose pages are known by name already. */
uint32_t gw_blocks_adopt(struct gw_blocks *blocks, uint32_t slot, const struct gw_block_name *name);

#endif
