/* Where K and V of a position lie in their page (layout: kernels/op.h).
 *
 * Owner: nothing. Thread: safe. Units: bytes of an address. Errors: none; blocks and arena cover the
 * position. Source: own design. */
#ifndef GW_KERNELS_CPU_KV_H
#define GW_KERNELS_CPU_KV_H

#include "kernels/convert.h"

enum gw_kv_part { GW_KV_K = 0, GW_KV_V = 1 };

/* head_dim elements of `type`: K or V of one KV head at `position` of the sequence that owns `blocks`. */
GW_BOTH static inline uint8_t *gw_kv_at(const struct gw_kv_layer *kv, enum gw_dtype type,
                                        enum gw_kv_part part, uint32_t kv_head, const uint32_t *blocks,
                                        uint32_t position)
{
    uint8_t *page = kv->arena[kv_head / kv->heads_per_cell] +
                    (size_t)blocks[position / kv->block_tokens] * kv->page_bytes;
    size_t head = (size_t)part * kv->heads_per_cell + kv_head % kv->heads_per_cell;
    size_t token = head * kv->block_tokens + position % kv->block_tokens;
    return page + token * kv->head_dim * (type == GW_F32 ? 4 : 2);
}

GW_BOTH static inline uint32_t gw_kv_heads(const struct gw_kv_layer *kv)
{
    return kv->cells * kv->heads_per_cell;
}

#endif
