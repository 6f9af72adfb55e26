#include "worker/member.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"
#include "worker/block_manager.h"
#include "worker/meeting.h"

#define PREPARE_NICE 10 /* what serves comes first */
#define EARLY_PART   16 /* of all slots at least, else pages wait until there is memory for all */
#define SLOTS_MARGIN_US                                                                                      \
    (2 * GW_US_PER_S) /* other ranks let go of what they served when their START comes, before their GO */

struct gw_member {
    struct gw_member_config config;
    struct gw_msg_assign assign;
    struct gw_assign_rank ranks[GW_WIRE_RANKS_MAX];
    struct gw_cell_holder sources[GW_WIRE_SOURCES_MAX];
    struct gw_place place;
    struct gw_rank_room room;
    uint64_t loaded_bytes;
    bool after_start;
    bool mute; /* a rank speaks protocol 2 */
    struct gw_shelf_pool *pages;
    pthread_t thread;
    bool thread_started;
    atomic_bool stop;
    struct gw_meeting *meeting;
    struct gw_weights *weights; /* the preparing thread's, then the engine's */
    /* the engine's thread, once SERVING */
    struct gw_rank *rank;
    struct gw_copier *copier;
    struct gw_engine *engine;
    bool may_step;
    int64_t
        all_slots_us; /* when pages of earlier pipelines are gone everywhere; 0: they are, or were not there */
    uint64_t steps;

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t changed;
    enum gw_member_state state;
    struct gw_err_ctx error;
};

/* ---- preparing, on its own thread ---- */

static struct gw_shelf_key key_of(const struct gw_member *m)
{
    return (struct gw_shelf_key){.term = m->config.term, .generation = m->config.generation};
}

static uint64_t slot_bytes(const struct gw_member *m)
{
    const struct gw_host *h = m->config.host;
    return gw_page_pool_slot_bytes(&h->model->config, &h->model->cells, m->place.cells, h->ops->kv);
}

/* How much KV fits beside the weights. */
static gw_err_t reckon_room(struct gw_member *m, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    const struct gw_model *model = h->model;
    uint64_t weights = gw_cell_store_bytes_of(h->store, m->place.cells);
    uint64_t slot = slot_bytes(m);
    uint64_t wanted = h->kv_tokens ? h->kv_tokens : (uint64_t)GW_HOST_CONTEXTS * model->config.context;
    uint64_t slots = (wanted + GW_BLOCK_TOKENS - 1) / GW_BLOCK_TOKENS;
    uint64_t fit = h->memory_bytes > weights ? (h->memory_bytes - weights) / slot : 0;
    if (!h->kv_tokens && fit < slots) slots = fit;
    if (slots > GW_BLOCKS_MAX / GW_BLOCK_TOKENS) slots = GW_BLOCKS_MAX / GW_BLOCK_TOKENS;
    if (slots == 0 || weights > h->memory_bytes)
        return gw_fail(
            ctx, GW_ERR_LIMIT, "its cells need %llu bytes and a KV block %llu; --memory-limit is %llu",
            (unsigned long long)weights, (unsigned long long)slot, (unsigned long long)h->memory_bytes);
    m->room = (struct gw_rank_room){
        .slots = (uint32_t)slots, .max_rows = h->max_batch_tokens, .max_sequences = h->max_sequences};
    m->room.positions = model->config.context;
    return GW_OK;
}

static void say_loaded(const struct gw_member *m, const struct gw_cell_loaded *l)
{
    const struct gw_host *h = m->config.host;
    uint64_t all = gw_cell_store_bytes_of(h->store, m->place.cells), loaded = l->disk_bytes + l->peer_bytes;
    gw_logf(h->log, GW_LOG_INFO,
            "pipeline=%u gen=%llu: weights: %.1f MB were here, %.1f MB from peers, %.1f MB from disk, %.2f s",
            m->config.pipeline, (unsigned long long)m->config.generation, (double)(all - loaded) / 1e6,
            (double)l->peer_bytes / 1e6, (double)l->disk_bytes / 1e6,
            (double)l->took_us / (double)GW_US_PER_S);
}

/* Missing cells come from the sources too; beside what serves, one thread packs. */
static gw_err_t fetch_cells(struct gw_member *m, bool beside, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    const struct gw_cell_wish wish = {
        .cells = m->place.cells,
        .fence = {.term = m->config.term, .generation = m->config.generation, .pipeline = m->config.pipeline},
        .sources = m->sources,
        .sources_len = h->weights_from == GW_WEIGHTS_DISK ? 0 : m->assign.sources_len,
        .prefer_sources = h->weights_from == GW_WEIGHTS_PEERS,
        .threads = beside ? 1 : (uint32_t)gw_device_threads(h->device),
        .stop = &m->stop};
    struct gw_cell_loaded loaded;
    TRY(gw_cell_loader_run(h->loader, &wish, &loaded, ctx));
    m->loaded_bytes = loaded.disk_bytes + loaded.peer_bytes;
    say_loaded(m, &loaded);
    return GW_OK;
}

static gw_err_t load_cells(struct gw_member *m, bool beside, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    TRY(fetch_cells(m, beside, ctx));
    return gw_weights_create(h->store, h->model, m->place.cells, &m->stop, &m->weights, ctx);
}

/* Unless they do not fit beside what serves. */
static gw_err_t load_cells_if_they_fit(struct gw_member *m, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    gw_cell_store_trim(h->store, m->place.cells);
    uint64_t missing = gw_cell_store_missing(h->store, m->place.cells);
    uint64_t used = gw_cell_store_bytes(h->store) + gw_shelf_touched_bytes(h->shelf);
    m->after_start = missing > 0 && used + missing > h->memory_bytes;
    return m->after_start ? GW_OK : load_cells(m, m->config.beside, ctx);
}

/* Slots beside the pages of earlier pipelines. They may still grow by what they admit meanwhile, so a few are not worth
 * the risk. A device with memory of its own has it for all slots of a pool, or the pool is not made yet. */
static void reckon_early_slots(struct gw_member *m)
{
    const struct gw_host *h = m->config.host;
    uint64_t own = m->pages ? gw_page_pool_touched_bytes(gw_shelf_memory(m->pages)) : 0;
    uint64_t used = gw_cell_store_bytes(h->store) + gw_shelf_touched_bytes(h->shelf) - own;
    uint64_t fit = h->memory_bytes > used ? (h->memory_bytes - used) / slot_bytes(m) : 0;
    uint32_t least = gw_device_is_host(h->device) ? m->room.slots / EARLY_PART : m->room.slots;
    if (m->after_start || fit < least) fit = 0;
    m->room.early_slots = fit < m->room.slots ? (uint32_t)fit : m->room.slots;
}

static bool is_mute(const struct gw_member *m)
{
    for (uint32_t i = 0; i < m->assign.ranks_len; i++)
        if (!m->ranks[i].pages[0]) return true;
    return false;
}

static struct gw_page_rect pages_of(const struct gw_member *m)
{
    const struct gw_cells *cells = &m->config.host->model->cells;
    const struct gw_geometry_heads heads = {.share_heads = cells->share_heads,
                                            .query_group = cells->query_group};
    return gw_geometry_pages(heads, m->place.cells);
}

/* What this worker served before it lost its controller, say, is not copied. Ranks of several would have to agree on what
 * is in which slot. */
static void revive_pages(struct gw_member *m)
{
    const struct gw_host *h = m->config.host;
    if (m->place.ranks > 1) return;
    m->pages = gw_shelf_revive(h->shelf, key_of(m), pages_of(m), m->room.slots);
    if (m->pages)
        gw_logf(h->log, GW_LOG_INFO, "pipeline=%u gen=%llu: goes on with the pages that are here",
                m->config.pipeline, (unsigned long long)m->config.generation);
}

static gw_err_t create_pages(struct gw_member *m, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    const struct gw_cells *cells = &h->model->cells;
    struct gw_page_pool *pool;
    if (m->pages) return GW_OK; /* revived */
    TRY(gw_page_pool_create_on(h->device, &h->model->config, cells, m->place.cells, h->ops->kv, m->room.slots,
                               h->poison, &pool, ctx));
    return gw_shelf_put(h->shelf, key_of(m), pages_of(m), pool, m->room.slots, &m->pages, ctx);
}

static gw_err_t create_rank(struct gw_member *m, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    TRY(create_pages(m, ctx));
    const struct gw_rank_config config = {.model = h->model,
                                          .ops = h->ops,
                                          .device = h->device,
                                          .weights = m->weights,
                                          .coll = gw_meeting_coll(m->meeting),
                                          .sums = gw_meeting_sums(m->meeting),
                                          .passes = gw_meeting_passes(m->meeting),
                                          .place = m->place,
                                          .room = m->room,
                                          .poison = h->poison,
                                          .pages = m->pages,
                                          .checkpoint = m->mute ? NULL : h->checkpoint,
                                          .mute = m->mute};
    return gw_rank_create(&config, &m->rank, ctx);
}

static gw_err_t prepare(struct gw_member *m, struct gw_err_ctx *ctx)
{
    TRY(gw_place_of(&m->assign, &m->config.host->model->cells, &m->place, ctx));
    TRY(reckon_room(m, ctx));
    TRY(load_cells_if_they_fit(m, ctx));
    revive_pages(m);
    reckon_early_slots(m);
    TRY(gw_meeting_run(m->meeting, &m->place, m->mute, &m->room, ctx));
    m->room.positions = gw_engine_context_of(m->config.host->model, &m->room);
    return m->room.early_slots > 0 ? create_rank(m, ctx) : GW_OK;
}

static void *prepare_thread(void *arg)
{
    struct gw_member *m = arg;
    struct gw_err_ctx ctx = {0};
    gw_thread_name("gw-prepare");
    if (m->config.beside) gw_thread_be_nice(PREPARE_NICE);
    gw_err_t err = prepare(m, &ctx);
    pthread_mutex_lock(&m->lock);
    m->state = err == GW_OK ? GW_MEMBER_PREPARED : GW_MEMBER_FAILED;
    m->error = ctx;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    m->config.prepared(m->config.arg);
    return NULL;
}

/* ---- life ---- */

static gw_err_t create_meeting(struct gw_member *m)
{
    const struct gw_meeting_config config = {.host = m->config.host,
                                             .term = m->config.term,
                                             .generation = m->config.generation,
                                             .pipeline = m->config.pipeline,
                                             .assign = &m->assign,
                                             .stop = &m->stop};
    return gw_meeting_create(&config, &m->meeting);
}

gw_err_t gw_member_create(const struct gw_member_config *config, struct gw_member **out,
                          struct gw_err_ctx *ctx)
{
    const struct gw_msg_assign *a = config->assign;
    struct gw_member *m = calloc(1, sizeof *m);
    if (!m) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    assert(a->ranks_len <= GW_WIRE_RANKS_MAX && a->sources_len <= GW_WIRE_SOURCES_MAX);
    m->config = *config;
    m->assign = *a;
    memcpy(m->ranks, a->ranks, a->ranks_len * sizeof *m->ranks);
    m->assign.ranks = m->ranks;
    if (a->sources_len > 0) memcpy(m->sources, a->sources, a->sources_len * sizeof *m->sources);
    m->assign.sources = m->sources;
    m->config.assign = &m->assign;
    m->mute = is_mute(m);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    gw_err_t err = create_meeting(m);
    if (err == GW_OK) err = gw_thread_start(&m->thread, 0, prepare_thread, m, ctx);
    m->thread_started = err == GW_OK;
    if (err == GW_OK)
        *out = m;
    else
        gw_member_destroy(m, 0);
    return err;
}

static void finish_preparing(struct gw_member *m)
{
    if (m->thread_started) pthread_join(m->thread, NULL);
    m->thread_started = false;
}

void gw_member_abort(struct gw_member *m)
{
    atomic_store(&m->stop, true);
    gw_fetcher_cancel(m->config.host->fetcher, key_of(m));
    gw_meeting_abort(m->meeting);
}

void gw_member_wake(struct gw_member *m)
{
    gw_meeting_wake(m->meeting);
}

void gw_member_destroy(struct gw_member *m, int64_t lease_us)
{
    if (!m) return;
    if (m->thread_started) gw_member_abort(m);
    finish_preparing(m);
    gw_fetcher_cancel(m->config.host->fetcher, key_of(m));
    gw_engine_destroy(m->engine);
    gw_copier_destroy(m->copier);
    if (m->rank && lease_us > 0) gw_rank_hear_last(m->rank);
    gw_rank_destroy(m->rank);
    if (m->pages) gw_shelf_retire(m->config.host->shelf, m->pages, lease_us);
    gw_weights_destroy(m->weights);
    gw_meeting_destroy(m->meeting);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->changed);
    free(m);
}

enum gw_member_state gw_member_state(struct gw_member *m)
{
    pthread_mutex_lock(&m->lock);
    enum gw_member_state state = m->state;
    pthread_mutex_unlock(&m->lock);
    return state;
}

enum gw_member_state gw_member_wait(struct gw_member *m)
{
    pthread_mutex_lock(&m->lock);
    while (m->state == GW_MEMBER_PREPARING) pthread_cond_wait(&m->changed, &m->lock);
    enum gw_member_state state = m->state;
    pthread_mutex_unlock(&m->lock);
    return state;
}

static void set_state(struct gw_member *m, enum gw_member_state state)
{
    pthread_mutex_lock(&m->lock);
    m->state = state;
    pthread_mutex_unlock(&m->lock);
}

/* ---- what it is ---- */

const struct gw_err_ctx *gw_member_error(const struct gw_member *m)
{
    return &m->error;
}

uint32_t gw_member_unreached(const struct gw_member *m)
{
    return gw_meeting_unreached(m->meeting);
}

uint32_t gw_member_pipeline(const struct gw_member *m)
{
    return m->config.pipeline;
}

uint64_t gw_member_generation(const struct gw_member *m)
{
    return m->config.generation;
}

bool gw_member_leads(const struct gw_member *m)
{
    return m->assign.self == 0;
}

bool gw_member_is_alone(const struct gw_member *m)
{
    return m->assign.ranks_len == 1;
}

struct gw_cell_rect gw_member_cells(const struct gw_member *m)
{
    return m->ranks[m->assign.self].cells;
}

void gw_member_ready(const struct gw_member *m, struct gw_msg_ready *out)
{
    *out = (struct gw_msg_ready){.kv_tokens = m->room.slots * GW_BLOCK_TOKENS,
                                 .context = m->room.positions,
                                 .max_sequences = m->room.max_sequences,
                                 .loaded_bytes = m->loaded_bytes,
                                 .after_start = m->after_start};
}

/* ---- serving ---- */

static gw_err_t create_copier(struct gw_member *m, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    const struct gw_copier_config config = {
        .fetcher = h->fetcher,
        .ranks = m->ranks,
        .ranks_len = m->assign.ranks_len,
        .fence = {.term = m->config.term, .generation = m->config.generation, .pipeline = m->config.pipeline},
        .model = h->page_model,
        .key = h->key,
        .key_len = h->key_len,
        .tls = h->tls,
        .log = h->log,
        .done = m->config.prepared,
        .arg = m->config.arg};
    return m->mute || h->never_fetch ? GW_OK : gw_copier_create(&config, &m->copier, ctx);
}

static gw_err_t create_engine(struct gw_member *m, const struct gw_engine_sink *sink, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    TRY(create_copier(m, ctx));
    struct gw_engine_config config = {.model = h->model,
                                      .ops = h->ops,
                                      .rank = m->rank,
                                      .room = m->room,
                                      .key = h->key,
                                      .key_len = h->key_len,
                                      .sink = *sink,
                                      .copier = m->copier,
                                      .stores = h->stores,
                                      .step_target_us = h->step_target_us,
                                      .always_fetch = h->always_fetch,
                                      .early_slots = m->room.early_slots};
    memcpy(config.fingerprint, h->fingerprint, sizeof config.fingerprint);
    return gw_engine_create(&config, &m->engine, ctx);
}

static gw_err_t start(struct gw_member *m, const struct gw_engine_sink *sink, struct gw_err_ctx *ctx)
{
    gw_cell_store_trim(m->config.host->store, m->place.cells);
    if (!m->weights) TRY(load_cells(m, false, ctx));
    if (!m->rank) TRY(create_rank(m, ctx));
    if (!gw_member_leads(m)) return gw_rank_say_go(m->rank, ctx);
    if (!m->engine) TRY(create_engine(m, sink, ctx));
    m->all_slots_us = gw_clock_mono_us() + GW_MEMBER_LEASE_US + SLOTS_MARGIN_US;
    return GW_OK;
}

gw_err_t gw_member_arm(struct gw_member *m, const struct gw_engine_sink *sink, struct gw_err_ctx *ctx)
{
    assert(gw_member_state(m) == GW_MEMBER_PREPARED);
    finish_preparing(m);
    return m->rank && gw_member_leads(m) ? create_engine(m, sink, ctx) : GW_OK;
}

bool gw_member_is_armed(const struct gw_member *m)
{
    return m->rank != NULL;
}

gw_err_t gw_member_start(struct gw_member *m, const struct gw_engine_sink *sink, struct gw_err_ctx *ctx)
{
    assert(gw_member_state(m) == GW_MEMBER_PREPARED);
    finish_preparing(m);
    gw_err_t err = start(m, sink, ctx);
    set_state(m, err == GW_OK ? GW_MEMBER_SERVING : GW_MEMBER_FAILED);
    return err;
}

struct gw_engine *gw_member_engine(struct gw_member *m)
{
    return m->engine;
}

bool gw_member_may_step(const struct gw_member *m)
{
    return m->may_step;
}

static gw_err_t lead(struct gw_member *m, bool *did, struct gw_err_ctx *ctx)
{
    *did = false;
    if (!m->may_step) TRY(gw_rank_may_lead(m->rank, &m->may_step, ctx));
    if (!m->may_step) {
        gw_engine_tend(m->engine);
        return GW_OK;
    }
    if (m->all_slots_us && gw_clock_mono_us() >= m->all_slots_us) {
        gw_engine_use_all_slots(m->engine);
        m->all_slots_us = 0;
    }
    return gw_engine_step(m->engine, did, ctx);
}

gw_err_t gw_member_step(struct gw_member *m, int64_t wait_us, bool *did, struct gw_err_ctx *ctx)
{
    gw_err_t err = m->engine ? lead(m, did, ctx) : gw_rank_follow(m->rank, wait_us, did, ctx);
    if (err == GW_OK)
        m->steps += *did;
    else
        set_state(m, GW_MEMBER_FAILED);
    return err;
}

uint64_t gw_member_steps(const struct gw_member *m)
{
    return m->steps;
}
