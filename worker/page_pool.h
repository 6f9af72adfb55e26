/* Page pool: the memory of KV blocks, cut into pages.
 *
 * A block takes one slot; slot s of the pool is one page in each arena, and there is an arena for each (layer group, KV
 * head) of the rectangle of cells that this rank holds. A KV head that several of its shares use is paged once.
 *
 *     arena (g, h):  | page of slot 0 | page of slot 1 | …          page_bytes(g) apart
 *     page:          [layer in group][K, V][token in block][head_dim]      (kernels/op.h)
 *
 * With poison on (tests, sanitizer builds) the bytes of a slot that was taken and not yet written are NaN in
 * every type, so that an operation which reads what it must not shows in its output.
 *
 * Owner: gw_page_pool_destroy frees. Thread: one that writes a slot; any reads those that nobody writes.
 * Units: slots, bytes. Errors: GW_ERR_MEMORY; on error *out
 * is unchanged. Source: own design; DESIGN parts 2 and 4. */
#ifndef GW_WORKER_PAGE_POOL_H
#define GW_WORKER_PAGE_POOL_H

#include "kernels/op.h"
#include "worker/cells.h"

struct gw_page_pool;

/* Bytes of one slot over all arenas of r. */
size_t gw_page_pool_slot_bytes(const struct gw_model_config *config, const struct gw_cells *cells,
                               struct gw_cell_rect r, enum gw_dtype kv);

gw_err_t gw_page_pool_create(const struct gw_model_config *config, const struct gw_cells *cells,
                             struct gw_cell_rect r, enum gw_dtype kv, uint32_t slots, bool poison,
                             struct gw_page_pool **out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_page_pool_destroy(struct gw_page_pool *pool);

/* What operations want for one layer, counted from the first of r. */
const struct gw_kv_layer *gw_page_pool_layer(const struct gw_page_pool *pool, uint32_t layer);

/* Copies all pages of a slot. */
void gw_page_pool_copy(struct gw_page_pool *pool, uint32_t from, uint32_t to);

/* Pages of a slot: one per arena, in the order of gw_page_rect_index. */
uint32_t gw_page_pool_pages(const struct gw_page_pool *pool);
uint8_t *gw_page_pool_page(const struct gw_page_pool *pool, uint32_t slot, uint32_t page, uint32_t *bytes);
/* Checksums of all of them: sums[gw_page_pool_pages]. */
void gw_page_pool_sum(const struct gw_page_pool *pool, uint32_t slot, uint64_t *sums);

/* The slot is written to: its memory is there from now on. Any thread. */
void gw_page_pool_touch(struct gw_page_pool *pool, uint32_t slot);
/* Memory of all slots up to the last one that was touched, or is there from the beginning. */
uint64_t gw_page_pool_touched_bytes(const struct gw_page_pool *pool);

/* The slot's content is dead: with poison on, its bytes become NaN. */
void gw_page_pool_forget(struct gw_page_pool *pool, uint32_t slot);

#endif
