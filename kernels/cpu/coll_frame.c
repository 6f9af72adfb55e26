#include "kernels/cpu/coll_frame.h"

#include <inttypes.h>

#include "base/buf.h"

#define MAGIC 0x31435747u /* "GWC1" */

void gw_coll_head_put(uint8_t out[GW_COLL_HEAD_BYTES], const struct gw_coll_fence *fence,
                      const struct gw_coll_head *head)
{
    gw_put_le(out, MAGIC, 4);
    gw_put_le(out + 4, head->kind, 4);
    gw_put_le(out + 8, fence->pipeline, 4);
    gw_put_le(out + 12, head->bytes, 4);
    gw_put_le(out + 16, fence->term, 8);
    gw_put_le(out + 24, fence->generation, 8);
    gw_put_le(out + 32, head->step, 8);
}

static size_t bytes_max(uint8_t kind)
{
    switch (kind) {
    case GW_COLL_DATA: return GW_COLL_DATA_MAX;
    case GW_COLL_CONTROL: return GW_COLL_CONTROL_MAX;
    default: return GW_COLL_SETUP_BYTES;
    }
}

gw_err_t gw_coll_head_get(const uint8_t in[GW_COLL_HEAD_BYTES], const struct gw_coll_fence *fence,
                          struct gw_coll_head *out, struct gw_err_ctx *ctx)
{
    struct gw_reader r;
    gw_reader_init(&r, in, GW_COLL_HEAD_BYTES);
    uint32_t magic = gw_read_u32(&r), kind = gw_read_u32(&r), pipeline = gw_read_u32(&r);
    uint32_t bytes = gw_read_u32(&r);
    uint64_t term = gw_read_u64(&r), generation = gw_read_u64(&r), step = gw_read_u64(&r);
    if (magic != MAGIC) return gw_fail(ctx, GW_ERR_PROTO, "a frame's magic is wrong");
    if (term != fence->term)
        return gw_fail(ctx, GW_ERR_PROTO, "a frame of term %" PRIu64 ", not %" PRIu64, term, fence->term);
    if (pipeline != fence->pipeline)
        return gw_fail(ctx, GW_ERR_PROTO, "a frame of pipeline %u, not %u", pipeline, fence->pipeline);
    if (generation != fence->generation)
        return gw_fail(ctx, GW_ERR_PROTO, "a frame of generation %" PRIu64 ", not %" PRIu64, generation,
                       fence->generation);
    if (kind < 1 || kind > GW_COLL_KINDS)
        return gw_fail(ctx, GW_ERR_PROTO, "a frame of unknown kind %u", kind);
    if (bytes > bytes_max((uint8_t)kind))
        return gw_fail(ctx, GW_ERR_PROTO, "a frame of %u bytes, at most %zu", bytes,
                       bytes_max((uint8_t)kind));
    *out = (struct gw_coll_head){.kind = (uint8_t)kind, .bytes = bytes, .step = step};
    return GW_OK;
}
