/* Page pool: the memory of KV blocks, cut into pages.
 *
 * A block takes one slot; slot s of the pool is one page in each arena, and there is an arena for each (layer group, KV
 * head) of the rectangle of cells that this rank holds. A KV head that several of its shares use is paged once.
 *
 *     arena (g, h):  | page of slot 0 | page of slot 1 | …          page_bytes(g) apart
 *     page:          [layer in group][K, V][token in block][head_dim], with scales if int8 (kernels/op.h)
 *
 * On a device with memory of its own a slot is one range there, its arenas' pages side by side, so that a slot is copied at once:
 *
 *     device, host:  | slot 0: page of arena 0 | of arena 1 | … | slot 1: …   slot bytes apart
 *
 * Operations read and write the device's side; the host's, what is sent, received and summed. push makes one slot the same on both
 * sides, begin_pull and land do, too, while operations go on (page_offload.h); a CPU has one side, and nothing to do.
 *
 * With poison on (tests, sanitizer builds) the bytes of a slot that was taken and not yet written are NaN in
 * every type, so that an operation which reads what it must not shows in its output.
 *
 * Owner: gw_page_pool_destroy frees. Thread: one that writes a slot; any reads those that nobody writes.
 * Units: slots, bytes. Errors: GW_ERR_MEMORY; on error *out
 * is unchanged. Source: own design; DESIGN parts 2 and 4. */
#ifndef GW_WORKER_PAGE_POOL_H
#define GW_WORKER_PAGE_POOL_H

#include "kernels/device_memory.h"
#include "worker/cells.h"

struct gw_page_pool;

/* Bytes of one slot over all arenas of r. */
size_t gw_page_pool_slot_bytes(const struct gw_model_config *config, const struct gw_cells *cells,
                               struct gw_cell_rect r, enum gw_dtype kv);

gw_err_t gw_page_pool_create(const struct gw_model_config *config, const struct gw_cells *cells,
                             struct gw_cell_rect r, enum gw_dtype kv, uint32_t slots, bool poison,
                             struct gw_page_pool **out, struct gw_err_ctx *ctx) GW_MUST_USE;
/* The same in the device's memory. */
gw_err_t gw_page_pool_create_on(struct gw_device *device, const struct gw_model_config *config,
                                const struct gw_cells *cells, struct gw_cell_rect r, enum gw_dtype kv,
                                uint32_t slots, bool poison, struct gw_page_pool **out,
                                struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_page_pool_destroy(struct gw_page_pool *pool);

/* What operations want for one layer, counted from the first of r. */
const struct gw_kv_layer *gw_page_pool_layer(const struct gw_page_pool *pool, uint32_t layer);

/* Copies all pages of a slot, for operations. Thread of the operations. */
void gw_page_pool_copy(struct gw_page_pool *pool, uint32_t from, uint32_t to);

/* What the host has written to it goes to the device's side, where no operation is using it; on error it is not there. Any thread. */
gw_err_t gw_page_pool_push(struct gw_page_pool *pool, uint32_t slot, struct gw_err_ctx *ctx) GW_MUST_USE;

/* What copies slots while operations go on; NULL: the pool has one side. */
struct gw_copy_ring *gw_page_pool_ring(const struct gw_page_pool *pool);
/* The slot begins to come, behind a mark of the ring, into one of its buffers; once it is there, it can be put on the host's side. */
gw_err_t gw_page_pool_begin_pull(struct gw_page_pool *pool, uint32_t mark, uint32_t slot, uint32_t *buffer,
                                 struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_page_pool_land(struct gw_page_pool *pool, uint32_t slot, uint32_t buffer);

/* Pages of a slot, the host's side: one per arena, in the order of gw_page_rect_index. */
uint32_t gw_page_pool_pages(const struct gw_page_pool *pool);
uint8_t *gw_page_pool_page(const struct gw_page_pool *pool, uint32_t slot, uint32_t page, uint32_t *bytes);
/* Checksums of all of them: sums[gw_page_pool_pages]. */
void gw_page_pool_sum(const struct gw_page_pool *pool, uint32_t slot, uint64_t *sums);

/* The slot is written to: its memory is there from now on. Any thread. */
void gw_page_pool_touch(struct gw_page_pool *pool, uint32_t slot);
/* Memory of all slots up to the last one that was touched, or is there from the beginning: of a device with its own, all. */
uint64_t gw_page_pool_touched_bytes(const struct gw_page_pool *pool);

/* The slot's content is dead: with poison on, its bytes become NaN. */
void gw_page_pool_forget(struct gw_page_pool *pool, uint32_t slot);

#endif
