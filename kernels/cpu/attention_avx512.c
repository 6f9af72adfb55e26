#include "kernels/cpu/attention_simd.h"

#include "kernels/cpu/variants.h"

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

GW_INLINE gw_v16 panel_scores(const struct gw_attn_scratch *s, const float *q, uint32_t head_dim)
{
    __m512 acc[GW_ATTN_GROUP];
#pragma GCC unroll 16
    for (uint32_t i = 0; i < GW_ATTN_GROUP; i++) acc[i] = _mm512_setzero_ps();
    uint32_t d = 0;
    for (; d + 16 <= head_dim; d += 16) {
        __m512 qv = _mm512_loadu_ps(q + d);
#pragma GCC unroll 16
        for (uint32_t i = 0; i < GW_ATTN_GROUP; i++)
            acc[i] = _mm512_fmadd_ps(qv, _mm512_loadu_ps(&s->panel[i][d]), acc[i]);
    }
    if (d < head_dim) {
        __mmask16 mask = gw_lanes_mask(head_dim - d);
        __m512 qv = _mm512_maskz_loadu_ps(mask, q + d);
#pragma GCC unroll 16
        for (uint32_t i = 0; i < GW_ATTN_GROUP; i++)
            acc[i] = _mm512_mask3_fmadd_ps(qv, _mm512_maskz_loadu_ps(mask, &s->panel[i][d]), acc[i], mask);
    }
    return fold_sums(acc);
}

/* By the type of the pages: inside, it is a constant. */
static void attend_bf16(const struct gw_attn_job *job, const struct gw_attn_item *item, void *scratch)
{
    gw_attn_item16(job, item, scratch, GW_BF16, panel_scores);
}

static void attend_f32(const struct gw_attn_job *job, const struct gw_attn_item *item, void *scratch)
{
    gw_attn_item16(job, item, scratch, GW_F32, panel_scores);
}

static void attend_int8(const struct gw_attn_job *job, const struct gw_attn_item *item, void *scratch)
{
    gw_attn_item16(job, item, scratch, GW_I8, panel_scores);
}

GW_ATTENTION(bf16_avx512, attend_bf16, GW_BF16, GW_BF16, 0.05)
GW_ATTENTION(f32_avx512, attend_f32, GW_F32, GW_F32, 0.05)
GW_ATTENTION(int8_bf16_avx512, attend_int8, GW_I8, GW_BF16, 0.05)
GW_ATTENTION(int8_f32_avx512, attend_int8, GW_I8, GW_F32, 0.05)
