/* Engine: runs requests, one step at a time, and says each token as it is decided.
 *
 *     submit(request, logs) ─► scheduler ─► step: plan → rank (and the others of its pipeline) → logits → sampler
 *                                                                                            └─► sink.tokens
 *
 * Everything the engine holds is a cache of (request, logs): it may forget a request between any two steps,
 * and another engine of the same profile goes on with the same bits.
 *
 * A branch ends when gw_request_finish_at says so of its newest record; a request is forgotten when its last
 * branch ends.
 *
 * Owner: gw_engine_destroy frees; model, operations and rank must outlive the engine. Sink callbacks get pointers that are
 * valid during the call and must not call the engine. Thread: one, the creator's, which has FTZ and DAZ on
 * from then on. Units: tokens; microseconds. Errors: GW_ERR_INPUT and GW_ERR_LIMIT from submit mean that this
 * request cannot run here, nor on an equal engine; a step fails only with its pipeline (kernels/coll.h). Source: own design. */
#ifndef GW_WORKER_ENGINE_H
#define GW_WORKER_ENGINE_H

#include "kernels/op.h"
#include "migrate/block_name.h"
#include "migrate/wire.h"
#include "worker/copier.h"
#include "worker/rank.h"

#define GW_ENGINE_JOBS_MAX 65536 /* requests held at once: 16 times what the core gives one worker */

struct gw_engine;

struct gw_engine_sink {
    void *arg;
    /* The first step with this request begins. */
    void (*started)(void *arg, uint64_t request, uint32_t attempt);
    /* New records of one branch. */
    void (*tokens)(void *arg, uint64_t request, uint32_t attempt, uint32_t branch,
                   const struct gw_tokens *tokens);
    /* What could be fetched of a request that runs elsewhere (gw_engine_warm) is here: positions from 0 on. */
    void (*warmed)(void *arg, uint64_t request, uint32_t attempt, uint32_t tokens);
    /* A request that ran elsewhere begins: where its KV came from. NULL: nobody wants to know. */
    void (*origin)(void *arg, const struct gw_msg_origin *origin);
    /* The logit row [vocab] that `position` of a branch is drawn from; NULL unless a test looks. */
    void (*logits)(void *arg, uint64_t request, uint32_t branch, uint32_t position, const float *row);
};

struct gw_engine_config {
    const struct gw_model *model;
    const struct gw_ops *ops;
    struct gw_rank *rank;     /* the leader of its pipeline */
    struct gw_rank_room room; /* of the pipeline */
    uint32_t max_chunk;       /* rows of one prefilling branch per step; 0 = no limit of its own */
    uint64_t
        step_target_us; /* that a step with rows of prompts should last (worker/step_pace.h); 0 = no limit */
    const void *key;    /* cluster key: block names */
    size_t key_len;
    uint8_t fingerprint[GW_FINGERPRINT_BYTES];
    struct gw_engine_sink sink;
    struct gw_copier *copier; /* gets pages of requests that ran elsewhere; NULL: they are computed again */
    struct gw_stores *stores; /* may have pages of prompts that ran nowhere near; NULL: there are none */
    bool always_fetch;        /* even where computing is predicted to be faster */
    uint32_t early_slots;     /* so many may be used at first; 0: all */
};

struct gw_engine_stats {
    struct gw_msg_heartbeat progress;
    uint64_t tokens;    /* drawn since the start */
    uint64_t rows;      /* computed */
    uint64_t busy_us;   /* spent in steps */
    uint64_t kernel_us; /* of that, inside operations */
};

gw_err_t gw_engine_create(const struct gw_engine_config *config, struct gw_engine **out,
                          struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_engine_destroy(struct gw_engine *e);

/* Longest sequence that a pipeline with this room serves: the model's context or the pool's capacity, whichever is
 * smaller. */
uint32_t gw_engine_context_of(const struct gw_model *model, const struct gw_rank_room *room);
uint32_t gw_engine_context(const struct gw_engine *e);
uint32_t gw_engine_kv_tokens(const struct gw_engine *e);

/* Takes the request over (submit->request is empty but for n); logs stay the caller's. An older attempt of
 * the same request is dropped; a submission that is not newer than what runs is ignored. On error submit is
 * unchanged. */
gw_err_t gw_engine_submit(struct gw_engine *e, struct gw_msg_submit *submit,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

/* Fetches the sealed blocks of a request that runs elsewhere, and says `warmed`; takes submit->request over. */
gw_err_t gw_engine_warm(struct gw_engine *e, struct gw_msg_submit *submit,
                        struct gw_err_ctx *ctx) GW_MUST_USE;

/* What was fetched for requests is looked at, and what else they want is fetched. gw_engine_step does it too. */
void gw_engine_tend(struct gw_engine *e);

/* All slots may be used from now on. */
void gw_engine_use_all_slots(struct gw_engine *e);

/* Forgets a branch or the whole request (GW_BRANCH_ALL), unless a newer attempt runs. Unknown ones are fine.
 */
void gw_engine_cancel(struct gw_engine *e, uint64_t request, uint32_t attempt, uint32_t branch);

/* Stops and forgets the request for good; no step is under way (gw_engine_settle). False if it is not here in that attempt; else log_len[0 .. *n) are
 * the lengths of its logs, and all of its KV can be found by name (others learn it by the next gw_engine_settle). */
bool gw_engine_hand_off(struct gw_engine *e, uint64_t request, uint32_t attempt,
                        uint32_t log_len[GW_REQUEST_BRANCHES_MAX], uint32_t *n);

/* Requests that are here, at most so many of them; returns how many. */
uint32_t gw_engine_list(const struct gw_engine *e, uint64_t *requests, uint32_t max);

/* Forgets all requests; sealed pages stay in the prefix cache. */
void gw_engine_reset(struct gw_engine *e);

/* (The rank may lead: gw_rank_may_lead.) Begins a step if one may begin, and ends the oldest one if no other may begin. *did = false: there was nothing to
 * do. An error is the pipeline's end: the engine is good for destroy only. */
gw_err_t gw_engine_step(struct gw_engine *e, bool *did, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Ends all steps that are under way; every rank has been told what is sealed. */
gw_err_t gw_engine_settle(struct gw_engine *e, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Requests that are here. */
uint32_t gw_engine_jobs(const struct gw_engine *e);

void gw_engine_stats(const struct gw_engine *e, struct gw_engine_stats *out);

#endif
