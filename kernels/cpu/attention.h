/* Causal attention over pages: the walk that all variants share, and the arithmetic that they must agree on.
 *
 * For one query (row at position p, head h), chunk c = positions 256 c .. min(256 c + 255, p), j from 0; of these only
 * the ones that its window leaves (w = window: positions > p - w):
 *
 *     s_j = scale * dot(q, k_j)            dot over 16 virtual lanes (lane = d mod 16)
 *     m   = max s_j                        over 16 virtual lanes (lane = j mod 16), from -FLT_MAX
 *     e_j = exp(s_j - m),  l = sum e_j     likewise
 *     o_d = fma(e_j, v_j[d], o_d)          j ascending, from 0
 *
 * The first chunk of which the query sees something gives (m, l, o) as the state; each later chunk merges into it:
 *
 *     M = max(state.m, m), a = exp(state.m - M), b = exp(m - M)
 *     state = (M, fma(state.l, a, l b), fma(state.o, a, o b))
 *
 * and the row is state.o * (1 / state.l). Of int8 pages, with the scales a_j of k_j and b_j of v_j:
 *
 *     s_j = dot(q, k_j) * a_j * scale      the numbers of k_j widened to f32
 *     o_d = fma(e_j * b_j, v_j[d], o_d)
 *
 * K and V are read as stored; positions that no query of an item sees
 * are never loaded, and what is loaded for others takes no part.
 *
 * An item is up to GW_ATTN_QUERIES queries of one sequence and one KV head: query i is (row i / group, head
 * i mod group), group = query heads of that KV head; so that K and V are read once for all of them.
 *
 * Owner: all memory is the caller's. Thread: any number of items at a time, each with a scratch of its
 * own. Units: elements. Errors: none; head_dim is asserted. Source: own design, after online softmax
 * (Milakov & Gimelshein 2018). */
#ifndef GW_KERNELS_CPU_ATTENTION_H
#define GW_KERNELS_CPU_ATTENTION_H

#include "kernels/cpu/device.h"
#include "kernels/cpu/kv.h"

#define GW_ATTN_QUERIES      16u
#define GW_ATTN_HEAD_DIM_MAX 256u

struct gw_attn_job;

struct gw_attn_item {
    const struct gw_seq_rows *seq;
    uint32_t kv_head;
    uint32_t first_head, group; /* query heads [first_head, first_head + group) read kv_head */
    uint32_t first_query, queries;
};

typedef void gw_attn_item_fn(const struct gw_attn_job *job, const struct gw_attn_item *item, void *scratch);

struct gw_attn_job {
    gw_attn_item_fn *attend;
    enum gw_dtype kv_type, act;
    double fma_ns;
    void *out; /* [m, heads, head_dim] act */
    const float *qkv;
    size_t qkv_stride, q_at;
    uint32_t heads;
    const struct gw_kv_layer *kv;
    float scale;
    const struct gw_seq_rows *seqs;
    uint32_t seqs_len;
};

void gw_attention_run(struct gw_device *dev, const struct gw_attn_job *job);

struct gw_attn_query {
    const float *q;         /* [head_dim] */
    size_t out_at;          /* element of out */
    uint32_t start, length; /* it sees positions [start, length); length: its own + 1 */
};

/* First position that a row at `position` sees. */
static inline uint32_t gw_attn_start(const struct gw_kv_layer *kv, uint32_t position)
{
    return kv->window && position >= kv->window ? position + 1 - kv->window : 0;
}

static inline struct gw_attn_query gw_attn_query(const struct gw_attn_job *job,
                                                 const struct gw_attn_item *item, uint32_t i)
{
    uint32_t index = (item->first_query + i) / item->group;
    size_t head = item->first_head + (item->first_query + i) % item->group;
    size_t row = item->seq->row + index, hd = job->kv->head_dim;
    uint32_t position = item->seq->position + index;
    return (struct gw_attn_query){.q = job->qkv + row * job->qkv_stride + job->q_at + head * hd,
                                  .out_at = (row * job->heads + head) * hd,
                                  .start = gw_attn_start(job->kv, position),
                                  .length = position + 1};
}

/* Defines the operation gw_cpu_attention_<suffix> of variants.h. */
#define GW_ATTENTION(suffix, attend, kv_type, act, element_ns)                                               \
    void gw_cpu_attention_##suffix(struct gw_device *dev, void *out, const float *qkv, size_t qkv_stride,    \
                                   size_t q_at, uint32_t heads, const struct gw_kv_layer *kv, float scale,   \
                                   const struct gw_seq_rows *seqs, uint32_t seqs_len)                        \
    {                                                                                                        \
        const struct gw_attn_job job = {attend, kv_type, act, element_ns, out,  qkv,     qkv_stride,         \
                                        q_at,   heads,   kv,  scale,      seqs, seqs_len};                   \
        gw_attention_run(dev, &job);                                                                         \
    }

#endif
