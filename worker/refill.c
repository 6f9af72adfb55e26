#include "worker/refill.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/id_map.h"
#include "worker/forecast.h"

/* One request. */
struct item {
    struct item *next;
    struct gw_job *job; /* NULL: dropped */
    bool warm, pulled;  /* pulled: part of the pull under way */
    uint32_t tokens;    /* missing when it was added */
    int64_t added_us;
    uint32_t holders_len;
    struct gw_page_holder holders[]; /* [holders_len] */
};

struct list {
    struct item *first, **end;
};

/* A block that is being pulled. */
struct claim {
    struct item *item;
    struct gw_branch *tail_of; /* it is the part-full block of that branch; NULL: a whole one */
};

struct gw_refill {
    struct gw_refill_config config;
    struct list waiting, ready; /* those of the pull are in waiting, in front */
    struct item *given;         /* the last one given by next, if it was warm */
    /* the pull under way */
    struct gw_block_name *names; /* [GW_PULL_NAMES_MAX] */
    uint32_t *slots;             /* [GW_PULL_NAMES_MAX] */
    struct claim *claims;        /* [GW_PULL_NAMES_MAX] */
    uint32_t len, cap;
    uint32_t tokens;          /* that whoever waits for it would compute else; 0: nobody waits */
    struct gw_buf kept;       /* u32 slots of blocks that are here, so that no claim evicts them */
    int64_t begun_us, due_us; /* due: when it is predicted to be over */
    struct gw_forecast forecast;
};

static void list_init(struct list *l)
{
    l->first = NULL;
    l->end = &l->first;
}

static void list_push(struct list *l, struct item *it)
{
    it->next = NULL;
    *l->end = it;
    l->end = &it->next;
}

/* Before those that nobody waits for, but for what is being pulled. */
static void list_insert(struct list *l, struct item *it)
{
    struct item **at = &l->first;
    while (*at && ((*at)->pulled || !(*at)->warm || it->warm)) at = &(*at)->next;
    it->next = *at;
    *at = it;
    if (!it->next) l->end = &it->next;
}

static struct item *list_pop(struct list *l)
{
    struct item *it = l->first;
    if (!it) return NULL;
    l->first = it->next;
    if (!l->first) l->end = &l->first;
    return it;
}

gw_err_t gw_refill_create(const struct gw_refill_config *config, struct gw_refill **out)
{
    struct gw_refill *r = calloc(1, sizeof *r);
    if (!r) return GW_ERR_MEMORY;
    r->config = *config;
    r->forecast = (struct gw_forecast){.block_bytes = config->block_bytes, .always = config->always};
    list_init(&r->waiting);
    list_init(&r->ready);
    gw_buf_init(&r->kept, (size_t)GW_BLOCKS_MAX * sizeof(uint32_t));
    r->names = calloc(GW_PULL_NAMES_MAX, sizeof *r->names);
    r->slots = calloc(GW_PULL_NAMES_MAX, sizeof *r->slots);
    r->claims = calloc(GW_PULL_NAMES_MAX, sizeof *r->claims);
    if (!r->names || !r->slots || !r->claims) {
        gw_refill_destroy(r);
        return GW_ERR_MEMORY;
    }
    *out = r;
    return GW_OK;
}

static void free_item(struct item *it)
{
    if (it && it->warm) gw_job_destroy(it->job);
    free(it);
}

static void free_list(struct list *l)
{
    struct item *it;
    while ((it = list_pop(l))) free_item(it);
}

void gw_refill_destroy(struct gw_refill *r)
{
    if (!r) return;
    free_list(&r->waiting);
    free_list(&r->ready);
    free_item(r->given);
    gw_buf_fini(&r->kept);
    free(r->names);
    free(r->slots);
    free(r->claims);
    free(r);
}

/* ---- what is missing ---- */

/* The first block that b wants: if it ran before, it goes on behind its whole blocks and wants what is seen from there.
 * What a new prompt shares with others may end anywhere. */
static uint32_t first_wanted(const struct gw_refill *r, const struct gw_branch *b)
{
    uint32_t next = gw_branch_whole(b) * GW_BLOCK_TOKENS;
    return b->output_len > 0 ? gw_blocks_behind(r->config.horizon, next) : 0;
}

static uint32_t have_blocks(struct gw_refill *r, struct gw_branch *b)
{
    uint32_t whole = gw_branch_whole(b), have = first_wanted(r, b), slot;
    while (have < whole && gw_blocks_find(r->config.blocks, gw_branch_name(b, r->config.namer, have), &slot))
        have++;
    return have;
}

/* Tails come with a hand-over alone, and are for who goes on with the request. */
static uint32_t tail_tokens(const struct gw_branch *b, bool warm)
{
    return warm || b->output_len == 0 ? 0 : gw_branch_tail(b);
}

static uint32_t missing_tokens(struct gw_refill *r, struct gw_job *job, bool warm)
{
    uint32_t missing = 0;
    for (uint32_t i = 0; i < job->request.n; i++) {
        struct gw_branch *b = &job->branches[i];
        if (b->state == GW_BRANCH_DONE) continue;
        missing += (gw_branch_whole(b) - have_blocks(r, b)) * GW_BLOCK_TOKENS + tail_tokens(b, warm);
    }
    return missing;
}

/* Fetching that comes before that of one more request: the pull under way, and the line. */
static double line_us(const struct gw_refill *r, int64_t now_us)
{
    double us = r->len > 0 && r->due_us > now_us ? (double)(r->due_us - now_us) : 0;
    for (const struct item *it = r->waiting.first; it; it = it->next)
        if (!it->pulled && !it->warm) us += gw_forecast_fetch_us(&r->forecast, it->tokens);
    return us;
}

/* Is it fetched? Else it is left to computing. What is warmed has no line: it would be computed when it is there. */
static bool decide(struct gw_refill *r, uint32_t tokens, bool warm, double ahead_us)
{
    int64_t now_us = gw_clock_mono_us();
    struct gw_forecast alone = r->forecast;
    alone.computed_us = 0;
    if (warm) return gw_forecast_prefers_fetch(&alone, tokens, 0, now_us);
    if (gw_forecast_prefers_fetch(&r->forecast, tokens, ahead_us, now_us)) return true;
    gw_forecast_leave(&r->forecast, tokens, now_us);
    return false;
}

/* May a store have pages of what nobody else is known to have? It is not kept waiting for others' pages. */
static bool may_be_stored(const struct gw_refill *r, uint32_t missing)
{
    const struct gw_refill_config *c = &r->config;
    return c->stores && missing >= GW_REFILL_NEW_TOKENS && !r->waiting.first &&
           gw_copier_is_idle(c->copier) && gw_stores_ready(c->stores);
}

uint32_t gw_refill_wants(struct gw_refill *r, struct gw_job *job, const struct gw_msg_submit *submit,
                         bool warm)
{
    bool ran = false; /* it ran before: somebody may know it whom nobody knows */
    for (uint32_t i = 0; i < job->request.n; i++) ran |= job->branches[i].output_len > 0;
    uint32_t missing = missing_tokens(r, job, warm);
    bool nowhere = submit->holders_len == 0 && !ran && !may_be_stored(r, missing);
    if (nowhere) return 0;
    return decide(r, missing, warm, warm ? 0 : line_us(r, gw_clock_mono_us())) ? missing : 0;
}

uint32_t gw_refill_wants_back(struct gw_refill *r, struct gw_job *job)
{
    uint32_t missing = missing_tokens(r, job, false);
    if (!may_be_stored(r, missing)) return 0;
    return decide(r, missing, false, 0) ? missing : 0; /* nothing is in the line before it */
}

uint32_t gw_refill_have(struct gw_refill *r, struct gw_job *job)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < job->request.n; i++) {
        uint32_t have = job->branches[i].state != GW_BRANCH_DONE ? have_blocks(r, &job->branches[i]) : 0;
        if (have > most) most = have;
    }
    return most * GW_BLOCK_TOKENS;
}

/* ---- requests ---- */

gw_err_t gw_refill_add(struct gw_refill *r, struct gw_job *job, uint32_t tokens,
                       const struct gw_page_holder *holders, uint32_t holders_len, bool warm)
{
    struct item *it = calloc(1, sizeof *it + holders_len * sizeof *holders);
    if (!it) return GW_ERR_MEMORY;
    it->job = job;
    it->warm = warm;
    it->tokens = tokens;
    it->added_us = gw_clock_mono_us();
    it->holders_len = holders_len;
    if (holders_len) memcpy(it->holders, holders, holders_len * sizeof *holders);
    list_insert(&r->waiting, it);
    return GW_OK;
}

static void drop_from(struct list *l, const struct gw_job *job)
{
    for (struct item *it = l->first; it; it = it->next)
        if (it->job == job && !it->warm) it->job = NULL;
}

void gw_refill_drop(struct gw_refill *r, const struct gw_job *job)
{
    drop_from(&r->waiting, job);
    drop_from(&r->ready, job);
}

bool gw_refill_next(struct gw_refill *r, struct gw_job **job, bool *warm)
{
    free_item(r->given);
    r->given = NULL;
    for (struct item *it; (it = list_pop(&r->ready));) {
        *job = it->job;
        *warm = it->warm;
        if (it->warm) {
            r->given = it;
            return true;
        }
        free(it);
        if (*job) return true;
    }
    return false;
}

/* ---- claiming ---- */

static bool same_holders(const struct item *a, const struct item *b)
{
    return a->holders_len == b->holders_len &&
           memcmp(a->holders, b->holders, a->holders_len * sizeof *a->holders) == 0;
}

static bool keep(struct gw_refill *r, uint32_t slot)
{
    gw_buf_u32(&r->kept, slot);
    if (r->kept.err != GW_OK) return false;
    gw_blocks_ref(r->config.blocks, slot);
    return true;
}

/* False: the pull is full, or the pool is. */
static bool claim(struct gw_refill *r, struct item *it, const struct gw_block_name *name,
                  struct gw_branch *tail_of, struct gw_id_map *claimed)
{
    uint32_t slot;
    if (gw_id_map_get(claimed, gw_block_name_id(name))) return true; /* for another request */
    if (r->len == r->cap || gw_blocks_take(r->config.blocks, &slot) != GW_OK) return false;
    if (gw_id_map_put(claimed, gw_block_name_id(name), it) != GW_OK) {
        gw_blocks_unref(r->config.blocks, slot);
        return false;
    }
    r->names[r->len] = *name;
    r->slots[r->len] = slot;
    r->claims[r->len++] = (struct claim){.item = it, .tail_of = tail_of};
    return true;
}

static bool claim_block(struct gw_refill *r, struct item *it, const struct gw_block_name *name,
                        struct gw_id_map *claimed)
{
    uint32_t slot;
    if (gw_blocks_find(r->config.blocks, name, &slot)) return keep(r, slot);
    return claim(r, it, name, NULL, claimed);
}

static bool claim_branch(struct gw_refill *r, struct item *it, struct gw_branch *b, struct gw_id_map *claimed)
{
    for (uint32_t block = first_wanted(r, b); block < gw_branch_whole(b); block++)
        if (!claim_block(r, it, gw_branch_name(b, r->config.namer, block), claimed)) return false;
    if (tail_tokens(b, it->warm) == 0 || b->tail_tokens > 0) return true;
    const struct gw_block_name tail = gw_branch_tail_name(b, r->config.namer);
    return claim(r, it, &tail, b, claimed);
}

static bool claim_item(struct gw_refill *r, struct item *it, struct gw_id_map *claimed)
{
    for (uint32_t i = 0; i < it->job->request.n; i++) {
        struct gw_branch *b = &it->job->branches[i];
        if (b->state != GW_BRANCH_DONE && !claim_branch(r, it, b, claimed)) return false;
    }
    return true;
}

/* Takes *at out of the line: there is nothing to fetch for it, or it is computed sooner. */
static void make_one_ready(struct gw_refill *r, struct item **at)
{
    struct item *it = *at;
    *at = it->next;
    if (!*at) r->waiting.end = at;
    list_push(&r->ready, it);
}

/* Requests from the front of the line that name the same holders. */
static void claim_some(struct gw_refill *r)
{
    struct gw_id_map claimed = {0};
    const struct item *first = r->waiting.first;
    const bool warm = first->warm;
    bool room = true;
    double ahead_us = 0;
    r->cap = warm ? GW_REFILL_WARM_BLOCKS : GW_PULL_NAMES_MAX;
    r->tokens = 0;
    for (struct item **at = &r->waiting.first, *it;
         (it = *at) && room && it->warm == warm && same_holders(it, first);) {
        uint32_t missing = it->job ? missing_tokens(r, it->job, warm) : 0;
        if (!decide(r, missing, warm, ahead_us)) {
            make_one_ready(r, at);
            continue;
        }
        ahead_us += gw_forecast_fetch_us(&r->forecast, missing);
        if (!warm) r->tokens += missing;
        it->pulled = true;
        room = claim_item(r, it, &claimed);
        at = &it->next;
    }
    r->due_us = gw_clock_mono_us() + (int64_t)(ahead_us + r->forecast.pull_us);
    gw_id_map_fini(&claimed);
}

/* ---- pulling ---- */

static void let_go(struct gw_refill *r)
{
    const uint32_t *kept = (const uint32_t *)(const void *)r->kept.data;
    for (size_t i = r->kept.len / sizeof *kept; i-- > 0;) gw_blocks_unref(r->config.blocks, kept[i]);
    gw_buf_reset(&r->kept);
}

static void make_ready(struct gw_refill *r)
{
    while (r->waiting.first && r->waiting.first->pulled) list_push(&r->ready, list_pop(&r->waiting));
}

static uint32_t budget_ms(const struct gw_refill *r)
{
    double compute_ms = gw_forecast_compute_us(&r->forecast, r->tokens) / 1000;
    if (compute_ms == 0 || r->config.always) return GW_REFILL_BUDGET_MS;
    if (compute_ms < GW_REFILL_BUDGET_MIN_MS) return GW_REFILL_BUDGET_MIN_MS;
    return compute_ms < GW_REFILL_BUDGET_MS ? (uint32_t)compute_ms : GW_REFILL_BUDGET_MS;
}

static void begin(struct gw_refill *r, uint64_t after_step)
{
    struct gw_fetch_source holders[GW_FETCH_SOURCES_MAX] = {0};
    int64_t now_us = gw_clock_mono_us();
    const struct item *first = r->waiting.first;
    for (uint32_t i = 0; i < first->holders_len; i++) {
        memcpy(holders[i].address, first->holders[i].pages, sizeof first->holders[i].pages);
        holders[i].rank = i;
        holders[i].pages = gw_geometry_pages(r->config.heads, first->holders[i].cells);
    }
    const struct gw_pull pull = {.names_len = r->len,
                                 .names = r->names,
                                 .slots = r->slots,
                                 .holders_len = first->holders_len,
                                 .holders = holders,
                                 .after_step = after_step,
                                 .budget_ms = budget_ms(r),
                                 .background = first->warm && now_us - first->added_us < GW_REFILL_QUIET_US};
    r->begun_us = now_us;
    gw_copier_begin(r->config.copier, &pull);
}

static void begin_next(struct gw_refill *r, uint64_t after_step)
{
    r->len = 0;
    claim_some(r);
    if (r->len > 0) {
        begin(r, after_step);
        return;
    }
    make_ready(r); /* nothing is missing, or there is no room for it */
    let_go(r);
}

/* The branch has the reference from now on. False: it is gone, or has ended. */
static bool give_tail(const struct claim *c, uint32_t slot)
{
    struct gw_branch *b = c->item->job ? c->tail_of : NULL;
    if (!b || b->state == GW_BRANCH_DONE) return false;
    b->tail_slot = slot;
    b->tail_tokens = gw_branch_tail(b);
    return true;
}

/* Last one first: a chain is evicted from its end. */
static void adopt(struct gw_refill *r, const uint8_t *from)
{
    for (uint32_t i = 0; i < r->len; i++)
        if (from[i] != GW_PULL_LOST && !r->claims[i].tail_of)
            r->slots[i] = gw_blocks_adopt(r->config.blocks, r->slots[i], &r->names[i]);
    for (uint32_t i = r->len; i-- > 0;)
        if (from[i] == GW_PULL_LOST || !r->claims[i].tail_of || !give_tail(&r->claims[i], r->slots[i]))
            gw_blocks_unref(r->config.blocks, r->slots[i]);
}

static void count(struct gw_refill *r, const uint8_t *from, uint32_t *came)
{
    for (uint32_t i = 0; i < r->len; i++) {
        struct gw_job *job = r->claims[i].item->job;
        *came += from[i] != GW_PULL_LOST;
        if (!job) continue;
        uint32_t tokens = r->claims[i].tail_of ? gw_branch_tail(r->claims[i].tail_of) : GW_BLOCK_TOKENS;
        if (from[i] == GW_PULL_HAD || from[i] == GW_PULL_PEER) job->moved_tokens += tokens;
        if (from[i] == GW_PULL_STORE) job->stored_tokens += tokens;
    }
}

/* More is missing than the pull could hold, and what it held came: again. */
static bool goes_on(struct gw_refill *r, uint32_t came)
{
    return came == r->cap && r->len == r->cap;
}

/* What was pulled waits for its rest, behind those that somebody waits for. */
static void put_back(struct gw_refill *r)
{
    struct list waiting = r->waiting;
    struct item *it;
    list_init(&r->waiting);
    for (it = waiting.first; it; it = it->next) it->pulled = false;
    while ((it = list_pop(&waiting))) list_insert(&r->waiting, it);
}

static void finish(struct gw_refill *r, const uint8_t *from, bool in_doubt)
{
    uint32_t came = 0;
    count(r, from, &came);
    gw_forecast_pulled(&r->forecast, came, gw_clock_mono_us() - r->begun_us);
    if (!in_doubt) adopt(r, from);
    if (goes_on(r, came)) {
        put_back(r);
    } else {
        make_ready(r);
    }
    r->len = 0;
    let_go(r);
}

void gw_refill_turn(struct gw_refill *r, uint64_t after_step)
{
    const uint8_t *from;
    bool in_doubt;
    if (gw_copier_take(r->config.copier, &from, &in_doubt)) finish(r, from, in_doubt);
    while (r->waiting.first && gw_copier_is_idle(r->config.copier)) begin_next(r, after_step);
}

void gw_refill_computed(struct gw_refill *r, uint32_t rows, int64_t us)
{
    gw_forecast_computed(&r->forecast, rows, us);
}
