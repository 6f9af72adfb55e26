/* Wish: what the leader wants to know of a logit row so that it can draw the next token of one branch.
 *
 *     sampling parameters, tokens so far ──► wish ──► each rank of the last stage picks (kernels/pick.h) from its own columns
 *
 * What a row's parts cannot decide is drawn from the whole row: the wish is then for all columns. That is so from the
 * start with top_k > GW_PICK_KEEP_MAX and where edits do not fit in the room.
 *
 *     byte  size   field
 *        0     4   flags      1 whole (nothing follows), 2 weights, 4 stats, 8 edits; keep << 8, top << 20
 *        4     4   inverse    f32 of the temperature; 0 = greedy
 *        8     8   stream     of the scores
 *                  with flag 8:
 *       16     4   repetition f32
 *       20    16   u32 × 4    lengths of added, repeated, taken, masked
 *                  (u32 id, f32) of added, ids of repeated, (u32 id, f32) of taken, ids of masked
 *
 * Owner: a room's lists are its own (gw_wish_room_fini); wishes point into one. Thread: one. Units: token ids. Errors:
 * GW_ERR_MEMORY at creation; gw_wish_get's false for what no honest leader sends. Source: own design; DESIGN part 4
 * (sampling); penalties as vLLM defines them. */
#ifndef GW_WORKER_WISH_H
#define GW_WORKER_WISH_H

#include "base/buf.h"
#include "kernels/pick.h"
#include "migrate/request.h"

/* Of one step: 1 MiB, a sixteenth of what a control frame may hold, and as much as two whole rows of a large vocabulary. */
#define GW_WISH_IDS_MAX     (128u << 10)
#define GW_WISH_CHANGES_MAX (64u << 10)

/* A temperature below it is taken for it: the inverse must be finite, and no distribution that is not greedy is lost. */
#define GW_WISH_TEMPERATURE_MIN 1e-5f

/* The next token of one branch. */
struct gw_sample_in {
    const struct gw_sampling *params;
    const uint32_t *prompt, *output; /* ids < vocab */
    uint32_t prompt_len, output_len; /* output_len is the position that is drawn */
    uint32_t branch;
};

struct gw_wish {
    bool whole; /* all columns are wanted */
    struct gw_pick_want want;
};

/* Where the lists of wishes lie. */
struct gw_wish_room {
    uint32_t *ids;
    struct gw_pick_change *changes;
    uint32_t ids_len, ids_max, changes_len, changes_max;
};

gw_err_t gw_wish_room_init(struct gw_wish_room *room, uint32_t ids_max, uint32_t changes_max) GW_MUST_USE;
void gw_wish_room_fini(struct gw_wish_room *room);
/* Forgets all lists. */
void gw_wish_room_clear(struct gw_wish_room *room);

struct gw_wisher; /* scratch: which ids have been seen */

gw_err_t gw_wisher_create(uint32_t vocab, struct gw_wisher **out) GW_MUST_USE;
void gw_wisher_destroy(struct gw_wisher *w);

/* The wish for this token; O(tokens so far) when a penalty is on. out->want is set even if it is for the whole, but for
 * edits that did not fit. */
void gw_wish_make(struct gw_wisher *w, const struct gw_sample_in *in, struct gw_wish_room *room,
                  struct gw_wish *out);

void gw_wish_put(const struct gw_wish *wish, struct gw_buf *b);
bool gw_wish_get(struct gw_reader *r, uint32_t vocab, struct gw_wish_room *room, struct gw_wish *out);

#endif
