/* Page directory: which sealed blocks a page pool holds, by name, with the checksum of each of their pages.
 *
 * Others read a pool while its engine goes on (to serve, copy or store pages), and nobody stops for them. They take slot and
 * checksums from here, read, and compare: a slot that was given to another block meanwhile has other bytes than those that
 * were summed when it was sealed, so what was read is known to be nothing. An entry here may be out of date, never wrong
 * unseen.
 *
 *     slot     entry     becomes
 *     ──────   ───────   ──────────────────────────────────────────────────────
 *     any      any       publish: this name, these checksums; another slot that had the name has none any more
 *     any      any       forget: none
 *
 * Owner: gw_page_dir_destroy frees. Thread: any. Units: slots, pages of one block. Errors: GW_ERR_MEMORY at creation.
 * Source: own design. */
#ifndef GW_WORKER_PAGE_DIR_H
#define GW_WORKER_PAGE_DIR_H

#include "migrate/block_name.h"

struct gw_page_dir;

struct gw_page_dir_block {
    uint32_t slot;
    struct gw_block_name name;
};

/* For a pool of so many slots, with so many pages in each. */
gw_err_t gw_page_dir_create(uint32_t slots, uint32_t pages, struct gw_page_dir **out) GW_MUST_USE;
void gw_page_dir_destroy(struct gw_page_dir *dir);

void gw_page_dir_publish(struct gw_page_dir *dir, uint32_t slot, const struct gw_block_name *name,
                         const uint64_t *sums);
void gw_page_dir_forget(struct gw_page_dir *dir, uint32_t slot);

uint32_t gw_page_dir_len(struct gw_page_dir *dir);
/* Its blocks by slot, `max` at most; returns how many. */
uint32_t gw_page_dir_list(struct gw_page_dir *dir, struct gw_page_dir_block *out, uint32_t max);

/* The slot of a block, and the checksums of its pages unless sums is NULL. */
bool gw_page_dir_find(struct gw_page_dir *dir, const struct gw_block_name *name, uint32_t *slot,
                      uint64_t *sums);
/* The checksum of one page, if that block is still in that slot. */
bool gw_page_dir_sum(struct gw_page_dir *dir, uint32_t slot, const struct gw_block_name *name, uint32_t page,
                     uint64_t *sum);

#endif
