/* Attention in 16 lanes, for the instruction set that the including file is compiled for. That file brings the
 * scores of a panel: how many sums are kept in registers at once is what instruction sets differ in.
 *
 * Owner: all memory is the caller's, the scratch is the thread's. Thread: any number of items at a time. Units:
 * elements. Errors: none. Source: kernels/cpu/attention.h. */
#ifndef GW_KERNELS_CPU_ATTENTION_SIMD_H
#define GW_KERNELS_CPU_ATTENTION_SIMD_H

#include <assert.h>
#include <float.h>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/simd_c.h"

/* Positions are taken 16 at a time: K (or V) of 16 positions, widened to f32, is a panel that stays in L1
 * while all queries of the item use it. */
#define GW_ATTN_GROUP 16u

/* Panels that memory is asked for before they are used: one takes 0.3 us of four queries, memory about 0.1 us; at the
 * ends of chunks panels are without that much work between them. Of 1, 2, 4 and 8 the best by a little. */
#define GW_ATTN_AHEAD 2u
#define GW_ATTN_LINE  64u

struct gw_attn_scratch {
    float panel[GW_ATTN_GROUP][GW_ATTN_HEAD_DIM_MAX];
    float
        scales[2 *
               GW_ATTN_GROUP]; /* of the panel's rows; what is behind a run is overwritten by the next one */
    float p[GW_ATTN_QUERIES]
           [GW_ATTN_CHUNK]; /* scores, then e^(score - max); 0 for what a query does not see */
    float part[GW_ATTN_QUERIES][GW_ATTN_HEAD_DIM_MAX];
    float state[GW_ATTN_QUERIES][GW_ATTN_HEAD_DIM_MAX];
    float part_max[GW_ATTN_QUERIES], part_sum[GW_ATTN_QUERIES];
    float state_max[GW_ATTN_QUERIES], state_sum[GW_ATTN_QUERIES];
    struct gw_attn_query queries[GW_ATTN_QUERIES];
};
static_assert(sizeof(struct gw_attn_scratch) <= GW_SCRATCH_BYTES, "scratch of a thread");

static inline uint32_t gw_attn_min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Scores, not yet scaled, of one query against the panel: lane i is position i. Lanes of a sum that head_dim does
 * not reach keep what they have (adding a product of zeros could turn a -0). */
typedef gw_v16 gw_attn_scores_fn(const struct gw_attn_scratch *s, const float *q, uint32_t head_dim);

/* Of the chunk's positions (from `first`) a query sees [skipped, seen). None if seen is not larger. */
static inline uint32_t gw_attn_seen(const struct gw_attn_query *query, uint32_t first)
{
    return query->length <= first ? 0 : gw_attn_min(query->length - first, GW_ATTN_CHUNK);
}
static inline uint32_t gw_attn_skipped(const struct gw_attn_query *query, uint32_t first)
{
    return query->start <= first ? 0 : gw_attn_min(query->start - first, GW_ATTN_CHUNK);
}

/* to[head_dim] = the elements from [at] on. */
GW_INLINE void gw_attn_widen(float *to, const uint8_t *from, const enum gw_dtype type, size_t at,
                             uint32_t head_dim)
{
    uint32_t d = 0;
    for (; type == GW_BF16 && d + 32 <= head_dim; d += 32)
        gw_widen32(to + d, (const uint16_t *)(const void *)from + at + d);
    for (; d + 16 <= head_dim; d += 16) gw_put16(to + d, gw_load16(from, type, at + d, 16));
    if (d < head_dim) gw_put16(to + d, gw_load16(from, type, at + d, head_dim - d));
}

/* Rows [skip, len) of the panel of positions from `position` on; of int8 pages their scales, too. */
GW_INLINE void gw_attn_load_panel(const struct gw_attn_job *job, const struct gw_attn_item *item,
                                  enum gw_kv_part part, uint32_t position, uint32_t skip, uint32_t len,
                                  const enum gw_dtype type, struct gw_attn_scratch *s)
{
    const struct gw_kv_layer *kv = job->kv;
    uint32_t head_dim = kv->head_dim, tokens = kv->block_tokens;
    for (uint32_t i = skip, run; i < len; i += run) { /* what lies in one block is a run */
        uint32_t at = (position + i) % tokens;
        const uint8_t *block = gw_kv_block_at(kv, type, part, item->kv_head, item->seq->blocks, position + i);
        run = gw_attn_min(len - i, tokens - at);
        for (uint32_t r = 0; r < run; r++)
            gw_attn_widen(s->panel[i + r], block, type, (size_t)(at + r) * head_dim, head_dim);
        if (type == GW_I8)
            gw_put16(&s->scales[i], gw_load16(block + (size_t)tokens * head_dim, GW_F32, at, run));
    }
}

/* The group of positions that `skip` falls into, and how many of its positions that leaves out. */
static inline uint32_t gw_attn_group_of(uint32_t skip)
{
    return skip / GW_ATTN_GROUP * GW_ATTN_GROUP;
}
static inline uint32_t gw_attn_skip_in(uint32_t skip, uint32_t group)
{
    return skip > group ? gw_attn_min(skip - group, GW_ATTN_GROUP) : 0;
}

/* Lines of what is read some panels later, to be fetched while queries use this one: all at once they would wait for
 * memory as their use does, and pages do not lie in an order that the machine could guess. */
struct gw_attn_ahead {
    const uint8_t *at;
    uint32_t left, each; /* lines; those for each query */
};

/* Behind the panel of K or V at `position` of a chunk, of whose positions [start, end) are seen, of `length` in all. K
 * of a chunk is followed by its V, that by K of the next one. Nothing where many queries use a panel: their arithmetic
 * takes far longer than memory does. */
GW_INLINE struct gw_attn_ahead gw_attn_look_ahead(const struct gw_attn_job *job,
                                                  const struct gw_attn_item *item, enum gw_kv_part part,
                                                  uint32_t position, uint32_t start, uint32_t end,
                                                  uint32_t length, const enum gw_dtype type)
{
    const struct gw_kv_layer *kv = job->kv;
    uint32_t at = position + GW_ATTN_AHEAD * GW_ATTN_GROUP;
    if (at >= end && part == GW_KV_K) {
        at = gw_attn_min(start + at - gw_attn_group_of(end + GW_ATTN_GROUP - 1), end - 1);
        part = GW_KV_V;
    } else if (at >= end) {
        part = GW_KV_K;
    }
    if (at >= length || item->queries > GW_ATTN_QUERIES / 2) return (struct gw_attn_ahead){0};
    uint32_t rows = gw_attn_min(GW_ATTN_GROUP, kv->block_tokens - at % kv->block_tokens);
    size_t bytes = rows * kv->head_dim * gw_kv_item_bytes(type);
    struct gw_attn_ahead a = {.at = gw_kv_at(kv, type, part, item->kv_head, item->seq->blocks, at)};
    a.left = (uint32_t)((bytes + GW_ATTN_LINE - 1) / GW_ATTN_LINE);
    a.each = (a.left + item->queries - 1) / item->queries;
    return a;
}

GW_INLINE void gw_attn_fetch(struct gw_attn_ahead *a)
{
    uint32_t n = gw_attn_min(a->each, a->left);
    for (uint32_t i = 0; i < n; i++) __builtin_prefetch(a->at + (size_t)i * GW_ATTN_LINE, 0, 2);
    a->at += (size_t)n * GW_ATTN_LINE;
    a->left -= n;
}

/* Of the chunk's positions [skip, len), which some query sees. Lanes of a group's positions that are not the query's
 * hold what earlier panels left: gw_attn_exponentials() zeroes them. */
GW_INLINE void gw_attn_chunk_scores(const struct gw_attn_job *job, const struct gw_attn_item *item,
                                    uint32_t first, uint32_t skip, uint32_t len, const enum gw_dtype type,
                                    struct gw_attn_scratch *s, gw_attn_scores_fn *scores)
{
    const gw_v16 scale = gw_set16(job->scale);
    for (uint32_t g = gw_attn_group_of(skip); g < len; g += GW_ATTN_GROUP) {
        gw_attn_load_panel(job, item, GW_KV_K, first + g, gw_attn_skip_in(skip, g),
                           gw_attn_min(GW_ATTN_GROUP, len - g), type, s);
        struct gw_attn_ahead ahead =
            gw_attn_look_ahead(job, item, GW_KV_K, first + g, first + gw_attn_group_of(skip), first + len,
                               s->queries[item->queries - 1].length, type);
        for (uint32_t i = 0; i < item->queries; i++) {
            gw_attn_fetch(&ahead);
            if (gw_attn_seen(&s->queries[i], first) <= g ||
                gw_attn_skipped(&s->queries[i], first) >= g + GW_ATTN_GROUP)
                continue;
            gw_v16 sums = scores(s, s->queries[i].q, job->kv->head_dim);
            if (type == GW_I8) sums = gw_mul16(sums, gw_get16(s->scales));
            gw_put16(&s->p[i][g], gw_mul16(sums, scale));
        }
    }
}

/* Scores p[skip, n) → e^(score - max), zeros around them to multiples of 16; their max and sum. */
static void gw_attn_exponentials(float *p, uint32_t skip, uint32_t n, float *max, float *sum)
{
    gw_v16 max16 = gw_set16(-FLT_MAX), zero = gw_set16(0.0f);
    for (uint32_t j = gw_attn_group_of(skip); j < n; j += 16) {
        gw_v16 seen = gw_first16(gw_max16(max16, gw_get16(p + j)), gw_block_lanes(n, j), max16);
        max16 = skip > j ? gw_first16(max16, skip - j, seen) : seen;
    }
    *max = gw_fold_max16(max16);
    gw_v16 sum16 = zero;
    for (uint32_t j = gw_attn_group_of(skip); j < n; j += 16) {
        gw_v16 e = gw_expf16(gw_sub16(gw_get16(p + j), gw_set16(*max)));
        e = gw_first16(e, gw_block_lanes(n, j), zero);
        if (skip > j) e = gw_first16(zero, skip - j, e);
        gw_put16(p + j, e);
        sum16 = gw_add16(sum16, e);
    }
    *sum = gw_fold_sum16(sum16);
}

/* out[0, 16 * width) += p[skip, len) · panel rows, rows ascending. */
GW_INLINE void gw_attn_add_values(const struct gw_attn_scratch *s, const float *p, uint32_t skip,
                                  uint32_t len, float *out, uint32_t d, const uint32_t width)
{
    gw_v16 acc[4];
#pragma GCC unroll 4
    for (uint32_t w = 0; w < width; w++) acc[w] = gw_get16(out + d + 16 * w);
    for (uint32_t j = skip; j < len; j++) {
        gw_v16 pj = gw_set16(p[j]);
#pragma GCC unroll 4
        for (uint32_t w = 0; w < width; w++)
            acc[w] = gw_fma16(pj, gw_get16(&s->panel[j][d + 16 * w]), acc[w]);
    }
#pragma GCC unroll 4
    for (uint32_t w = 0; w < width; w++) gw_put16(out + d + 16 * w, acc[w]);
}

GW_INLINE void gw_attn_chunk_values(const struct gw_attn_job *job, const struct gw_attn_item *item,
                                    uint32_t first, uint32_t skip, uint32_t len, const enum gw_dtype type,
                                    struct gw_attn_scratch *s)
{
    /* columns of part and panel behind head_dim hold junk that is never stored: rows have room for it */
    uint32_t head_dim = (job->kv->head_dim + 15) / 16 * 16;
    for (uint32_t g = gw_attn_group_of(skip); g < len; g += GW_ATTN_GROUP) {
        gw_attn_load_panel(job, item, GW_KV_V, first + g, gw_attn_skip_in(skip, g),
                           gw_attn_min(GW_ATTN_GROUP, len - g), type, s);
        struct gw_attn_ahead ahead =
            gw_attn_look_ahead(job, item, GW_KV_V, first + g, first + gw_attn_group_of(skip), first + len,
                               s->queries[item->queries - 1].length, type);
        for (uint32_t i = 0; i < item->queries; i++) {
            gw_attn_fetch(&ahead);
            uint32_t n = gw_attn_seen(&s->queries[i], first);
            uint32_t from = gw_attn_skip_in(gw_attn_skipped(&s->queries[i], first), g);
            if (n <= g) continue;
            uint32_t to = gw_attn_min(n - g, GW_ATTN_GROUP), d = 0;
            if (type == GW_I8) gw_put16(&s->p[i][g], gw_mul16(gw_get16(&s->p[i][g]), gw_get16(s->scales)));
            for (; d + 64 <= head_dim; d += 64)
                gw_attn_add_values(s, &s->p[i][g], from, to, s->part[i], d, 4);
            for (; d < head_dim; d += 16) gw_attn_add_values(s, &s->p[i][g], from, to, s->part[i], d, 1);
        }
    }
}

static void gw_attn_merge(struct gw_attn_scratch *s, uint32_t i, uint32_t head_dim)
{
    float max = gw_max_c(s->state_max[i], s->part_max[i]);
    float a = gw_expf(s->state_max[i] - max), b = gw_expf(s->part_max[i] - max);
    s->state_max[i] = max;
    s->state_sum[i] = fmaf(s->state_sum[i], a, s->part_sum[i] * b);
    const gw_v16 a16 = gw_set16(a), b16 = gw_set16(b);
    for (uint32_t d = 0; d < head_dim; d += 16) {
        gw_v16 part = gw_mul16(gw_get16(&s->part[i][d]), b16);
        gw_put16(&s->state[i][d], gw_fma16(gw_get16(&s->state[i][d]), a16, part));
    }
}

/* Merges the chunk into the state of each query that sees some of it. */
static void gw_attn_chunk_merge(const struct gw_attn_item *item, uint32_t first, uint32_t head_dim,
                                struct gw_attn_scratch *s)
{
    for (uint32_t i = 0; i < item->queries; i++) {
        const struct gw_attn_query *query = &s->queries[i];
        if (gw_attn_seen(query, first) <= gw_attn_skipped(query, first)) continue;
        if (first > query->start) {
            gw_attn_merge(s, i, head_dim);
            continue;
        }
        s->state_max[i] = s->part_max[i];
        s->state_sum[i] = s->part_sum[i];
        memcpy(s->state[i], s->part[i], head_dim * sizeof(float));
    }
}

static void gw_attn_write_rows(const struct gw_attn_job *job, const struct gw_attn_item *item,
                               const struct gw_attn_scratch *s)
{
    for (uint32_t i = 0; i < item->queries; i++) {
        const gw_v16 inverse = gw_set16(1.0f / s->state_sum[i]);
        for (uint32_t d = 0; d < job->kv->head_dim; d += 16)
            gw_store16(job->out, job->act, s->queries[i].out_at + d, gw_block_lanes(job->kv->head_dim, d),
                       gw_mul16(gw_get16(&s->state[i][d]), inverse));
    }
}

GW_INLINE void gw_attn_item16(const struct gw_attn_job *job, const struct gw_attn_item *item, void *scratch,
                              const enum gw_dtype type, gw_attn_scores_fn *scores)
{
    struct gw_attn_scratch *s = scratch;
    for (uint32_t i = 0; i < item->queries; i++) s->queries[i] = gw_attn_query(job, item, i);
    /* rows ascend: the last one sees the last positions, the first one the first */
    uint32_t length = s->queries[item->queries - 1].length, start = s->queries[0].start;
    uint32_t first = start / GW_ATTN_CHUNK * GW_ATTN_CHUNK;
    for (uint32_t skip = start - first; first < length; first += GW_ATTN_CHUNK, skip = 0) {
        uint32_t len = gw_attn_min(length - first, GW_ATTN_CHUNK);
        gw_attn_chunk_scores(job, item, first, skip, len, type, s, scores);
        for (uint32_t i = 0; i < item->queries; i++) {
            const struct gw_attn_query *query = &s->queries[i];
            gw_attn_exponentials(s->p[i], gw_attn_skipped(query, first), gw_attn_seen(query, first),
                                 &s->part_max[i], &s->part_sum[i]);
            memset(s->part[i], 0, sizeof s->part[i]);
        }
        gw_attn_chunk_values(job, item, first, skip, len, type, s);
        gw_attn_chunk_merge(item, first, job->kv->head_dim, s);
    }
    gw_attn_write_rows(job, item, s);
}

#endif
