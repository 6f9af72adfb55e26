#include "worker/scheduler.h"

#include <assert.h>
#include <stdlib.h>

/* A list in ascending order of `order`. */
struct list {
    struct gw_branch *first, *last;
    uint32_t len;
};

struct gw_scheduler {
    struct gw_scheduler_config config;
    struct gw_blocks *blocks;
    const struct gw_block_namer *namer;
    struct list running, waiting;
    uint32_t held;
    struct gw_step step; /* items: [max_sequences] */
    uint32_t *lanes;     /* [max_sequences] those that are free: the first lanes_len */
    uint32_t lanes_len;
    uint32_t budget; /* rows of the current plan */
    bool preempted;  /* during it */
    struct gw_scheduler_stats stats;
};

gw_err_t gw_scheduler_create(const struct gw_scheduler_config *config, struct gw_blocks *blocks,
                             const struct gw_block_namer *namer, struct gw_scheduler **out)
{
    assert(config->max_batch_tokens > 0 && config->max_sequences > 0);
    struct gw_scheduler *s = calloc(1, sizeof *s);
    if (!s) return GW_ERR_MEMORY;
    s->config = *config;
    if (s->config.max_sequences > s->config.max_batch_tokens)
        s->config.max_sequences = s->config.max_batch_tokens;
    if (s->config.max_chunk == 0) s->config.max_chunk = s->config.max_batch_tokens;
    if (s->config.depth == 0) s->config.depth = 1;
    s->blocks = blocks;
    s->namer = namer;
    s->step.items = calloc(s->config.max_sequences, sizeof *s->step.items);
    s->lanes = calloc(s->config.max_sequences, sizeof *s->lanes);
    if (!s->step.items || !s->lanes) {
        gw_scheduler_destroy(s);
        return GW_ERR_MEMORY;
    }
    while (s->lanes_len < s->config.max_sequences) {
        s->lanes[s->lanes_len] = s->config.max_sequences - 1 - s->lanes_len;
        s->lanes_len++;
    }
    *out = s;
    return GW_OK;
}

void gw_scheduler_destroy(struct gw_scheduler *s)
{
    if (!s) return;
    free(s->lanes);
    free(s->step.items);
    free(s);
}

/* ---- lists ---- */

static void list_insert_after(struct list *l, struct gw_branch *at, struct gw_branch *b)
{
    b->prev = at;
    b->next = at ? at->next : l->first;
    *(b->prev ? &b->prev->next : &l->first) = b;
    *(b->next ? &b->next->prev : &l->last) = b;
    l->len++;
}

/* Newcomers are the youngest: found at once from the end. */
static void list_insert_from_end(struct list *l, struct gw_branch *b)
{
    struct gw_branch *at = l->last;
    while (at && at->order > b->order) at = at->prev;
    list_insert_after(l, at, b);
}

/* Preempted ones are older than nearly all that wait: found at once from the beginning. */
static void list_insert_from_start(struct list *l, struct gw_branch *b)
{
    struct gw_branch *at = NULL, *next = l->first;
    while (next && next->order < b->order) {
        at = next;
        next = next->next;
    }
    list_insert_after(l, at, b);
}

static void list_remove(struct list *l, struct gw_branch *b)
{
    *(b->prev ? &b->prev->next : &l->first) = b->next;
    *(b->next ? &b->next->prev : &l->last) = b->prev;
    b->prev = b->next = NULL;
    l->len--;
}

/* ---- running ---- */

static void start_running(struct gw_scheduler *s, struct gw_branch *b)
{
    b->state = GW_BRANCH_RUNNING;
    b->lane = s->lanes[--s->lanes_len]; /* there are as many as may run */
    b->lane_known = 0;
    list_insert_from_end(&s->running, b);
}

static void stop_running(struct gw_scheduler *s, struct gw_branch *b)
{
    s->lanes[s->lanes_len++] = b->lane;
    list_remove(&s->running, b);
}

/* ---- blocks of a branch ---- */

static void drop_tail(struct gw_scheduler *s, struct gw_branch *b)
{
    if (b->tail_tokens > 0) gw_blocks_unref(s->blocks, b->tail_slot);
    b->tail_tokens = 0;
}

/* Last block first: a chain is evicted from its end (block_manager.h). */
static void release_blocks(struct gw_scheduler *s, struct gw_branch *b)
{
    drop_tail(s, b);
    while (b->blocks_len > b->dead) gw_blocks_unref(s->blocks, b->blocks[--b->blocks_len]);
    b->computed = b->sealed = b->blocks_len = b->dead = 0;
}

/* Gives back what no position from the next one on sees. */
static void release_behind(struct gw_scheduler *s, struct gw_branch *b)
{
    uint32_t behind = gw_blocks_behind(s->config.horizon, b->computed);
    while (b->dead < behind) gw_blocks_unref(s->blocks, b->blocks[b->dead++]);
}

static void preempt(struct gw_scheduler *s, struct gw_branch *victim)
{
    release_blocks(s, victim);
    stop_running(s, victim);
    victim->state = GW_BRANCH_WAITING;
    victim->preempted = true;
    list_insert_from_start(&s->waiting, victim);
    s->preempted = true;
    s->stats.preemptions++;
}

/* The youngest running branch that may be preempted for b: younger than b and in no step. */
static struct gw_branch *victim_for(const struct gw_scheduler *s, const struct gw_branch *b)
{
    struct gw_branch *victim = s->running.last;
    while (victim != b && victim->in_flight) victim = victim->prev;
    return victim == b ? NULL : victim;
}

/* Gets blocks for the next `rows` positions. Returns for how many there are blocks now. */
static uint32_t grow(struct gw_scheduler *s, struct gw_branch *b, uint32_t rows)
{
    uint32_t need = gw_blocks_for(b->computed + rows);
    while (b->blocks_len < need) {
        uint32_t slot;
        if (gw_blocks_take(s->blocks, &slot) == GW_OK) {
            b->blocks[b->blocks_len++] = slot;
            continue;
        }
        struct gw_branch *victim = victim_for(s, b);
        if (!victim) break;
        preempt(s, victim);
    }
    uint32_t covered = b->blocks_len * GW_BLOCK_TOKENS - b->computed;
    return covered < rows ? covered : rows;
}

/* ---- planning ---- */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t rows_wanted(const struct gw_branch *b)
{
    return gw_branch_len(b) - b->computed;
}

static void add_item(struct gw_scheduler *s, struct gw_branch *b, uint32_t rows)
{
    s->step.items[s->step.items_len++] =
        (struct gw_step_item){.branch = b, .rows = rows, .sample = rows == rows_wanted(b)};
    s->step.rows += rows;
    s->step.prefills |= rows > 1;
    b->in_flight = true;
    b->job->in_flight++;
}

/* Running branches that need one row; *idle: those of them that are in no step. */
static uint32_t count_decoding(const struct gw_scheduler *s, uint32_t *idle)
{
    uint32_t n = 0;
    *idle = 0;
    for (const struct gw_branch *b = s->running.first; b; b = b->next) {
        if (rows_wanted(b) != 1) continue;
        n++;
        *idle += !b->in_flight;
    }
    return n;
}

/* Victims are younger than who wants their blocks, so none of them is in the step yet. */
static void plan_running(struct gw_scheduler *s)
{
    uint32_t idle, decoding = count_decoding(s, &idle);
    uint32_t part = min_u32((decoding + s->config.depth - 1) / s->config.depth, idle);
    s->budget = s->config.max_batch_tokens;
    if (s->config.pace) s->budget = gw_step_pace_rows(s->config.pace, part, s->budget);
    uint32_t spare = s->budget - part;
    for (struct gw_branch *b = s->running.first; b; b = b->next) {
        uint32_t want = rows_wanted(b);
        if (b->in_flight || (want == 1 && part == 0)) continue;
        if (want == 1) part--;
        uint32_t rows = want == 1 ? 1 : min_u32(min_u32(want, s->config.max_chunk), spare);
        if (rows > 0) rows = grow(s, b, rows);
        if (rows == 0) continue;
        if (want > 1) spare -= rows;
        add_item(s, b, rows);
    }
}

/* The sealed blocks that b could share, found by name: blocks [*dead, result). At least one token is left to compute: its
 * logits are what the step is for. */
static uint32_t find_prefix(struct gw_scheduler *s, struct gw_branch *b, uint32_t *dead)
{
    uint32_t whole = gw_branch_whole(b), hits = 0, lost = 0; /* lost: up to there not all are here */
    *dead = 0;
    for (uint32_t i = 0; i < whole; i++) {
        b->blocks[i] = 0; /* some slot: nobody looks at a dead one */
        if (!gw_blocks_find(s->blocks, gw_branch_name(b, s->namer, i), &b->blocks[i])) {
            if (s->config.horizon == 0) break;
            lost = i + 1;
            continue;
        }
        uint32_t behind = gw_blocks_behind(s->config.horizon, (i + 1) * GW_BLOCK_TOKENS);
        if (behind < lost) continue;
        hits = i + 1;
        *dead = behind;
    }
    return hits;
}

/* How many of blocks [dead, hits) nobody references. */
static uint32_t count_unused(const struct gw_scheduler *s, const struct gw_branch *b, uint32_t dead,
                             uint32_t hits)
{
    uint32_t unused = 0;
    for (uint32_t i = dead; i < hits; i++) unused += gw_blocks_refs(s->blocks, b->blocks[i]) == 0;
    return unused;
}

/* Blocks that b needs beside those found, at any one time. */
static uint32_t blocks_needed(const struct gw_scheduler *s, const struct gw_branch *b, uint32_t hits)
{
    uint32_t need = gw_blocks_for(gw_branch_len(b)) - hits - (b->tail_tokens > 0);
    uint64_t seen = (uint64_t)s->config.horizon + s->config.max_chunk + 2 * GW_BLOCK_TOKENS;
    return s->config.horizon && seen < (uint64_t)need * GW_BLOCK_TOKENS ? gw_blocks_for((uint32_t)seen)
                                                                        : need;
}

/* What came of the block behind the whole ones goes on behind them; they are all there. */
static void use_tail(struct gw_branch *b)
{
    if (b->tail_tokens == 0) return;
    b->blocks[b->blocks_len++] = b->tail_slot;
    b->computed += b->tail_tokens;
    b->tail_tokens = 0;
}

/* Blocks [dead, hits) of a branch are here by name. */
struct found {
    uint32_t dead, hits;
};

/* Is there room for it now? */
static bool fits(struct gw_scheduler *s, struct gw_branch *b, struct found *found)
{
    found->hits = find_prefix(s, b, &found->dead);
    if (found->hits < gw_branch_whole(b)) drop_tail(s, b);
    uint64_t need = blocks_needed(s, b, found->hits) + s->running.len;
    return need <= gw_blocks_available(s->blocks) - count_unused(s, b, found->dead, found->hits);
}

/* A job of several branches shares its prompt with those that still run. */
static bool is_fetched(struct gw_scheduler *s, struct gw_branch *b, const struct found *found)
{
    struct gw_job *job = b->job;
    bool lacks = b->preempted && job->request.n == 1 && found->hits < gw_branch_whole(b);
    b->preempted = false;
    if (!lacks || !s->config.fetch || !s->config.fetch(s->config.arg, job)) return false;
    list_remove(&s->waiting, b);
    b->state = GW_BRANCH_HELD;
    return true;
}

static void admit(struct gw_scheduler *s, struct gw_branch *b, const struct found *found)
{
    for (uint32_t i = found->dead; i < found->hits; i++) gw_blocks_ref(s->blocks, b->blocks[i]);
    b->dead = found->dead;
    b->blocks_len = b->sealed = found->hits;
    b->computed = found->hits * GW_BLOCK_TOKENS;
    use_tail(b);
    s->stats.prefix_query_tokens += gw_branch_len(b);
    s->stats.prefix_hit_tokens += b->computed;
    if (!b->job->started) b->job->hit_tokens += b->computed;
    list_remove(&s->waiting, b);
    start_running(s, b);
}

static void run_newly(struct gw_scheduler *s, struct gw_branch *b)
{
    uint32_t spare = s->budget - s->step.rows;
    uint32_t rows = min_u32(min_u32(rows_wanted(b), s->config.max_chunk), spare);
    uint32_t got = grow(s, b, rows);
    assert(got == rows); /* admission counted the blocks */
    (void)got;
    add_item(s, b, rows);
}

static void plan_waiting(struct gw_scheduler *s)
{
    struct found found;
    while (s->waiting.first && s->running.len < s->config.max_sequences && s->step.rows < s->budget) {
        struct gw_branch *b = s->waiting.first;
        if (!fits(s, b, &found)) return;
        if (is_fetched(s, b, &found)) continue;
        admit(s, b, &found);
        run_newly(s, b);
    }
}

const struct gw_step *gw_scheduler_plan(struct gw_scheduler *s)
{
    s->step.items_len = s->step.rows = 0;
    s->step.prefills = false;
    s->preempted = false;
    plan_running(s);
    if (!s->preempted) plan_waiting(s);
    return &s->step;
}

void gw_scheduler_computed(struct gw_scheduler *s, const struct gw_step_item *item)
{
    struct gw_branch *b = item->branch;
    b->in_flight = false;
    b->job->in_flight--;
    if (b->state == GW_BRANCH_DONE) return;
    b->computed += item->rows;
    for (; (b->sealed + 1) * GW_BLOCK_TOKENS <= b->computed; b->sealed++) {
        uint32_t slot =
            gw_blocks_seal(s->blocks, b->blocks[b->sealed], gw_branch_name(b, s->namer, b->sealed));
        if (slot != b->blocks[b->sealed]) b->lane_known = min_u32(b->lane_known, b->sealed);
        b->blocks[b->sealed] = slot;
    }
    release_behind(s, b);
}

/* ---- jobs ---- */

static void leave_held(struct gw_scheduler *s, struct gw_branch *b)
{
    b->job->held--;
    s->held--;
}

static void hold_to_waiting(struct gw_scheduler *s, struct gw_branch *b)
{
    b->state = GW_BRANCH_WAITING;
    leave_held(s, b);
    list_insert_from_end(&s->waiting, b);
}

static struct gw_branch *first_in_state(struct gw_job *job, enum gw_branch_state state)
{
    for (uint32_t i = 0; i < job->request.n; i++)
        if (job->branches[i].state == state) return &job->branches[i];
    return NULL;
}

/* One branch at least must be on its way while others are HELD. */
static void send_one_ahead(struct gw_scheduler *s, struct gw_job *job)
{
    struct gw_branch *held = job->held ? first_in_state(job, GW_BRANCH_HELD) : NULL;
    if (held && !first_in_state(job, GW_BRANCH_WAITING) && !first_in_state(job, GW_BRANCH_RUNNING))
        hold_to_waiting(s, held);
}

void gw_scheduler_add(struct gw_scheduler *s, struct gw_job *job)
{
    job->held = job->live;
    s->held += job->live;
    send_one_ahead(s, job);
}

void gw_scheduler_finish(struct gw_scheduler *s, struct gw_branch *b)
{
    enum gw_branch_state was = b->state;
    if (was == GW_BRANCH_DONE) return;
    release_blocks(s, b);
    if (was == GW_BRANCH_RUNNING) stop_running(s, b);
    if (was == GW_BRANCH_WAITING) list_remove(&s->waiting, b);
    if (was == GW_BRANCH_HELD && !b->job->refilling) leave_held(s, b);
    b->state = GW_BRANCH_DONE;
    b->job->live--;
    send_one_ahead(s, b->job);
}

static bool copy_partial(struct gw_scheduler *s, const struct gw_branch *from, struct gw_branch *to)
{
    uint32_t slot;
    if (from->blocks_len == from->sealed) return true;
    if (gw_blocks_take(s->blocks, &slot) != GW_OK) return false;
    gw_blocks_copy(s->blocks, from->blocks[from->sealed], slot);
    to->blocks[to->blocks_len++] = slot;
    return true;
}

bool gw_scheduler_fork(struct gw_scheduler *s, const struct gw_branch *from, struct gw_branch *to)
{
    assert(to->state == GW_BRANCH_HELD && from->computed == gw_branch_len(to));
    if (s->running.len >= s->config.max_sequences) return false;
    for (uint32_t i = 0; i < from->sealed; i++) {
        if (i >= from->dead) gw_blocks_ref(s->blocks, from->blocks[i]);
        to->blocks[to->blocks_len++] = from->blocks[i];
    }
    to->dead = from->dead;
    if (!copy_partial(s, from, to)) {
        release_blocks(s, to);
        return false;
    }
    for (; to->names_len < from->sealed; to->names_len++)
        to->names[to->names_len] = from->names[to->names_len];
    to->computed = from->computed;
    to->sealed = from->sealed;
    leave_held(s, to);
    start_running(s, to);
    return true;
}

void gw_scheduler_release(struct gw_scheduler *s, struct gw_job *job)
{
    for (uint32_t i = 0; job->held > 0; i++)
        if (job->branches[i].state == GW_BRANCH_HELD) hold_to_waiting(s, &job->branches[i]);
}

struct gw_scheduler_stats gw_scheduler_stats(const struct gw_scheduler *s)
{
    struct gw_scheduler_stats stats = s->stats;
    stats.running = s->running.len;
    stats.waiting = s->waiting.len + s->held;
    return stats;
}
