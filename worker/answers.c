#include "worker/answers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "worker/part.h"

struct gw_answers {
    struct gw_answers_config config;
    uint32_t last_ranks;        /* of the last stage */
    struct gw_pick_part *parts; /* [GW_ANSWERS_ROWS][last_ranks]; [GW_ANSWERS_ROWS] where only own ones are */
    float *frame;               /* of one rank */
    float *kept;                /* [GW_WISH_IDS_MAX + GW_WISH_CHANGES_MAX] what edits have changed */
};

/* The columns of a rank. */
static struct gw_part_of part_of(const struct gw_answers *a, uint32_t rank)
{
    const struct gw_place *p = a->config.place;
    uint32_t vocab = a->config.model->config.vocab, shares = a->config.model->cells.shares;
    const uint16_t *share_at = &p->last_share_at[rank - p->last_first];
    uint32_t first = gw_cells_cut(share_at[0], vocab, shares);
    return (struct gw_part_of){.first = first,
                               .columns = gw_cells_cut(share_at[1], vocab, shares) - first,
                               .shares = (uint32_t)(share_at[1] - share_at[0])};
}

static bool is_alone(const struct gw_answers *a)
{
    return a->config.place->ranks == 1;
}

gw_err_t gw_answers_create(const struct gw_answers_config *config, struct gw_answers **out)
{
    const struct gw_place *p = config->place;
    struct gw_answers *a = calloc(1, sizeof *a);
    if (!a) return GW_ERR_MEMORY;
    a->config = *config;
    a->last_ranks = gw_place_leads(p) ? p->ranks - p->last_first : 1;
    uint32_t vocab = config->model->config.vocab;
    size_t words = vocab > GW_PART_WORDS_MAX ? vocab : GW_PART_WORDS_MAX;
    a->parts = malloc(GW_ANSWERS_ROWS * (size_t)a->last_ranks * sizeof *a->parts);
    a->kept = malloc((GW_WISH_IDS_MAX + GW_WISH_CHANGES_MAX) * sizeof *a->kept);
    if (!is_alone(a)) a->frame = malloc(GW_ANSWERS_ROWS * words * sizeof *a->frame);
    if (!a->parts || !a->kept || (!is_alone(a) && !a->frame)) {
        gw_answers_destroy(a);
        return GW_ERR_MEMORY;
    }
    *out = a;
    return GW_OK;
}

void gw_answers_destroy(struct gw_answers *a)
{
    if (!a) return;
    free(a->parts);
    free(a->frame);
    free(a->kept);
    free(a);
}

/* The host's side of logits. */
static float *host_of(const struct gw_answers *a, const float *logits)
{
    return gw_memory_host(a->config.seen, logits);
}

static void copy_out(const struct gw_answers *a, const float *logits, uint32_t columns)
{
    gw_memory_get(a->config.device, host_of(a, logits), logits, columns * sizeof *logits);
}

/* On the device, or from what is copied out: rows[len] of so many columns each. */
static void pick(struct gw_answers *a, struct gw_pick_row *rows, uint32_t len, uint32_t columns)
{
    const struct gw_answers_config *c = &a->config;
    if (len == 0 || (c->ops->pick_there && c->ops->pick_there(c->device, rows, len))) return;
    for (uint32_t i = 0; i < len; i++) {
        copy_out(a, rows[i].x, columns);
        rows[i].x = host_of(a, rows[i].x);
    }
    c->ops->pick(c->device, rows, len);
}

/* This rank's part of each row that is not wanted whole: parts[i · parts_stride] from columns[i][stride]. Of the others the host
 * gets all columns. */
static gw_err_t pick_own(struct gw_answers *a, float *columns, size_t stride,
                         const struct gw_step_sample *samples, uint32_t count, size_t parts_stride,
                         struct gw_err_ctx *ctx)
{
    struct gw_pick_row rows[GW_ANSWERS_ROWS];
    const struct gw_place *p = a->config.place;
    const uint16_t *share_at = &p->last_share_at[p->self - p->last_first];
    uint32_t len = 0, own = part_of(a, p->self).columns;
    size_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct gw_pick_want *want = &samples[i].wish.want;
        if (samples[i].wish.whole) {
            copy_out(a, columns + i * stride, own);
            continue;
        }
        rows[len++] = (struct gw_pick_row){.x = columns + i * stride,
                                           .vocab = a->config.model->config.vocab,
                                           .shares = a->config.model->cells.shares,
                                           .share_first = share_at[0],
                                           .share_last = share_at[1],
                                           .want = want,
                                           .kept = a->kept + kept,
                                           .part = &a->parts[i * parts_stride]};
        kept += gw_pick_edits_len(&want->edits);
    }
    assert(kept <= GW_WISH_IDS_MAX + GW_WISH_CHANGES_MAX); /* all lists lie in one room */
    pick(a, rows, len, own);
    return gw_device_finish(a->config.device, ctx); /* nobody is told what a device did not compute */
}

static size_t words_of(const struct gw_wish *wish, const struct gw_part_of *of)
{
    return wish->whole ? of->columns : gw_part_words(&wish->want, of);
}

gw_err_t gw_answers_send(struct gw_answers *a, float *columns, const struct gw_step_sample *samples,
                         uint32_t count, struct gw_err_ctx *ctx)
{
    struct gw_part_of of = part_of(a, a->config.place->self);
    float *to = a->frame;
    assert(count <= GW_ANSWERS_ROWS);
    const float *host = host_of(a, columns);
    TRY(pick_own(a, columns, of.columns, samples, count, 1, ctx));
    for (uint32_t i = 0; i < count; i++) {
        const struct gw_wish *wish = &samples[i].wish;
        if (wish->whole)
            memcpy(to, host + (size_t)i * of.columns, of.columns * sizeof *to);
        else
            gw_part_put(&a->parts[i], &wish->want, &of, to);
        to += words_of(wish, &of);
    }
    return gw_coll_send(a->config.coll, 0, GW_COLL_DATA, a->frame, (size_t)(to - a->frame) * sizeof *to, ctx);
}

static gw_err_t receive(struct gw_answers *a, uint32_t rank, float *rows,
                        const struct gw_step_sample *samples, uint32_t count, struct gw_err_ctx *ctx)
{
    struct gw_part_of of = part_of(a, rank);
    uint32_t vocab = a->config.model->config.vocab, at = rank - a->config.place->last_first;
    const float *from = a->frame;
    size_t words = 0;
    for (uint32_t i = 0; i < count; i++) words += words_of(&samples[i].wish, &of);
    TRY(gw_coll_recv(a->config.coll, rank, a->frame, words * sizeof *from, ctx));
    for (uint32_t i = 0; i < count; i++) {
        const struct gw_wish *wish = &samples[i].wish;
        if (wish->whole)
            memcpy(rows + (size_t)i * vocab + of.first, from, of.columns * sizeof *from);
        else if (!gw_part_get(from, &wish->want, &of, &a->parts[(size_t)i * a->last_ranks + at]))
            return gw_fail(ctx, GW_ERR_PROTO, "rank %u sent logits of tokens that are not its own", rank);
        from += words_of(wish, &of);
    }
    return GW_OK;
}

gw_err_t gw_answers_collect(struct gw_answers *a, float *rows, const struct gw_step_sample *samples,
                            uint32_t count, struct gw_answer *out, struct gw_err_ctx *ctx)
{
    const struct gw_place *p = a->config.place;
    uint32_t vocab = a->config.model->config.vocab;
    assert(count <= GW_ANSWERS_ROWS);
    float *host = host_of(a, rows);
    if (gw_place_is_last(p))
        TRY(pick_own(a, rows + part_of(a, p->self).first, vocab, samples, count, a->last_ranks, ctx));
    for (uint32_t rank = p->last_first; rank < p->ranks; rank++)
        if (rank != p->self) TRY(receive(a, rank, host, samples, count, ctx));
    bool here = is_alone(a) && gw_device_is_host(a->config.device);
    for (uint32_t i = 0; i < count; i++) {
        bool whole = samples[i].wish.whole;
        out[i] = (struct gw_answer){.wish = &samples[i].wish,
                                    .parts = &a->parts[(size_t)i * a->last_ranks],
                                    .parts_len = whole ? 0 : a->last_ranks,
                                    .row = whole || here ? host + (size_t)i * vocab : NULL};
    }
    return GW_OK;
}

gw_err_t gw_answers_row(struct gw_answers *a, float *rows, uint32_t i, const float **row,
                        struct gw_err_ctx *ctx)
{
    uint32_t vocab = a->config.model->config.vocab;
    float *logits = rows + (size_t)i * vocab;
    *row = NULL;
    if (!is_alone(a)) return GW_OK;
    copy_out(a, logits, vocab);
    TRY(gw_device_finish(a->config.device, ctx));
    *row = host_of(a, logits);
    return GW_OK;
}
