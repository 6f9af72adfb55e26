#include "worker/store_fetch.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* A block that is asked for. */
struct flight {
    struct run *run;
    uint32_t at;                 /* in the pull */
    uint32_t turn;               /* of the calls under way */
    struct gw_store_page *pages; /* [pages_len] that are still missing */
    bool *got;                   /* [pages_len] of this turn */
    uint32_t pages_len;
    uint32_t pending; /* parts; the run's lock */
    bool busy, late;  /* late: the run's lock */
};

/* Pages [first, first + …) of a flight, in one call. */
struct part {
    struct flight *flight;
    uint32_t first;
};

struct run {
    const struct gw_store_fetch *f;
    uint8_t *from;
    bool *there;    /* [names_len] */
    uint32_t next;  /* of the pull: not looked at yet */
    uint32_t pages; /* of a block */
    uint32_t window;
    struct flight flights[GW_STORE_FETCH_WINDOW];
    uint64_t *sums; /* [pages] */
    bool slow;      /* a store was late */
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

static int64_t deadline_of(const struct run *r, int64_t ms)
{
    int64_t own_us = gw_clock_mono_us() + ms * GW_US_PER_MS;
    return own_us < r->f->deadline_us ? own_us : r->f->deadline_us;
}

/* ---- who has what ---- */

/* Of those that are lost and not found yet, which are there at this turn? */
static void find_more(struct run *r, uint32_t turn, struct gw_page_id id, struct gw_block_name *names,
                      uint32_t *at, bool *got)
{
    const struct gw_pull *pull = r->f->pull;
    uint32_t len = 0;
    for (uint32_t i = 0; i < pull->names_len; i++) {
        if (r->from[i] != GW_PULL_LOST || r->there[i] || gw_block_name_is_tail(&pull->names[i])) continue;
        names[len] = pull->names[i];
        at[len++] = i;
    }
    memset(got, 0, pull->names_len * sizeof *got);
    if (len > 0)
        gw_stores_has(r->f->stores, turn, names, len, id, deadline_of(r, GW_STORE_FETCH_HAS_MS), got);
    for (uint32_t i = 0; i < len; i++) r->there[at[i]] = got[i];
}

static void find(struct run *r)
{
    uint32_t len = r->f->pull->names_len;
    struct gw_page_rect rect = gw_shelf_pages(r->f->pool);
    const struct gw_page_id last = {.group = (uint16_t)(rect.g1 - 1), .head = (uint16_t)(rect.h1 - 1)};
    struct gw_block_name *names = calloc(len, sizeof *names);
    uint32_t *at = calloc(len, sizeof *at);
    bool *got = calloc(len, sizeof *got);
    for (uint32_t turn = 0; names && at && got && turn < GW_STORES_TURNS; turn++)
        find_more(r, turn, last, names, at, got);
    free(names);
    free(at);
    free(got);
}

/* ---- one block ---- */

static void on_got(void *arg, enum gw_store_outcome outcome, const bool *got, uint32_t got_len)
{
    struct part *part = arg;
    struct flight *f = part->flight;
    struct run *r = f->run;
    pthread_mutex_lock(&r->lock);
    for (uint32_t i = 0; i < got_len; i++) f->got[part->first + i] = got[i];
    f->late |= outcome == GW_STORE_LATE;
    if (--f->pending == 0) pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    free(part);
}

static bool ask_part(struct flight *f, uint32_t first, uint32_t len)
{
    struct run *r = f->run;
    struct part *part = malloc(sizeof *part);
    if (!part) return false;
    *part = (struct part){.flight = f, .first = first};
    const struct gw_store_then then = {
        .deadline_us = deadline_of(r, GW_STORE_FETCH_BLOCK_MS), .done = on_got, .arg = part};
    pthread_mutex_lock(&r->lock);
    f->pending++;
    pthread_mutex_unlock(&r->lock);
    if (gw_stores_get(r->f->stores, f->turn, &r->f->pull->names[f->at], f->pages + first, len, &then) ==
        GW_OK)
        return true;
    pthread_mutex_lock(&r->lock);
    f->pending--;
    pthread_mutex_unlock(&r->lock);
    free(part);
    return false;
}

/* Asks for what is missing of the block. */
static void ask(struct flight *f)
{
    memset(f->got, 0, f->pages_len * sizeof *f->got);
    for (uint32_t at = 0; at < f->pages_len;) {
        uint32_t len = gw_stores_part(f->pages + at, f->pages_len - at);
        if (!ask_part(f, at, len)) break; /* those pages stay missing */
        at += len;
    }
}

/* All of its pages lie in the slot. */
static void publish(struct run *r, uint32_t at)
{
    uint32_t slot = r->f->pull->slots[at];
    gw_page_pool_sum(gw_shelf_memory(r->f->pool), slot, r->sums);
    if (gw_shelf_fill(r->f->pool, slot, &r->f->pull->names[at], r->sums)) r->from[at] = GW_PULL_STORE;
}

/* A turn is over. */
static void go_on(struct flight *f)
{
    struct run *r = f->run;
    uint32_t missing = 0;
    for (uint32_t i = 0; i < f->pages_len; i++)
        if (!f->got[i]) f->pages[missing++] = f->pages[i];
    f->pages_len = missing;
    r->slow |= f->late;
    if (missing > 0 && ++f->turn < GW_STORES_TURNS && !r->slow) {
        ask(f);
        return;
    }
    if (missing == 0) publish(r, f->at);
    f->busy = false;
}

static bool begin(struct run *r, struct flight *f)
{
    const struct gw_pull *pull = r->f->pull;
    while (r->next < pull->names_len && !r->there[r->next]) r->next++;
    if (r->next == pull->names_len || r->slow || r->f->is_over(r->f->arg)) return false;
    f->at = r->next++;
    f->turn = 0;
    f->pages_len = r->pages;
    f->busy = true;
    f->late = false;
    gw_shelf_claim(r->f->pool, pull->slots[f->at]);
    gw_shelf_list(r->f->pool, pull->slots[f->at], f->pages);
    ask(f);
    return true;
}

/* ---- all of them ---- */

/* A flight whose turn is over; waits for one. NULL: there is none under way. */
static struct flight *next_over(struct run *r)
{
    struct flight *over = NULL;
    bool busy = true;
    pthread_mutex_lock(&r->lock);
    while (!over && busy) {
        busy = false;
        for (uint32_t i = 0; i < r->window && !over; i++) {
            busy |= r->flights[i].busy;
            if (r->flights[i].busy && r->flights[i].pending == 0) over = &r->flights[i];
        }
        if (!over && busy) pthread_cond_wait(&r->changed, &r->lock); /* it is over by its deadline */
    }
    pthread_mutex_unlock(&r->lock);
    return over;
}

static void get_all(struct run *r)
{
    struct flight *f;
    for (uint32_t i = 0; i < r->window && begin(r, &r->flights[i]); i++) continue;
    while ((f = next_over(r))) {
        go_on(f);
        if (!f->busy) begin(r, f);
    }
}

static bool alloc_run(struct run *r)
{
    uint64_t block_bytes = 0;
    r->there = calloc(r->f->pull->names_len, sizeof *r->there);
    r->sums = calloc(r->pages, sizeof *r->sums);
    if (!r->there || !r->sums) return false;
    for (; r->window < GW_STORE_FETCH_WINDOW; r->window++) {
        struct flight *f = &r->flights[r->window];
        if (r->window > 0 && (r->window + 1) * block_bytes > GW_STORE_FETCH_BYTES) break;
        f->run = r;
        f->pages = calloc(r->pages, sizeof *f->pages);
        f->got = calloc(r->pages, sizeof *f->got);
        if (!f->pages || !f->got) return false;
        if (r->window > 0) continue;
        gw_shelf_list(r->f->pool, 0, f->pages);
        for (uint32_t i = 0; i < r->pages; i++) block_bytes += f->pages[i].len;
    }
    return true;
}

void gw_store_fetch_run(const struct gw_store_fetch *fetch, uint8_t *from)
{
    struct run *r = calloc(1, sizeof *r);
    if (!r) return;
    r->f = fetch;
    r->from = from;
    r->pages = gw_page_rect_pages(gw_shelf_pages(fetch->pool));
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    if (alloc_run(r)) {
        find(r);
        get_all(r);
    }
    for (uint32_t i = 0; i < GW_STORE_FETCH_WINDOW; i++) {
        free(r->flights[i].pages);
        free(r->flights[i].got);
    }
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    free(r->there);
    free(r->sums);
    free(r);
}
