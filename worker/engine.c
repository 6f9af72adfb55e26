#include "worker/engine_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"

/* Tokens of a branch that are drawn from whole rows once parts could not decide: a distribution that is so flat stays so for
 * a while, and a draw that is postponed costs a step, a whole row much less. */
#define WHOLE_TOKENS 16

/* ---- set-up ---- */

static void copy_slot(void *arg, uint32_t from, uint32_t to)
{
    gw_rank_copy_slot(arg, from, to);
}

static void forget_slot(void *arg, uint32_t slot)
{
    gw_rank_forget_slot(arg, slot);
}

static void seal_slot(void *arg, uint32_t slot, const struct gw_block_name *name)
{
    gw_rank_seal_slot(arg, slot, name);
}

static gw_err_t create_flights(struct gw_engine *e, struct gw_err_ctx *ctx)
{
    e->depth = gw_rank_place(e->config.rank)->stages;
    for (uint32_t i = 0; i < e->depth; i++) {
        e->flights[i].items = calloc(e->config.room.max_sequences, sizeof *e->flights[i].items);
        if (!e->flights[i].items ||
            gw_wish_room_init(&e->flights[i].room, GW_WISH_IDS_MAX, GW_WISH_CHANGES_MAX) != GW_OK)
            return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    }
    return GW_OK;
}

static gw_err_t create_refill(struct gw_engine *e, struct gw_err_ctx *ctx)
{
    const struct gw_engine_config *c = &e->config;
    const struct gw_cells *cells = &c->model->cells;
    const struct gw_refill_config config = {
        .blocks = e->blocks,
        .namer = &e->namer,
        .copier = c->copier,
        .heads = {.share_heads = cells->share_heads, .query_group = cells->query_group},
        .stores = c->stores,
        .horizon = gw_model_horizon(&c->model->config),
        .block_bytes = gw_page_pool_slot_bytes(&c->model->config, cells, gw_cells_all(cells), c->ops->kv),
        .always = c->always_fetch};
    if (gw_refill_create(&config, &e->refill) == GW_OK) return GW_OK;
    return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
}

/* What the rank's pages hold already is the beginning of the prefix cache. */
static gw_err_t restore_blocks(struct gw_engine *e)
{
    struct gw_page_dir *dir = gw_rank_dir(e->config.rank);
    uint32_t len = dir ? gw_page_dir_len(dir) : 0;
    if (len == 0) return GW_OK;
    struct gw_page_dir_block *list = malloc(len * sizeof *list);
    if (!list) return GW_ERR_MEMORY;
    gw_blocks_restore(e->blocks, list, gw_page_dir_list(dir, list, len));
    free(list);
    return GW_OK;
}

static gw_err_t create_parts(struct gw_engine *e, struct gw_err_ctx *ctx)
{
    const struct gw_engine_config *c = &e->config;
    const struct gw_blocks_pages pages = {
        .arg = c->rank, .copy = copy_slot, .forget = forget_slot, .sealed = seal_slot};
    TRY(create_flights(e, ctx));
    e->pace.target_us = c->step_target_us;
    const struct gw_scheduler_config scheduler = {.max_batch_tokens = c->room.max_rows,
                                                  .max_sequences = c->room.max_sequences,
                                                  .max_chunk = c->max_chunk,
                                                  .pace = &e->pace,
                                                  .horizon = gw_model_horizon(&c->model->config),
                                                  .depth = e->depth,
                                                  .fetch = engine_fetch_back,
                                                  .arg = e};
    const struct gw_sampler_config sampler = {.vocab = c->model->config.vocab,
                                              .shares = c->model->cells.shares,
                                              .ops = c->ops,
                                              .device = gw_rank_device(c->rank)};
    TRY(gw_block_namer_init(&e->namer, c->key, c->key_len, c->fingerprint, sizeof c->fingerprint,
                            c->ops->profile, gw_dtype_name(c->ops->kv), ctx));
    e->ids = calloc(c->room.max_rows, sizeof *e->ids);
    e->seqs = calloc(c->room.max_sequences, sizeof *e->seqs);
    e->samples = calloc(c->room.max_sequences, sizeof *e->samples);
    if (!e->ids || !e->seqs || !e->samples || gw_blocks_create(c->room.slots, &pages, &e->blocks) != GW_OK ||
        restore_blocks(e) != GW_OK || gw_sampler_create(&sampler, &e->sampler) != GW_OK ||
        gw_scheduler_create(&scheduler, e->blocks, &e->namer, &e->scheduler) != GW_OK)
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    if (c->early_slots > 0) gw_blocks_set_limit(e->blocks, c->early_slots);
    return c->copier ? create_refill(e, ctx) : GW_OK;
}

uint32_t gw_engine_context_of(const struct gw_model *model, const struct gw_rank_room *room)
{
    uint64_t capacity = (uint64_t)room->slots * GW_BLOCK_TOKENS;
    uint32_t context = model->config.context < room->positions ? model->config.context : room->positions;
    return capacity < context ? (uint32_t)capacity : context;
}

gw_err_t gw_engine_create(const struct gw_engine_config *config, struct gw_engine **out,
                          struct gw_err_ctx *ctx)
{
    const struct gw_rank_room *room = &config->room;
    assert(room->slots > 0 && room->max_rows > 0 && room->max_sequences > 0 && room->positions > 0);
    struct gw_engine *e = calloc(1, sizeof *e);
    if (!e) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    e->config = *config;
    e->context = gw_engine_context_of(config->model, room);
    gw_device_enter_thread();
    gw_err_t err = create_parts(e, ctx);
    e->config.key = NULL; /* the namer has its own copy */
    if (err == GW_OK)
        *out = e;
    else
        gw_engine_destroy(e);
    return err;
}

/* The pipeline is dead: what of the flight is not settled yet never will be. */
static void give_up_flight(struct engine_flight *f)
{
    for (uint32_t i = 0; i < f->items_len; i++) {
        struct gw_branch *b = f->items[i].branch;
        if (!b) continue;
        b->in_flight = false;
        if (--b->job->in_flight == 0 && b->job->forgotten) gw_job_destroy(b->job);
    }
}

void gw_engine_destroy(struct gw_engine *e)
{
    if (!e) return;
    for (uint32_t i = 0; i < e->flights_len; i++) give_up_flight(&e->flights[i]);
    if (e->scheduler) gw_engine_reset(e);
    gw_refill_destroy(e->refill);
    gw_scheduler_destroy(e->scheduler);
    gw_sampler_destroy(e->sampler);
    gw_blocks_destroy(e->blocks);
    for (uint32_t i = 0; i < e->depth; i++) {
        free(e->flights[i].items);
        gw_wish_room_fini(&e->flights[i].room);
    }
    free(e->ids);
    free(e->seqs);
    free(e->samples);
    gw_bytes_wipe(&e->namer, sizeof e->namer);
    free(e);
}

uint32_t gw_engine_context(const struct gw_engine *e)
{
    return e->context;
}

uint32_t gw_engine_kv_tokens(const struct gw_engine *e)
{
    return gw_blocks_total(e->blocks) * GW_BLOCK_TOKENS;
}

/* ---- beginning a step ---- */

static struct gw_sample_in sample_in_of(const struct gw_branch *b)
{
    const struct gw_request *r = &b->job->request;
    return (struct gw_sample_in){.params = &r->sampling,
                                 .prompt = r->prompt,
                                 .prompt_len = r->prompt_len,
                                 .output = b->output,
                                 .output_len = b->output_len,
                                 .branch = b->index};
}

/* What is asked of the row of b's next token. It is whole for whoever looks at rows, for siblings that will draw from it, too,
 * and where parts could not decide lately. */
static void make_wish(struct gw_engine *e, const struct gw_branch *b, struct gw_wish_room *room,
                      struct gw_wish *out)
{
    const struct gw_sample_in in = sample_in_of(b);
    bool siblings = b->job->held > 0 && b->output_len == 0;
    *out = (struct gw_wish){.whole = true};
    if (e->config.sink.logits || siblings || b->output_len < b->whole_until) return;
    gw_sampler_wish(e->sampler, &in, room, out);
}

/* Row-major: sequences one after another, in the step's order. */
static void describe(struct gw_engine *e, const struct gw_step *step, struct gw_wish_room *room,
                     struct gw_step_desc *desc)
{
    uint32_t row = 0, samples = 0;
    gw_wish_room_clear(room);
    for (uint32_t i = 0; i < step->items_len; i++) {
        const struct gw_step_item *item = &step->items[i];
        struct gw_branch *b = item->branch;
        gw_branch_copy_ids(b, b->computed, item->rows, e->ids + row);
        e->seqs[i] = (struct gw_step_seq){.rows = item->rows,
                                          .position = b->computed,
                                          .lane = b->lane,
                                          .blocks = b->blocks,
                                          .blocks_at = b->lane_known,
                                          .blocks_to = b->blocks_len};
        b->lane_known = b->blocks_len;
        row += item->rows;
        if (!item->sample) continue;
        e->samples[samples].row = row - 1;
        make_wish(e, b, room, &e->samples[samples++].wish);
    }
    *desc = (struct gw_step_desc){.rows = step->rows,
                                  .seqs_len = step->items_len,
                                  .samples_len = samples,
                                  .ids = e->ids,
                                  .seqs = e->seqs,
                                  .samples = e->samples};
}

/* Positions that attention reads, over all rows. */
static uint64_t kv_tokens_of(const struct gw_step_desc *desc, uint32_t horizon)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < desc->seqs_len; i++) {
        const uint64_t rows = desc->seqs[i].rows, all = rows * desc->seqs[i].position + rows * (rows + 1) / 2;
        sum += horizon && all > rows * horizon ? rows * horizon : all;
    }
    return sum;
}

static void say_origin(struct gw_engine *e, const struct gw_job *job)
{
    const struct gw_engine_sink *sink = &e->config.sink;
    struct gw_msg_origin origin = {.request = job->request.id,
                                   .attempt = job->attempt,
                                   .moved_tokens = job->moved_tokens,
                                   .stored_tokens = job->stored_tokens};
    for (uint32_t i = 0; i < job->request.n; i++)
        if (job->branches[i].state != GW_BRANCH_DONE)
            origin.total_tokens += gw_branch_len(&job->branches[i]) - 1;
    uint32_t fetched = origin.moved_tokens + origin.stored_tokens;
    origin.cached_tokens = job->hit_tokens > fetched ? job->hit_tokens - fetched : 0;
    if (sink->origin) sink->origin(sink->arg, &origin);
}

/* It ran elsewhere before, or its pages came from elsewhere. */
static bool is_moved(const struct gw_job *job)
{
    bool moved = job->moved_tokens + job->stored_tokens > 0;
    for (uint32_t i = 0; i < job->request.n; i++) moved |= job->branches[i].output_len > 0;
    return moved;
}

static void announce(struct gw_engine *e, const struct gw_step *step)
{
    const struct gw_engine_sink *sink = &e->config.sink;
    for (uint32_t i = 0; i < step->items_len; i++) {
        struct gw_job *job = step->items[i].branch->job;
        if (job->started) continue;
        job->started = true;
        if (sink->started) sink->started(sink->arg, job->request.id, job->attempt);
        if (is_moved(job)) say_origin(e, job);
    }
}

/* *did = false: there is nothing to begin. */
static gw_err_t begin_step(struct gw_engine *e, bool *did, struct gw_err_ctx *ctx)
{
    struct gw_step_desc desc;
    int64_t start_us = gw_clock_mono_us();
    const struct gw_step *step = gw_scheduler_plan(e->scheduler);
    *did = step->items_len > 0;
    if (!*did) return GW_OK;
    struct engine_flight *f = &e->flights[e->flights_len++];
    f->items_len = step->items_len;
    f->rows = step->rows;
    f->prefills = step->prefills;
    f->start_us = start_us;
    memcpy(f->items, step->items, step->items_len * sizeof *f->items);
    describe(e, step, &f->room, &desc);
    f->kv_tokens = kv_tokens_of(&desc, gw_model_horizon(&e->config.model->config));
    announce(e, step);
    int64_t lead_us = gw_clock_mono_us();
    TRY(gw_rank_lead(e->config.rank, &desc, ctx));
    e->stats.kernel_us += (uint64_t)(gw_clock_mono_us() - lead_us);
    return GW_OK;
}

/* ---- ending a step ---- */

static void emit(struct gw_engine *e, const struct gw_branch *b, struct gw_sample_out *drawn)
{
    const struct gw_engine_sink *sink = &e->config.sink;
    struct gw_tokens tokens = {.first = b->output_len - 1,
                               .count = 1,
                               .top_n = b->job->request.sampling.top_logprobs,
                               .ids = &drawn->id,
                               .logprobs = &drawn->logprob,
                               .top = drawn->top};
    e->stats.tokens++;
    if (sink->tokens) sink->tokens(sink->arg, b->job->request.id, b->job->attempt, b->index, &tokens);
}

/* Draws the next token of b from the parts. False if they cannot decide. */
static bool draw_from_parts(const struct gw_branch *b, const struct gw_answer *a, struct gw_sample_out *out)
{
    const struct gw_sample_in in = sample_in_of(b);
    return a->parts_len > 0 && gw_sampler_decide(&in, &a->wish->want, a->parts, a->parts_len, out);
}

/* part: of the whole row, that could not decide; or NULL. */
static void draw_from_row(struct gw_engine *e, const struct gw_branch *b, const float *row,
                          const struct gw_pick_part *part, struct gw_sample_out *out)
{
    const struct gw_sample_in in = sample_in_of(b);
    const struct gw_engine_sink *sink = &e->config.sink;
    if (sink->logits) sink->logits(sink->arg, b->job->request.id, b->index, b->output_len, row);
    gw_sampler_draw(e->sampler, &in, row, part, out);
}

/* Appends the token that was drawn and says it; the branch may end by that. */
static void append(struct gw_engine *e, struct gw_branch *b, struct gw_sample_out *drawn)
{
    b->output[b->output_len++] = drawn->id;
    emit(e, b, drawn);
    if (gw_request_finish_at(&b->job->request.sampling, b->output_len - 1, drawn->id) != GW_FINISH_NONE)
        gw_scheduler_finish(e->scheduler, b);
}

/* Siblings that were HELD until b had computed their prompt. Those that begin with it draw their first token
 * from the same row; NULL: they must wait for their own. */
static void let_siblings_go(struct gw_engine *e, struct gw_branch *b, const float *row)
{
    struct gw_job *job = b->job;
    struct gw_sample_out drawn;
    for (uint32_t i = 0; row && b->output_len == 0 && i < job->request.n; i++) {
        struct gw_branch *to = &job->branches[i];
        if (to->state != GW_BRANCH_HELD || to->output_len != 0) continue;
        if (!gw_scheduler_fork(e->scheduler, b, to)) continue;
        draw_from_row(e, to, row, NULL, &drawn);
        append(e, to, &drawn);
    }
    gw_scheduler_release(e->scheduler, job);
}

/* Nobody has what is needed to draw: the position is computed again in the next step, where the whole row is asked for. The
 * same KV is written there once more. */
static void postpone(struct gw_step_item *item)
{
    struct gw_branch *b = item->branch;
    item->rows--;
    b->whole_until = b->output_len + WHOLE_TOKENS;
}

/* The item's rows are computed; answer is of its last one's logits, NULL unless item->sample; decided: what its parts have decided,
 * or NULL. The item's branch is NULL then. */
static void settle(struct gw_engine *e, struct gw_step_item *item, const struct gw_answer *answer,
                   struct gw_sample_out *decided)
{
    struct gw_branch *b = item->branch;
    struct gw_job *job = b->job;
    struct gw_sample_out drawn;
    const float *row = answer ? answer->row : NULL;
    if (answer && !decided && !row) postpone(item);
    gw_scheduler_computed(e->scheduler, item);
    item->branch = NULL;
    if (job->forgotten) {
        if (job->in_flight == 0) gw_job_destroy(job);
        return;
    }
    if (b->state == GW_BRANCH_DONE) return;
    if (job->held > 0 && b->computed >= job->request.prompt_len) let_siblings_go(e, b, row);
    if (!decided && row) draw_from_row(e, b, row, answer->parts_len ? answer->parts : NULL, &drawn);
    if (decided || row) append(e, b, decided ? decided : &drawn);
    if (job->live == 0) engine_forget_job(e, engine_find_job(e, job->request.id));
}

/* Settles the item of answer i. The whole row is looked at where the parts cannot decide. */
static gw_err_t settle_sample(struct gw_engine *e, struct gw_step_item *item, uint32_t i,
                              struct gw_answer *answer, struct gw_err_ctx *ctx)
{
    struct gw_branch *b = item->branch;
    struct gw_sample_out drawn;
    bool wanted = !b->job->forgotten && b->state != GW_BRANCH_DONE;
    bool decided = wanted && draw_from_parts(b, answer, &drawn);
    if (wanted && !decided && !answer->row) TRY(gw_rank_row(e->config.rank, i, &answer->row, ctx));
    settle(e, item, answer, decided ? &drawn : NULL);
    return GW_OK;
}

/* Answers for the flight's samples [first, first + count), which are those of items, and their draws. */
static gw_err_t sample_some(struct gw_engine *e, struct gw_step_item *const *items, uint32_t first,
                            uint32_t count, struct gw_err_ctx *ctx)
{
    struct gw_answer answers[GW_ANSWERS_ROWS];
    int64_t start_us = gw_clock_mono_us();
    TRY(gw_rank_answers(e->config.rank, first, count, answers, ctx));
    e->stats.kernel_us += (uint64_t)(gw_clock_mono_us() - start_us);
    for (uint32_t i = 0; i < count; i++) TRY(settle_sample(e, items[i], i, &answers[i], ctx));
    return GW_OK;
}

static gw_err_t settle_all(struct gw_engine *e, struct engine_flight *f, struct gw_err_ctx *ctx)
{
    struct gw_step_item *items[GW_ANSWERS_ROWS];
    uint32_t count = 0, first = 0;
    for (uint32_t i = 0; i < f->items_len; i++) {
        struct gw_step_item *item = &f->items[i];
        if (!item->sample) {
            settle(e, item, NULL, NULL);
            continue;
        }
        items[count++] = item;
        if (count < GW_ANSWERS_ROWS) continue;
        TRY(sample_some(e, items, first, count, ctx));
        first += count;
        count = 0;
    }
    return count ? sample_some(e, items, first, count, ctx) : GW_OK;
}

static gw_err_t end_oldest_step(struct gw_engine *e, struct gw_err_ctx *ctx)
{
    struct engine_flight f = e->flights[0];
    TRY(settle_all(e, &f, ctx));
    TRY(gw_rank_step_over(e->config.rank, ctx));
    e->flights_len--;
    for (uint32_t i = 0; i < e->flights_len; i++) e->flights[i] = e->flights[i + 1];
    e->flights[e->flights_len] = f; /* its memory is used again */
    e->steps++;
    e->step_us = (uint64_t)(gw_clock_mono_us() - f.start_us);
    e->stats.rows += f.rows;
    if (f.prefills) gw_step_pace_measured(&e->pace, f.rows, e->step_us);
    e->last_rows = f.rows;
    e->last_sequences = f.items_len;
    e->last_kv_tokens = f.kv_tokens;
    if (e->refill) gw_refill_computed(e->refill, f.rows, (int64_t)e->step_us);
    return GW_OK;
}

gw_err_t gw_engine_step(struct gw_engine *e, bool *did, struct gw_err_ctx *ctx)
{
    int64_t start_us = gw_clock_mono_us();
    bool begun = false;
    gw_engine_tend(e);
    if (e->flights_len < e->depth) TRY(begin_step(e, &begun, ctx));
    *did = begun || e->flights_len > 0;
    if (e->flights_len > 0 && (!begun || e->flights_len == e->depth)) TRY(end_oldest_step(e, ctx));
    if (!*did) return gw_rank_tell_sealed(e->config.rank, ctx);
    e->stats.busy_us += (uint64_t)(gw_clock_mono_us() - start_us);
    return GW_OK;
}

gw_err_t gw_engine_settle(struct gw_engine *e, struct gw_err_ctx *ctx)
{
    while (e->flights_len > 0) TRY(end_oldest_step(e, ctx));
    return gw_rank_tell_sealed(e->config.rank, ctx);
}

void gw_engine_stats(const struct gw_engine *e, struct gw_engine_stats *out)
{
    const struct gw_scheduler_stats s = gw_scheduler_stats(e->scheduler);
    uint32_t total = gw_blocks_total(e->blocks);
    *out = e->stats;
    out->progress = (struct gw_msg_heartbeat){
        .steps = e->steps,
        .step_us = e->step_us,
        .running = s.running,
        .waiting = s.waiting,
        .kv_used_tokens = (total - gw_blocks_available(e->blocks)) * GW_BLOCK_TOKENS,
        .kv_total_tokens = total * GW_BLOCK_TOKENS,
        .prefix_hit_tokens = s.prefix_hit_tokens,
        .prefix_query_tokens = s.prefix_query_tokens,
        .preemptions = s.preemptions,
        .step_rows = e->last_rows,
        .step_sequences = e->last_sequences,
        .step_kv_tokens = e->last_kv_tokens,
    };
}
