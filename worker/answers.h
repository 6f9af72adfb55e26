/* Answers: what the ranks of the last stage say of logit rows, and how it comes to the leader.
 *
 *     each rank of the last stage ── one frame: of each row its part (worker/part.h), or its columns, f32 ──► leader
 *
 * Columns are sent where the wish is for the whole (worker/wish.h); the leader then has the whole row. A pipeline of one rank
 * always has it. Logits stay on the device that picks from them; it is the host that does where that cannot.
 *
 * Owner: gw_answers_destroy frees; the configuration must outlive it. Thread: the device's. Units: rows of one call, at
 * most GW_ANSWERS_ROWS. Errors: GW_ERR_MEMORY at creation; those of kernels/coll.h; GW_ERR_PROTO for tokens that are not
 * the sender's. Source: own design; DESIGN part 4 (sampling). */
#ifndef GW_WORKER_ANSWERS_H
#define GW_WORKER_ANSWERS_H

#include "kernels/coll.h"
#include "kernels/device_memory.h"
#include "worker/model.h"
#include "worker/place.h"
#include "worker/step_desc.h"

/* Rows whose logits are computed at once: enough to use the head's weights well, few enough that
 * rows × vocabulary stays small (32 × 128 k floats = 16 MiB). */
#define GW_ANSWERS_ROWS 32

/* Of one row. */
struct gw_answer {
    const struct gw_wish *wish;
    const struct gw_pick_part *parts; /* [parts_len], of all columns; none if the wish is for the whole */
    uint32_t parts_len;
    const float *
        row; /* [vocab] raw, the host's; NULL if nobody asked for it, or it lies on the device (gw_answers_row) */
};

struct gw_answers_config {
    const struct gw_model *model;
    const struct gw_place *place; /* leads, or is of the last stage */
    const struct gw_ops *ops;
    struct gw_device *device;
    const struct gw_memory *seen; /* where logits lie: the host gets what it wants of them */
    struct gw_coll *coll;         /* NULL: one rank */
};

struct gw_answers;

gw_err_t gw_answers_create(const struct gw_answers_config *config, struct gw_answers **out) GW_MUST_USE;
void gw_answers_destroy(struct gw_answers *a);

/* A rank that does not lead: sends what is wanted of its logits columns[count][own columns], the device's. */
gw_err_t gw_answers_send(struct gw_answers *a, float *columns, const struct gw_step_sample *samples,
                         uint32_t count, struct gw_err_ctx *ctx) GW_MUST_USE;

/* The leader: out[count] from rows[count][vocab], the device's, where its own columns are, if it has any, and what the others
 * send. Valid until the next call. */
gw_err_t gw_answers_collect(struct gw_answers *a, float *rows, const struct gw_step_sample *samples,
                            uint32_t count, struct gw_answer *out, struct gw_err_ctx *ctx) GW_MUST_USE;

/* The host gets the whole of rows[i] of the last collect where one rank has it: *row; else NULL. */
gw_err_t gw_answers_row(struct gw_answers *a, float *rows, uint32_t i, const float **row,
                        struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
