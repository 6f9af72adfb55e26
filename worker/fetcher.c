#include "worker/fetcher.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/hash.h"
#include "base/id_map.h"
#include "base/thread.h"
#include "worker/store_fetch.h"

/* Of a pull that nobody waits for. Nice alone does not do: a step's threads are put on the same core for 0.1 s before the
 * kernel notices that one core does all of their work. In pieces of 4 MiB, 2 ms each, 16 ms apart, it does. */
#define BACKGROUND_NICE    10
#define BACKGROUND_BYTES_S (256 * 1e6)

#define STALL_SHARE                                                                                          \
    3 /* of a pull's time may pass without a word from a holder (frozen, cut off), if stores may have it */

/* One pull under way. */
struct task {
    struct gw_fetcher *fetcher;
    const struct gw_pull *pull;
    uint8_t *from;
    struct gw_shelf_pool *pool;
    int64_t deadline_us;
    struct gw_id_map index;     /* name → 1 + its place in pull */
    struct gw_peer_fetch *peer; /* while it fetches; the fetcher's lock */
    bool over;                  /* the same */
};

struct gw_fetcher {
    struct gw_fetcher_config config;
    void *key;
    pthread_mutex_t lock; /* guards the rest */
    struct task *tasks[GW_FETCHER_PULLS_MAX];
    struct gw_fetcher_stats stats;
};

gw_err_t gw_fetcher_create(const struct gw_fetcher_config *config, struct gw_fetcher **out)
{
    struct gw_fetcher *f = calloc(1, sizeof *f);
    if (!f) return GW_ERR_MEMORY;
    f->config = *config;
    f->key = malloc(config->key_len);
    if (!f->key) {
        free(f);
        return GW_ERR_MEMORY;
    }
    memcpy(f->key, config->key, config->key_len);
    f->config.key = f->key;
    pthread_mutex_init(&f->lock, NULL);
    *out = f;
    return GW_OK;
}

void gw_fetcher_destroy(struct gw_fetcher *f)
{
    if (!f) return;
    pthread_mutex_destroy(&f->lock);
    gw_bytes_wipe(f->key, f->config.key_len);
    free(f->key);
    free(f);
}

/* ---- which pulls there are ---- */

static bool enter(struct gw_fetcher *f, struct task *t)
{
    bool entered = false;
    pthread_mutex_lock(&f->lock);
    for (uint32_t i = 0; i < GW_FETCHER_PULLS_MAX && !entered; i++) {
        if (f->tasks[i]) continue;
        f->tasks[i] = t;
        entered = true;
    }
    pthread_mutex_unlock(&f->lock);
    return entered;
}

static void leave(struct gw_fetcher *f, struct task *t)
{
    struct gw_fetcher_stats *s = &f->stats;
    pthread_mutex_lock(&f->lock);
    for (uint32_t i = 0; i < GW_FETCHER_PULLS_MAX; i++)
        if (f->tasks[i] == t) f->tasks[i] = NULL;
    for (uint32_t i = 0; i < t->pull->names_len; i++) {
        s->blocks_had += t->from[i] == GW_PULL_HAD;
        s->blocks_peer += t->from[i] == GW_PULL_PEER;
        s->blocks_store += t->from[i] == GW_PULL_STORE;
        s->blocks_lost += t->from[i] == GW_PULL_LOST;
    }
    s->background += t->pull->background;
    pthread_mutex_unlock(&f->lock);
}

void gw_fetcher_cancel(struct gw_fetcher *f, struct gw_shelf_key key)
{
    pthread_mutex_lock(&f->lock);
    for (uint32_t i = 0; i < GW_FETCHER_PULLS_MAX; i++) {
        struct task *t = f->tasks[i];
        if (!t || t->pull->fence.term != key.term || t->pull->fence.generation != key.generation) continue;
        t->over = true;
        if (t->peer) gw_peer_fetch_cancel(t->peer);
    }
    pthread_mutex_unlock(&f->lock);
}

static bool is_over(struct task *t)
{
    pthread_mutex_lock(&t->fetcher->lock);
    bool over = t->over;
    pthread_mutex_unlock(&t->fetcher->lock);
    return over || gw_clock_mono_us() >= t->deadline_us;
}

/* ---- where a block goes ---- */

static bool build_index(struct task *t)
{
    for (uint32_t i = 0; i < t->pull->names_len; i++) {
        uint64_t id = gw_block_name_id(&t->pull->names[i]);
        if (gw_id_map_get(&t->index, id)) return false;
        if (gw_id_map_put(&t->index, id, (void *)(uintptr_t)(i + 1)) != GW_OK) return false;
    }
    return true;
}

static uint32_t place_of(const struct task *t, const struct gw_block_name *name)
{
    return (uint32_t)(uintptr_t)gw_id_map_get(&t->index, gw_block_name_id(name)) - 1;
}

static bool slots_exist(const struct task *t)
{
    for (uint32_t i = 0; i < t->pull->names_len; i++)
        if (t->pull->slots[i] >= gw_shelf_slots(t->pool)) return false;
    return true;
}

/* ---- from other pools of this worker ---- */

static void copy_own(struct task *t)
{
    for (uint32_t i = 0; i < t->pull->names_len && !is_over(t); i++)
        if (gw_shelf_copy(t->fetcher->config.shelf, t->pool, t->pull->slots[i], &t->pull->names[i]))
            t->from[i] = GW_PULL_HAD;
}

/* ---- from ranks that hold them ---- */

static gw_err_t claim(void *arg, const struct gw_block_name *name, uint32_t *slot)
{
    const struct task *t = arg;
    *slot = t->pull->slots[place_of(t, name)];
    gw_shelf_claim(t->pool, *slot);
    return GW_OK;
}

static uint8_t *page(void *arg, uint32_t slot, struct gw_page_id id, uint32_t *bytes)
{
    const struct task *t = arg;
    struct gw_page_rect r = gw_shelf_pages(t->pool);
    if (!gw_page_rect_has(r, id.group, id.head)) return NULL;
    return gw_page_pool_page(gw_shelf_memory(t->pool), slot, gw_page_rect_index(r, id.group, id.head), bytes);
}

static void commit(void *arg, uint32_t slot, const struct gw_block_name *name, const uint64_t *sums)
{
    const struct task *t = arg;
    (void)!gw_shelf_fill(t->pool, slot, name, sums); /* is_filled says whether */
}

static bool is_filled(const struct task *t, const struct gw_block_name *name)
{
    uint32_t slot;
    return gw_page_dir_find(gw_shelf_dir(t->pool), name, &slot, NULL);
}

static void abandon(void *arg, uint32_t slot)
{
    (void)arg, (void)slot; /* the leader takes it back */
}

static bool overlap(struct gw_page_rect a, struct gw_page_rect b)
{
    return a.g0 < b.g1 && b.g0 < a.g1 && a.h0 < b.h1 && b.h0 < a.h1;
}

static double rate_of(const struct task *t)
{
    double rate = t->fetcher->config.rate_bytes_s;
    bool is_lower = rate > 0 && rate < BACKGROUND_BYTES_S;
    return t->pull->background && !is_lower ? BACKGROUND_BYTES_S : rate;
}

/* How long a holder may be silent: no longer than leaves the stores most of the time. 0: as it comes. */
static int64_t stall_of(const struct task *t)
{
    const struct gw_fetcher_config *c = &t->fetcher->config;
    int64_t third_us = (t->deadline_us - gw_clock_mono_us()) / STALL_SHARE;
    bool elsewhere = c->stores && gw_stores_ready(c->stores);
    return elsewhere && third_us > 0 && third_us < GW_FETCH_STALL_S * GW_US_PER_S ? third_us : 0;
}

static gw_err_t create_fetch(struct task *t, struct gw_peer_fetch **out, struct gw_err_ctx *ctx)
{
    const struct gw_fetcher_config *c = &t->fetcher->config;
    struct gw_page_rect want = gw_shelf_pages(t->pool);
    struct gw_fetch_source sources[GW_FETCH_SOURCES_MAX];
    gw_traffic_counter_t *came[GW_FETCH_SOURCES_MAX];
    uint32_t len = 0;
    for (uint32_t i = 0; i < t->pull->holders_len; i++)
        if (overlap(t->pull->holders[i].pages, want)) sources[len++] = t->pull->holders[i];
    for (uint32_t i = 0; i < len; i++)
        came[i] = gw_traffic_counter(c->traffic, GW_TRAFFIC_PAGES, sources[i].address);
    if (len == 0) return gw_fail(ctx, GW_ERR_NOT_FOUND, "no holder has pages of this rank");
    const struct gw_peer_fetch_config config = {
        .key = c->key,
        .key_len = c->key_len,
        .tls = c->tls,
        .fence = t->pull->fence,
        .model = c->model,
        .sink = {.arg = t, .claim = claim, .page = page, .commit = commit, .abandon = abandon},
        .want = want,
        .sources = sources,
        .sources_len = len,
        .came = came,
        .streams = c->streams,
        .try_unix = true,
        .fast_fail = true,
        .rate_bytes_s = rate_of(t),
        .stall_us = stall_of(t),
        .log = c->log};
    return gw_peer_fetch_create(&config, out, ctx);
}

static void set_peer(struct task *t, struct gw_peer_fetch *peer)
{
    pthread_mutex_lock(&t->fetcher->lock);
    t->peer = peer;
    if (peer && t->over) gw_peer_fetch_cancel(peer);
    pthread_mutex_unlock(&t->fetcher->lock);
}

/* What is still lost. */
static uint32_t list_lost(const struct task *t, struct gw_block_name *names)
{
    uint32_t len = 0;
    for (uint32_t i = 0; i < t->pull->names_len; i++)
        if (t->from[i] == GW_PULL_LOST) names[len++] = t->pull->names[i];
    return len;
}

static void note_peers(struct gw_fetcher *f, const struct gw_fetch_result *result)
{
    pthread_mutex_lock(&f->lock);
    f->stats.peer_bytes += result->bytes;
    f->stats.corrupt_pages += result->corrupt;
    pthread_mutex_unlock(&f->lock);
}

static void run_fetch(struct task *t, struct gw_peer_fetch *peer, struct gw_block_name *names, bool *there)
{
    struct gw_err_ctx ctx = {0};
    struct gw_fetch_result result = {0};
    uint32_t len = list_lost(t, names);
    gw_err_t err = gw_peer_fetch_run(peer, names, len, t->deadline_us, there, &result, &ctx);
    if (err != GW_OK)
        gw_logf(t->fetcher->config.log, GW_LOG_WARN, "gen=%llu: pages from peers: %s",
                (unsigned long long)t->pull->fence.generation, ctx.text);
    for (uint32_t i = 0; i < len; i++)
        if (there[i] && is_filled(t, &names[i])) t->from[place_of(t, &names[i])] = GW_PULL_PEER;
    note_peers(t->fetcher, &result);
}

static void fetch_from_peers(struct task *t)
{
    struct gw_err_ctx ctx = {0};
    struct gw_peer_fetch *peer = NULL;
    struct gw_block_name *names = calloc(t->pull->names_len, sizeof *names);
    bool *there = calloc(t->pull->names_len, sizeof *there);
    if (names && there && list_lost(t, names) > 0 && create_fetch(t, &peer, &ctx) == GW_OK) {
        set_peer(t, peer);
        run_fetch(t, peer, names, there);
        set_peer(t, NULL);
        gw_peer_fetch_destroy(peer);
    }
    free(names);
    free(there);
}

/* ---- from stores ---- */

static bool task_is_over(void *arg)
{
    return is_over(arg);
}

static void fetch_from_stores(struct task *t)
{
    const struct gw_store_fetch fetch = {.stores = t->fetcher->config.stores,
                                         .pool = t->pool,
                                         .pull = t->pull,
                                         .deadline_us = t->deadline_us,
                                         .is_over = task_is_over,
                                         .arg = t};
    bool lost = memchr(t->from, GW_PULL_LOST, t->pull->names_len) != NULL;
    if (lost && gw_stores_ready(fetch.stores)) gw_store_fetch_run(&fetch, t->from);
}

static void offer(const struct task *t)
{
    struct gw_checkpoint *c = t->fetcher->config.checkpoint;
    for (uint32_t i = 0; c && i < t->pull->names_len; i++)
        if (t->from[i] != GW_PULL_LOST) gw_checkpoint_offer(c, t->pool, &t->pull->names[i]);
}

/* ---- a pull ---- */

static void run(struct task *t)
{
    const struct gw_pull *pull = t->pull;
    if (!slots_exist(t) || !build_index(t)) return;
    if (!gw_shelf_wait_step(t->fetcher->config.shelf, t->pool, pull->after_step, t->deadline_us)) return;
    copy_own(t);
    if (!is_over(t)) fetch_from_peers(t);
    if (t->fetcher->config.stores && !is_over(t)) fetch_from_stores(t);
    offer(t);
}

static void *run_in_background(void *arg)
{
    gw_thread_be_nice(BACKGROUND_NICE);
    run(arg);
    return NULL;
}

/* A thread of its own: one that has become nice does not come back without privileges. */
static void run_as_asked(struct task *t)
{
    pthread_t thread;
    if (t->pull->background && gw_thread_start(&thread, 0, run_in_background, t, NULL) == GW_OK)
        pthread_join(thread, NULL);
    else
        run(t);
}

void gw_fetcher_pull(struct gw_fetcher *f, const struct gw_pull *pull, uint8_t *from)
{
    const struct gw_shelf_key key = {.term = pull->fence.term, .generation = pull->fence.generation};
    struct task t = {.fetcher = f,
                     .pull = pull,
                     .from = from,
                     .deadline_us = gw_clock_mono_us() + (int64_t)pull->budget_ms * GW_US_PER_MS};
    gw_failpoint("pull", "begun");
    if (!enter(f, &t)) return;
    t.pool = gw_shelf_take(f->config.shelf, key);
    if (t.pool) {
        run_as_asked(&t);
        gw_shelf_give(f->config.shelf, t.pool);
    }
    gw_id_map_fini(&t.index);
    leave(f, &t);
    gw_failpoint("pull", "over");
}

static void pull_for_peer(void *arg, const struct gw_pull *pull, uint8_t *from)
{
    gw_fetcher_pull(arg, pull, from);
}

struct gw_pull_sink gw_fetcher_sink(struct gw_fetcher *f)
{
    return (struct gw_pull_sink){.arg = f, .pull = pull_for_peer};
}

struct gw_fetcher_stats gw_fetcher_stats(struct gw_fetcher *f)
{
    pthread_mutex_lock(&f->lock);
    struct gw_fetcher_stats stats = f->stats;
    pthread_mutex_unlock(&f->lock);
    return stats;
}
