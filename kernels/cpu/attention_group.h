/* K or V of 16 positions of a sequence: where they lie in their pages, and what comes some groups after them.
 *
 * Pages lie in no order that the machine could guess: so memory is asked for in the order of use, a few lines at a time between
 * pieces of arithmetic. A core keeps only some sixteen lines under way: what is asked for all at once is waited for.
 *
 * Owner: the caller's memory. Thread: safe. Units: positions; lines of memory. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CPU_ATTENTION_GROUP_H
#define GW_KERNELS_CPU_ATTENTION_GROUP_H

#include "kernels/cpu/attention.h"
#include "kernels/cpu/simd.h"

#define GW_ATTN_GROUP 16u /* positions */
#define GW_ATTN_LINE  64u /* bytes */

/* Groups that memory is asked for before they are used: one takes 0.1 us of four queries, memory about as long. Of 2, 4, 6 and
 * 8 the best by a little; none at all takes 1.8 times as long. */
#define GW_ATTN_AHEAD 4u

static inline uint32_t gw_attn_min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The pages of one KV head of a sequence. */
struct gw_attn_pages {
    const uint8_t *first[2]; /* of K and of V: in block 0 of the arena */
    const uint32_t *blocks;
    size_t page_bytes;
    uint32_t tokens, head_dim; /* of a block */
    uint32_t length;           /* positions behind it are not looked at */
    bool ahead;                /* whether memory is asked for ahead */
};

static inline struct gw_attn_pages gw_attn_pages(const struct gw_attn_job *job,
                                                 const struct gw_attn_item *item, const enum gw_dtype type,
                                                 uint32_t length)
{
    static const uint32_t block = 0;
    const struct gw_kv_layer *kv = job->kv;
    return (struct gw_attn_pages){
        .first = {gw_kv_block_at(kv, type, GW_KV_K, item->kv_head, &block, 0),
                  gw_kv_block_at(kv, type, GW_KV_V, item->kv_head, &block, 0)},
        .blocks = item->seq->blocks,
        .page_bytes = kv->page_bytes,
        .tokens = kv->block_tokens,
        .head_dim = kv->head_dim,
        .length = length,
        /* where many queries use a group, their arithmetic takes far longer than memory does */
        .ahead = item->queries <= GW_ATTN_QUERIES / 2,
    };
}

/* Rows [skip, len) are positions; those outside are not to be loaded, and point to one that may be. */
struct gw_attn_group {
    const uint8_t *rows[GW_ATTN_GROUP];
    float scales[2 * GW_ATTN_GROUP]; /* of int8; what is behind a run is overwritten by the next one */
    const uint8_t *next;             /* what to ask for, and how many lines */
    uint32_t next_lines;
    bool widened; /* who keeps the rows widened has done so; false at first */
};

/* What is used GW_ATTN_AHEAD groups after the one at g of the chunk from `first` on, of whose positions [skip, len) are seen:
 * K of a chunk is followed by its V, that by K of the next one. */
GW_INLINE void gw_attn_look_ahead(const struct gw_attn_pages *p, enum gw_kv_part part, uint32_t first,
                                  uint32_t g, uint32_t skip, uint32_t len, const enum gw_dtype type,
                                  struct gw_attn_group *group)
{
    uint32_t at = g + GW_ATTN_AHEAD * GW_ATTN_GROUP,
             end = (len + GW_ATTN_GROUP - 1) / GW_ATTN_GROUP * GW_ATTN_GROUP;
    if (at >= end && part == GW_KV_K) {
        at = gw_attn_min(skip + at - end, len - 1);
        part = GW_KV_V;
    } else if (at >= end) {
        part = GW_KV_K;
    }
    group->next_lines = 0;
    if (!p->ahead || first + at >= p->length) return;
    uint32_t position = first + at, in_block = position % p->tokens;
    size_t row_bytes = p->head_dim * gw_kv_item_bytes(type);
    group->next = p->first[part] + p->blocks[position / p->tokens] * p->page_bytes + in_block * row_bytes;
    uint32_t rows = gw_attn_min(GW_ATTN_GROUP, p->tokens - in_block);
    group->next_lines = (uint32_t)((rows * row_bytes + GW_ATTN_LINE - 1) / GW_ATTN_LINE);
}

/* Asks for `each` lines at the i-th point of a piece of arithmetic. What is asked for behind the last line does no harm. */
GW_INLINE void gw_attn_ask(const uint8_t *next, uint32_t i, uint32_t each)
{
    for (uint32_t k = 0; k < each; k++)
        __builtin_prefetch(next + (size_t)(i * each + k) * GW_ATTN_LINE, 0, 2);
}

/* Rows [skip, len) are positions from `position` on. */
GW_INLINE void gw_attn_find_rows(const struct gw_attn_pages *p, const enum gw_kv_part part, uint32_t position,
                                 uint32_t skip, uint32_t len, const enum gw_dtype type,
                                 struct gw_attn_group *group)
{
    size_t row_bytes = p->head_dim * gw_kv_item_bytes(type);
    group->widened = false;
    for (uint32_t i = skip, run; i < len; i += run) { /* what lies in one block is a run */
        uint32_t at = (position + i) % p->tokens;
        const uint8_t *block = p->first[part] + p->blocks[(position + i) / p->tokens] * p->page_bytes;
        const uint8_t *row = block + at * row_bytes;
        run = gw_attn_min(len - i, p->tokens - at);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < run; r++) group->rows[i + r] = row + r * row_bytes;
        if (type == GW_I8)
            gw_put16(&group->scales[i], gw_load16(block + (size_t)p->tokens * p->head_dim, GW_F32, at, run));
    }
    for (uint32_t i = 0; i < skip; i++) group->rows[i] = group->rows[skip];
    for (uint32_t i = len; i < GW_ATTN_GROUP; i++) group->rows[i] = group->rows[skip];
}

#endif
