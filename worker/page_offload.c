#include "worker/page_offload.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/thread.h"
#include "kernels/cuda/copy_ring.h"

#define LOOK_US 50 /* between looks at copies under way: a block of 2 MiB takes 80 us of PCIe 5.0 x16 */
#define NOBODY  UINT32_MAX

struct job {
    struct gw_block_name name;
    uint64_t ticket; /* it is its slot's as long as that has the same */
    uint32_t slot, mark;
};

/* A copy under way. */
struct flight {
    struct job job;
    uint32_t buffer;
    bool busy;
};

struct gw_page_offload {
    struct gw_page_offload_config config;
    struct gw_copy_ring *ring;
    uint64_t *sums; /* [pages] of what lands */
    pthread_t thread;
    bool thread_started;
    struct flight flights[GW_COPY_BUFFERS]; /* the offload's thread's; under_way counts them for others */

    pthread_mutex_t lock; /* guards the rest; a directory's is taken under it */
    pthread_cond_t sealed, settled;
    struct job *queue; /* [slots], a ring */
    uint64_t *tickets; /* [slots]; 0: nothing of it is wanted */
    uint32_t first, len, under_way;
    uint32_t landing; /* the slot whose host's side is written; NOBODY: none */
    uint64_t last_ticket;
    struct gw_page_offload_stats stats;
    bool stop;
};

/* ---- jobs; the lock is held ---- */

static bool is_wanted(const struct gw_page_offload *o, const struct job *j)
{
    return o->tickets[j->slot] == j->ticket;
}

/* What is wanted of the queue moves together: a slot has one such job at most. */
static void tidy_queue(struct gw_page_offload *o)
{
    uint32_t slots = o->config.slots, kept = 0;
    for (uint32_t i = 0; i < o->len; i++) {
        const struct job *j = &o->queue[(o->first + i) % slots];
        if (is_wanted(o, j)) o->queue[(o->first + kept++) % slots] = *j;
    }
    o->len = kept;
}

static void give_up_slot(struct gw_page_offload *o, uint32_t slot)
{
    if (o->tickets[slot] == 0) return;
    o->tickets[slot] = 0;
    o->stats.dropped++;
}

/* The oldest that is still wanted. */
static bool next_job(struct gw_page_offload *o, struct job *out)
{
    bool found = false;
    while (o->len > 0 && !found) {
        *out = o->queue[o->first];
        o->first = (o->first + 1) % o->config.slots;
        o->len--;
        found = is_wanted(o, out);
    }
    return found;
}

static void say_if_settled(struct gw_page_offload *o)
{
    if (o->len == 0 && o->under_way == 0) pthread_cond_broadcast(&o->settled);
}

/* A job that was under way is over. */
static void end_job(struct gw_page_offload *o)
{
    o->under_way--;
    say_if_settled(o);
}

/* ---- one copy, on the offload's thread ---- */

static void fail_job(struct gw_page_offload *o, const struct job *j)
{
    pthread_mutex_lock(&o->lock);
    if (is_wanted(o, j)) {
        o->tickets[j->slot] = 0;
        o->stats.failed++;
    }
    end_job(o);
    pthread_mutex_unlock(&o->lock);
}

/* The host's side of its slot is this thread's from here on. */
static bool may_land(struct gw_page_offload *o, const struct job *j)
{
    pthread_mutex_lock(&o->lock);
    bool may = is_wanted(o, j);
    if (may) o->landing = j->slot;
    pthread_mutex_unlock(&o->lock);
    return may;
}

/* It has a name from here on, unless its slot was given up meanwhile. */
static bool publish(struct gw_page_offload *o, const struct job *j)
{
    pthread_mutex_lock(&o->lock);
    bool wanted = is_wanted(o, j);
    if (wanted) {
        gw_page_dir_publish(o->config.dir, j->slot, &j->name, o->sums);
        o->tickets[j->slot] = 0;
        o->stats.landed++;
    }
    pthread_mutex_unlock(&o->lock);
    return wanted;
}

static void land(struct gw_page_offload *o, const struct flight *f)
{
    const struct job *j = &f->job;
    bool there = may_land(o, j);
    if (there) {
        gw_page_pool_land(o->config.pool, j->slot, f->buffer);
        gw_page_pool_sum(o->config.pool, j->slot, o->sums);
        there = publish(o, j);
    }
    gw_copy_ring_release(o->ring, f->buffer);
    if (there) o->config.landed(o->config.arg, &j->name);
    pthread_mutex_lock(&o->lock);
    o->landing = NOBODY;
    pthread_cond_broadcast(&o->settled);
    end_job(o);
    pthread_mutex_unlock(&o->lock);
}

static bool look(struct gw_page_offload *o, struct flight *f)
{
    enum gw_copy_state state = gw_copy_ring_look(o->ring, f->buffer);
    if (state == GW_COPY_BUSY) return false;
    f->busy = false;
    if (state == GW_COPY_DONE) {
        land(o, f);
    } else {
        gw_copy_ring_release(o->ring, f->buffer);
        fail_job(o, &f->job);
    }
    return true;
}

static struct flight *free_flight(struct gw_page_offload *o)
{
    for (uint32_t i = 0; i < GW_COPY_BUFFERS; i++)
        if (!o->flights[i].busy) return &o->flights[i];
    return NULL;
}

/* False: there is nothing to begin, or no buffer for it. */
static bool begin(struct gw_page_offload *o)
{
    struct flight *f = free_flight(o);
    if (!f) return false;
    pthread_mutex_lock(&o->lock);
    bool found = next_job(o, &f->job);
    o->under_way += found;
    say_if_settled(o);
    pthread_mutex_unlock(&o->lock);
    if (!found) return false;
    f->busy = gw_page_pool_begin_pull(o->config.pool, f->job.mark, f->job.slot, &f->buffer, NULL) == GW_OK;
    if (!f->busy) fail_job(o, &f->job);
    return true;
}

bool gw_page_offload_turn(struct gw_page_offload *o)
{
    bool did = false;
    while (begin(o)) did = true;
    for (uint32_t i = 0; i < GW_COPY_BUFFERS; i++)
        if (o->flights[i].busy) did |= look(o, &o->flights[i]);
    return did;
}

/* Waits for something to do. False: it ends. */
static bool rest(struct gw_page_offload *o)
{
    pthread_mutex_lock(&o->lock);
    while (!o->stop && o->len == 0 && o->under_way == 0) pthread_cond_wait(&o->sealed, &o->lock);
    bool go = !o->stop, flying = o->under_way > 0;
    pthread_mutex_unlock(&o->lock);
    if (go && flying) (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_US * 1000}, NULL);
    return go;
}

static void *offload_thread(void *arg)
{
    struct gw_page_offload *o = arg;
    gw_thread_name("gw-offload");
    do {
        while (gw_page_offload_turn(o)) continue;
    } while (rest(o));
    return NULL;
}

/* ---- life ---- */

static gw_err_t create_parts(struct gw_page_offload *o, struct gw_err_ctx *ctx)
{
    uint32_t slots = o->config.slots;
    o->sums = calloc(gw_page_pool_pages(o->config.pool), sizeof *o->sums);
    o->queue = calloc(slots, sizeof *o->queue);
    o->tickets = calloc(slots, sizeof *o->tickets);
    if (!o->sums || !o->queue || !o->tickets) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    if (o->config.no_thread) return GW_OK;
    TRY(gw_thread_start(&o->thread, 0, offload_thread, o, ctx));
    o->thread_started = true;
    return GW_OK;
}

gw_err_t gw_page_offload_create(const struct gw_page_offload_config *config, struct gw_page_offload **out,
                                struct gw_err_ctx *ctx)
{
    pthread_condattr_t attr;
    struct gw_page_offload *o = calloc(1, sizeof *o);
    if (!o) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    o->config = *config;
    o->ring = gw_page_pool_ring(config->pool);
    o->landing = NOBODY;
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->sealed, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&o->settled, &attr);
    pthread_condattr_destroy(&attr);
    gw_err_t err = create_parts(o, ctx);
    if (err == GW_OK)
        *out = o;
    else
        gw_page_offload_destroy(o);
    return err;
}

void gw_page_offload_destroy(struct gw_page_offload *o)
{
    if (!o) return;
    pthread_mutex_lock(&o->lock);
    o->stop = true;
    pthread_cond_broadcast(&o->sealed);
    pthread_mutex_unlock(&o->lock);
    if (o->thread_started) pthread_join(o->thread, NULL);
    pthread_cond_destroy(&o->sealed);
    pthread_cond_destroy(&o->settled);
    pthread_mutex_destroy(&o->lock);
    free(o->sums);
    free(o->queue);
    free(o->tickets);
    free(o);
}

/* ---- for others ---- */

void gw_page_offload_seal(struct gw_page_offload *o, uint32_t slot, const struct gw_block_name *name)
{
    struct job j = {.name = *name, .slot = slot};
    gw_err_t err = gw_copy_ring_mark(o->ring, &j.mark, NULL);
    pthread_mutex_lock(&o->lock);
    give_up_slot(o, slot);
    if (err == GW_OK) {
        if (o->len == o->config.slots) tidy_queue(o);
        j.ticket = o->tickets[slot] = ++o->last_ticket;
        o->queue[(o->first + o->len++) % o->config.slots] = j;
        pthread_cond_signal(&o->sealed);
    } else {
        o->stats.failed++;
    }
    pthread_mutex_unlock(&o->lock);
}

void gw_page_offload_forget(struct gw_page_offload *o, uint32_t slot)
{
    pthread_mutex_lock(&o->lock);
    give_up_slot(o, slot);
    pthread_mutex_unlock(&o->lock);
}

void gw_page_offload_claim(struct gw_page_offload *o, uint32_t slot)
{
    pthread_mutex_lock(&o->lock);
    give_up_slot(o, slot);
    while (o->landing == slot) pthread_cond_wait(&o->settled, &o->lock);
    pthread_mutex_unlock(&o->lock);
}

void gw_page_offload_abandon(struct gw_page_offload *o)
{
    pthread_mutex_lock(&o->lock);
    for (uint32_t slot = 0; slot < o->config.slots; slot++) give_up_slot(o, slot);
    while (o->landing != NOBODY) pthread_cond_wait(&o->settled, &o->lock);
    pthread_mutex_unlock(&o->lock);
}

bool gw_page_offload_settle(struct gw_page_offload *o, int64_t deadline_us)
{
    const struct timespec t = {deadline_us / GW_US_PER_S, deadline_us % GW_US_PER_S * 1000};
    pthread_mutex_lock(&o->lock);
    while ((o->len > 0 || o->under_way > 0) && gw_clock_mono_us() < deadline_us)
        pthread_cond_timedwait(&o->settled, &o->lock, &t);
    bool settled = o->len == 0 && o->under_way == 0;
    pthread_mutex_unlock(&o->lock);
    return settled;
}

struct gw_page_offload_stats gw_page_offload_stats(struct gw_page_offload *o)
{
    pthread_mutex_lock(&o->lock);
    struct gw_page_offload_stats stats = o->stats;
    pthread_mutex_unlock(&o->lock);
    return stats;
}
