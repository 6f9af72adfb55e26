#include "worker/meeting.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernels/cuda/coll_join.h"

#define MEET_TIMEOUT_US                                                                                      \
    (600 * GW_US_PER_S) /* another rank may load its cells from a slow disk; RELEASE ends it */
#define JOIN_INIT_US (60 * GW_US_PER_S) /* NCCL takes seconds to connect GPUs */
#define JOIN_END_US  (1 * GW_US_PER_S)  /* who leaves does not wait longer for others, which may be gone */

struct gw_meeting {
    struct gw_meeting_config config;
    const struct gw_place *place; /* run's */
    uint32_t unreached;

    pthread_mutex_t lock; /* guards the rest */
    struct gw_coll *coll;
    struct gw_coll_join *join;
    int sockets[GW_WIRE_RANKS_MAX]; /* while collectives are made: second descriptors of theirs */
    uint32_t sockets_len;
};

gw_err_t gw_meeting_create(const struct gw_meeting_config *config, struct gw_meeting **out)
{
    struct gw_meeting *m = calloc(1, sizeof *m);
    if (!m) return GW_ERR_MEMORY;
    m->config = *config;
    m->unreached = GW_RANK_NONE;
    pthread_mutex_init(&m->lock, NULL);
    *out = m;
    return GW_OK;
}

void gw_meeting_destroy(struct gw_meeting *m)
{
    if (!m) return;
    (void)gw_coll_join_destroy(m->join); /* what did not come to rest meets the device's deadline */
    gw_coll_destroy(m->coll);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* Ranks [first, first + len). */
static bool are_here(const struct gw_meeting *m, uint32_t first, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        if (memcmp(m->config.assign->ranks[first + i].machine, m->config.host->machine, GW_MACHINE_BYTES) !=
            0)
            return false;
    return true;
}

static bool stage_is_here(const struct gw_meeting *m)
{
    return are_here(m, m->place->stage_first, m->place->stage_ranks);
}

static void break_sockets(struct gw_meeting *m)
{
    for (uint32_t i = 0; i < m->sockets_len; i++) shutdown(m->sockets[i], SHUT_RDWR);
}

/* Making collectives waits for the other ranks and knows no abort: their sockets do. */
static void watch_sockets(struct gw_meeting *m, const struct gw_socket *sockets)
{
    pthread_mutex_lock(&m->lock);
    for (uint32_t i = 0; i < m->place->ranks; i++) {
        int fd = sockets[i].fd >= 0 ? fcntl(sockets[i].fd, F_DUPFD_CLOEXEC, 0) : -1;
        if (fd >= 0) m->sockets[m->sockets_len++] = fd;
    }
    if (atomic_load(m->config.stop)) break_sockets(m);
    pthread_mutex_unlock(&m->lock);
}

static void end_watch(struct gw_meeting *m)
{
    for (uint32_t i = 0; i < m->sockets_len; i++) close(m->sockets[i]);
    m->sockets_len = 0;
}

static gw_err_t create_coll(struct gw_meeting *m, const struct gw_socket *sockets, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    gw_traffic_counter_t *sent[GW_WIRE_RANKS_MAX];
    const struct gw_coll_config config = {.term = m->config.term,
                                          .sent = sent,
                                          .generation = m->config.generation,
                                          .pipeline = m->config.pipeline,
                                          .self = m->place->self,
                                          .ranks = m->place->ranks,
                                          .sockets = sockets,
                                          .stage_first = m->place->stage_first,
                                          .stage_ranks = m->place->stage_ranks,
                                          .shares = h->model->cells.shares,
                                          .share_at = m->place->share_at,
                                          .max_elems = (size_t)h->max_batch_tokens * h->model->config.hidden,
                                          .try_shm = m->place->stage_ranks > 1 && stage_is_here(m) &&
                                                     gw_device_is_host(h->device),
                                          .deadline_us = h->step_timeout_us};
    struct gw_coll *coll = NULL;
    for (uint32_t i = 0; i < m->place->ranks; i++)
        sent[i] = gw_traffic_counter(h->traffic, GW_TRAFFIC_STEPS, m->config.assign->ranks[i].data);
    watch_sockets(m, sockets);
    gw_err_t err = gw_coll_create(&config, &coll, ctx);
    pthread_mutex_lock(&m->lock);
    end_watch(m);
    m->coll = coll;
    if (coll && atomic_load(m->config.stop)) gw_coll_abort(coll);
    pthread_mutex_unlock(&m->lock);
    return err;
}

static void say_joined(const struct gw_meeting *m)
{
    const struct gw_coll_device *sums = gw_coll_join_sums(m->join), *passes = gw_coll_join_passes(m->join);
    if (sums)
        gw_logf(m->config.host->log, GW_LOG_INFO, "pipeline=%u gen=%llu: sums between GPUs: %s",
                m->config.pipeline, (unsigned long long)m->config.generation, gw_coll_device_carrier(sums));
    if (m->place->stages > 1)
        gw_logf(m->config.host->log, GW_LOG_INFO, "pipeline=%u gen=%llu: activations between stages: %s",
                m->config.pipeline, (unsigned long long)m->config.generation,
                passes ? gw_coll_device_carrier(passes) : "by the host");
}

static gw_err_t join_devices(struct gw_meeting *m, struct gw_err_ctx *ctx)
{
    const struct gw_host *h = m->config.host;
    const struct gw_coll_join_config config = {
        .group = {.term = m->config.term,
                  .generation = m->config.generation,
                  .pipeline = m->config.pipeline,
                  .self = m->place->self,
                  .ranks = m->place->ranks,
                  .stage_first = m->place->stage_first,
                  .stage_ranks = m->place->stage_ranks,
                  .shares = h->model->cells.shares,
                  .share_at = m->place->share_at,
                  .max_elems = (size_t)h->max_batch_tokens * h->model->config.hidden,
                  .deadline_us = h->step_timeout_us,
                  .end_us = JOIN_END_US,
                  .stop = m->config.stop},
        .coll = m->coll,
        .device = h->device,
        .one_machine = stage_is_here(m),
        .all_on_one_machine = are_here(m, 0, m->place->ranks),
        .from = m->place->from == GW_RANK_NONE ? NULL : &m->place->from,
        .to = m->place->to,
        .to_len = m->place->to_len,
        .init_us = JOIN_INIT_US};
    struct gw_coll_join *join;
    if (gw_device_is_host(h->device)) return GW_OK;
    TRY(gw_coll_join_create(&config, &join, ctx));
    pthread_mutex_lock(&m->lock);
    m->join = join;
    pthread_mutex_unlock(&m->lock);
    say_joined(m);
    return GW_OK;
}

gw_err_t gw_meeting_run(struct gw_meeting *m, const struct gw_place *place, bool mute,
                        struct gw_rank_room *room, struct gw_err_ctx *ctx)
{
    const struct gw_meeting_config *c = &m->config;
    struct gw_socket sockets[GW_WIRE_RANKS_MAX];
    m->place = place;
    if (place->ranks == 1) return GW_OK;
    TRY(gw_mesh_gather(c->host->mesh, c->term, c->pipeline, c->generation, c->assign, MEET_TIMEOUT_US,
                       sockets, &m->unreached, ctx));
    TRY(create_coll(m, sockets, ctx));
    TRY(gw_rank_agree(m->coll, place, room, mute, MEET_TIMEOUT_US, ctx));
    return join_devices(m, ctx);
}

void gw_meeting_abort(struct gw_meeting *m)
{
    gw_mesh_cancel(m->config.host->mesh, m->config.generation);
    pthread_mutex_lock(&m->lock);
    if (m->coll) gw_coll_abort(m->coll);
    if (m->join) gw_coll_join_abort(m->join);
    break_sockets(m);
    pthread_mutex_unlock(&m->lock);
}

void gw_meeting_wake(struct gw_meeting *m)
{
    pthread_mutex_lock(&m->lock);
    if (m->coll) gw_coll_wake(m->coll);
    pthread_mutex_unlock(&m->lock);
}

struct gw_coll *gw_meeting_coll(const struct gw_meeting *m)
{
    return m->coll;
}

struct gw_coll_device *gw_meeting_sums(const struct gw_meeting *m)
{
    return gw_coll_join_sums(m->join);
}

struct gw_coll_device *gw_meeting_passes(const struct gw_meeting *m)
{
    return gw_coll_join_passes(m->join);
}

uint32_t gw_meeting_unreached(const struct gw_meeting *m)
{
    return m->unreached;
}
