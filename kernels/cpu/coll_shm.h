/* One shared segment for the ranks of a stage on one machine: areas that all can read, and the marks that order it.
 *
 * The stage's first rank makes the segment (anonymous, sealed against resizing) and names it to the others in SETUP
 * frames; they open it through /proc, which works for processes of one user and one process namespace. Only if all could
 * map it is it used. It dies with the last mapping, and is never used for another generation.
 *
 * Each rank has a mark: the number of its posts, and what the last two were for. To post says: what I have written
 * is complete, and what the others posted before I have read. A rank writes, posts, and awaits the same post of all
 * others before it reads theirs; so no rank is ever two posts ahead of another, and memory is free for writing again when
 *
 *     exchange[2]  (areas that alternate from sum to sum)     two posts have been awaited since it was posted
 *     whole, slice (sums of two posts: parts, then slices)    the second post of the sum has been awaited
 *
 * Waits look at the mark for some time, yielding the core in between, then sleep on it (futex) in slices and serve the
 * sockets between them.
 *
 * Owner: gw_coll_shm_destroy unmaps. Thread: one. Units: elements (f32), bytes. Errors: GW_ERR_IO (closed, slow,
 * aborted), GW_ERR_PROTO (another step or size posted), the text names the rank. Source: own design. */
#ifndef GW_KERNELS_CPU_COLL_SHM_H
#define GW_KERNELS_CPU_COLL_SHM_H

#include "kernels/cpu/coll_tcp.h"

struct gw_coll_shm;

/* exchange_elems: the largest sum of one post. *out = NULL if some rank cannot map the segment: all ranks see the same.
 * Waits for the other ranks of the stage, deadline_us for each answer. tcp is borrowed for its life. */
gw_err_t gw_coll_shm_create(const struct gw_coll_config *config, size_t exchange_elems,
                            struct gw_coll_tcp *tcp, struct gw_coll_shm **out,
                            struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_coll_shm_destroy(struct gw_coll_shm *shm);

/* Where rank (of the stage) has its partial sums, [its shares][elems], of a sum of one post that is the caller's next. */
float *gw_coll_shm_exchange(const struct gw_coll_shm *shm, uint32_t rank);
/* The same of a sum of two posts; and its slice of the total. */
float *gw_coll_shm_whole(const struct gw_coll_shm *shm, uint32_t rank);
float *gw_coll_shm_slice(const struct gw_coll_shm *shm, uint32_t rank);

/* Posts, and awaits the same post of all others. */
gw_err_t gw_coll_shm_meet(struct gw_coll_shm *shm, uint64_t step, size_t elems,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
