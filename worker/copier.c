#include "worker/copier.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"

/* One thread for each rank. */
struct hand {
    struct gw_copier *copier;
    struct gw_puller *puller; /* NULL: this rank */
    uint8_t *from;            /* [GW_PULL_NAMES_MAX] its answer */
    pthread_t thread;
    bool started;
};

struct gw_copier {
    struct gw_copier_config config;
    struct hand hands[GW_WIRE_RANKS_MAX];
    bool begun; /* the engine's: and not taken yet */
    /* of what was begun: written by the engine while nobody works on it */
    struct gw_pull pull;
    struct gw_block_name *names;     /* [GW_PULL_NAMES_MAX] */
    uint32_t *slots;                 /* [GW_PULL_NAMES_MAX] */
    struct gw_fetch_source *holders; /* [GW_FETCH_SOURCES_MAX] */
    uint8_t *worst;                  /* [GW_PULL_NAMES_MAX] */

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t changed;
    uint64_t number; /* of the pull that hands shall do */
    uint32_t pending;
    bool in_doubt, stop;
};

/* ---- the hands ---- */

static bool wait_for(struct gw_copier *c, uint64_t done)
{
    pthread_mutex_lock(&c->lock);
    while (!c->stop && c->number == done) pthread_cond_wait(&c->changed, &c->lock);
    bool go = !c->stop;
    pthread_mutex_unlock(&c->lock);
    return go;
}

static void answer(struct gw_copier *c, bool in_doubt)
{
    pthread_mutex_lock(&c->lock);
    c->in_doubt |= in_doubt;
    bool last = --c->pending == 0;
    bool stop = c->stop;
    pthread_mutex_unlock(&c->lock);
    if (last && !stop) c->config.done(c->config.arg);
}

static bool work(struct hand *h)
{
    struct gw_copier *c = h->copier;
    struct gw_err_ctx ctx = {0};
    memset(h->from, GW_PULL_LOST, c->pull.names_len);
    if (!h->puller) {
        gw_fetcher_pull(c->config.fetcher, &c->pull, h->from);
        return true;
    }
    if (gw_puller_run(h->puller, &c->pull, h->from, &ctx) == GW_OK) return true;
    gw_logf(c->config.log, GW_LOG_WARN, "gen=%llu: a rank does not fetch pages: %s",
            (unsigned long long)c->pull.fence.generation, ctx.text);
    memset(h->from, GW_PULL_LOST, c->pull.names_len);
    return false;
}

static void *hand_thread(void *arg)
{
    struct hand *h = arg;
    gw_thread_name("gw-copy");
    for (uint64_t done = 0; wait_for(h->copier, done); done++) answer(h->copier, !work(h));
    return NULL;
}

/* ---- life ---- */

static gw_err_t create_hand(struct gw_copier *c, uint32_t rank, struct gw_err_ctx *ctx)
{
    struct hand *h = &c->hands[rank];
    h->copier = c;
    h->from = malloc(GW_PULL_NAMES_MAX);
    if (!h->from) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    if (rank > 0) {
        const struct gw_puller_config config = {.address = c->config.ranks[rank].pages,
                                                .key = c->config.key,
                                                .key_len = c->config.key_len,
                                                .tls = c->config.tls,
                                                .model = c->config.model,
                                                .try_unix = true,
                                                .log = c->config.log};
        TRY(gw_puller_create(&config, &h->puller, ctx));
    }
    TRY(gw_thread_start(&h->thread, 0, hand_thread, h, ctx));
    h->started = true;
    return GW_OK;
}

static gw_err_t create_parts(struct gw_copier *c, struct gw_err_ctx *ctx)
{
    c->names = calloc(GW_PULL_NAMES_MAX, sizeof *c->names);
    c->slots = calloc(GW_PULL_NAMES_MAX, sizeof *c->slots);
    c->holders = calloc(GW_FETCH_SOURCES_MAX, sizeof *c->holders);
    c->worst = calloc(GW_PULL_NAMES_MAX, sizeof *c->worst);
    if (!c->names || !c->slots || !c->holders || !c->worst)
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    for (uint32_t rank = 0; rank < c->config.ranks_len; rank++) TRY(create_hand(c, rank, ctx));
    return GW_OK;
}

gw_err_t gw_copier_create(const struct gw_copier_config *config, struct gw_copier **out,
                          struct gw_err_ctx *ctx)
{
    assert(config->ranks_len >= 1 && config->ranks_len <= GW_WIRE_RANKS_MAX);
    struct gw_copier *c = calloc(1, sizeof *c);
    if (!c) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    c->config = *config;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    gw_err_t err = create_parts(c, ctx);
    c->config.key = NULL; /* the pullers have their own copies */
    c->config.ranks = NULL;
    if (err == GW_OK)
        *out = c;
    else
        gw_copier_destroy(c);
    return err;
}

static void stop_hands(struct gw_copier *c)
{
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    gw_fetcher_cancel(c->config.fetcher, (struct gw_shelf_key){.term = c->config.fence.term,
                                                               .generation = c->config.fence.generation});
    for (uint32_t i = 0; i < GW_WIRE_RANKS_MAX; i++)
        if (c->hands[i].puller) gw_puller_cancel(c->hands[i].puller);
}

void gw_copier_destroy(struct gw_copier *c)
{
    if (!c) return;
    stop_hands(c);
    for (uint32_t i = 0; i < GW_WIRE_RANKS_MAX; i++) {
        struct hand *h = &c->hands[i];
        if (h->started) pthread_join(h->thread, NULL);
        gw_puller_destroy(h->puller);
        free(h->from);
    }
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->changed);
    free(c->names);
    free(c->slots);
    free(c->holders);
    free(c->worst);
    free(c);
}

/* ---- a pull ---- */

bool gw_copier_is_idle(const struct gw_copier *c)
{
    return !c->begun;
}

void gw_copier_begin(struct gw_copier *c, const struct gw_pull *pull)
{
    assert(!c->begun && pull->names_len >= 1 && pull->names_len <= GW_PULL_NAMES_MAX &&
           pull->holders_len <= GW_FETCH_SOURCES_MAX);
    c->pull = *pull;
    c->pull.fence = c->config.fence;
    memcpy(c->names, pull->names, pull->names_len * sizeof *c->names);
    memcpy(c->slots, pull->slots, pull->names_len * sizeof *c->slots);
    memcpy(c->holders, pull->holders, pull->holders_len * sizeof *c->holders);
    c->pull.names = c->names;
    c->pull.slots = c->slots;
    c->pull.holders = c->holders;
    c->begun = true;
    pthread_mutex_lock(&c->lock);
    c->pending = c->config.ranks_len;
    c->in_doubt = false;
    c->number++;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static uint8_t worse(uint8_t a, uint8_t b)
{
    if (a == GW_PULL_LOST || b == GW_PULL_LOST) return GW_PULL_LOST;
    return a > b ? a : b; /* HAD < PEER < STORE */
}

bool gw_copier_take(struct gw_copier *c, const uint8_t **from, bool *in_doubt)
{
    if (!c->begun) return false;
    pthread_mutex_lock(&c->lock);
    bool over = c->pending == 0;
    *in_doubt = c->in_doubt;
    pthread_mutex_unlock(&c->lock);
    if (!over) return false;
    for (uint32_t i = 0; i < c->pull.names_len; i++) {
        c->worst[i] = c->hands[0].from[i];
        for (uint32_t rank = 1; rank < c->config.ranks_len; rank++)
            c->worst[i] = worse(c->worst[i], c->hands[rank].from[i]);
    }
    c->begun = false;
    *from = c->worst;
    return true;
}
