/* Attention in 16 lanes, for the instruction set that the including file is compiled for: the walk over chunks and groups of
 * positions. That file brings the scores and the sums of values of a group: how many sums are kept in registers at once, of
 * what, is what instruction sets differ in.
 *
 * Columns of V, of part and of state: of bf16, of each 32 the 16 of even index come first, as gw_widen32 gives them; the last
 * of fewer than 32 are in order. What is behind head_dim is junk that is never stored.
 *
 * Owner: all memory is the caller's, the scratch is the thread's. Thread: any number of items at a time. Units:
 * elements. Errors: none. Source: kernels/cpu/attention.h. */
#ifndef GW_KERNELS_CPU_ATTENTION_SIMD_H
#define GW_KERNELS_CPU_ATTENTION_SIMD_H

#include <assert.h>
#include <float.h>

#include "kernels/cpu/attention_group.h"
#include "kernels/cpu/simd_c.h"

struct gw_attn_scratch {
    float panel[GW_ATTN_GROUP][GW_ATTN_HEAD_DIM_MAX]; /* for who wants a group's rows widened */
    float p[GW_ATTN_QUERIES]
           [GW_ATTN_CHUNK]; /* scores, then e^(score - max); 0 for what a query does not see */
    float part[GW_ATTN_QUERIES][GW_ATTN_HEAD_DIM_MAX];
    float state[GW_ATTN_QUERIES][GW_ATTN_HEAD_DIM_MAX];
    float part_max[GW_ATTN_QUERIES], part_sum[GW_ATTN_QUERIES];
    float state_max[GW_ATTN_QUERIES], state_sum[GW_ATTN_QUERIES];
    struct gw_attn_query queries[GW_ATTN_QUERIES];
    struct gw_attn_pages pages;
    struct gw_attn_group group;
    uint32_t queries_len, head_dim;
};
static_assert(sizeof(struct gw_attn_scratch) <= GW_SCRATCH_BYTES, "scratch of a thread");

/* p[i][g, g + 16) = the dot products of all queries and the group's rows. Lanes of a sum that head_dim does not reach keep
 * what they have (adding a product of zeros could turn a -0). What it gives for rows that a query does not see is junk. */
typedef void gw_attn_scores_fn(struct gw_attn_scratch *s, uint32_t g, const enum gw_dtype type);

/* part[i][columns] += p[i][g + from, g + to) . the group's rows, rows ascending, of `n` queries from `i` on that see the same
 * rows [from, to). */
typedef void gw_attn_values_fn(struct gw_attn_scratch *s, uint32_t i, uint32_t n, uint32_t g, uint32_t from,
                               uint32_t to, const enum gw_dtype type);

/* Of the chunk's positions (from `first`) a query sees [skipped, seen). None if seen is not larger. */
static inline uint32_t gw_attn_seen(const struct gw_attn_query *query, uint32_t first)
{
    return query->length <= first ? 0 : gw_attn_min(query->length - first, GW_ATTN_CHUNK);
}
static inline uint32_t gw_attn_skipped(const struct gw_attn_query *query, uint32_t first)
{
    return query->start <= first ? 0 : gw_attn_min(query->start - first, GW_ATTN_CHUNK);
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

/* Of the chunk's positions [skip, len), which some query sees. Lanes of a group's positions that are not the query's
 * hold junk: gw_attn_exponentials() zeroes them. */
GW_INLINE void gw_attn_chunk_scores(float scaled_by, uint32_t first, uint32_t skip, uint32_t len,
                                    const enum gw_dtype type, struct gw_attn_scratch *s,
                                    gw_attn_scores_fn *scores)
{
    const gw_v16 scale = gw_set16(scaled_by);
    for (uint32_t g = gw_attn_group_of(skip); g < len; g += GW_ATTN_GROUP) {
        gw_attn_find_rows(&s->pages, GW_KV_K, first + g, gw_attn_skip_in(skip, g),
                          gw_attn_min(GW_ATTN_GROUP, len - g), type, &s->group);
        gw_attn_look_ahead(&s->pages, GW_KV_K, first, g, skip, len, type, &s->group);
        scores(s, g, type);
        for (uint32_t i = 0; i < s->queries_len; i++) {
            gw_v16 sums = gw_get16(&s->p[i][g]);
            if (type == GW_I8) sums = gw_mul16(sums, gw_get16(s->group.scales));
            gw_put16(&s->p[i][g], gw_mul16(sums, scale));
        }
    }
}

/* Of 16 scores from j on, those of [skip, n), and `rest` in the other lanes. */
GW_INLINE gw_v16 gw_attn_between(gw_v16 x, uint32_t j, uint32_t skip, uint32_t n, gw_v16 rest)
{
    if (n - j < 16) x = gw_first16(x, n - j, rest);
    return skip > j ? gw_first16(rest, skip - j, x) : x;
}

/* Scores p[skip, n) → e^(score - max), zeros around them to multiples of 16; their max and sum. */
static void gw_attn_exponentials(float *p, uint32_t skip, uint32_t n, float *max, float *sum)
{
    gw_v16 max16 = gw_set16(-FLT_MAX), zero = gw_set16(0.0f);
    for (uint32_t j = gw_attn_group_of(skip); j < n; j += 16)
        max16 = gw_attn_between(gw_max16(max16, gw_get16(p + j)), j, skip, n, max16);
    *max = gw_fold_max16(max16);
    gw_v16 sum16 = zero;
    for (uint32_t j = gw_attn_group_of(skip); j < n; j += 16) {
        gw_v16 e = gw_expf16(gw_sub16(gw_get16(p + j), gw_set16(*max)));
        e = gw_attn_between(e, j, skip, n, zero);
        gw_put16(p + j, e);
        sum16 = gw_add16(sum16, e);
    }
    *sum = gw_fold_sum16(sum16);
}

static void gw_attn_chunk_exponentials(uint32_t first, struct gw_attn_scratch *s)
{
    for (uint32_t i = 0; i < s->queries_len; i++) {
        const struct gw_attn_query *query = &s->queries[i];
        gw_attn_exponentials(s->p[i], gw_attn_skipped(query, first), gw_attn_seen(query, first),
                             &s->part_max[i], &s->part_sum[i]);
        memset(s->part[i], 0, sizeof s->part[i]);
    }
}

GW_INLINE void gw_attn_chunk_values(uint32_t first, uint32_t skip, uint32_t len, const enum gw_dtype type,
                                    struct gw_attn_scratch *s, gw_attn_values_fn *values)
{
    for (uint32_t g = gw_attn_group_of(skip); g < len; g += GW_ATTN_GROUP) {
        gw_attn_find_rows(&s->pages, GW_KV_V, first + g, gw_attn_skip_in(skip, g),
                          gw_attn_min(GW_ATTN_GROUP, len - g), type, &s->group);
        gw_attn_look_ahead(&s->pages, GW_KV_V, first, g, skip, len, type, &s->group);
        for (uint32_t i = 0, n; i < s->queries_len; i += n) {
            uint32_t seen = gw_attn_seen(&s->queries[i], first);
            uint32_t from = gw_attn_skip_in(gw_attn_skipped(&s->queries[i], first), g);
            for (n = 0; i + n < s->queries_len && s->queries[i + n].length == s->queries[i].length; n++)
                if (type == GW_I8)
                    gw_put16(&s->p[i + n][g], gw_mul16(gw_get16(&s->p[i + n][g]), gw_get16(s->group.scales)));
            if (seen > g) values(s, i, n, g, from, gw_attn_min(seen - g, GW_ATTN_GROUP), type);
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
                               const struct gw_attn_scratch *s, const enum gw_dtype type)
{
    uint32_t head_dim = job->kv->head_dim;
    for (uint32_t i = 0; i < item->queries; i++) {
        const gw_v16 inverse = gw_set16(1.0f / s->state_sum[i]);
        const float *state = s->state[i];
        size_t out_at = s->queries[i].out_at;
        uint32_t d = 0;
        for (; type == GW_BF16 && d + 32 <= head_dim; d += 32) {
            gw_v16 x = gw_mul16(gw_get16(state + d), inverse);
            gw_v16 y = gw_mul16(gw_get16(state + d + 16), inverse);
            gw_zip16(&x, &y);
            gw_store16(job->out, job->act, out_at + d, 16, x);
            gw_store16(job->out, job->act, out_at + d + 16, 16, y);
        }
        for (; d < head_dim; d += 16)
            gw_store16(job->out, job->act, out_at + d, gw_block_lanes(head_dim, d),
                       gw_mul16(gw_get16(state + d), inverse));
    }
}

GW_INLINE void gw_attn_item16(const struct gw_attn_job *job, const struct gw_attn_item *item, void *scratch,
                              const enum gw_dtype type, gw_attn_scores_fn *scores, gw_attn_values_fn *values)
{
    struct gw_attn_scratch *s = scratch;
    for (uint32_t i = 0; i < item->queries; i++) s->queries[i] = gw_attn_query(job, item, i);
    s->queries_len = item->queries;
    s->head_dim = job->kv->head_dim;
    /* rows ascend: the last one sees the last positions, the first one the first */
    uint32_t length = s->queries[item->queries - 1].length, start = s->queries[0].start;
    uint32_t first = start / GW_ATTN_CHUNK * GW_ATTN_CHUNK;
    s->pages = gw_attn_pages(job, item, type, length);
    for (uint32_t skip = start - first; first < length; first += GW_ATTN_CHUNK, skip = 0) {
        uint32_t len = gw_attn_min(length - first, GW_ATTN_CHUNK);
        gw_attn_chunk_scores(job->scale, first, skip, len, type, s, scores);
        gw_attn_chunk_exponentials(first, s);
        gw_attn_chunk_values(first, skip, len, type, s, values);
        gw_attn_chunk_merge(item, first, job->kv->head_dim, s);
    }
    gw_attn_write_rows(job, item, s, type);
}

#endif
