#include "worker/cell_load.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "migrate/cell_line.h"
#include "worker/cell_race.h"
#include "worker/cell_source.h"
#include "worker/cell_store_internal.h"

#define LOOK_US        (10 * GW_US_PER_MS) /* an idle lane looks again so often: predictions change with time */
#define RETRIES        1 /* of a source whose connection broke after it had brought something */
#define PEER_LANES_MAX GW_WIRE_SOURCES_MAX
#define LANES_MAX      (GW_CELL_LOAD_THREADS + PEER_LANES_MAX)

struct gw_cell_loader {
    struct gw_cell_loader_config config;
    pthread_mutex_t lock; /* guards the rest */
    struct cell_rate rates[CELL_SIDES];
    struct gw_cell_loaded total;
};

struct load;

/* A thread of a load: it packs, or talks to one source. */
struct lane {
    struct load *load;
    enum cell_side side;
    uint32_t number, source; /* in the race; in the wish */
    pthread_t thread;
    bool started;
    struct cell_packer packer; /* the disk's */
    struct gw_cell_line *line; /* the peers' */
    gw_traffic_counter_t *came;
    bool is_open; /* its connection: time until the first piece came tells nothing of how fast it is */
    uint32_t tries;

    struct cell_item *item; /* and what it has of it */
    struct cell_part part;
    uint64_t whole;
    int64_t since_us; /* when it moved something last */
    struct gw_err_ctx ctx;
};

/* Bytes of a part that came before its source failed; their number is the item's. */
struct rest {
    struct cell_part part;
};

struct load {
    struct gw_cell_loader *loader;
    struct gw_cell_store *store;
    const struct gw_cell_wish *wish;
    struct lane lanes[LANES_MAX];
    uint32_t lanes_len;

    pthread_mutex_t lock;   /* guards the rest */
    pthread_cond_t changed; /* monotonic clock */
    struct cell_race race;
    struct gw_cell_loaded loaded;
    struct gw_err_ctx error; /* why nobody goes on */
    bool ending;
};

/* ---- a part from the disk ---- */

/* Measures what was moved since the last time; under the lock. False: nobody needs the rest from here. */
static bool has_moved(struct lane *l, uint64_t bytes, bool measured)
{
    int64_t now_us = gw_clock_mono_us(), us = measured ? now_us - l->since_us : 0;
    bool own = cell_race_moved(&l->load->race, l->number, l->item, bytes, us, now_us);
    l->since_us = now_us;
    return own && !l->load->ending;
}

static bool pack_on(void *arg, uint64_t bytes)
{
    struct lane *l = arg;
    pthread_mutex_lock(&l->load->lock);
    bool goes_on = has_moved(l, bytes - l->whole, true);
    pthread_mutex_unlock(&l->load->lock);
    l->whole = bytes;
    return goes_on;
}

/* Sums of a part whose beginning came from a peer are not those of what is packed, should the two differ. */
static gw_err_t from_disk(struct lane *l)
{
    const struct cell_while goes_on = {pack_on, l};
    free(l->part.sums);
    l->part.sums = NULL;
    l->whole = 0;
    if (!cell_part_fill(&l->packer, l->item->part, &l->part, &goes_on)) return GW_ERR_LIMIT;
    (void)pack_on(l, l->part.bytes);
    return GW_OK;
}

/* ---- a part from a peer ---- */

static bool receive_on(void *arg, uint32_t piece_bytes)
{
    struct lane *l = arg;
    pthread_mutex_lock(&l->load->lock);
    bool goes_on = has_moved(l, piece_bytes, l->is_open);
    pthread_mutex_unlock(&l->load->lock);
    gw_traffic_add(l->came, piece_bytes);
    l->tries = 0;
    l->is_open = true;
    return goes_on;
}

static gw_err_t from_peer(struct lane *l)
{
    if (!l->part.sums) l->part.sums = calloc(gw_cell_pieces(l->part.bytes), sizeof *l->part.sums);
    if (!l->part.sums) return gw_fail(&l->ctx, GW_ERR_MEMORY, "out of memory");
    const struct gw_cell_want want = {.part = l->item->part,
                                      .bytes = l->part.bytes,
                                      .to = l->part.memory,
                                      .sums = l->part.sums,
                                      .goes_on = receive_on,
                                      .arg = l};
    gw_err_t err = gw_cell_line_get(l->line, &want, &l->whole, &l->ctx);
    l->is_open = l->is_open && (err == GW_OK || err == GW_ERR_NOT_FOUND);
    return err;
}

/* ---- a lane ---- */

/* What there is of the part already, or memory for it. */
static gw_err_t open_part(struct lane *l)
{
    struct rest *rest = l->item->rest;
    l->whole = 0;
    l->since_us = gw_clock_mono_us();
    if (!rest) return cell_part_open(&l->load->store->packer, l->item->part, &l->part, &l->ctx);
    l->part = rest->part;
    l->whole = l->item->whole;
    free(rest);
    l->item->rest = NULL;
    return GW_OK;
}

/* Leaves what came for whoever goes on; under the lock. */
static void keep_rest(struct lane *l)
{
    struct rest *rest = l->side == CELL_PEERS && l->whole > 0 ? malloc(sizeof *rest) : NULL;
    l->item->whole = rest ? l->whole : 0;
    l->item->rest = rest;
    if (!rest) return;
    rest->part = l->part;
    l->part = (struct cell_part){0};
}

static void fail_load(struct load *load, const struct gw_err_ctx *why)
{
    if (load->error.code == GW_OK) load->error = *why;
    load->ending = true;
    pthread_cond_broadcast(&load->changed);
}

static void keep_part(struct lane *l)
{
    struct load *load = l->load;
    if (l->side == CELL_DISK)
        load->loaded.disk_bytes += l->part.bytes;
    else
        load->loaded.peer_bytes += l->part.bytes;
    cell_store_put(load->store, l->item->part, &l->part);
    l->part = (struct cell_part){0};
}

/* May the source be asked for another part? Under the lock; it failed while the part was its own. */
static bool may_go_on(struct lane *l, gw_err_t err)
{
    const struct gw_cell_holder *source = &l->load->wish->sources[l->source];
    if (err == GW_ERR_NOT_FOUND) {
        l->item->sources &= ~(1ull << l->source);
        return true;
    }
    if (l->load->ending) return false;
    bool again = err == GW_ERR_IO && l->whole > 0 && l->tries++ < RETRIES;
    gw_logf(l->load->loader->config.log, GW_LOG_WARN, "weights of %s: %s%s", source->pages, l->ctx.text,
            again ? "; once more" : "");
    return again;
}

/* Under the lock; false: the lane is over. */
static bool settle(struct lane *l, gw_err_t err)
{
    struct load *load = l->load;
    bool goes_on = true;
    if (err == GW_OK && cell_race_done(&load->race, l->number, l->item)) {
        keep_part(l);
    } else if (err != GW_OK && cell_race_is_own(l->item, l->number)) {
        if (l->side == CELL_PEERS) goes_on = may_go_on(l, err);
        if (l->side == CELL_DISK && !load->ending) fail_load(load, &l->ctx);
        cell_race_back(&load->race, l->number, l->item);
        keep_rest(l);
    }
    if (l->part.memory) cell_part_drop(&l->part);
    gw_err_reset(&l->ctx);
    pthread_cond_broadcast(&load->changed);
    return goes_on;
}

static void wait_a_little(struct load *load)
{
    int64_t until_us = gw_clock_mono_us() + LOOK_US;
    struct timespec until = {.tv_sec = until_us / GW_US_PER_S, .tv_nsec = until_us % GW_US_PER_S * 1000};
    pthread_cond_timedwait(&load->changed, &load->lock, &until);
}

static bool is_over(const struct load *load)
{
    return load->ending || cell_race_is_over(&load->race);
}

/* One part; under the lock, which it gives back meanwhile. */
static bool do_part(struct lane *l)
{
    gw_err_t err = open_part(l);
    pthread_mutex_unlock(&l->load->lock);
    if (err == GW_OK) err = l->side == CELL_DISK ? from_disk(l) : from_peer(l);
    if (err == GW_OK) cell_part_push(&l->part);
    pthread_mutex_lock(&l->load->lock);
    return settle(l, err);
}

static void *lane_main(void *arg)
{
    struct lane *l = arg;
    struct load *load = l->load;
    bool goes_on = true;
    gw_thread_name("gw-cells");
    pthread_mutex_lock(&load->lock);
    while (goes_on && !is_over(load)) {
        l->item = cell_race_take(&load->race, l->number, gw_clock_mono_us());
        if (l->item)
            goes_on = do_part(l);
        else
            wait_a_little(load);
    }
    cell_race_leave(&load->race, l->number);
    pthread_cond_broadcast(&load->changed);
    pthread_mutex_unlock(&load->lock);
    return NULL;
}

/* ---- a load ---- */

static bool start_lane(struct lane *l)
{
    l->started = gw_thread_start(&l->thread, 0, lane_main, l, NULL) == GW_OK;
    return l->started;
}

static gw_err_t add_lane(struct load *load, enum cell_side side, uint32_t source, struct gw_err_ctx *ctx)
{
    const struct gw_cell_loader_config *c = &load->loader->config;
    struct lane *l = &load->lanes[load->lanes_len];
    *l = (struct lane){.load = load, .side = side, .source = source};
    if (side == CELL_DISK) {
        const struct cell_packer *p = &load->store->packer;
        TRY(cell_packer_init(&l->packer, p->model, p->ops, p->device));
    } else {
        const struct gw_cell_line_config line = {.address = load->wish->sources[source].pages,
                                                 .try_unix = true,
                                                 .key = c->key,
                                                 .key_len = c->key_len,
                                                 .tls = c->tls,
                                                 .fence = load->wish->fence,
                                                 .model = c->model,
                                                 .packing = gw_cell_store_packing(load->store),
                                                 .stall_us = c->stall_us};
        TRY(gw_cell_line_create(&line, &l->line, ctx));
        l->came = gw_traffic_counter(c->traffic, GW_TRAFFIC_WEIGHTS, line.address);
    }
    load->lanes_len++;
    return cell_race_enter(&load->race, side, source, gw_clock_mono_us(), &l->number);
}

static void start_lanes(struct load *load)
{
    uint32_t started = 0;
    pthread_mutex_lock(&load->lock);
    for (uint32_t i = 0; i < load->lanes_len; i++) {
        if (start_lane(&load->lanes[i]))
            started++;
        else
            cell_race_leave(&load->race, load->lanes[i].number);
    }
    pthread_mutex_unlock(&load->lock);
    struct gw_err_ctx why = {0};
    if (started > 0) return;
    (void)!gw_fail(&why, GW_ERR_IO, "no thread to load weights with");
    pthread_mutex_lock(&load->lock);
    fail_load(load, &why);
    pthread_mutex_unlock(&load->lock);
}

static uint32_t streams_of(const struct gw_cell_wish *w)
{
    return w->sources_len == 1 ? GW_CELL_LOAD_STREAMS : 1;
}

static gw_err_t add_lanes(struct load *load, struct gw_err_ctx *ctx)
{
    const struct gw_cell_wish *w = load->wish;
    assert(w->threads >= 1 && w->sources_len <= GW_WIRE_SOURCES_MAX);
    uint32_t threads = w->threads < GW_CELL_LOAD_THREADS ? w->threads : GW_CELL_LOAD_THREADS;
    for (uint32_t i = 0; i < threads && i < load->race.len; i++) TRY(add_lane(load, CELL_DISK, 0, ctx));
    for (uint32_t s = 0; s < w->sources_len; s++)
        for (uint32_t i = 0; i < streams_of(w) && i < load->race.len; i++)
            TRY(add_lane(load, CELL_PEERS, s, ctx));
    return GW_OK;
}

/* Until all is there, or cannot be. */
static void wait_for_lanes(struct load *load)
{
    const atomic_bool *stop = load->wish->stop;
    pthread_mutex_lock(&load->lock);
    while (!is_over(load)) {
        struct gw_err_ctx why = {0};
        if (stop && atomic_load(stop)) {
            (void)!gw_fail(&why, GW_ERR_IO, "loading of weights was stopped");
            fail_load(load, &why);
        } else {
            wait_a_little(load);
        }
    }
    load->ending = true;
    pthread_cond_broadcast(&load->changed);
    pthread_mutex_unlock(&load->lock);
}

static void end_lanes(struct load *load)
{
    for (uint32_t i = 0; i < load->lanes_len; i++)
        if (load->lanes[i].line) gw_cell_line_cut(load->lanes[i].line);
    for (uint32_t i = 0; i < load->lanes_len; i++) {
        struct lane *l = &load->lanes[i];
        if (l->started) pthread_join(l->thread, NULL);
        gw_cell_line_destroy(l->line);
        cell_packer_fini(&l->packer);
    }
    for (uint32_t i = 0; i < load->race.len; i++) {
        struct rest *rest = load->race.items[i].rest;
        if (rest) cell_part_drop(&rest->part);
        free(rest);
    }
}

/* ---- what is missing, and who may have it ---- */

static void mark_source(const struct gw_cell_store *s, struct gw_cell_rect held, uint64_t bit,
                        uint64_t *sources)
{
    uint32_t number;
    if (!gw_cells_is_rect(&s->packer.model->cells, held)) return; /* another model's, or nonsense */
    for (uint32_t n = 0; cell_nth(&s->packer.model->cells, held, n, &number); n++) sources[number] |= bit;
}

static uint32_t list_missing(struct load *load, const uint64_t *sources, struct cell_item *items)
{
    uint32_t len = 0, number;
    for (uint32_t n = 0; cell_nth(&load->store->packer.model->cells, load->wish->cells, n, &number); n++)
        if (!cell_store_has(load->store, number))
            items[len++] = (struct cell_item){.part = number,
                                              .bytes = cell_part_bytes(&load->store->packer, number),
                                              .sources = sources[number]};
    return len;
}

static gw_err_t open_race(struct load *load, struct gw_err_ctx *ctx)
{
    const struct gw_cell_wish *w = load->wish;
    uint32_t parts = load->store->parts_len;
    uint64_t *sources = calloc(parts, sizeof *sources);
    struct cell_item *items = calloc(parts, sizeof *items);
    gw_err_t err = sources && items ? GW_OK : GW_ERR_MEMORY;
    for (uint32_t i = 0; err == GW_OK && i < w->sources_len; i++)
        mark_source(load->store, w->sources[i].cells, 1ull << i, sources);
    if (err == GW_OK)
        err = cell_race_init(&load->race, items, list_missing(load, sources, items), load->loader->rates);
    load->race.prefer_peers = w->prefer_sources;
    free(sources);
    free(items);
    return err == GW_OK ? GW_OK : gw_fail(ctx, err, "out of memory");
}

/* What was measured, for the next load. */
static void remember(struct load *load)
{
    struct gw_cell_loader *loader = load->loader;
    pthread_mutex_lock(&loader->lock);
    memcpy(loader->rates, load->race.rates, sizeof loader->rates);
    loader->total.disk_bytes += load->loaded.disk_bytes;
    loader->total.peer_bytes += load->loaded.peer_bytes;
    loader->total.took_us += load->loaded.took_us;
    pthread_mutex_unlock(&loader->lock);
}

static void init_load(struct load *load, struct gw_cell_loader *loader, const struct gw_cell_wish *wish)
{
    pthread_condattr_t attr;
    load->loader = loader;
    load->store = loader->config.store;
    load->wish = wish;
    pthread_mutex_init(&load->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&load->changed, &attr);
    pthread_condattr_destroy(&attr);
}

static gw_err_t run(struct load *load, struct gw_err_ctx *ctx)
{
    TRY(open_race(load, ctx));
    gw_err_t err = add_lanes(load, ctx);
    if (err == GW_OK) {
        start_lanes(load);
        wait_for_lanes(load);
    }
    end_lanes(load);
    if (err != GW_OK || cell_race_is_over(&load->race)) return err;
    return gw_fail(ctx, load->error.code, "%s", load->error.text);
}

gw_err_t gw_cell_loader_run(struct gw_cell_loader *loader, const struct gw_cell_wish *wish,
                            struct gw_cell_loaded *out, struct gw_err_ctx *ctx)
{
    int64_t start_us = gw_clock_mono_us();
    struct load *load = calloc(1, sizeof *load);
    *out = (struct gw_cell_loaded){0};
    if (!load) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    init_load(load, loader, wish);
    gw_err_t err = run(load, ctx);
    load->loaded.took_us = gw_clock_mono_us() - start_us;
    remember(load);
    *out = load->loaded;
    cell_race_fini(&load->race);
    pthread_cond_destroy(&load->changed);
    pthread_mutex_destroy(&load->lock);
    free(load);
    return err;
}

/* ---- the loader ---- */

gw_err_t gw_cell_loader_create(const struct gw_cell_loader_config *config, struct gw_cell_loader **out)
{
    struct gw_cell_loader *loader = calloc(1, sizeof *loader);
    if (!loader) return GW_ERR_MEMORY;
    loader->config = *config;
    pthread_mutex_init(&loader->lock, NULL);
    *out = loader;
    return GW_OK;
}

void gw_cell_loader_destroy(struct gw_cell_loader *loader)
{
    if (!loader) return;
    pthread_mutex_destroy(&loader->lock);
    free(loader);
}

struct gw_cell_loaded gw_cell_loader_stats(struct gw_cell_loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    struct gw_cell_loaded total = loader->total;
    pthread_mutex_unlock(&loader->lock);
    return total;
}
