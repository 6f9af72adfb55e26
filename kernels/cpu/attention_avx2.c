#include "kernels/cpu/attention_simd.h"

#include "kernels/cpu/variants.h"

/* [a | b], each the 8 lanes of v folded by 4. */
GW_INLINE __m256 fold_by4(__m256 a, __m256 b)
{
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

/* a, b: 4 lanes in each half; each half folded by 2: a, a, b, b. */
GW_INLINE __m256 fold_by2(__m256 a, __m256 b)
{
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xEE));
}

/* Likewise of 2 lanes: a, a, b, b in each half become 4 sums. */
GW_INLINE __m256 fold_by1(__m256 a, __m256 b)
{
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xDD));
}

/* Sums of one query and positions first, first + 1, first + 4, first + 5 of the panel: four at a time are eight
 * registers, what two multiply-adds a cycle need. Lanes folded 8, 4, 2; lanes of the result: first and first + 1, then
 * first + 4 and first + 5, two each. */
GW_INLINE __m256 four_sums(const struct gw_attn_scratch *s, const float *q, uint32_t head_dim,
                           const uint32_t first)
{
    gw_v16 acc[4];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; i++) acc[i] = gw_set16(0.0f);
    uint32_t d = 0;
    for (; d + 16 <= head_dim; d += 16) {
        gw_v16 qv = gw_get16(q + d);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; i++)
            acc[i] = gw_fma16(qv, gw_get16(&s->panel[first + i % 2 + i / 2 * 4][d]), acc[i]);
    }
    if (d < head_dim) { /* 8 are left: head_dim is a multiple of 8 */
        __m256 qv = _mm256_loadu_ps(q + d);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; i++)
            acc[i].low =
                _mm256_fmadd_ps(qv, _mm256_loadu_ps(&s->panel[first + i % 2 + i / 2 * 4][d]), acc[i].low);
    }
    __m256 by8[4];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; i++) by8[i] = _mm256_add_ps(acc[i].low, acc[i].high);
    return fold_by2(fold_by4(by8[0], by8[2]), fold_by4(by8[1], by8[3]));
}

GW_INLINE gw_v16 panel_scores(const struct gw_attn_scratch *s, const float *q, uint32_t head_dim)
{
    __m256 a = four_sums(s, q, head_dim, 0), b = four_sums(s, q, head_dim, 2);
    __m256 low = fold_by1(a, b);
    a = four_sums(s, q, head_dim, 8), b = four_sums(s, q, head_dim, 10);
    return (gw_v16){low, fold_by1(a, b)};
}

/* A row, widened: of K in order, of V to columns. */
GW_INLINE void widen(float *to, const uint8_t *row, const enum gw_dtype type, uint32_t head_dim,
                     const bool columns)
{
    uint32_t d = 0;
    for (gw_v16 even, odd; columns && type == GW_BF16 && d + 32 <= head_dim; d += 32) {
        gw_widen32((const uint16_t *)(const void *)row + d, &even, &odd);
        gw_put16(to + d, even);
        gw_put16(to + d + 16, odd);
    }
    for (; d + 16 <= head_dim; d += 16) gw_put16(to + d, gw_load16(row, type, d, 16));
    if (d < head_dim) gw_put16(to + d, gw_load16(row, type, d, head_dim - d));
}

/* The group's rows, widened to f32, are a panel that stays in L1 while all queries use it. */
GW_INLINE void scores(struct gw_attn_scratch *s, uint32_t g, const enum gw_dtype type)
{
    uint32_t lines = (s->group.next_lines + s->queries_len - 1) / s->queries_len;
    for (uint32_t i = 0; i < GW_ATTN_GROUP; i++)
        widen(s->panel[i], s->group.rows[i], type, s->head_dim, false);
    for (uint32_t i = 0; i < s->queries_len; i++) {
        gw_attn_ask(s->group.next, i, lines);
        gw_put16(&s->p[i][g], panel_scores(s, s->queries[i].q, s->head_dim));
    }
}

/* out[d, d + 16 * width) += p[from, to) . panel rows, rows ascending. */
GW_INLINE void add_columns(const struct gw_attn_scratch *s, const float *p, uint32_t from, uint32_t to,
                           float *out, uint32_t d, const uint32_t width)
{
    gw_v16 acc[4];
#pragma GCC unroll 4
    for (uint32_t w = 0; w < width; w++) acc[w] = gw_get16(out + d + 16 * w);
    for (uint32_t j = from; j < to; j++) {
        gw_v16 pj = gw_set16(p[j]);
#pragma GCC unroll 4
        for (uint32_t w = 0; w < width; w++)
            acc[w] = gw_fma16(pj, gw_get16(&s->panel[j][d + 16 * w]), acc[w]);
    }
#pragma GCC unroll 4
    for (uint32_t w = 0; w < width; w++) gw_put16(out + d + 16 * w, acc[w]);
}

GW_INLINE void values(struct gw_attn_scratch *s, uint32_t i, uint32_t n, uint32_t g, uint32_t from,
                      uint32_t to, const enum gw_dtype type)
{
    uint32_t lines = (s->group.next_lines + s->queries_len - 1) / s->queries_len;
    uint32_t columns = (s->head_dim + 15) / 16 * 16;
    for (uint32_t j = 0; j < GW_ATTN_GROUP && !s->group.widened; j++)
        widen(s->panel[j], s->group.rows[j], type, s->head_dim, true);
    s->group.widened = true;
    for (uint32_t end = i + n; i < end; i++) {
        uint32_t d = 0;
        gw_attn_ask(s->group.next, i, lines);
        for (; d + 64 <= columns; d += 64) add_columns(s, &s->p[i][g], from, to, s->part[i], d, 4);
        for (; d < columns; d += 16) add_columns(s, &s->p[i][g], from, to, s->part[i], d, 1);
    }
}

/* By the type of the pages: inside, it is a constant. */
static void attend_bf16(const struct gw_attn_job *job, const struct gw_attn_item *item, void *scratch)
{
    gw_attn_item16(job, item, scratch, GW_BF16, scores, values);
}

static void attend_f32(const struct gw_attn_job *job, const struct gw_attn_item *item, void *scratch)
{
    gw_attn_item16(job, item, scratch, GW_F32, scores, values);
}

static void attend_int8(const struct gw_attn_job *job, const struct gw_attn_item *item, void *scratch)
{
    gw_attn_item16(job, item, scratch, GW_I8, scores, values);
}

GW_ATTENTION(bf16_avx2, attend_bf16, GW_BF16, GW_BF16, 0.08)
GW_ATTENTION(f32_avx2, attend_f32, GW_F32, GW_F32, 0.08)
GW_ATTENTION(int8_bf16_avx2, attend_int8, GW_I8, GW_BF16, 0.08)
GW_ATTENTION(int8_f32_avx2, attend_int8, GW_I8, GW_F32, 0.08)
