#include "kernels/cuda/coll_join.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/coll_nccl.h"
#include "kernels/cuda/coll_staged.h"
#include "kernels/device_backend.h"

#define VERSION      1
#define ELEMS_BYTES  8
#define OFFER_BYTES  (2 + GW_GPU_BYTES + ELEMS_BYTES)
#define ANSWER_BYTES (2 + GW_NCCL_ID_BYTES + ELEMS_BYTES)

struct gw_coll_join {
    struct gw_device_lane lane;
    struct gw_nccl nccl; /* library NULL: there is none */
    struct gw_coll_device *sums, *passes;
};

/* Who agrees: ranks [first, first + ranks) of the pipeline. */
struct circle {
    uint32_t first, ranks;
    bool one_machine;
    uint64_t max_elems;
};

struct offer {
    bool nccl;
    uint8_t gpu[GW_GPU_BYTES];
    uint64_t max_elems;
};

struct answer {
    bool nccl;
    struct gw_nccl_id id;
    uint64_t max_elems;
};

/* ---- agreement ---- */

static void put_elems(uint8_t *to, uint64_t elems)
{
    for (int i = 0; i < ELEMS_BYTES; i++) to[i] = (uint8_t)(elems >> (8 * i));
}

static uint64_t get_elems(const uint8_t *from)
{
    uint64_t elems = 0;
    for (int i = 0; i < ELEMS_BYTES; i++) elems |= (uint64_t)from[i] << (8 * i);
    return elems;
}

static gw_err_t send_offer(const struct gw_coll_join_config *c, uint32_t rank, const struct offer *o,
                           struct gw_err_ctx *ctx)
{
    uint8_t bytes[OFFER_BYTES] = {VERSION, o->nccl};
    memcpy(bytes + 2, o->gpu, sizeof o->gpu);
    put_elems(bytes + 2 + GW_GPU_BYTES, o->max_elems);
    return gw_coll_send(c->coll, rank, GW_COLL_DATA, bytes, sizeof bytes, ctx);
}

static gw_err_t recv_offer(const struct gw_coll_join_config *c, uint32_t rank, struct offer *o,
                           struct gw_err_ctx *ctx)
{
    uint8_t bytes[OFFER_BYTES];
    TRY(gw_coll_recv(c->coll, rank, bytes, sizeof bytes, ctx));
    o->max_elems = get_elems(bytes + 2 + GW_GPU_BYTES);
    if (bytes[0] != VERSION || bytes[1] > 1 || o->max_elems == 0)
        return gw_fail(ctx, GW_ERR_PROTO, "rank %u offers device collectives of another build", rank);
    o->nccl = bytes[1];
    memcpy(o->gpu, bytes + 2, sizeof o->gpu);
    return GW_OK;
}

static gw_err_t send_answer(const struct gw_coll_join_config *c, uint32_t rank, const struct answer *a,
                            struct gw_err_ctx *ctx)
{
    uint8_t bytes[ANSWER_BYTES] = {VERSION, a->nccl};
    memcpy(bytes + 2, a->id.bytes, sizeof a->id.bytes);
    put_elems(bytes + 2 + GW_NCCL_ID_BYTES, a->max_elems);
    return gw_coll_send(c->coll, rank, GW_COLL_DATA, bytes, sizeof bytes, ctx);
}

static gw_err_t recv_answer(const struct gw_coll_join_config *c, const struct circle *who, struct answer *a,
                            struct gw_err_ctx *ctx)
{
    uint8_t bytes[ANSWER_BYTES];
    TRY(gw_coll_recv(c->coll, who->first, bytes, sizeof bytes, ctx));
    a->max_elems = get_elems(bytes + 2 + GW_NCCL_ID_BYTES);
    if (bytes[0] != VERSION || bytes[1] > 1 || a->max_elems == 0 || a->max_elems > who->max_elems)
        return gw_fail(ctx, GW_ERR_PROTO, "rank %u has device collectives of another build", who->first);
    a->nccl = bytes[1];
    memcpy(a->id.bytes, bytes + 2, sizeof a->id.bytes);
    return GW_OK;
}

/* Has each a GPU of its own, and NCCL? */
static bool may_use_nccl(const struct offer *offers, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        if (!offers[i].nccl) return false;
        for (uint32_t k = 0; k < i; k++)
            if (memcmp(offers[i].gpu, offers[k].gpu, GW_GPU_BYTES) == 0) return false;
    }
    return true;
}

/* The first rank decides. */
static gw_err_t decide(const struct gw_coll_join_config *c, const struct circle *who,
                       const struct gw_nccl *nccl, const struct offer *own, struct answer *a,
                       struct gw_err_ctx *ctx)
{
    struct offer offers[GW_COLL_RANKS_MAX] = {*own};
    for (uint32_t i = 1; i < who->ranks; i++) TRY(recv_offer(c, who->first + i, &offers[i], ctx));
    *a = (struct answer){.nccl = may_use_nccl(offers, who->ranks), .max_elems = own->max_elems};
    for (uint32_t i = 1; i < who->ranks; i++)
        if (offers[i].max_elems < a->max_elems) a->max_elems = offers[i].max_elems;
    if (a->nccl) TRY(gw_nccl_make_id(nccl, &a->id, ctx));
    for (uint32_t i = 1; i < who->ranks; i++) TRY(send_answer(c, who->first + i, a, ctx));
    return GW_OK;
}

/* A circle of one has nothing to agree on: *a stays zeros. */
static gw_err_t agree(struct gw_coll_join *j, const struct gw_coll_join_config *c, const struct circle *who,
                      struct answer *a, struct gw_err_ctx *ctx)
{
    struct offer own = {.nccl = j->nccl.library && who->one_machine, .max_elems = who->max_elems};
    if (who->ranks == 1) return GW_OK;
    memcpy(own.gpu, j->lane.gpu, sizeof own.gpu);
    if (c->group.self == who->first) return decide(c, who, &j->nccl, &own, a, ctx);
    TRY(send_offer(c, who->first, &own, ctx));
    TRY(recv_answer(c, who, a, ctx));
    if (!a->nccl || own.nccl) return GW_OK;
    return gw_fail(ctx, GW_ERR_PROTO, "rank %u wants NCCL, which this one did not offer", who->first);
}

/* ---- the collectives ---- */

/* NCCL connects on a stream of its own, for another generation's collectives may be on the stream of operations, in another order at
 * another rank. */
static gw_err_t create_nccl(struct gw_coll_join *j, const struct gw_coll_join_config *c,
                            const struct answer *a, struct gw_coll_device_config group,
                            struct gw_coll_device **out, struct gw_err_ctx *ctx)
{
    group.stream = j->lane.meet;
    const struct gw_coll_nccl_config config = {
        .group = group, .nccl = &j->nccl, .id = a->id, .init_us = c->init_us};
    return gw_coll_nccl_create(&config, out, ctx);
}

/* What both groups have in common. */
static struct gw_coll_device_config group_of(const struct gw_coll_join *j,
                                             const struct gw_coll_join_config *c, const struct answer *a)
{
    struct gw_coll_device_config group = c->group;
    group.max_elems = (size_t)a->max_elems;
    group.ops = j->lane.ops;
    group.device = j->lane.self;
    group.stream = j->lane.stream;
    return group;
}

/* Of the stage alone. */
static gw_err_t create_sums(struct gw_coll_join *j, const struct gw_coll_join_config *c,
                            const struct answer *a, struct gw_err_ctx *ctx)
{
    struct gw_coll_device_config group = group_of(j, c, a);
    const struct gw_coll_staged_config staged = {.group = group, .coll = c->coll};
    if (group.stage_ranks == 1) return GW_OK;
    if (!a->nccl) return gw_coll_staged_create(&staged, &j->sums, ctx);
    group.self -= group.stage_first;
    group.ranks = group.stage_ranks;
    group.stage_first = 0;
    TRY(create_nccl(j, c, a, group, &j->sums, ctx));
    gw_coll_device_use(j->sums, j->lane.stream);
    return GW_OK;
}

/* A few bytes go where activations will. */
static gw_err_t greet(struct gw_coll_device *passes, const struct gw_coll_join_config *c,
                      struct gw_err_ctx *ctx)
{
    float *bytes = gw_coll_device_partials(passes);
    if (c->from) TRY(gw_coll_device_recv(passes, *c->from, bytes, sizeof *bytes, ctx));
    for (uint32_t i = 0; i < c->to_len; i++)
        TRY(gw_coll_device_send(passes, c->to[i], bytes, sizeof *bytes, ctx));
    return gw_coll_device_finish(passes, ctx);
}

/* Of all ranks, each a stage of its own, for they have no sums in common. */
static gw_err_t create_passes(struct gw_coll_join *j, const struct gw_coll_join_config *c,
                              const struct answer *a, struct gw_err_ctx *ctx)
{
    static const uint16_t one_share[] = {0, 1};
    struct gw_coll_device_config group = group_of(j, c, a);
    if (!a->nccl) return GW_OK;
    group.stage_first = group.self;
    group.stage_ranks = group.shares = 1;
    group.share_at = one_share;
    TRY(create_nccl(j, c, a, group, &j->passes, ctx));
    TRY(greet(j->passes, c, ctx));
    gw_coll_device_use(j->passes, j->lane.stream);
    return GW_OK;
}

static gw_err_t create(struct gw_coll_join *j, const struct gw_coll_join_config *c, struct gw_err_ctx *ctx)
{
    const struct gw_coll_device_config *g = &c->group;
    const bool stages = g->stage_ranks < g->ranks;
    const struct circle stage = {g->stage_first, g->stage_ranks, c->one_machine, g->max_elems};
    const struct circle pipeline = {0, stages ? g->ranks : 1, c->all_on_one_machine, 1};
    struct answer of_stage = {0}, of_pipeline = {0};
    const bool near = (g->stage_ranks > 1 && c->one_machine) || (stages && c->all_on_one_machine);
    if (near && (!c->nccl || c->nccl[0])) (void)!gw_nccl_open(c->nccl, &j->nccl, NULL);
    TRY(agree(j, c, &stage, &of_stage, ctx));
    TRY(agree(j, c, &pipeline, &of_pipeline, ctx));
    if (j->lane.ops->enter) TRY(j->lane.ops->enter(j->lane.self, ctx));
    TRY(create_passes(j, c, &of_pipeline, ctx));
    return create_sums(j, c, &of_stage, ctx);
}

gw_err_t gw_coll_join_create(const struct gw_coll_join_config *config, struct gw_coll_join **out,
                             struct gw_err_ctx *ctx)
{
    const struct gw_device_backend *backend = gw_device_backend(config->device);
    assert(backend && config->group.ranks <= GW_COLL_RANKS_MAX);
    struct gw_coll_join *j = calloc(1, sizeof *j);
    if (!j) return gw_fail(ctx, GW_ERR_MEMORY, "no memory for collectives");
    backend->lane(config->device, &j->lane);
    gw_err_t err = create(j, config, ctx);
    if (err == GW_OK)
        *out = j;
    else
        (void)gw_coll_join_destroy(j);
    return err;
}

bool gw_coll_join_destroy(struct gw_coll_join *j)
{
    if (!j) return true;
    if (j->lane.ops->enter)
        (void)!j->lane.ops->enter(j->lane.self, NULL); /* what fails here has failed before */
    bool rest = gw_coll_device_destroy(j->passes);
    rest = gw_coll_device_destroy(j->sums) && rest;
    gw_nccl_close(&j->nccl);
    free(j);
    return rest;
}

struct gw_coll_device *gw_coll_join_sums(struct gw_coll_join *j)
{
    return j ? j->sums : NULL;
}

struct gw_coll_device *gw_coll_join_passes(struct gw_coll_join *j)
{
    return j ? j->passes : NULL;
}

void gw_coll_join_abort(struct gw_coll_join *j)
{
    if (j->passes) gw_coll_device_abort(j->passes);
    if (j->sums) gw_coll_device_abort(j->sums);
}
