#include "kernels/cpu/attention_simd.h"

#include "kernels/cpu/variants.h"

#define TOGETHER 4u /* queries: of each, four sums are registers */

/* Four rows of which sums are kept at once: quarter m is rows m, m + 4, m + 8, m + 12, so that what they fold to is in order. */
struct quarter {
    const uint8_t *a, *b, *c, *d;
};

/* 16 numbers of each of four bf16 rows, from [at] on, woven: register e holds numbers 4 e to 4 e + 3 of each row. */
GW_INLINE void weave(__m512 k[4], const struct quarter *rows, size_t at)
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i ab = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i_u *)(rows->a + 2 * at)));
    __m512i cd = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i_u *)(rows->c + 2 * at)));
    ab = _mm512_inserti64x4(ab, _mm256_loadu_si256((const __m256i_u *)(rows->b + 2 * at)), 1);
    cd = _mm512_inserti64x4(cd, _mm256_loadu_si256((const __m256i_u *)(rows->d + 2 * at)), 1);
    __m512i low = _mm512_shuffle_i32x4(ab, cd, 0x88), high = _mm512_shuffle_i32x4(ab, cd, 0xDD);
    k[0] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, low));
    k[1] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, low));
    k[2] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, high));
    k[3] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, high));
}

/* Likewise of the last 8 numbers: two registers. */
GW_INLINE void weave_last(__m512 k[2], const struct quarter *rows, size_t at)
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i_u *)(rows->a + 2 * at)));
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i_u *)(rows->b + 2 * at)), 1);
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i_u *)(rows->c + 2 * at)), 2);
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i_u *)(rows->d + 2 * at)), 3);
    k[0] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, x));
    k[1] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, x));
}

/* acc[query][e] += k[e] * numbers 4 e to 4 e + 3 of the query, for each of the rows in k[e]. */
GW_INLINE void add_woven(__m512 acc[][4], const float *const q[], const __m512 k[], size_t d,
                         const uint32_t n, const uint32_t fours)
{
#pragma GCC unroll 4
    for (uint32_t e = 0; e < fours; e++)
#pragma GCC unroll 4
        for (uint32_t i = 0; i < n; i++)
            acc[i][e] =
                _mm512_fmadd_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(q[i] + d + 4 * e)), k[e], acc[i][e]);
}

GW_INLINE void zero_sums(__m512 acc[][4], const uint32_t n)
{
#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 4
        for (uint32_t e = 0; e < 4; e++) acc[i][e] = _mm512_setzero_ps();
}

/* Sums of rows [i][4 lanes], lanes folded 8 and 4, of four rows woven. */
GW_INLINE void dot_woven(__m512 out[], const float *const q[], const struct quarter *rows, uint32_t head_dim,
                         const uint32_t n)
{
    __m512 acc[TOGETHER][4], k[4];
    zero_sums(acc, n);
    size_t d = 0;
    for (; d + 16 <= head_dim; d += 16) {
        weave(k, rows, d);
        add_woven(acc, q, k, d, n, 4);
    }
    if (d < head_dim) { /* 8 are left: head_dim is a multiple of 8 */
        weave_last(k, rows, d);
        add_woven(acc, q, k, d, n, 2);
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; i++)
        out[i] = _mm512_add_ps(_mm512_add_ps(acc[i][0], acc[i][2]), _mm512_add_ps(acc[i][1], acc[i][3]));
}

/* Four registers of 16 lanes folded 8 and 4: four lanes of each. */
GW_INLINE __m512 fold_to_fours(const __m512 v[4])
{
    __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x44), _mm512_shuffle_f32x4(v[0], v[1], 0xEE));
    __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(v[2], v[3], 0x44), _mm512_shuffle_f32x4(v[2], v[3], 0xEE));
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
}

/* The same of rows as they lie. A sum is a register; to weave f32 or int8 would cost more than these folds do. */
GW_INLINE void dot_rows(__m512 out[], const float *const q[], const struct quarter *rows, uint32_t head_dim,
                        const enum gw_dtype type, const uint32_t n)
{
    const uint8_t *const row[4] = {rows->a, rows->b, rows->c, rows->d};
    __m512 acc[TOGETHER][4], k[4];
    zero_sums(acc, n);
    size_t d = 0;
    for (; d + 16 <= head_dim; d += 16) {
#pragma GCC unroll 4
        for (uint32_t e = 0; e < 4; e++) k[e] = gw_load16(row[e], type, d, 16);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 4
            for (uint32_t e = 0; e < 4; e++)
                acc[i][e] = _mm512_fmadd_ps(_mm512_loadu_ps(q[i] + d), k[e], acc[i][e]);
    }
    if (d < head_dim) {
        __mmask16 mask = gw_lanes_mask(head_dim - (uint32_t)d);
#pragma GCC unroll 4
        for (uint32_t e = 0; e < 4; e++) k[e] = gw_load16(row[e], type, d, head_dim - (uint32_t)d);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 4
            for (uint32_t e = 0; e < 4; e++)
                acc[i][e] =
                    _mm512_mask3_fmadd_ps(_mm512_maskz_loadu_ps(mask, q[i] + d), k[e], acc[i][e], mask);
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; i++) out[i] = fold_to_fours(acc[i]);
}

/* In each four lanes: 0 + 2 and 1 + 3 of a, then of b. */
GW_INLINE __m512 fold_by2(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));
}

/* Likewise 0 + 1 and 2 + 3. */
GW_INLINE __m512 fold_by1(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xDD));
}

/* Of queries [i, i + n). */
GW_INLINE void scores_of(struct gw_attn_scratch *s, uint32_t i, const uint32_t n, uint32_t g,
                         const enum gw_dtype type, const uint8_t *next, uint32_t lines)
{
    __m512 fours[4][TOGETHER]; /* [quarter][query] */
    const float *q[TOGETHER];
    for (uint32_t k = 0; k < n; k++) q[k] = s->queries[i + k].q;
    for (uint32_t m = 0; m < 4; m++) {
        const uint8_t *const *r = &s->group.rows[m];
        const struct quarter rows = {r[0], r[4], r[8], r[12]};
        if (type == GW_BF16)
            dot_woven(fours[m], q, &rows, s->head_dim, n);
        else
            dot_rows(fours[m], q, &rows, s->head_dim, type, n);
        gw_attn_ask(next, m, lines);
    }
#pragma GCC unroll 4
    for (uint32_t k = 0; k < n; k++)
        gw_put16(&s->p[i + k][g],
                 fold_by1(fold_by2(fours[0][k], fours[1][k]), fold_by2(fours[2][k], fours[3][k])));
}

GW_INLINE void scores(struct gw_attn_scratch *s, uint32_t g, const enum gw_dtype type)
{
    uint32_t i = 0, all = s->queries_len, lines = (s->group.next_lines + 3) / 4;
    const uint8_t *next = s->group.next;
    for (; i + TOGETHER <= all; i += TOGETHER) scores_of(s, i, TOGETHER, g, type, next, i == 0 ? lines : 0);
    for (; i < all; i++) scores_of(s, i, 1, g, type, next, i == 0 ? lines : 0);
}

/* `width` times 16 columns from d on of a row of V, of which head_dim has so many; width is 1 for fewer than 16. */
GW_INLINE void load_columns(__m512 v[4], const uint8_t *row, const enum gw_dtype type, uint32_t d,
                            const uint32_t width, uint32_t columns)
{
    const uint16_t *halves = (const uint16_t *)(const void *)row + d;
    if (type == GW_BF16 && width > 1) {
        gw_widen32(halves, &v[0], &v[1]);
        if (width > 2) gw_widen32(halves + 32, &v[2], &v[3]);
        return;
    }
#pragma GCC unroll 4
    for (uint32_t w = 0; w < width; w++) v[w] = gw_load16(row, type, d + 16 * w, width > 1 ? 16 : columns);
}

/* Of queries [i, i + n). */
GW_INLINE void add_columns(struct gw_attn_scratch *s, uint32_t i, const uint32_t n, uint32_t g, uint32_t from,
                           uint32_t to, const enum gw_dtype type, uint32_t d, const uint32_t width,
                           uint32_t lines)
{
    const uint8_t *next = s->group.next;
    __m512 acc[TOGETHER][4], v[4];
    uint32_t columns = gw_block_lanes(s->head_dim, d);
#pragma GCC unroll 4
    for (uint32_t k = 0; k < n; k++)
#pragma GCC unroll 4
        for (uint32_t w = 0; w < width; w++) acc[k][w] = gw_get16(&s->part[i + k][d + 16 * w]);
    for (uint32_t j = from; j < to; j++) {
        load_columns(v, s->group.rows[j], type, d, width, columns);
#pragma GCC unroll 4
        for (uint32_t k = 0; k < n; k++) {
            __m512 p = _mm512_set1_ps(s->p[i + k][g + j]);
#pragma GCC unroll 4
            for (uint32_t w = 0; w < width; w++) acc[k][w] = _mm512_fmadd_ps(p, v[w], acc[k][w]);
        }
        gw_attn_ask(next, j, lines);
    }
#pragma GCC unroll 4
    for (uint32_t k = 0; k < n; k++)
#pragma GCC unroll 4
        for (uint32_t w = 0; w < width; w++) gw_put16(&s->part[i + k][d + 16 * w], acc[k][w]);
}

GW_INLINE void values_of(struct gw_attn_scratch *s, uint32_t i, const uint32_t n, uint32_t g, uint32_t from,
                         uint32_t to, const enum gw_dtype type, uint32_t lines)
{
    uint32_t d = 0;
    for (; d + 64 <= s->head_dim; d += 64) add_columns(s, i, n, g, from, to, type, d, 4, d == 0 ? lines : 0);
    for (; d + 32 <= s->head_dim; d += 32) add_columns(s, i, n, g, from, to, type, d, 2, d == 0 ? lines : 0);
    for (; d < s->head_dim; d += 16) add_columns(s, i, n, g, from, to, type, d, 1, d == 0 ? lines : 0);
}

GW_INLINE void values(struct gw_attn_scratch *s, uint32_t i, uint32_t n, uint32_t g, uint32_t from,
                      uint32_t to, const enum gw_dtype type)
{
    uint32_t end = i + n, lines = i == 0 ? (s->group.next_lines + 15) / 16 : 0;
    for (; i + TOGETHER <= end; i += TOGETHER) values_of(s, i, TOGETHER, g, from, to, type, lines), lines = 0;
    for (; i < end; i++) values_of(s, i, 1, g, from, to, type, lines), lines = 0;
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

GW_ATTENTION(bf16_avx512, attend_bf16, GW_BF16, GW_BF16, 0.05)
GW_ATTENTION(f32_avx512, attend_f32, GW_F32, GW_F32, 0.05)
GW_ATTENTION(int8_bf16_avx512, attend_int8, GW_I8, GW_BF16, 0.05)
GW_ATTENTION(int8_f32_avx512, attend_int8, GW_I8, GW_F32, 0.05)
