#include "worker/member.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/block_manager.h"

#define PREPARE_NICE 10 /* what serves comes first */
#define MEET_TIMEOUT_US                                                                                      \
    (600 * GW_US_PER_S) /* another rank may load its cells from a slow disk; RELEASE ends it */

struct gw_member {
    struct gw_member_config config;
    struct gw_msg_assign assign;
    struct gw_assign_rank ranks[GW_WIRE_RANKS_MAX];
    struct gw_place place;
    struct gw_rank_room room;
    uint64_t loaded_bytes;
    bool after_start;
    pthread_t thread;
    bool thread_started;
    atomic_bool stop;
    struct gw_weights *weights; /* the preparing thread's, then the engine's */
    /* the engine's thread, once SERVING */
    struct gw_rank *rank;
    struct gw_engine *engine;
    bool may_step;
    uint64_t steps;

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t changed;
    enum gw_member_state state;
    struct gw_err_ctx error;
    struct gw_coll *coll;
    int meeting[GW_WIRE_RANKS_MAX]; /* while collectives are made: second descriptors of their sockets */
    uint32_t meeting_len;
};

/* ---- preparing, on its own thread ---- */

static bool all_on_this_machine(const struct gw_member *m)
{
    for (uint32_t i = 0; i < m->place.stage_ranks; i++)
        if (memcmp(m->ranks[m->place.stage_first + i].machine, m->config.host->machine, GW_MACHINE_BYTES) !=
            0)
            return false;
    return true;
}

/* How much KV fits beside the weights. */
static gw_err_t reckon_room(struct gw_member *m, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    const struct gw_model *model = h->model;
    uint64_t weights = gw_cell_store_bytes_of(h->store, m->place.cells);
    uint64_t slot = gw_page_pool_slot_bytes(&model->config, &model->cells, m->place.cells, h->ops->kv);
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

static gw_err_t load_cells(struct gw_member *m, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    TRY(gw_weights_create(h->store, h->model, m->place.cells, &m->stop, &m->weights, ctx));
    m->loaded_bytes = m->weights->loaded_bytes;
    return GW_OK;
}

/* Unless they do not fit beside what serves. */
static gw_err_t load_cells_if_they_fit(struct gw_member *m, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    gw_cell_store_trim(h->store, m->place.cells);
    uint64_t missing = gw_cell_store_missing(h->store, m->place.cells);
    uint64_t used = gw_cell_store_bytes(h->store) + m->config.occupied_bytes;
    m->after_start = missing > 0 && used + missing > h->memory_bytes;
    return m->after_start ? GW_OK : load_cells(m, ctx);
}

static void break_meeting(struct gw_member *m)
{
    for (uint32_t i = 0; i < m->meeting_len; i++) shutdown(m->meeting[i], SHUT_RDWR);
}

/* Making collectives waits for the other ranks and knows no abort: their sockets do. */
static void watch_meeting(struct gw_member *m, const int *fds)
{
    pthread_mutex_lock(&m->lock);
    for (uint32_t i = 0; i < m->place.ranks; i++) {
        int fd = fds[i] >= 0 ? fcntl(fds[i], F_DUPFD_CLOEXEC, 0) : -1;
        if (fd >= 0) m->meeting[m->meeting_len++] = fd;
    }
    if (atomic_load(&m->stop)) break_meeting(m);
    pthread_mutex_unlock(&m->lock);
}

static void end_meeting(struct gw_member *m)
{
    for (uint32_t i = 0; i < m->meeting_len; i++) close(m->meeting[i]);
    m->meeting_len = 0;
}

static gw_err_t create_coll(struct gw_member *m, const int *fds, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    const struct gw_coll_config config = {.term = m->config.term,
                                          .generation = m->config.generation,
                                          .pipeline = m->config.pipeline,
                                          .self = m->place.self,
                                          .ranks = m->place.ranks,
                                          .fds = fds,
                                          .stage_first = m->place.stage_first,
                                          .stage_ranks = m->place.stage_ranks,
                                          .shares = h->model->cells.shares,
                                          .share_at = m->place.share_at,
                                          .max_elems = (size_t)h->max_batch_tokens * h->model->config.hidden,
                                          .try_shm = m->place.stage_ranks > 1 && all_on_this_machine(m),
                                          .deadline_us = h->step_timeout_us};
    struct gw_coll *coll = NULL;
    watch_meeting(m, fds);
    gw_err_t err = gw_coll_create(&config, &coll, ctx);
    pthread_mutex_lock(&m->lock);
    end_meeting(m);
    m->coll = coll;
    if (coll && atomic_load(&m->stop)) gw_coll_abort(coll);
    pthread_mutex_unlock(&m->lock);
    return err != GW_OK ? err : gw_rank_agree(coll, &m->place, &m->room, MEET_TIMEOUT_US, ctx);
}

static gw_err_t meet_others(struct gw_member *m, struct gw_err_ctx *ctx)
{
    int fds[GW_WIRE_RANKS_MAX];
    if (m->place.ranks == 1) return GW_OK;
    TRY(gw_mesh_gather(m->config.host->mesh, m->config.term, m->config.pipeline, m->config.generation,
                       &m->assign, MEET_TIMEOUT_US, fds, ctx));
    return create_coll(m, fds, ctx);
}

static gw_err_t prepare(struct gw_member *m, struct gw_err_ctx *ctx)
{
    TRY(gw_place_of(&m->assign, &m->config.host->model->cells, &m->place, ctx));
    TRY(reckon_room(m, ctx));
    TRY(load_cells_if_they_fit(m, ctx));
    TRY(meet_others(m, ctx));
    m->room.positions = gw_engine_context_of(m->config.host->model, &m->room);
    return GW_OK;
}

static void *prepare_thread(void *arg)
{
    struct gw_member *m = arg;
    struct gw_err_ctx ctx = {0};
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), PREPARE_NICE);
    gw_err_t err = prepare(m, &ctx);
    pthread_mutex_lock(&m->lock);
    m->state = err == GW_OK ? GW_MEMBER_PREPARED : GW_MEMBER_FAILED;
    m->error = ctx;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    m->config.prepared(m->config.arg);
    return NULL;
}

/* Signals belong to the engine's thread. */
static int start_thread(struct gw_member *m)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&m->thread, NULL, prepare_thread, m);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    m->thread_started = rc == 0;
    return rc;
}

/* ---- life ---- */

gw_err_t gw_member_create(const struct gw_member_config *config, struct gw_member **out,
                          struct gw_err_ctx *ctx)
{
    const struct gw_msg_assign *a = config->assign;
    struct gw_member *m = calloc(1, sizeof *m);
    if (!m) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    assert(a->ranks_len <= GW_WIRE_RANKS_MAX);
    m->config = *config;
    m->assign = *a;
    memcpy(m->ranks, a->ranks, a->ranks_len * sizeof *m->ranks);
    m->assign.ranks = m->ranks;
    m->config.assign = &m->assign;
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    int rc = start_thread(m);
    if (rc) {
        gw_member_destroy(m);
        return gw_fail(ctx, GW_ERR_IO, "no thread to prepare with: %s", strerror(rc));
    }
    *out = m;
    return GW_OK;
}

static void finish_preparing(struct gw_member *m)
{
    if (m->thread_started) pthread_join(m->thread, NULL);
    m->thread_started = false;
}

void gw_member_abort(struct gw_member *m)
{
    atomic_store(&m->stop, true);
    gw_mesh_cancel(m->config.host->mesh, m->config.generation);
    pthread_mutex_lock(&m->lock);
    if (m->coll) gw_coll_abort(m->coll);
    break_meeting(m);
    pthread_mutex_unlock(&m->lock);
}

void gw_member_wake(struct gw_member *m)
{
    pthread_mutex_lock(&m->lock);
    if (m->coll) gw_coll_wake(m->coll);
    pthread_mutex_unlock(&m->lock);
}

void gw_member_destroy(struct gw_member *m)
{
    if (!m) return;
    if (m->thread_started) gw_member_abort(m);
    finish_preparing(m);
    gw_engine_destroy(m->engine);
    gw_rank_destroy(m->rank);
    gw_weights_destroy(m->weights);
    gw_coll_destroy(m->coll);
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

uint64_t gw_member_pool_bytes(const struct gw_member *m)
{
    const struct gw_host *h = m->config.host;
    if (!m->rank) return 0;
    return gw_page_pool_slot_bytes(&h->model->config, &h->model->cells, m->place.cells, h->ops->kv) *
           m->room.slots;
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

static gw_err_t create_rank(struct gw_member *m, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    const struct gw_rank_config config = {.model = h->model,
                                          .ops = h->ops,
                                          .device = h->device,
                                          .weights = m->weights,
                                          .coll = m->coll,
                                          .place = m->place,
                                          .room = m->room,
                                          .poison = h->poison};
    return gw_rank_create(&config, &m->rank, ctx);
}

static gw_err_t create_engine(struct gw_member *m, const struct gw_engine_sink *sink, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    struct gw_engine_config config = {.model = h->model,
                                      .ops = h->ops,
                                      .rank = m->rank,
                                      .room = m->room,
                                      .key = h->key,
                                      .key_len = h->key_len,
                                      .sink = *sink};
    memcpy(config.fingerprint, h->fingerprint, sizeof config.fingerprint);
    return gw_engine_create(&config, &m->engine, ctx);
}

static gw_err_t start(struct gw_member *m, const struct gw_engine_sink *sink, struct gw_err_ctx *ctx)
{
    gw_cell_store_trim(m->config.host->store, m->place.cells);
    if (!m->weights) TRY(load_cells(m, ctx));
    TRY(create_rank(m, ctx));
    return gw_member_leads(m) ? create_engine(m, sink, ctx) : gw_rank_say_go(m->rank, ctx);
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
    return m->may_step ? gw_engine_step(m->engine, did, ctx) : GW_OK;
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
