#include "kernels/cpu/attention.h"

#include <assert.h>
#include <float.h>

#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/simd_c.h"
#include "kernels/cpu/variants.h"

/* Positions are taken 16 at a time: K (or V) of 16 positions, widened to f32, is a panel that stays in L1
 * while all queries of the item use it. */
#define GROUP 16u

struct scratch {
    float panel[GROUP][GW_ATTN_HEAD_DIM_MAX];
    float p[GW_ATTN_QUERIES][GW_ATTN_CHUNK]; /* scores, then e^(score - max); 0 behind a query's length */
    float part[GW_ATTN_QUERIES][GW_ATTN_HEAD_DIM_MAX];
    float state[GW_ATTN_QUERIES][GW_ATTN_HEAD_DIM_MAX];
    float part_max[GW_ATTN_QUERIES], part_sum[GW_ATTN_QUERIES];
    float state_max[GW_ATTN_QUERIES], state_sum[GW_ATTN_QUERIES];
    struct gw_attn_query queries[GW_ATTN_QUERIES];
};
static_assert(sizeof(struct scratch) <= GW_SCRATCH_BYTES, "scratch of a thread");

static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline __mmask16 tail_mask(uint32_t head_dim, uint32_t d)
{
    return gw_lanes_mask(min_u32(head_dim - d, 16));
}

/* How many of the chunk's positions (from `first`) a query sees. */
static inline uint32_t seen(const struct gw_attn_query *query, uint32_t first)
{
    return query->length <= first ? 0 : min_u32(query->length - first, GW_ATTN_CHUNK);
}

GW_INLINE void load_panel(const struct gw_attn_job *job, const struct gw_attn_item *item,
                          enum gw_kv_part part, uint32_t position, uint32_t len, struct scratch *s)
{
    uint32_t head_dim = job->kv->head_dim;
    for (uint32_t i = 0; i < len; i++) {
        const void *from =
            gw_kv_at(job->kv, job->kv_type, part, item->kv_head, item->seq->blocks, position + i);
        for (uint32_t d = 0; d < head_dim; d += 16) {
            __mmask16 mask = tail_mask(head_dim, d);
            _mm512_mask_storeu_ps(&s->panel[i][d], mask, gw_load16(from, job->kv_type, d, mask));
        }
    }
}

/* Lane i of the result = the 16 lanes of v[i], folded 8, 4, 2, 1: gw_fold_sum16 of sixteen registers at once.
 * Each fold of two registers shares one addition; the order of v in the first two steps is such that the
 * lanes come out in order. */
GW_INLINE __m512 fold_sums(const __m512 v[16])
{
    __m512 by2[4];
#pragma GCC unroll 4
    for (int e = 0; e < 4; e++) {
        __m512 a = v[e], b = v[e + 4], c = v[e + 8], d = v[e + 12];
        __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
        __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xEE));
        by2[e] = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
    }
    __m512 x =
        _mm512_add_ps(_mm512_shuffle_ps(by2[0], by2[1], 0x44), _mm512_shuffle_ps(by2[0], by2[1], 0xEE));
    __m512 y =
        _mm512_add_ps(_mm512_shuffle_ps(by2[2], by2[3], 0x44), _mm512_shuffle_ps(by2[2], by2[3], 0xEE));
    return _mm512_add_ps(_mm512_shuffle_ps(x, y, 0x88), _mm512_shuffle_ps(x, y, 0xDD));
}

/* Scores of one query against the 16 positions of the panel. Lanes that head_dim does not reach keep what
 * they have (adding a product of zeros could turn a -0). */
GW_INLINE __m512 panel_scores(const struct scratch *s, const float *q, uint32_t head_dim)
{
    __m512 acc[GROUP];
#pragma GCC unroll 16
    for (uint32_t i = 0; i < GROUP; i++) acc[i] = _mm512_setzero_ps();
    uint32_t d = 0;
    for (; d + 16 <= head_dim; d += 16) {
        __m512 qv = _mm512_loadu_ps(q + d);
#pragma GCC unroll 16
        for (uint32_t i = 0; i < GROUP; i++)
            acc[i] = _mm512_fmadd_ps(qv, _mm512_loadu_ps(&s->panel[i][d]), acc[i]);
    }
    if (d < head_dim) {
        __mmask16 mask = tail_mask(head_dim, d);
        __m512 qv = _mm512_maskz_loadu_ps(mask, q + d);
#pragma GCC unroll 16
        for (uint32_t i = 0; i < GROUP; i++)
            acc[i] = _mm512_mask3_fmadd_ps(qv, _mm512_maskz_loadu_ps(mask, &s->panel[i][d]), acc[i], mask);
    }
    return fold_sums(acc);
}

/* Lanes of a group's positions that are not the query's hold what earlier panels left: exponentials() zeroes
 * them. */
GW_INLINE void chunk_scores(const struct gw_attn_job *job, const struct gw_attn_item *item, uint32_t first,
                            uint32_t len, struct scratch *s)
{
    const __m512 scale = _mm512_set1_ps(job->scale);
    for (uint32_t g = 0; g < len; g += GROUP) {
        load_panel(job, item, GW_KV_K, first + g, min_u32(GROUP, len - g), s);
        for (uint32_t i = 0; i < item->queries; i++)
            if (seen(&s->queries[i], first) > g) {
                __m512 sums = panel_scores(s, s->queries[i].q, job->kv->head_dim);
                _mm512_storeu_ps(&s->p[i][g], _mm512_mul_ps(sums, scale));
            }
    }
}

/* p[n] scores → e^(score - max), zeros up to the next multiple of 16; their max and sum. */
static void exponentials(float *p, uint32_t n, float *max, float *sum)
{
    __m512 max16 = _mm512_set1_ps(-FLT_MAX);
    for (uint32_t j = 0; j < n; j += 16)
        max16 = _mm512_mask_max_ps(max16, gw_lanes_mask(min_u32(n - j, 16)), max16, _mm512_loadu_ps(p + j));
    *max = gw_fold_max16(max16);
    __m512 sum16 = _mm512_setzero_ps();
    for (uint32_t j = 0; j < n; j += 16) {
        __m512 e = gw_expf16(_mm512_sub_ps(_mm512_loadu_ps(p + j), _mm512_set1_ps(*max)));
        e = _mm512_maskz_mov_ps(gw_lanes_mask(min_u32(n - j, 16)), e);
        _mm512_storeu_ps(p + j, e);
        sum16 = _mm512_add_ps(sum16, e);
    }
    *sum = gw_fold_sum16(sum16);
}

/* out[0, 16 * width) += p[len] · panel rows, rows ascending. */
GW_INLINE void add_values(const struct scratch *s, const float *p, uint32_t len, float *out, uint32_t d,
                          const uint32_t width)
{
    __m512 acc[4];
#pragma GCC unroll 4
    for (uint32_t w = 0; w < width; w++) acc[w] = _mm512_loadu_ps(out + d + 16 * w);
    for (uint32_t j = 0; j < len; j++) {
        __m512 pj = _mm512_set1_ps(p[j]);
#pragma GCC unroll 4
        for (uint32_t w = 0; w < width; w++)
            acc[w] = _mm512_fmadd_ps(pj, _mm512_loadu_ps(&s->panel[j][d + 16 * w]), acc[w]);
    }
#pragma GCC unroll 4
    for (uint32_t w = 0; w < width; w++) _mm512_storeu_ps(out + d + 16 * w, acc[w]);
}

GW_INLINE void chunk_values(const struct gw_attn_job *job, const struct gw_attn_item *item, uint32_t first,
                            uint32_t len, struct scratch *s)
{
    /* columns of part and panel behind head_dim hold junk that is never stored: rows have room for it */
    uint32_t head_dim = (job->kv->head_dim + 15) / 16 * 16;
    for (uint32_t g = 0; g < len; g += GROUP) {
        load_panel(job, item, GW_KV_V, first + g, min_u32(GROUP, len - g), s);
        for (uint32_t i = 0; i < item->queries; i++) {
            uint32_t n = seen(&s->queries[i], first);
            if (n <= g) continue;
            uint32_t rows = min_u32(n - g, GROUP), d = 0;
            for (; d + 64 <= head_dim; d += 64) add_values(s, &s->p[i][g], rows, s->part[i], d, 4);
            for (; d < head_dim; d += 16) add_values(s, &s->p[i][g], rows, s->part[i], d, 1);
        }
    }
}

static void merge(struct scratch *s, uint32_t i, uint32_t head_dim)
{
    float max = gw_max_c(s->state_max[i], s->part_max[i]);
    float a = gw_expf(s->state_max[i] - max), b = gw_expf(s->part_max[i] - max);
    s->state_max[i] = max;
    s->state_sum[i] = fmaf(s->state_sum[i], a, s->part_sum[i] * b);
    const __m512 a16 = _mm512_set1_ps(a), b16 = _mm512_set1_ps(b);
    for (uint32_t d = 0; d < head_dim; d += 16) {
        __m512 part = _mm512_mul_ps(_mm512_loadu_ps(&s->part[i][d]), b16);
        _mm512_storeu_ps(&s->state[i][d], _mm512_fmadd_ps(_mm512_loadu_ps(&s->state[i][d]), a16, part));
    }
}

/* Merges the chunk into the state of each query that sees some of it. */
static void chunk_merge(const struct gw_attn_item *item, uint32_t first, uint32_t head_dim, struct scratch *s)
{
    for (uint32_t i = 0; i < item->queries; i++) {
        if (seen(&s->queries[i], first) == 0) continue;
        if (first > 0) {
            merge(s, i, head_dim);
            continue;
        }
        s->state_max[i] = s->part_max[i];
        s->state_sum[i] = s->part_sum[i];
        memcpy(s->state[i], s->part[i], head_dim * sizeof(float));
    }
}

static void write_rows(const struct gw_attn_job *job, const struct gw_attn_item *item,
                       const struct scratch *s)
{
    for (uint32_t i = 0; i < item->queries; i++) {
        const __m512 inverse = _mm512_set1_ps(1.0f / s->state_sum[i]);
        for (uint32_t d = 0; d < job->kv->head_dim; d += 16)
            gw_store16(job->out, job->act, s->queries[i].out_at + d, tail_mask(job->kv->head_dim, d),
                       _mm512_mul_ps(_mm512_loadu_ps(&s->state[i][d]), inverse));
    }
}

static void attend_item(const struct gw_attn_job *job, const struct gw_attn_item *item, void *scratch)
{
    struct scratch *s = scratch;
    for (uint32_t i = 0; i < item->queries; i++) s->queries[i] = gw_attn_query(job, item, i);
    uint32_t length = s->queries[item->queries - 1].length; /* rows ascend: the last one sees the most */
    for (uint32_t first = 0; first < length; first += GW_ATTN_CHUNK) {
        uint32_t len = min_u32(length - first, GW_ATTN_CHUNK);
        chunk_scores(job, item, first, len, s);
        for (uint32_t i = 0; i < item->queries; i++) {
            exponentials(s->p[i], seen(&s->queries[i], first), &s->part_max[i], &s->part_sum[i]);
            memset(s->part[i], 0, sizeof s->part[i]);
        }
        chunk_values(job, item, first, len, s);
        chunk_merge(item, first, job->kv->head_dim, s);
    }
    write_rows(job, item, s);
}

void gw_cpu_attention_bf16_avx512(struct gw_device *dev, void *out, const float *qkv, size_t qkv_stride,
                                  size_t q_at, uint32_t heads, const struct gw_kv_layer *kv, float scale,
                                  const struct gw_seq_rows *seqs, uint32_t seqs_len)
{
    struct gw_attn_job job = {attend_item, GW_BF16, GW_BF16, 0.05,  out,  qkv,     qkv_stride,
                              q_at,        heads,   kv,      scale, seqs, seqs_len};
    gw_attention_run(dev, &job);
}

void gw_cpu_attention_f32_avx512(struct gw_device *dev, void *out, const float *qkv, size_t qkv_stride,
                                 size_t q_at, uint32_t heads, const struct gw_kv_layer *kv, float scale,
                                 const struct gw_seq_rows *seqs, uint32_t seqs_len)
{
    struct gw_attn_job job = {attend_item, GW_F32, GW_F32, 0.05,  out,  qkv,     qkv_stride,
                              q_at,        heads,  kv,     scale, seqs, seqs_len};
    gw_attention_run(dev, &job);
}
