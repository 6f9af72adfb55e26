#include "kernels/cpu/attention.h"

#include <assert.h>

/* The most query heads that one KV head has. */
static uint32_t group_max(const struct gw_attn_job *job)
{
    if (job->kv->query_group) return job->kv->query_group;
    uint32_t kv_heads = gw_kv_heads(job->kv);
    return (job->heads + kv_heads - 1) / kv_heads;
}

/* Items of one sequence and one KV head. With unequal groups the last may be empty. */
static size_t seq_blocks(const struct gw_attn_job *job, const struct gw_seq_rows *seq)
{
    return ((size_t)seq->rows * group_max(job) + GW_ATTN_QUERIES - 1) / GW_ATTN_QUERIES;
}

/* First query head that reads this KV head or a later one. A rank's first and last KV heads may have query heads
 * elsewhere, too. */
static uint32_t first_head_of(const struct gw_attn_job *job, uint32_t kv_head)
{
    const struct gw_kv_layer *kv = job->kv;
    if (kv->query_group) {
        uint32_t head = kv_head * kv->query_group;
        head = head > kv->query_shift ? head - kv->query_shift : 0;
        return head < job->heads ? head : job->heads;
    }
    uint32_t kv_heads = gw_kv_heads(job->kv);
    return (kv_head * job->heads + kv_heads - 1) / kv_heads;
}

static void attend(const struct gw_attn_job *job, const struct gw_seq_rows *seq, size_t index, void *scratch)
{
    size_t blocks = seq_blocks(job, seq);
    struct gw_attn_item item = {.seq = seq, .kv_head = (uint32_t)(index / blocks)};
    item.first_head = first_head_of(job, item.kv_head);
    item.group = first_head_of(job, item.kv_head + 1) - item.first_head;
    item.first_query = (uint32_t)(index % blocks) * GW_ATTN_QUERIES;
    uint32_t all = seq->rows * item.group;
    if (item.first_query >= all) return;
    item.queries = all - item.first_query < GW_ATTN_QUERIES ? all - item.first_query : GW_ATTN_QUERIES;
    job->attend(job, &item, scratch);
}

/* Items count the sequences one after the other; a sequence counts its KV heads, those their blocks. */
static void attend_items(const void *arg, void *scratch, size_t first, size_t last)
{
    const struct gw_attn_job *job = arg;
    size_t before = 0;
    for (uint32_t i = 0; i < job->seqs_len && before < last; i++) {
        const struct gw_seq_rows *seq = &job->seqs[i];
        size_t count = seq_blocks(job, seq) * gw_kv_heads(job->kv);
        size_t from = first > before ? first - before : 0, to = last - before < count ? last - before : count;
        for (size_t index = from; index < to; index++) attend(job, seq, index, scratch);
        before += count;
    }
}

/* Multiply-adds of one query head of a sequence, about. */
static double seq_fmas(const struct gw_kv_layer *kv, const struct gw_seq_rows *seq)
{
    uint32_t end = seq->position + seq->rows;
    return 2.0 * seq->rows * (end - gw_attn_start(kv, seq->position)) * kv->head_dim;
}

void gw_attention_run(struct gw_device *dev, const struct gw_attn_job *job)
{
    assert(job->kv->head_dim % 8 == 0 && job->kv->head_dim <= GW_ATTN_HEAD_DIM_MAX);
    size_t items = 0;
    double fmas = 0;
    for (uint32_t i = 0; i < job->seqs_len; i++) {
        items += seq_blocks(job, &job->seqs[i]) * gw_kv_heads(job->kv);
        fmas += seq_fmas(job->kv, &job->seqs[i]);
    }
    if (items > 0)
        gw_device_parallel_uneven(dev, attend_items, job, items,
                                  fmas * job->heads * job->fma_ns / (double)items);
}
