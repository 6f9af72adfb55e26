#include "kernels/cuda/coll_tag.h"

#include <inttypes.h>
#include <string.h>

static const char magic[4] = {'G', 'W', 'T', '1'};

struct gw_coll_tag gw_coll_tag_make(enum gw_coll_tag_kind kind, const struct gw_coll_tag *rest)
{
    struct gw_coll_tag tag = *rest;
    memcpy(tag.magic, magic, sizeof magic);
    tag.kind = (uint32_t)kind;
    tag.zero = 0;
    return tag;
}

static gw_err_t differs(const struct gw_coll_tag *want, const char *what, uint64_t got, uint64_t wanted,
                        struct gw_err_ctx *ctx)
{
    return gw_fail(ctx, GW_ERR_PROTO, "rank %u: %s %" PRIu64 ", not %" PRIu64, want->rank, what, got, wanted);
}

gw_err_t gw_coll_tag_check(const struct gw_coll_tag *got, const struct gw_coll_tag *want,
                           struct gw_err_ctx *ctx)
{
    if (memcmp(got, want, sizeof *got) == 0) return GW_OK;
    if (memcmp(got->magic, magic, sizeof magic) != 0 || got->kind != want->kind || got->zero != 0)
        return gw_fail(ctx, GW_ERR_PROTO, "rank %u: other bytes than were expected", want->rank);
    if (got->rank != want->rank) return differs(want, "it says that it is rank", got->rank, want->rank, ctx);
    if (got->term != want->term) return differs(want, "term", got->term, want->term, ctx);
    if (got->pipeline != want->pipeline) return differs(want, "pipeline", got->pipeline, want->pipeline, ctx);
    if (got->generation != want->generation)
        return differs(want, "generation", got->generation, want->generation, ctx);
    if (got->step != want->step) return differs(want, "step", got->step, want->step, ctx);
    if (got->count != want->count)
        return differs(want,
                       want->kind == GW_COLL_TAG_HELLO   ? "shares"
                       : want->kind == GW_COLL_TAG_FENCE ? "sums in this step"
                                                         : "bytes",
                       got->count, want->count, ctx);
    return gw_fail(ctx, GW_ERR_PROTO, "rank %u: %s", want->rank,
                   want->kind == GW_COLL_TAG_HELLO ? "another cut of the shares, or other sizes"
                                                   : "sums of other lengths in this step");
}
