#include "kernels/cpu/rope_append.h"

#include <assert.h>

/* One head of q, k or v at column `at` of the row. */
static void prepare(const struct gw_rope_job *job, float *row, size_t at, const float *norm)
{
    const struct gw_qkv_prep *p = job->prep;
    if (!p || (!p->bias && !norm)) return;
    job->isa->prepare(row + at, p->bias ? p->bias + at : NULL, norm, p->eps, job->kv->head_dim);
}

static void quantize_head(const struct gw_rope_job *job, enum gw_kv_part part, uint32_t head,
                          const struct gw_seq_rows *seq, uint32_t position, const float *x)
{
    int8_t *to = (int8_t *)gw_kv_at(job->kv, GW_I8, part, head, seq->blocks, position);
    *gw_kv_scale_at(job->kv, part, head, seq->blocks, position) =
        job->isa->quantize(to, x, job->kv->head_dim);
}

/* One head's k and v, prepared, into their page; k is rotated on the way. */
static void append_head(const struct gw_rope_job *job, uint32_t head, const struct gw_seq_rows *seq,
                        uint32_t position, float *k, const float *v)
{
    const struct gw_rope_isa *isa = job->isa;
    const struct gw_kv_layer *kv = job->kv;
    uint32_t hd = kv->head_dim;
    const float *cos_sin = job->cos_sin + (size_t)position * hd;
    if (isa->kv_type == GW_I8) {
        isa->rotate(k, GW_F32, k, cos_sin, hd / 2);
        quantize_head(job, GW_KV_K, head, seq, position, k);
        quantize_head(job, GW_KV_V, head, seq, position, v);
        return;
    }
    isa->rotate(gw_kv_at(kv, isa->kv_type, GW_KV_K, head, seq->blocks, position), isa->kv_type, k, cos_sin,
                hd / 2);
    isa->store(gw_kv_at(kv, isa->kv_type, GW_KV_V, head, seq->blocks, position), isa->kv_type, v, hd);
}

static void append_row(const struct gw_rope_job *job, const struct gw_seq_rows *seq, uint32_t index)
{
    const struct gw_rope_isa *isa = job->isa;
    const struct gw_kv_layer *kv = job->kv;
    uint32_t position = seq->position + index, hd = kv->head_dim;
    float *row = job->qkv + (size_t)(seq->row + index) * job->qkv_stride;
    const float *cos_sin = job->cos_sin + (size_t)position * hd;
    for (uint32_t h = 0; h < job->heads; h++) {
        float *q = row + job->q_at + (size_t)h * hd;
        prepare(job, row, job->q_at + (size_t)h * hd, job->prep ? job->prep->q_norm : NULL);
        isa->rotate(q, GW_F32, q, cos_sin, hd / 2);
    }
    for (uint32_t h = 0; h < gw_kv_heads(kv); h++) {
        prepare(job, row, job->k_at + (size_t)h * hd, job->prep ? job->prep->k_norm : NULL);
        prepare(job, row, job->v_at + (size_t)h * hd, NULL);
        append_head(job, h, seq, position, row + job->k_at + (size_t)h * hd,
                    row + job->v_at + (size_t)h * hd);
    }
}

/* Items count the sequences' rows one after the other. */
static void append_items(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    const struct gw_rope_job *job = arg;
    size_t before = 0;
    for (uint32_t i = 0; i < job->seqs_len && before < last; before += job->seqs[i++].rows)
        for (uint32_t r = 0; r < job->seqs[i].rows; r++)
            if (before + r >= first && before + r < last) append_row(job, &job->seqs[i], r);
}

void gw_rope_append_run(struct gw_device *dev, const struct gw_rope_job *job)
{
    assert(job->kv->head_dim % 8 == 0);
    size_t items = 0;
    for (uint32_t i = 0; i < job->seqs_len; i++) items += job->seqs[i].rows;
    double elements = (job->heads + 2.0 * gw_kv_heads(job->kv)) * job->kv->head_dim;
    gw_device_parallel(dev, append_items, job, items, elements * job->isa->element_ns);
}
