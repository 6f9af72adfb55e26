#include "worker/rank.h"

#include <assert.h>
#include <stdlib.h>

#define OFFER_BYTES      20
#define OFFER_BYTES_MUTE 16 /* of protocol 2 */

/* A step that the leader has begun. */
struct flight {
    uint64_t number;
    struct gw_step_sample *samples; /* [max_sequences] */
    uint32_t samples_len;
};

struct gw_rank {
    struct gw_rank_config config;
    struct gw_page_pool *pool; /* config.pages' memory, or its own */
    struct gw_forward *forward;
    struct gw_seq_rows *seqs; /* [max_sequences] of the step that is computed */
    uint64_t steps;           /* led or followed */
    /* the leader's */
    uint32_t go_from; /* ranks [1, go_from) have said GO */
    struct flight flights[GW_WIRE_RANKS_MAX];
    uint32_t flights_len;
    struct gw_buf desc;   /* bytes for the others */
    struct gw_buf copies; /* struct gw_slot_copy since the last step */
    struct gw_buf sealed; /* struct gw_slot_name since the others were told */
    /* the others' */
    struct gw_step_reader *reader;
    uint8_t *frame; /* [frame_bytes] */
    size_t frame_bytes;
};

/* ---- before a rank is created ---- */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static gw_err_t hear_offer(struct gw_coll *coll, uint32_t rank, struct gw_rank_room *room,
                           int64_t deadline_us, struct gw_err_ctx *ctx)
{
    uint8_t bytes[OFFER_BYTES];
    struct gw_reader r;
    uint64_t step;
    size_t len;
    bool there;
    TRY(gw_coll_wait(coll, rank, GW_COLL_CONTROL, deadline_us, &there, &step, &len, ctx));
    if (!there) return gw_fail(ctx, GW_ERR_IO, "rank %u did not say in time what it has room for", rank);
    if (step != 0 || (len != OFFER_BYTES && len != OFFER_BYTES_MUTE))
        return gw_fail(ctx, GW_ERR_PROTO, "rank %u spoke out of turn", rank);
    TRY(gw_coll_take(coll, rank, bytes, len, ctx));
    gw_reader_init(&r, bytes, len);
    room->slots = min_u32(room->slots, gw_read_u32(&r));
    room->max_rows = min_u32(room->max_rows, gw_read_u32(&r));
    room->max_sequences = min_u32(room->max_sequences, gw_read_u32(&r));
    room->positions = min_u32(room->positions, gw_read_u32(&r));
    room->early_slots = len == OFFER_BYTES ? min_u32(room->early_slots, gw_read_u32(&r)) : 0;
    if (room->slots && room->max_rows && room->max_sequences && room->positions) return GW_OK;
    return gw_fail(ctx, GW_ERR_PROTO, "rank %u has room for nothing", rank);
}

static gw_err_t say_offer(struct gw_coll *coll, const struct gw_rank_room *room, bool mute,
                          struct gw_err_ctx *ctx)
{
    struct gw_buf b;
    gw_buf_init(&b, OFFER_BYTES);
    gw_buf_u32(&b, room->slots);
    gw_buf_u32(&b, room->max_rows);
    gw_buf_u32(&b, room->max_sequences);
    gw_buf_u32(&b, room->positions);
    if (!mute) gw_buf_u32(&b, room->early_slots);
    gw_err_t err = b.err;
    if (err == GW_OK)
        err = gw_coll_send(coll, 0, GW_COLL_CONTROL, b.data, b.len, ctx);
    else
        gw_fail(ctx, err, "out of memory");
    gw_buf_fini(&b);
    return err;
}

gw_err_t gw_rank_agree(struct gw_coll *coll, const struct gw_place *place, struct gw_rank_room *room,
                       bool mute, int64_t deadline_us, struct gw_err_ctx *ctx)
{
    if (!gw_place_leads(place)) return say_offer(coll, room, mute, ctx);
    for (uint32_t rank = 1; rank < place->ranks; rank++) TRY(hear_offer(coll, rank, room, deadline_us, ctx));
    return GW_OK;
}

/* ---- set-up ---- */

static gw_err_t create_leader(struct gw_rank *r, struct gw_err_ctx *ctx)
{
    gw_buf_init(&r->desc, GW_COLL_CONTROL_MAX);
    gw_buf_init(&r->copies, GW_STEP_DESC_COPIES_MAX * sizeof(struct gw_slot_copy));
    gw_buf_init(&r->sealed, GW_STEP_DESC_SEALED_MAX * sizeof(struct gw_slot_name));
    r->go_from = 1;
    for (uint32_t i = 0; i < r->config.place.stages; i++) {
        r->flights[i].samples = calloc(r->config.room.max_sequences, sizeof *r->flights[i].samples);
        if (!r->flights[i].samples) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    }
    return GW_OK;
}

static gw_err_t create_follower(struct gw_rank *r, struct gw_err_ctx *ctx)
{
    const struct gw_rank_room *room = &r->config.room;
    const struct gw_step_limits limits = {.rows = room->max_rows,
                                          .sequences = room->max_sequences,
                                          .positions = room->positions,
                                          .slots = room->slots,
                                          .vocab = r->config.model->config.vocab};
    if (gw_step_reader_create(&limits, &r->reader) == GW_OK) return GW_OK;
    return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
}

/* Of what is sealed here. */
static void offer(void *arg, const struct gw_shelf_pool *pages, const struct gw_block_name *name)
{
    gw_checkpoint_offer(arg, pages, name);
}

static gw_err_t find_pool(struct gw_rank *r, struct gw_err_ctx *ctx)
{
    const struct gw_rank_config *c = &r->config;
    if (!c->pages)
        return gw_page_pool_create_on(c->device, &c->model->config, &c->model->cells, c->place.cells,
                                      c->ops->kv, c->room.slots, c->poison, &r->pool, ctx);
    r->pool = gw_shelf_memory(c->pages);
    gw_shelf_watch(c->pages, c->checkpoint ? offer : NULL, c->checkpoint);
    return GW_OK;
}

static gw_err_t create_parts(struct gw_rank *r, struct gw_err_ctx *ctx)
{
    const struct gw_rank_config *c = &r->config;
    TRY(find_pool(r, ctx));
    const struct gw_forward_config forward = {.model = c->model,
                                              .weights = c->weights,
                                              .pool = r->pool,
                                              .place = &r->config.place,
                                              .ops = c->ops,
                                              .device = c->device,
                                              .coll = c->coll,
                                              .sums = c->sums,
                                              .passes = c->passes,
                                              .max_rows = c->room.max_rows,
                                              .positions = c->room.positions};
    TRY(gw_forward_create(&forward, &r->forward, ctx));
    r->seqs = calloc(c->room.max_sequences, sizeof *r->seqs);
    if (!r->seqs) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    return gw_place_leads(&c->place) ? create_leader(r, ctx) : create_follower(r, ctx);
}

gw_err_t gw_rank_create(const struct gw_rank_config *config, struct gw_rank **out, struct gw_err_ctx *ctx)
{
    struct gw_rank *r = calloc(1, sizeof *r);
    if (!r) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    r->config = *config;
    gw_err_t err = create_parts(r, ctx);
    if (err == GW_OK)
        *out = r;
    else
        gw_rank_destroy(r);
    return err;
}

void gw_rank_destroy(struct gw_rank *r)
{
    if (!r) return;
    for (uint32_t i = 0; i < GW_WIRE_RANKS_MAX; i++) free(r->flights[i].samples);
    gw_buf_fini(&r->desc);
    gw_buf_fini(&r->copies);
    gw_buf_fini(&r->sealed);
    gw_step_reader_destroy(r->reader);
    free(r->frame);
    free(r->seqs);
    gw_forward_destroy(r->forward);
    if (!r->config.pages) gw_page_pool_destroy(r->pool);
    free(r);
}

const struct gw_place *gw_rank_place(const struct gw_rank *r)
{
    return &r->config.place;
}

struct gw_device *gw_rank_device(const struct gw_rank *r)
{
    return r->config.device;
}

struct gw_page_dir *gw_rank_dir(const struct gw_rank *r)
{
    return r->config.pages ? gw_shelf_dir(r->config.pages) : NULL;
}

/* ---- a step, at any rank ---- */

/* What a step writes to holds nothing that was sealed. */
static void begin_writing(struct gw_rank *r, const struct gw_step_seq *s)
{
    uint32_t first = s->position / GW_BLOCK_TOKENS, end = s->position + s->rows;
    for (uint32_t b = s->blocks_at; b < s->blocks_to; b++) gw_page_pool_touch(r->pool, s->blocks[b]);
    for (uint32_t b = first; r->config.pages && b * GW_BLOCK_TOKENS < end; b++)
        gw_shelf_write(r->config.pages, s->blocks[b]);
}

static gw_err_t compute(struct gw_rank *r, const struct gw_step_desc *step, struct gw_err_ctx *ctx)
{
    uint32_t row = 0;
    if (r->config.sums) gw_coll_device_begin(r->config.sums, r->steps);
    if (r->config.passes) gw_coll_device_begin(r->config.passes, r->steps);
    for (uint32_t i = 0; i < step->seqs_len; i++) {
        const struct gw_step_seq *s = &step->seqs[i];
        r->seqs[i] =
            (struct gw_seq_rows){.row = row, .rows = s->rows, .position = s->position, .blocks = s->blocks};
        row += s->rows;
        begin_writing(r, s);
    }
    return gw_forward_run(r->forward, step->ids, step->rows, r->seqs, step->seqs_len, ctx);
}

/* The pages of the newest step are written. */
static void note_step(struct gw_rank *r)
{
    if (r->config.pages) gw_shelf_stepped(r->config.pages, r->steps);
}

/* ---- the leader ---- */

gw_err_t gw_rank_may_lead(struct gw_rank *r, bool *may, struct gw_err_ctx *ctx)
{
    for (; r->go_from < r->config.place.ranks; r->go_from++) {
        uint64_t step;
        size_t len;
        TRY(gw_coll_wait(r->config.coll, r->go_from, GW_COLL_CONTROL, 0, may, &step, &len, ctx));
        if (!*may) return GW_OK;
        if (step != 0 || len != 0) return gw_fail(ctx, GW_ERR_PROTO, "rank %u spoke out of turn", r->go_from);
        TRY(gw_coll_take(r->config.coll, r->go_from, NULL, 0, ctx));
    }
    *may = true;
    return GW_OK;
}

/* Who waits for a device's collectives moves no bytes of sockets: descriptors must have left before, for those whom it waits for need
 * them. They are all read in the end, where activations do not go by sockets, too: then a rank has all that it needs for the
 * steps before. */
static bool waits_on_devices(const struct gw_rank *r)
{
    return r->config.passes || (r->config.sums && r->config.place.stages == 1);
}

static gw_err_t tell_others(struct gw_rank *r, const struct gw_step_desc *step, struct gw_err_ctx *ctx)
{
    struct gw_step_desc told = *step;
    told.copies = (const struct gw_slot_copy *)(const void *)r->copies.data;
    told.copies_len = (uint32_t)(r->copies.len / sizeof *told.copies);
    told.sealed = (const struct gw_slot_name *)(const void *)r->sealed.data;
    told.sealed_len = (uint32_t)(r->sealed.len / sizeof *told.sealed);
    gw_buf_reset(&r->desc);
    gw_step_desc_put(&told, &r->desc);
    if (r->copies.err != GW_OK || r->desc.err != GW_OK)
        return gw_fail(ctx, r->desc.err != GW_OK ? r->desc.err : r->copies.err,
                       "a step that no descriptor can hold");
    gw_buf_reset(&r->copies);
    gw_buf_reset(&r->sealed);
    for (uint32_t rank = 1; rank < r->config.place.ranks; rank++)
        TRY(gw_coll_send(r->config.coll, rank, GW_COLL_CONTROL, r->desc.data, r->desc.len, ctx));
    return waits_on_devices(r) ? gw_coll_flush(r->config.coll, ctx) : GW_OK;
}

gw_err_t gw_rank_lead(struct gw_rank *r, const struct gw_step_desc *step, struct gw_err_ctx *ctx)
{
    assert(r->flights_len < r->config.place.stages);
    struct flight *f = &r->flights[r->flights_len++];
    f->number = ++r->steps;
    f->samples_len = step->samples_len;
    for (uint32_t i = 0; i < step->samples_len; i++) f->samples[i] = step->samples[i];
    if (r->config.coll) {
        gw_coll_begin(r->config.coll, f->number);
        TRY(tell_others(r, step, ctx));
    }
    TRY(compute(r, step, ctx));
    note_step(r);
    return GW_OK;
}

gw_err_t gw_rank_answers(struct gw_rank *r, uint32_t first, uint32_t count, struct gw_answer *out,
                         struct gw_err_ctx *ctx)
{
    assert(r->flights_len > 0);
    if (r->config.coll) gw_coll_begin(r->config.coll, r->flights[0].number);
    return gw_forward_answers(r->forward, r->flights[0].samples + first, count, out, ctx);
}

gw_err_t gw_rank_row(struct gw_rank *r, uint32_t i, const float **row, struct gw_err_ctx *ctx)
{
    return gw_forward_row(r->forward, i, row, ctx);
}

gw_err_t gw_rank_step_over(struct gw_rank *r, struct gw_err_ctx *ctx)
{
    assert(r->flights_len > 0);
    struct flight oldest = r->flights[0];
    r->flights_len--;
    for (uint32_t i = 0; i < r->flights_len; i++) r->flights[i] = r->flights[i + 1];
    r->flights[r->flights_len] = oldest; /* its memory is used again */
    if (oldest.samples_len > 0 || r->config.place.stages == 1) return GW_OK;
    gw_coll_begin(r->config.coll, oldest.number);
    uint8_t done;
    return gw_coll_recv(r->config.coll, r->config.place.last_first, &done, sizeof done, ctx);
}

static void copy_slot(struct gw_rank *r, uint32_t from, uint32_t to)
{
    if (r->config.pages) gw_shelf_write(r->config.pages, to);
    gw_page_pool_copy(r->pool, from, to);
}

void gw_rank_copy_slot(struct gw_rank *r, uint32_t from, uint32_t to)
{
    const struct gw_slot_copy copy = {.from = from, .to = to};
    copy_slot(r, from, to);
    if (r->config.coll) gw_buf_put(&r->copies, &copy, sizeof copy);
}

void gw_rank_forget_slot(struct gw_rank *r, uint32_t slot)
{
    if (r->config.pages) gw_shelf_forget(r->config.pages, slot);
    gw_page_pool_forget(r->pool, slot);
}

/* What no longer fits is not told: those blocks are not found at the others, and computed again where they are needed. */
void gw_rank_seal_slot(struct gw_rank *r, uint32_t slot, const struct gw_block_name *name)
{
    const struct gw_slot_name sealed = {.slot = slot, .name = *name};
    if (!r->config.pages) return;
    gw_shelf_seal(r->config.pages, slot, name);
    if (!r->config.coll || r->config.mute) return;
    if (r->sealed.len / sizeof sealed < GW_STEP_DESC_SEALED_MAX)
        gw_buf_put(&r->sealed, &sealed, sizeof sealed);
}

gw_err_t gw_rank_tell_sealed(struct gw_rank *r, struct gw_err_ctx *ctx)
{
    const struct gw_step_desc nothing = {0};
    if (r->sealed.len == 0 || r->copies.len > 0) return GW_OK; /* copies go with the step that needs them */
    gw_coll_begin(r->config.coll, ++r->steps);
    note_step(r);
    return tell_others(r, &nothing, ctx);
}

void gw_rank_settle_pages(struct gw_rank *r)
{
    if (r->config.pages) gw_shelf_settle(r->config.pages);
}

uint64_t gw_rank_steps(const struct gw_rank *r)
{
    return r->steps;
}

struct gw_graph_counts gw_rank_graphs(const struct gw_rank *r)
{
    return gw_forward_graphs(r->forward);
}

/* ---- the others ---- */

gw_err_t gw_rank_say_go(struct gw_rank *r, struct gw_err_ctx *ctx)
{
    return gw_coll_send(r->config.coll, 0, GW_COLL_CONTROL, NULL, 0, ctx);
}

static gw_err_t take_frame(struct gw_rank *r, size_t bytes, struct gw_err_ctx *ctx)
{
    if (bytes > r->frame_bytes) { /* bounded by GW_COLL_CONTROL_MAX, whose bytes are here already */
        uint8_t *larger = realloc(r->frame, bytes);
        if (!larger) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
        r->frame = larger;
        r->frame_bytes = bytes;
    }
    return gw_coll_take(r->config.coll, 0, r->frame, bytes, ctx);
}

/* What the leader waits for. */
static gw_err_t answer(struct gw_rank *r, const struct gw_step_desc *step, struct gw_err_ctx *ctx)
{
    const struct gw_place *p = &r->config.place;
    const uint8_t done = 0;
    if (!gw_place_is_last(p)) return GW_OK;
    if (step->samples_len == 0 && p->stages > 1 && p->self == p->last_first)
        return gw_coll_send(r->config.coll, 0, GW_COLL_DATA, &done, sizeof done, ctx);
    for (uint32_t at = 0; at < step->samples_len; at += GW_ANSWERS_ROWS) {
        uint32_t count = min_u32(GW_ANSWERS_ROWS, step->samples_len - at);
        TRY(gw_forward_answers(r->forward, step->samples + at, count, NULL, ctx));
    }
    return GW_OK;
}

/* The next descriptor, if one comes within wait_us; what it says of sealed blocks is done. */
static gw_err_t hear(struct gw_rank *r, int64_t wait_us, bool *did, struct gw_step_desc *step,
                     struct gw_err_ctx *ctx)
{
    uint64_t number;
    size_t bytes;
    TRY(gw_coll_wait(r->config.coll, 0, GW_COLL_CONTROL, wait_us, did, &number, &bytes, ctx));
    if (!*did) return GW_OK;
    if (number != r->steps + 1) return gw_fail(ctx, GW_ERR_PROTO, "the leader skipped a step");
    TRY(take_frame(r, bytes, ctx));
    TRY(gw_step_reader_get(r->reader, r->frame, bytes, step, ctx));
    r->steps = number;
    for (uint32_t i = 0; i < step->sealed_len && r->config.pages; i++)
        gw_shelf_seal(r->config.pages, step->sealed[i].slot, &step->sealed[i].name);
    return GW_OK;
}

gw_err_t gw_rank_follow(struct gw_rank *r, int64_t wait_us, bool *did, struct gw_err_ctx *ctx)
{
    struct gw_step_desc step;
    TRY(hear(r, wait_us, did, &step, ctx));
    if (!*did) return GW_OK;
    gw_coll_begin(r->config.coll, r->steps);
    if (step.rows == 0) { /* no step waits for this one */
        gw_rank_settle_pages(r);
        note_step(r);
        return GW_OK;
    }
    for (uint32_t i = 0; i < step.copies_len; i++) copy_slot(r, step.copies[i].from, step.copies[i].to);
    TRY(compute(r, &step, ctx));
    note_step(r);
    return answer(r, &step, ctx);
}

void gw_rank_hear_last(struct gw_rank *r)
{
    struct gw_step_desc step = {0};
    bool did = r->config.coll != NULL && !gw_place_leads(&r->config.place);
    while (did && step.rows == 0)
        if (hear(r, 0, &did, &step, NULL) != GW_OK) return;
}
