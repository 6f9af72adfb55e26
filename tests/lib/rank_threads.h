/* A pipeline of several ranks inside one process: the leader's engine on the caller's thread, every other rank on a thread
 * of its own, each with a device, store and weights of its own, joined by sockets. */
#ifndef GW_TESTS_RANK_THREADS_H
#define GW_TESTS_RANK_THREADS_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernels/cuda/coll_join.h"
#include "tests/lib/layouts.h"
#include "tests/lib/solo_engine.h"

#define RANK_DEADLINE_US 60000000 /* sanitized kernels of eight ranks on two cores are slow */
#define RANK_END_US      300000   /* a rank that leaves waits no longer for one that is gone */

struct rank_thread {
    const struct rank_threads *all;
    const struct gw_ops *ops;
    struct gw_msg_assign assign;
    struct gw_socket sockets[GW_WIRE_RANKS_MAX];
    pthread_t thread;
    struct gw_device *device;
    struct gw_cell_store *store;
    struct gw_weights *weights;
    struct gw_coll *coll;
    struct gw_coll_join *join; /* of a device with memory of its own */
    void *below;               /* open's */
    struct gw_rank *rank;
    struct gw_rank_room room;
    uint32_t followed; /* steps */
    gw_err_t err;
    struct gw_err_ctx ctx;
};

struct rank_threads {
    const struct gw_model *model;
    const struct gw_ops *ops;
    struct solo_config config;
    /* Makes t->device and t->ops, and t->below of it; NULL: the CPU's. close takes them back. */
    gw_err_t (*open)(struct rank_thread *t, struct gw_err_ctx *ctx);
    void (*close)(struct rank_thread *t);
    const char *nccl;  /* coll_join.h */
    bool apart;        /* stages are said to be on machines of their own */
    bool try_shm, tcp; /* tcp: sockets are TCP over loopback, else socket pairs */
    struct gw_assign_rank places[GW_WIRE_RANKS_MAX];
    struct gw_msg_assign assign;
    struct rank_thread ranks[GW_WIRE_RANKS_MAX];
    struct gw_engine *engine;
    atomic_bool stop;
};

static inline gw_err_t rank_open_device(struct rank_thread *t, struct gw_err_ctx *ctx)
{
    if (t->all->open) return t->all->open(t, ctx);
    t->ops = t->all->ops;
    TRY(gw_device_cpu_create(t->all->config.threads, false, &t->device, ctx));
    gw_device_enter_thread();
    return GW_OK;
}

static inline gw_err_t rank_join(struct rank_thread *t, const struct gw_coll_config *c,
                                 const struct gw_place *p, struct gw_err_ctx *ctx)
{
    const struct gw_coll_join_config config = {.group = {.term = c->term,
                                                         .generation = c->generation,
                                                         .pipeline = c->pipeline,
                                                         .self = c->self,
                                                         .ranks = c->ranks,
                                                         .stage_first = c->stage_first,
                                                         .stage_ranks = c->stage_ranks,
                                                         .shares = c->shares,
                                                         .share_at = c->share_at,
                                                         .max_elems = c->max_elems,
                                                         .deadline_us = c->deadline_us,
                                                         .end_us = RANK_END_US},
                                               .coll = t->coll,
                                               .device = t->device,
                                               .nccl = t->all->nccl,
                                               .one_machine = true,
                                               .all_on_one_machine = !t->all->apart,
                                               .from = p->from == GW_RANK_NONE ? NULL : &p->from,
                                               .to = p->to,
                                               .to_len = p->to_len,
                                               .init_us = RANK_DEADLINE_US};
    if (gw_device_is_host(t->device)) return GW_OK;
    return gw_coll_join_create(&config, &t->join, ctx);
}

static inline gw_err_t rank_make(struct rank_thread *t, struct gw_err_ctx *ctx)
{
    const struct rank_threads *a = t->all;
    struct gw_rank_config config = {.model = a->model, .poison = a->config.poison};
    TRY(gw_place_of(&t->assign, &a->model->cells, &config.place, ctx));
    TRY(rank_open_device(t, ctx));
    config.ops = t->ops;
    TRY(gw_cell_store_create_on(t->device, a->model, t->ops, &t->store, ctx));
    TRY(gw_weights_create(t->store, a->model, config.place.cells, NULL, &t->weights, ctx));
    const struct gw_coll_config coll = {.term = 1,
                                        .generation = 2,
                                        .pipeline = 3,
                                        .self = config.place.self,
                                        .ranks = config.place.ranks,
                                        .sockets = t->sockets,
                                        .stage_first = config.place.stage_first,
                                        .stage_ranks = config.place.stage_ranks,
                                        .shares = a->model->cells.shares,
                                        .share_at = config.place.share_at,
                                        .max_elems =
                                            (size_t)a->config.max_batch_tokens * a->model->config.hidden,
                                        .try_shm = a->try_shm && config.place.stage_ranks > 1,
                                        .deadline_us = RANK_DEADLINE_US};
    t->room = solo_room(a->model, &a->config);
    if (config.place.ranks > 1) {
        TRY(gw_coll_create(&coll, &t->coll, ctx));
        TRY(gw_rank_agree(t->coll, &config.place, &t->room, false, RANK_DEADLINE_US, ctx));
        TRY(rank_join(t, &coll, &config.place, ctx));
    }
    config.device = t->device;
    config.weights = t->weights;
    config.coll = t->coll;
    config.sums = gw_coll_join_sums(t->join);
    config.passes = gw_coll_join_passes(t->join);
    config.room = t->room;
    return gw_rank_create(&config, &t->rank, ctx);
}

static inline gw_err_t rank_follow_all(struct rank_thread *t)
{
    bool did;
    TRY(rank_make(t, &t->ctx));
    TRY(gw_rank_say_go(t->rank, &t->ctx));
    while (!atomic_load(&t->all->stop)) {
        TRY(gw_rank_follow(t->rank, 20000, &did, &t->ctx));
        t->followed += did;
    }
    return GW_OK;
}

/* In the rank's own thread: it may wait for the others, which leave, too. */
static inline void rank_leave(struct rank_thread *t)
{
    (void)gw_coll_join_destroy(t->join);
    t->join = NULL;
}

static inline void rank_drop(struct rank_thread *t)
{
    gw_rank_destroy(t->rank);
    gw_coll_destroy(t->coll);
    gw_weights_destroy(t->weights);
    gw_cell_store_destroy(t->store);
    if (t->all->close)
        t->all->close(t);
    else if (t->device)
        gw_device_destroy(t->device);
}

/* As a worker does whose rank has failed. */
static inline void rank_hang_up(struct rank_thread *t)
{
    for (uint32_t i = 0; i < t->assign.ranks_len; i++)
        if (t->sockets[i].fd >= 0) shutdown(t->sockets[i].fd, SHUT_RDWR);
}

static inline void *rank_thread_main(void *arg)
{
    struct rank_thread *t = arg;
    t->err = rank_follow_all(t);
    if (t->err != GW_OK && t->coll) rank_hang_up(t);
    rank_leave(t);
    return NULL;
}

/* Both ends of a connection over loopback. */
static inline bool rank_tcp_pair(int pair[2])
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof any;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = bind(listener, (struct sockaddr *)&any, len) == 0 && listen(listener, 1) == 0 &&
              getsockname(listener, (struct sockaddr *)&any, &len) == 0 &&
              connect(pair[0], (struct sockaddr *)&any, len) == 0;
    pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    close(listener);
    for (int i = 0; i < 2; i++) {
        setsockopt(pair[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(pair[i], F_SETFL, O_NONBLOCK);
    }
    return ok && pair[1] >= 0;
}

static inline bool rank_connect(struct rank_threads *a)
{
    uint32_t n = a->assign.ranks_len;
    for (uint32_t i = 0; i < n; i++) a->ranks[i].sockets[i] = gw_socket_none();
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = i + 1; k < n; k++) {
            int pair[2];
            bool ok = a->tcp ? rank_tcp_pair(pair)
                             : socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0;
            if (!ok) return false;
            a->ranks[i].sockets[k] = gw_socket_plain(pair[0]);
            a->ranks[k].sockets[i] = gw_socket_plain(pair[1]);
        }
    return true;
}

/* model, layout, config, try_shm and tcp of *a are the caller's to set. */
static inline gw_err_t rank_threads_open(struct rank_threads *a, const char *layout, struct gw_err_ctx *ctx)
{
    const struct solo_config *c = &a->config;
    TRY(gw_ops_cpu(c->profile ? c->profile : gw_model_profile(a->model, GW_WEIGHT_FILE, GW_KV_FILE), c->isa,
                   &a->ops, ctx));
    layout_parse(layout, &a->model->cells, a->places, &a->assign);
    if (!rank_connect(a)) return gw_fail(ctx, GW_ERR_IO, "no sockets");
    for (uint32_t i = 0; i < a->assign.ranks_len; i++) {
        struct rank_thread *t = &a->ranks[i];
        t->all = a;
        t->assign = a->assign;
        t->assign.self = i;
        if (i > 0 && pthread_create(&t->thread, NULL, rank_thread_main, t) != 0)
            return gw_fail(ctx, GW_ERR_IO, "no thread");
    }
    TRY(rank_make(&a->ranks[0], ctx));
    const struct gw_engine_config engine = {.model = a->model,
                                            .ops = a->ranks[0].ops,
                                            .rank = a->ranks[0].rank,
                                            .room = a->ranks[0].room,
                                            .max_chunk = c->max_chunk,
                                            .key = c->key,
                                            .key_len = c->key_len,
                                            .sink = c->sink};
    TRY(gw_engine_create(&engine, &a->engine, ctx));
    for (bool may = false; !may;) TRY(gw_rank_may_lead(a->ranks[0].rank, &may, ctx));
    return GW_OK;
}

/* Fails with the first error that a rank has had. */
static inline gw_err_t rank_threads_close(struct rank_threads *a, struct gw_err_ctx *ctx)
{
    gw_err_t err = GW_OK;
    gw_engine_destroy(a->engine);
    atomic_store(&a->stop, true);
    rank_leave(&a->ranks[0]);
    for (uint32_t i = 1; i < a->assign.ranks_len; i++) {
        pthread_join(a->ranks[i].thread, NULL);
        if (a->ranks[i].err != GW_OK && err == GW_OK)
            err = gw_fail(ctx, a->ranks[i].err, "%s", a->ranks[i].ctx.text);
    }
    for (uint32_t i = 0; i < a->assign.ranks_len; i++)
        rank_drop(&a->ranks[i]); /* a closed socket is an error */
    return err;
}

#endif
