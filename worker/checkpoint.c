#include "worker/checkpoint.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "migrate/rate.h"

#define AGENT_NICE    10                  /* what serves comes first */
#define READY_POLL_US (50 * GW_US_PER_MS) /* how stale "no store is up" may be */

struct offer {
    struct gw_shelf_key key;
    struct gw_block_name name;
};

/* A block on its way to a store. */
struct stage {
    struct gw_checkpoint *agent;
    uint8_t *bytes;
    size_t cap, len;
    uint32_t pending; /* parts, and one while they are being put; 0: the stage is free */
    bool failed;
};

struct gw_checkpoint {
    struct gw_checkpoint_config config;
    pthread_t thread;
    bool thread_started;
    /* the agent's */
    struct offer batch[GW_CHECKPOINT_BATCH];
    struct gw_block_name names[GW_CHECKPOINT_BATCH]; /* of the batch */
    uint32_t batch_len;
    struct gw_rate cpu, bytes;   /* cpu: microseconds instead of bytes */
    int64_t thread_us;           /* processor time when last looked at */
    struct gw_stores_stats last; /* of the stores, then */
    struct gw_store_page *pages; /* of a block, [pages_cap] */
    uint32_t pages_cap;

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t changed;
    struct offer *queue; /* [GW_CHECKPOINT_QUEUE], a ring */
    uint32_t first, len;
    struct stage stages[GW_CHECKPOINT_STAGES];
    struct gw_checkpoint_stats stats;
    bool stop;
};

/* ---- offers ---- */

void gw_checkpoint_offer(struct gw_checkpoint *c, const struct gw_shelf_pool *pool,
                         const struct gw_block_name *name)
{
    if (gw_block_name_is_tail(name)) return;
    pthread_mutex_lock(&c->lock);
    c->stats.offered++;
    if (c->len == GW_CHECKPOINT_QUEUE) {
        c->stats.dropped++;
    } else {
        c->queue[(c->first + c->len++) % GW_CHECKPOINT_QUEUE] =
            (struct offer){.key = gw_shelf_key_of(pool), .name = *name};
        if (c->len == 1) pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
}

static bool same_key(struct gw_shelf_key a, struct gw_shelf_key b)
{
    return a.term == b.term && a.generation == b.generation;
}

/* Takes the oldest offers of one pool. False: the agent ends. */
static bool take_batch(struct gw_checkpoint *c)
{
    pthread_mutex_lock(&c->lock);
    while (!c->stop && c->len == 0) pthread_cond_wait(&c->changed, &c->lock);
    c->batch_len = 0;
    while (!c->stop && c->len > 0 && c->batch_len < GW_CHECKPOINT_BATCH) {
        const struct offer *o = &c->queue[c->first];
        if (c->batch_len > 0 && !same_key(o->key, c->batch[0].key)) break;
        c->names[c->batch_len] = o->name;
        c->batch[c->batch_len++] = *o;
        c->first = (c->first + 1) % GW_CHECKPOINT_QUEUE;
        c->len--;
    }
    bool go = !c->stop;
    pthread_mutex_unlock(&c->lock);
    return go;
}

static void count(struct gw_checkpoint *c, uint64_t *counter, uint64_t n)
{
    pthread_mutex_lock(&c->lock);
    *counter += n;
    pthread_mutex_unlock(&c->lock);
}

/* ---- the budget ---- */

static int64_t thread_cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * GW_US_PER_S + t.tv_nsec / 1000;
}

/* What the stores' threads did for puts: their time goes by bytes. */
static uint64_t stores_cpu_us(struct gw_checkpoint *c)
{
    struct gw_stores_stats now;
    gw_stores_stats(c->config.stores, &now);
    uint64_t put = now.put_bytes - c->last.put_bytes, got = now.get_bytes - c->last.get_bytes;
    uint64_t cpu_us = now.cpu_us > c->last.cpu_us ? now.cpu_us - c->last.cpu_us : 0;
    c->last = now;
    return put > 0 ? (uint64_t)((double)cpu_us * (double)put / (double)(put + got)) : 0;
}

static void charge(struct gw_checkpoint *c)
{
    int64_t now_us = gw_clock_mono_us(), thread_us = thread_cpu_us();
    uint64_t cpu_us = (uint64_t)(thread_us - c->thread_us) + stores_cpu_us(c);
    c->thread_us = thread_us;
    gw_rate_charge(&c->cpu, cpu_us, now_us);
    count(c, &c->stats.cpu_us, cpu_us);
}

/* Waits until what was done is paid for. False: the agent ends. */
static bool wait_for_budget(struct gw_checkpoint *c)
{
    int64_t due_us = c->cpu.due_us > c->bytes.due_us ? c->cpu.due_us : c->bytes.due_us;
    const struct timespec t = {due_us / GW_US_PER_S, due_us % GW_US_PER_S * 1000};
    pthread_mutex_lock(&c->lock);
    while (!c->stop && gw_clock_mono_us() < due_us) pthread_cond_timedwait(&c->changed, &c->lock, &t);
    bool go = !c->stop;
    pthread_mutex_unlock(&c->lock);
    return go;
}

/* False: nobody can be asked. */
static bool wait_for_stores(struct gw_checkpoint *c)
{
    int64_t deadline_us = gw_clock_mono_us() + GW_CHECKPOINT_WAIT_MS * GW_US_PER_MS, now_us;
    bool ready, stop = false;
    while (!(ready = gw_stores_ready(c->config.stores)) && !stop &&
           (now_us = gw_clock_mono_us()) < deadline_us) {
        int64_t next_us = now_us + READY_POLL_US;
        const struct timespec t = {next_us / GW_US_PER_S, next_us % GW_US_PER_S * 1000};
        pthread_mutex_lock(&c->lock);
        if (!c->stop) pthread_cond_timedwait(&c->changed, &c->lock, &t);
        stop = c->stop;
        pthread_mutex_unlock(&c->lock);
    }
    return ready;
}

/* ---- one block ---- */

/* A part of the block, or the putting of its parts, is over. */
static void end_part(struct stage *s, bool failed)
{
    struct gw_checkpoint *c = s->agent;
    pthread_mutex_lock(&c->lock);
    s->failed |= failed;
    if (--s->pending == 0) {
        c->stats.refused += s->failed;
        c->stats.stored += !s->failed;
        c->stats.bytes += s->failed ? 0 : s->len;
        pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
}

static void on_put(void *arg, enum gw_store_outcome outcome, const bool *got, uint32_t got_len)
{
    (void)got, (void)got_len;
    end_part(arg, outcome != GW_STORE_OK);
}

static void put_parts(struct stage *s, const struct gw_block_name *name, const struct gw_store_page *pages,
                      uint32_t pages_len)
{
    struct gw_checkpoint *c = s->agent;
    const struct gw_store_then then = {
        .deadline_us = gw_clock_mono_us() + GW_CHECKPOINT_PUT_MS * GW_US_PER_MS, .done = on_put, .arg = s};
    for (uint32_t at = 0; at < pages_len;) {
        uint32_t len = gw_stores_part(pages + at, pages_len - at);
        pthread_mutex_lock(&c->lock);
        s->pending++;
        pthread_mutex_unlock(&c->lock);
        if (gw_stores_put(c->config.stores, name, pages + at, len, &then) != GW_OK) end_part(s, true);
        at += len;
    }
    end_part(s, false);
}

static struct stage *find_stage(struct gw_checkpoint *c, size_t bytes)
{
    size_t most = GW_CHECKPOINT_STAGE_BYTES / bytes;
    if (most < 1) most = 1;
    for (size_t i = 0; i < most && i < GW_CHECKPOINT_STAGES; i++)
        if (c->stages[i].pending == 0) return &c->stages[i];
    return NULL;
}

/* A free stage of so many bytes; waits for it. NULL: the agent ends, or there is no memory. */
static struct stage *take_stage(struct gw_checkpoint *c, size_t bytes)
{
    struct stage *s;
    pthread_mutex_lock(&c->lock);
    while (!(s = find_stage(c, bytes)) && !c->stop) pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
    if (!s) return NULL;
    if (s->cap < bytes) {
        free(s->bytes);
        s->bytes = malloc(bytes);
        s->cap = s->bytes ? bytes : 0;
    }
    if (!s->bytes) return NULL;
    s->agent = c;
    s->len = bytes;
    s->failed = false;
    s->pending = 1; /* nobody else looks at a free one */
    return s;
}

/* Pages of a block as they lie in a stage. */
static size_t list_pages(struct gw_checkpoint *c, const struct gw_shelf_pool *pool, uint8_t *bytes)
{
    uint32_t len = gw_page_rect_pages(gw_shelf_pages(pool));
    size_t at = 0;
    gw_shelf_list(pool, 0, c->pages);
    for (uint32_t i = 0; i < len; i++) {
        c->pages[i].bytes = bytes ? bytes + at : NULL;
        at += c->pages[i].len;
    }
    return at;
}

static void put_block(struct gw_checkpoint *c, const struct gw_shelf_pool *pool,
                      const struct gw_block_name *name)
{
    size_t bytes = list_pages(c, pool, NULL);
    struct stage *s = take_stage(c, bytes);
    if (!s) {
        count(c, &c->stats.refused, 1);
        return;
    }
    if (!gw_shelf_read(pool, name, s->bytes)) {
        pthread_mutex_lock(&c->lock);
        s->pending = 0;
        c->stats.gone++;
        pthread_mutex_unlock(&c->lock);
        return;
    }
    list_pages(c, pool, s->bytes);
    put_parts(s, name, c->pages, gw_page_rect_pages(gw_shelf_pages(pool)));
    gw_rate_charge(&c->bytes, bytes, gw_clock_mono_us());
}

/* ---- a batch ---- */

static bool reserve_pages(struct gw_checkpoint *c, uint32_t len)
{
    if (len <= c->pages_cap) return true;
    struct gw_store_page *larger = realloc(c->pages, len * sizeof *larger);
    if (!larger) return false;
    c->pages = larger;
    c->pages_cap = len;
    return true;
}

static void put_batch(struct gw_checkpoint *c, const struct gw_shelf_pool *pool)
{
    bool there[GW_CHECKPOINT_BATCH] = {0};
    uint32_t pages_len = gw_page_rect_pages(gw_shelf_pages(pool)), i;
    if (!wait_for_stores(c) || !reserve_pages(c, pages_len)) {
        count(c, &c->stats.refused, c->batch_len);
        return;
    }
    list_pages(c, pool, NULL);
    /* The last page of a block that is put in parts is there only if the others were put before. */
    gw_stores_has(c->config.stores, GW_STORES_OF_PUT, c->names, c->batch_len, c->pages[pages_len - 1].id,
                  gw_clock_mono_us() + GW_CHECKPOINT_HAS_MS * GW_US_PER_MS, there);
    for (i = 0; i < c->batch_len; i++) {
        if (there[i]) {
            count(c, &c->stats.there, 1);
            continue;
        }
        if (!wait_for_budget(c)) break;
        put_block(c, pool, &c->names[i]);
        charge(c);
    }
    count(c, &c->stats.refused, c->batch_len - i);
}

static void *agent_thread(void *arg)
{
    struct gw_checkpoint *c = arg;
    gw_thread_name("gw-checkpoint");
    gw_thread_be_nice(AGENT_NICE);
    while (take_batch(c)) {
        struct gw_shelf_pool *pool = gw_shelf_hold(c->config.shelf, c->batch[0].key);
        if (pool) {
            put_batch(c, pool);
            gw_shelf_let_go(c->config.shelf, pool);
        } else {
            count(c, &c->stats.gone, c->batch_len);
        }
        charge(c);
        if (!wait_for_budget(c)) break;
    }
    return NULL;
}

/* ---- life ---- */

static gw_err_t start_thread(struct gw_checkpoint *c, struct gw_err_ctx *ctx)
{
    TRY(gw_thread_start(&c->thread, 0, agent_thread, c, ctx));
    c->thread_started = true;
    return GW_OK;
}

gw_err_t gw_checkpoint_create(const struct gw_checkpoint_config *config, struct gw_checkpoint **out,
                              struct gw_err_ctx *ctx)
{
    pthread_condattr_t attr;
    assert(config->share > 0 && config->threads > 0);
    struct gw_checkpoint *c = calloc(1, sizeof *c);
    if (!c) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    c->config = *config;
    c->cpu.bytes_s = config->share * config->threads * (double)GW_US_PER_S;
    c->bytes.bytes_s = config->bytes_s;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &attr);
    pthread_condattr_destroy(&attr);
    c->queue = calloc(GW_CHECKPOINT_QUEUE, sizeof *c->queue);
    gw_err_t err = c->queue ? start_thread(c, ctx) : gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    if (err == GW_OK)
        *out = c;
    else
        gw_checkpoint_destroy(c);
    return err;
}

static bool is_putting(const struct gw_checkpoint *c)
{
    for (uint32_t i = 0; i < GW_CHECKPOINT_STAGES; i++)
        if (c->stages[i].pending > 0) return true;
    return false;
}

void gw_checkpoint_destroy(struct gw_checkpoint *c)
{
    if (!c) return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    if (c->thread_started) pthread_join(c->thread, NULL);
    pthread_mutex_lock(&c->lock);
    while (is_putting(c)) pthread_cond_wait(&c->changed, &c->lock); /* each put is over by its deadline */
    pthread_mutex_unlock(&c->lock);
    for (uint32_t i = 0; i < GW_CHECKPOINT_STAGES; i++) free(c->stages[i].bytes);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c->pages);
    free(c->queue);
    free(c);
}

struct gw_checkpoint_stats gw_checkpoint_stats(struct gw_checkpoint *c)
{
    pthread_mutex_lock(&c->lock);
    struct gw_checkpoint_stats stats = c->stats;
    pthread_mutex_unlock(&c->lock);
    return stats;
}
