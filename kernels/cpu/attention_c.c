#include "kernels/cpu/attention.h"

#include <assert.h>
#include <float.h>

#include "kernels/cpu/simd_c.h"
#include "kernels/cpu/variants.h"
#include "kernels/vmath.h"

struct softmax_state {
    float max, sum;
    float out[GW_ATTN_HEAD_DIM_MAX];
};

struct scratch {
    float p[GW_ATTN_CHUNK];
    struct softmax_state state, part;
};
static_assert(sizeof(struct scratch) <= GW_SCRATCH_BYTES, "scratch of a thread");

/* As stored: of int8, without its scale. */
static inline float number(const void *array, enum gw_dtype type, uint32_t i)
{
    return type == GW_I8 ? (float)((const int8_t *)array)[i] : gw_f32_at(array, type, i);
}

static float dot(const float *q, const void *k, enum gw_dtype type, uint32_t head_dim)
{
    float lanes[GW_LANES] = {0};
    for (uint32_t d = 0; d < head_dim; d++)
        lanes[d % GW_LANES] = fmaf(q[d], number(k, type, d), lanes[d % GW_LANES]);
    return gw_fold_sum_c(lanes);
}

/* p[skip, n) *= the scales of K (or V) of positions first + j, where pages have some. */
static void scale_by(const struct gw_attn_job *job, const struct gw_attn_item *item, enum gw_kv_part part,
                     uint32_t first, uint32_t skip, uint32_t n, float *p)
{
    for (uint32_t j = skip; job->kv_type == GW_I8 && j < n; j++)
        p[j] *= *gw_kv_scale_at(job->kv, part, item->kv_head, item->seq->blocks, first + j);
}

/* Scores p[skip, n) → e^(score - max); their max and sum into *part. */
static void exponentials(float *p, uint32_t skip, uint32_t n, struct softmax_state *part)
{
    float lanes[GW_LANES];
    for (int i = 0; i < GW_LANES; i++) lanes[i] = -FLT_MAX;
    for (uint32_t j = skip; j < n; j++) lanes[j % GW_LANES] = gw_max_c(lanes[j % GW_LANES], p[j]);
    part->max = gw_fold_max_c(lanes);
    for (int i = 0; i < GW_LANES; i++) lanes[i] = 0.0f;
    for (uint32_t j = skip; j < n; j++) {
        p[j] = gw_expf(p[j] - part->max);
        lanes[j % GW_LANES] += p[j];
    }
    part->sum = gw_fold_sum_c(lanes);
}

/* Chunk of positions [first, first + n) of one query, but for the first `skip` of them, into s->part. */
static void attend_chunk(const struct gw_attn_job *job, const struct gw_attn_item *item, const float *q,
                         uint32_t first, uint32_t skip, uint32_t n, struct scratch *s)
{
    const struct gw_kv_layer *kv = job->kv;
    for (uint32_t j = skip; j < n; j++)
        s->p[j] = dot(q, gw_kv_at(kv, job->kv_type, GW_KV_K, item->kv_head, item->seq->blocks, first + j),
                      job->kv_type, kv->head_dim);
    scale_by(job, item, GW_KV_K, first, skip, n, s->p);
    for (uint32_t j = skip; j < n; j++) s->p[j] *= job->scale;
    exponentials(s->p, skip, n, &s->part);
    scale_by(job, item, GW_KV_V, first, skip, n, s->p);
    for (uint32_t d = 0; d < kv->head_dim; d++) s->part.out[d] = 0.0f;
    for (uint32_t j = skip; j < n; j++) {
        const void *v = gw_kv_at(kv, job->kv_type, GW_KV_V, item->kv_head, item->seq->blocks, first + j);
        for (uint32_t d = 0; d < kv->head_dim; d++)
            s->part.out[d] = fmaf(s->p[j], number(v, job->kv_type, d), s->part.out[d]);
    }
}

static void merge(struct softmax_state *state, const struct softmax_state *part, uint32_t head_dim)
{
    float max = gw_max_c(state->max, part->max);
    float a = gw_expf(state->max - max), b = gw_expf(part->max - max);
    state->max = max;
    state->sum = fmaf(state->sum, a, part->sum * b);
    for (uint32_t d = 0; d < head_dim; d++) state->out[d] = fmaf(state->out[d], a, part->out[d] * b);
}

static void attend_item(const struct gw_attn_job *job, const struct gw_attn_item *item, void *scratch)
{
    struct scratch *s = scratch;
    uint32_t head_dim = job->kv->head_dim;
    for (uint32_t i = 0; i < item->queries; i++) {
        struct gw_attn_query query = gw_attn_query(job, item, i);
        uint32_t first = query.start / GW_ATTN_CHUNK * GW_ATTN_CHUNK;
        for (uint32_t skip = query.start - first; first < query.length; first += GW_ATTN_CHUNK, skip = 0) {
            uint32_t left = query.length - first;
            attend_chunk(job, item, query.q, first, skip, left < GW_ATTN_CHUNK ? left : GW_ATTN_CHUNK, s);
            if (first <= query.start)
                s->state = s->part;
            else
                merge(&s->state, &s->part, head_dim);
        }
        float inverse = 1.0f / s->state.sum;
        for (uint32_t d = 0; d < head_dim; d++)
            gw_f32_put(job->out, job->act, query.out_at + d, s->state.out[d] * inverse);
    }
}

GW_ATTENTION(bf16_c, attend_item, GW_BF16, GW_BF16, 5)
GW_ATTENTION(f32_c, attend_item, GW_F32, GW_F32, 5)
GW_ATTENTION(int8_bf16_c, attend_item, GW_I8, GW_BF16, 5)
GW_ATTENTION(int8_f32_c, attend_item, GW_I8, GW_F32, 5)
