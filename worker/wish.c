#include "worker/wish.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/keyed_random.h"

#define FLAG_WHOLE   1u
#define FLAG_WEIGHTS 2u
#define FLAG_STATS   4u
#define FLAG_EDITS   8u
#define FLAGS_MASK   15u
#define KEEP_SHIFT   8
#define KEEP_MASK    0xFFFu
#define TOP_SHIFT    20

struct gw_wisher {
    uint32_t vocab;
    uint32_t *stamp; /* [vocab] == epoch: this id was seen in the current pass */
    uint32_t *count; /* [vocab] valid where the stamp is */
    uint32_t epoch;
};

/* ---- room ---- */

gw_err_t gw_wish_room_init(struct gw_wish_room *room, uint32_t ids_max, uint32_t changes_max)
{
    *room = (struct gw_wish_room){.ids_max = ids_max, .changes_max = changes_max};
    room->ids = malloc(ids_max * sizeof *room->ids);
    room->changes = malloc(changes_max * sizeof *room->changes);
    if (room->ids && room->changes) return GW_OK;
    gw_wish_room_fini(room);
    return GW_ERR_MEMORY;
}

void gw_wish_room_fini(struct gw_wish_room *room)
{
    free(room->ids);
    free(room->changes);
    *room = (struct gw_wish_room){0};
}

void gw_wish_room_clear(struct gw_wish_room *room)
{
    room->ids_len = room->changes_len = 0;
}

static bool add_id(struct gw_wish_room *room, uint32_t id)
{
    if (room->ids_len == room->ids_max) return false;
    room->ids[room->ids_len++] = id;
    return true;
}

static bool add_change(struct gw_wish_room *room, uint32_t id, float value)
{
    if (room->changes_len == room->changes_max) return false;
    room->changes[room->changes_len++] = (struct gw_pick_change){.id = id, .value = value};
    return true;
}

/* ---- making ---- */

gw_err_t gw_wisher_create(uint32_t vocab, struct gw_wisher **out)
{
    struct gw_wisher *w = calloc(1, sizeof *w);
    if (!w) return GW_ERR_MEMORY;
    w->vocab = vocab;
    w->stamp = calloc(vocab, sizeof *w->stamp);
    w->count = calloc(vocab, sizeof *w->count);
    if (!w->stamp || !w->count) {
        gw_wisher_destroy(w);
        return GW_ERR_MEMORY;
    }
    *out = w;
    return GW_OK;
}

void gw_wisher_destroy(struct gw_wisher *w)
{
    if (!w) return;
    free(w->stamp);
    free(w->count);
    free(w);
}

static void next_epoch(struct gw_wisher *w)
{
    if (++w->epoch != 0) return;
    memset(w->stamp, 0, w->vocab * sizeof *w->stamp);
    w->epoch = 1;
}

/* True the first time an id is seen in this epoch; its count is then 0. */
static bool first_sight(struct gw_wisher *w, uint32_t id)
{
    if (w->stamp[id] == w->epoch) return false;
    w->stamp[id] = w->epoch;
    w->count[id] = 0;
    return true;
}

static bool add_bias(const struct gw_sampling *p, struct gw_wish_room *room, struct gw_pick_edits *e)
{
    e->added = room->changes + room->changes_len;
    e->added_len = p->bias_len;
    for (uint32_t i = 0; i < p->bias_len; i++)
        if (!add_change(room, p->bias[i].id, p->bias[i].bias)) return false;
    return true;
}

static bool add_unseen(struct gw_wisher *w, const uint32_t *ids, uint32_t len, struct gw_wish_room *room)
{
    for (uint32_t i = 0; i < len; i++)
        if (first_sight(w, ids[i]) && !add_id(room, ids[i])) return false;
    return true;
}

static bool add_repeated(struct gw_wisher *w, const struct gw_sample_in *in, struct gw_wish_room *room,
                         struct gw_pick_edits *e)
{
    e->repetition = in->params->repetition_penalty;
    e->repeated = room->ids + room->ids_len;
    if (e->repetition == 1) return true;
    uint32_t before = room->ids_len;
    next_epoch(w);
    if (!add_unseen(w, in->prompt, in->prompt_len, room) || !add_unseen(w, in->output, in->output_len, room))
        return false;
    e->repeated_len = room->ids_len - before;
    return true;
}

static bool add_taken(struct gw_wisher *w, const struct gw_sample_in *in, struct gw_wish_room *room,
                      struct gw_pick_edits *e)
{
    const struct gw_sampling *p = in->params;
    uint32_t before = room->changes_len;
    e->taken = room->changes + before;
    if (p->presence_penalty == 0 && p->frequency_penalty == 0) return true;
    next_epoch(w);
    for (uint32_t i = 0; i < in->output_len; i++) {
        first_sight(w, in->output[i]);
        w->count[in->output[i]]++;
    }
    for (uint32_t i = 0; i < in->output_len; i++) {
        uint32_t id = in->output[i], count = w->count[id];
        if (count == 0) continue;
        if (!add_change(room, id, p->frequency_penalty * (float)count + p->presence_penalty)) return false;
        w->count[id] = 0; /* once per id */
    }
    e->taken_len = room->changes_len - before;
    return true;
}

static bool add_masked(const struct gw_sample_in *in, struct gw_wish_room *room, struct gw_pick_edits *e)
{
    const struct gw_sampling *p = in->params;
    e->masked = room->ids + room->ids_len;
    if (in->output_len >= p->min_tokens) return true;
    e->masked_len = p->stop_ids_len;
    for (uint32_t i = 0; i < p->stop_ids_len; i++)
        if (!add_id(room, p->stop_ids[i])) return false;
    return true;
}

static bool make_edits(struct gw_wisher *w, const struct gw_sample_in *in, struct gw_wish_room *room,
                       struct gw_pick_edits *e)
{
    uint32_t ids_len = room->ids_len, changes_len = room->changes_len;
    if (add_bias(in->params, room, e) && add_repeated(w, in, room, e) && add_taken(w, in, room, e) &&
        add_masked(in, room, e))
        return true;
    room->ids_len = ids_len;
    room->changes_len = changes_len;
    *e = (struct gw_pick_edits){.repetition = 1};
    return false;
}

static bool is_truncated(const struct gw_sampling *p, uint32_t vocab)
{
    return (p->top_k > 0 && p->top_k < vocab) || p->top_p < 1 || p->min_p > 0;
}

/* What the candidates are. False: more than a part holds. */
static bool make_candidates(const struct gw_sample_in *in, uint32_t vocab, struct gw_pick_want *want)
{
    const struct gw_sampling *p = in->params;
    want->keep = 1;
    if (p->temperature <= 0) return true;
    float t = p->temperature > GW_WISH_TEMPERATURE_MIN ? p->temperature : GW_WISH_TEMPERATURE_MIN;
    want->inverse = 1.0f / t;
    want->stream = gw_keyed_stream(p->seed, in->branch, in->output_len);
    want->keep = 0;
    if (!is_truncated(p, vocab)) return true;
    bool by_count = p->top_k > 0 && p->top_k < vocab;
    want->keep = by_count && p->top_k < GW_PICK_KEEP_MAX ? p->top_k : GW_PICK_KEEP_MAX;
    want->weights = !by_count && p->top_p < 1; /* of what top-k leaves, the candidates say it */
    return !by_count || p->top_k <= GW_PICK_KEEP_MAX;
}

void gw_wish_make(struct gw_wisher *w, const struct gw_sample_in *in, struct gw_wish_room *room,
                  struct gw_wish *out)
{
    *out = (struct gw_wish){.want.stats = in->params->logprobs, .want.top = in->params->top_logprobs};
    bool fits = make_candidates(in, w->vocab, &out->want);
    out->whole = !make_edits(w, in, room, &out->want.edits) || !fits;
}

/* ---- bytes ---- */

static void put_changes(struct gw_buf *b, const struct gw_pick_change *changes, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        gw_buf_u32(b, changes[i].id);
        gw_buf_f32(b, changes[i].value);
    }
}

static void put_ids(struct gw_buf *b, const uint32_t *ids, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) gw_buf_u32(b, ids[i]);
}

static void put_edits(const struct gw_pick_edits *e, struct gw_buf *b)
{
    gw_buf_f32(b, e->repetition);
    gw_buf_u32(b, e->added_len);
    gw_buf_u32(b, e->repeated_len);
    gw_buf_u32(b, e->taken_len);
    gw_buf_u32(b, e->masked_len);
    put_changes(b, e->added, e->added_len);
    put_ids(b, e->repeated, e->repeated_len);
    put_changes(b, e->taken, e->taken_len);
    put_ids(b, e->masked, e->masked_len);
}

void gw_wish_put(const struct gw_wish *wish, struct gw_buf *b)
{
    const struct gw_pick_want *w = &wish->want;
    bool edits = gw_pick_edits_len(&w->edits) > 0;
    if (wish->whole) {
        gw_buf_u32(b, FLAG_WHOLE);
        return;
    }
    gw_buf_u32(b, (w->weights ? FLAG_WEIGHTS : 0) | (w->stats ? FLAG_STATS : 0) | (edits ? FLAG_EDITS : 0) |
                      w->keep << KEEP_SHIFT | w->top << TOP_SHIFT);
    gw_buf_f32(b, w->inverse);
    gw_buf_u64(b, w->stream);
    if (edits) put_edits(&w->edits, b);
}

static bool get_changes(struct gw_reader *r, uint32_t vocab, uint32_t len, struct gw_wish_room *room,
                        const struct gw_pick_change **out)
{
    *out = room->changes + room->changes_len;
    for (uint32_t i = 0; i < len && r->err == GW_OK; i++) {
        uint32_t id = gw_read_u32(r);
        if (id >= vocab || !add_change(room, id, gw_read_f32(r))) return false;
    }
    return r->err == GW_OK;
}

static bool get_ids(struct gw_reader *r, uint32_t vocab, uint32_t len, struct gw_wish_room *room,
                    const uint32_t **out)
{
    *out = room->ids + room->ids_len;
    for (uint32_t i = 0; i < len && r->err == GW_OK; i++) {
        uint32_t id = gw_read_u32(r);
        if (id >= vocab || !add_id(room, id)) return false;
    }
    return r->err == GW_OK;
}

static bool get_edits(struct gw_reader *r, uint32_t vocab, struct gw_wish_room *room, struct gw_pick_edits *e)
{
    e->repetition = gw_read_f32(r);
    e->added_len = gw_read_u32(r);
    e->repeated_len = gw_read_u32(r);
    e->taken_len = gw_read_u32(r);
    e->masked_len = gw_read_u32(r);
    return isfinite(e->repetition) && get_changes(r, vocab, e->added_len, room, &e->added) &&
           get_ids(r, vocab, e->repeated_len, room, &e->repeated) &&
           get_changes(r, vocab, e->taken_len, room, &e->taken) &&
           get_ids(r, vocab, e->masked_len, room, &e->masked);
}

bool gw_wish_get(struct gw_reader *r, uint32_t vocab, struct gw_wish_room *room, struct gw_wish *out)
{
    uint32_t flags = gw_read_u32(r);
    struct gw_pick_want *w = &out->want;
    *out = (struct gw_wish){.whole = flags == FLAG_WHOLE};
    if (r->err != GW_OK || out->whole) return r->err == GW_OK;
    w->weights = flags & FLAG_WEIGHTS;
    w->stats = flags & FLAG_STATS;
    w->keep = flags >> KEEP_SHIFT & KEEP_MASK;
    w->top = flags >> TOP_SHIFT;
    w->inverse = gw_read_f32(r);
    w->stream = gw_read_u64(r);
    uint32_t known = FLAG_WEIGHTS | FLAG_STATS | FLAG_EDITS;
    if (r->err != GW_OK || (flags & FLAGS_MASK & ~known) || (flags >> 4 & 15u) ||
        w->keep > GW_PICK_KEEP_MAX || w->top > GW_PICK_TOP_MAX || !isfinite(w->inverse) || w->inverse < 0)
        return false;
    return !(flags & FLAG_EDITS) || get_edits(r, vocab, room, &w->edits);
}
