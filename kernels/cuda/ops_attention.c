/* RoPE with the KV append, and attention, over the launchers: what they are told of a step's sequences and of pages.
 *
 * All layers of a step have the same sequences: those, and their block tables, go to the device once. A layer's list of arenas
 * is the same in all steps: the device keeps it, and gets it anew where it has changed. Sequences of few rows (their queries
 * of a KV head fit into one tile) go to the decode kernel, as many at once as the scratch has room for; the others, and those that
 * are too long for the scratch alone, to the prefill kernel. Both give the same bits. */
#include <assert.h>
#include <string.h>

#include "kernels/cuda/cuda_device_internal.h"

#define SEQS_MAX   65535u /* of one launch: the grid's */
#define ARENA_WAYS 8u     /* places of one list: those of two pools do not drive each other out by chance */

/* ---- pages ---- */

/* Where the device has the list, or may have it: nobody's place before somebody else's. */
static size_t place_of(const struct gw_cuda_device *d, const struct gw_kv_layer *kv, size_t bytes)
{
    size_t home = (uintptr_t)kv->arena / bytes, place = home % GW_CUDA_ARENA_LISTS;
    bool free = false;
    for (size_t way = 0; way < ARENA_WAYS; way++) {
        size_t at = (home + way) % GW_CUDA_ARENA_LISTS;
        uint8_t *const *kept = d->arena_kept + at * GW_CUDA_ARENA_LIST_MAX;
        if (memcmp(kept, kv->arena, bytes) == 0) return at;
        if (kept[0] || free) continue;
        place = at;
        free = true;
    }
    return place;
}

/* The device's copy of kv->arena; NULL after an error. */
static uint8_t *const *tell_arenas(struct gw_cuda_device *d, const struct gw_kv_layer *kv)
{
    size_t bytes = kv->cells * sizeof *kv->arena;
    assert(kv->cells <= GW_CUDA_ARENA_LIST_MAX); /* KV heads of a rank; models have 128 query heads at most */
    size_t at = place_of(d, kv, bytes) * GW_CUDA_ARENA_LIST_MAX;
    uint8_t **kept = d->arena_kept + at, *list = d->arena_lists + at * sizeof *kept;
    if (memcmp(kept, kv->arena, bytes) != 0) {
        if (!gw_cuda_reserve(d, gw_cuda_padded(bytes))) return NULL;
        struct gw_cuda_piece p = gw_cuda_take(d, bytes);
        memcpy(p.pinned, kv->arena, bytes);
        p.device = list;
        if (!gw_cuda_send(d, p)) return NULL;
        if (kept[0]) d->arenas_changed++; /* somebody else's was here */
        memcpy(kept, kv->arena, bytes);
    }
    return (uint8_t *const *)(void *)list;
}

/* ---- sequences ---- */

static uint32_t blocks_of(const struct gw_seq_rows *s, const struct gw_kv_layer *kv)
{
    return (s->position + s->rows + kv->block_tokens - 1) / kv->block_tokens;
}

static bool is_few(const struct gw_seq_rows *s, uint32_t group)
{
    return (uint64_t)s->rows * group <= GW_CUDA_TILE_QUERIES;
}

static void widen(struct gw_cuda_batch *b, const struct gw_seq_rows *s)
{
    b->seqs_len++;
    if (s->rows > b->rows_max) b->rows_max = s->rows;
    if (s->position + s->rows > b->length_max) b->length_max = s->position + s->rows;
}

/* Where the next sequence and the next table go. */
struct writer {
    struct gw_cuda_piece seqs, tables;
    size_t seqs_at, tables_at;
};

static void write_seq(struct writer *w, const struct gw_seq_rows *s, uint32_t blocks)
{
    struct gw_seq_rows there = *s;
    size_t bytes = blocks * sizeof *s->blocks;
    there.blocks = (const uint32_t *)(void *)(w->tables.device + w->tables_at);
    memcpy(w->tables.pinned + w->tables_at, s->blocks, bytes);
    memcpy(w->seqs.pinned + w->seqs_at, &there, sizeof there);
    w->tables_at += bytes;
    w->seqs_at += sizeof there;
}

static bool is_told(const struct gw_cuda_told *t, const struct gw_seq_rows *seqs, uint32_t len,
                    uint32_t group)
{
    return t->seqs == seqs && t->seqs_len == len && t->group == group &&
           memcmp(t->copy, seqs, len * sizeof *seqs) == 0;
}

/* Sequences of few rows first. */
static void write_all(struct gw_cuda_told *t, struct writer *w, const struct gw_seq_rows *seqs, uint32_t len,
                      const struct gw_kv_layer *kv)
{
    const struct gw_seq_rows *there = (const struct gw_seq_rows *)(void *)w->seqs.device;
    for (int few = 1; few >= 0; few--)
        for (uint32_t i = 0; i < len; i++) {
            if (is_few(&seqs[i], t->group) != (few == 1)) continue;
            write_seq(w, &seqs[i], blocks_of(&seqs[i], kv));
            widen(few ? &t->few : &t->many, &seqs[i]);
            widen(&t->all, &seqs[i]);
        }
    t->all.seqs = t->few.seqs = there;
    t->many.seqs = there + t->few.seqs_len;
}

/* False after an error. */
static bool tell_seqs(struct gw_cuda_device *d, const struct gw_seq_rows *seqs, uint32_t len, uint32_t group,
                      const struct gw_kv_layer *kv)
{
    size_t seqs_bytes = len * sizeof *seqs, tables_bytes = 0;
    if (is_told(&d->told, seqs, len, group)) return true;
    for (uint32_t i = 0; i < len; i++) tables_bytes += blocks_of(&seqs[i], kv) * sizeof *seqs->blocks;
    if (!gw_cuda_reserve(d, 2 * gw_cuda_padded(seqs_bytes) + gw_cuda_padded(tables_bytes))) return false;
    struct gw_cuda_piece copy = gw_cuda_take(d, seqs_bytes);
    struct writer w = {.seqs = gw_cuda_take(d, seqs_bytes), .tables = gw_cuda_take(d, tables_bytes)};
    struct gw_cuda_told t = {.seqs = seqs,
                             .copy = (const struct gw_seq_rows *)(void *)copy.pinned,
                             .seqs_len = len,
                             .group = group};
    memcpy(copy.pinned, seqs, seqs_bytes);
    write_all(&t, &w, seqs, len, kv);
    if (!gw_cuda_send(d, w.seqs) || !gw_cuda_send(d, w.tables)) return false;
    d->told = t;
    return true;
}

/* Of the batch's sequences [first, first + len): its bounds hold for these, too. */
static struct gw_cuda_batch part_of(const struct gw_cuda_batch *b, uint32_t first, uint32_t most)
{
    struct gw_cuda_batch part = *b;
    part.seqs = b->seqs + first;
    part.seqs_len = b->seqs_len - first < most ? b->seqs_len - first : most;
    return part;
}

/* All that both operations want to have told; kv: with the device's list of arenas. False after an error. */
static bool tell(struct gw_cuda_device *d, struct gw_kv_layer *kv, uint32_t heads,
                 const struct gw_seq_rows *seqs, uint32_t seqs_len)
{
    if (!gw_cuda_begin(d)) return false;
    kv->arena = tell_arenas(d, kv);
    return kv->arena && tell_seqs(d, seqs, seqs_len, gw_cuda_group_of(kv, heads), kv);
}

/* ---- operations ---- */

static gw_err_t append(struct gw_cuda_device *d, const struct gw_cuda_qkv *qkv,
                       const struct gw_qkv_prep *prep, const struct gw_kv_layer *kv, const float *cos_sin,
                       struct gw_err_ctx *ctx)
{
    for (uint32_t at = 0; at < d->told.all.seqs_len; at += SEQS_MAX) {
        struct gw_cuda_batch some = part_of(&d->told.all, at, SEQS_MAX);
        TRY(gw_cuda_rope_append(gw_cuda_compute(d), qkv, prep, kv, d->ops.kv, cos_sin, &some, ctx));
    }
    return GW_OK;
}

void gw_cuda_op_rope_append(struct gw_device *dev, float *qkv, size_t qkv_stride, size_t q_at, size_t k_at,
                            size_t v_at, uint32_t heads, const struct gw_qkv_prep *prep,
                            const struct gw_kv_layer *kv, const float *cos_sin,
                            const struct gw_seq_rows *seqs, uint32_t seqs_len)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    const struct gw_cuda_qkv there = {qkv, qkv_stride, q_at, k_at, v_at, heads};
    struct gw_kv_layer layer = *kv;
    struct gw_err_ctx ctx = {0};
    if (tell(d, &layer, heads, seqs, seqs_len))
        gw_cuda_note(d, append(d, &there, prep, &layer, cos_sin, &ctx), &ctx);
}

static gw_err_t prefill(struct gw_cuda_device *d, uint16_t *out, const struct gw_cuda_qkv *qkv,
                        const struct gw_kv_layer *kv, float scale, const struct gw_cuda_batch *batch,
                        struct gw_err_ctx *ctx)
{
    for (uint32_t at = 0; at < batch->seqs_len; at += SEQS_MAX) {
        struct gw_cuda_batch some = part_of(batch, at, SEQS_MAX);
        TRY(gw_cuda_attention_prefill(gw_cuda_compute(d), out, qkv, kv, d->ops.kv, scale, &some, ctx));
    }
    return GW_OK;
}

static gw_err_t decode(struct gw_cuda_device *d, uint16_t *out, const struct gw_cuda_qkv *qkv,
                       const struct gw_kv_layer *kv, float scale, const struct gw_cuda_batch *batch,
                       struct gw_err_ctx *ctx)
{
    if (batch->seqs_len == 0) return GW_OK;
    struct gw_cuda_batch one = part_of(batch, 0, 1);
    size_t most = d->config.scratch_bytes / gw_cuda_attention_decode_bytes(kv, qkv->heads, &one);
    if (most == 0) return prefill(d, out, qkv, kv, scale, batch, ctx);
    if (most > SEQS_MAX) most = SEQS_MAX;
    for (uint32_t at = 0; at < batch->seqs_len; at += (uint32_t)most) {
        struct gw_cuda_batch some = part_of(batch, at, (uint32_t)most);
        TRY(gw_cuda_attention_decode(gw_cuda_compute(d), out, qkv, kv, d->ops.kv, scale, &some,
                                     (float *)(void *)d->scratch, ctx));
    }
    return GW_OK;
}

/* Of f32: one kernel, whose chunks are spread over the scratch where rows are few. */
static gw_err_t attend_f32(struct gw_cuda_device *d, float *out, const struct gw_cuda_qkv *qkv,
                           const struct gw_kv_layer *kv, float scale, const struct gw_cuda_batch *batch,
                           bool few, struct gw_err_ctx *ctx)
{
    struct gw_cuda_batch one = part_of(batch, 0, 1);
    if (batch->seqs_len == 0) return GW_OK;
    size_t room = few ? d->config.scratch_bytes / gw_cuda_attention_f32_bytes(kv, qkv->heads, &one) : 0;
    float *workspace = room > 0 ? (float *)(void *)d->scratch : NULL;
    uint32_t most = room > 0 && room < SEQS_MAX ? (uint32_t)room : SEQS_MAX;
    for (uint32_t at = 0; at < batch->seqs_len; at += most) {
        struct gw_cuda_batch some = part_of(batch, at, most);
        TRY(gw_cuda_attention_f32(gw_cuda_compute(d), out, qkv, kv, d->ops.kv, scale, &some, workspace, ctx));
    }
    return GW_OK;
}

/* The launchers' qkv is not const, for rope_append's sake; attention reads it. */
void gw_cuda_op_attention(struct gw_device *dev, void *out, const float *qkv, size_t qkv_stride, size_t q_at,
                          uint32_t heads, const struct gw_kv_layer *kv, float scale,
                          const struct gw_seq_rows *seqs, uint32_t seqs_len)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    const struct gw_cuda_qkv there = {
        .data = (float *)(uintptr_t)qkv, .stride = qkv_stride, .q_at = q_at, .heads = heads};
    struct gw_kv_layer layer = *kv;
    struct gw_err_ctx ctx = {0};
    if (!tell(d, &layer, heads, seqs, seqs_len)) return;
    if (d->ops.act == GW_F32) {
        gw_cuda_note(d, attend_f32(d, out, &there, &layer, scale, &d->told.few, true, &ctx), &ctx);
        gw_cuda_note(d, attend_f32(d, out, &there, &layer, scale, &d->told.many, false, &ctx), &ctx);
        return;
    }
    gw_cuda_note(d, decode(d, out, &there, &layer, scale, &d->told.few, &ctx), &ctx);
    gw_cuda_note(d, prefill(d, out, &there, &layer, scale, &d->told.many, &ctx), &ctx);
}
