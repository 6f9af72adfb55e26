/* Where K and V of a position lie in their page (layout: kernels/op.h).
 *
 * Owner: nothing. Thread: safe. Units: bytes of an address. Errors: none; blocks and arena cover the
 * position. Source: own design. */
#ifndef GW_KERNELS_CPU_KV_H
#define GW_KERNELS_CPU_KV_H

#include "kernels/convert.h"

enum gw_kv_part { GW_KV_K = 0, GW_KV_V = 1 };

GW_BOTH static inline size_t gw_kv_item_bytes(enum gw_dtype type)
{
    return type == GW_F32 ? 4 : type == GW_I8 ? 1 : 2;
}

/* gw_kv_bytes of a block */
GW_BOTH static inline size_t gw_kv_block_bytes(enum gw_dtype type, uint32_t head_dim, uint32_t block_tokens)
{
    return block_tokens * (head_dim * gw_kv_item_bytes(type) + (type == GW_I8 ? sizeof(float) : 0));
}

/* K or V of one KV head, of all tokens of the block that `position` of the sequence that owns `blocks` is in. */
GW_BOTH static inline uint8_t *gw_kv_block_at(const struct gw_kv_layer *kv, enum gw_dtype type,
                                              enum gw_kv_part part, uint32_t kv_head, const uint32_t *blocks,
                                              uint32_t position)
{
    uint8_t *page = kv->arena[kv_head / kv->heads_per_cell] +
                    (size_t)blocks[position / kv->block_tokens] * kv->page_bytes;
    size_t head = (size_t)part * kv->heads_per_cell + kv_head % kv->heads_per_cell;
    return page + head * gw_kv_block_bytes(type, kv->head_dim, kv->block_tokens);
}

/* head_dim elements of `type`: K or V of one KV head at `position`. */
GW_BOTH static inline uint8_t *gw_kv_at(const struct gw_kv_layer *kv, enum gw_dtype type,
                                        enum gw_kv_part part, uint32_t kv_head, const uint32_t *blocks,
                                        uint32_t position)
{
    size_t token = position % kv->block_tokens;
    return gw_kv_block_at(kv, type, part, kv_head, blocks, position) +
           token * kv->head_dim * gw_kv_item_bytes(type);
}

/* Its scale, of int8 pages. */
GW_BOTH static inline float *gw_kv_scale_at(const struct gw_kv_layer *kv, enum gw_kv_part part,
                                            uint32_t kv_head, const uint32_t *blocks, uint32_t position)
{
    uint8_t *block = gw_kv_block_at(kv, GW_I8, part, kv_head, blocks, position);
    void *scales = block + (size_t)kv->block_tokens * kv->head_dim; /* head_dim is a multiple of 8 */
    return (float *)scales + position % kv->block_tokens;
}

GW_BOTH static inline uint32_t gw_kv_heads(const struct gw_kv_layer *kv)
{
    return kv->cells * kv->heads_per_cell;
}

#endif
