#include "migrate/peer_fetch.h"

#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "migrate/peer_fetch_internal.h"

/* ---- life ---- */

static gw_err_t check(const struct gw_peer_fetch_config *c, struct gw_err_ctx *ctx)
{
    uint32_t streams = c->streams ? c->streams : 1;
    if (c->key_len == 0 || c->key_len > GW_CLUSTER_KEY_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "the cluster key must have 1 to %d bytes", GW_CLUSTER_KEY_MAX);
    if (gw_page_rect_pages(c->want) == 0) return gw_fail(ctx, GW_ERR_INPUT, "no pages are wanted");
    if (c->sources_len == 0 || c->sources_len > GW_FETCH_SOURCES_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "%u sources, 1 to %d are possible", c->sources_len,
                       GW_FETCH_SOURCES_MAX);
    if (streams > GW_FETCH_STREAMS_MAX / c->sources_len)
        return gw_fail(ctx, GW_ERR_LIMIT, "%u streams to each of %u sources, %d at most", streams,
                       c->sources_len, GW_FETCH_STREAMS_MAX);
    return GW_OK;
}

static gw_err_t make_plan(struct gw_peer_fetch *f, uint8_t *from, struct gw_err_ctx *ctx)
{
    struct gw_geometry_source sources[GW_FETCH_SOURCES_MAX] = {0};
    for (uint32_t i = 0; i < f->config.sources_len; i++) sources[i].pages = f->config.sources[i].pages;
    return gw_geometry_plan(f->config.want, sources, f->config.sources_len, from, ctx);
}

/* Our own copies of what the configuration points to. */
static gw_err_t copy_config(struct gw_peer_fetch *f, const struct gw_peer_fetch_config *c,
                            struct gw_err_ctx *ctx)
{
    uint32_t pages = gw_page_rect_pages(c->want);
    uint8_t *key = malloc(c->key_len), *from = malloc(pages);
    struct gw_fetch_source *sources = calloc(c->sources_len, sizeof *sources);
    atomic_uint_least64_t **came = calloc(c->sources_len, sizeof *came);
    f->config = *c;
    f->config.key = key;
    f->config.from = from;
    f->config.sources = sources;
    f->config.came = came;
    if (!key || !from || !sources || !came) return gw_fail(ctx, GW_ERR_MEMORY, "no memory for a fetch");
    memcpy(key, c->key, c->key_len);
    memcpy(sources, c->sources, c->sources_len * sizeof *sources);
    for (uint32_t i = 0; c->came && i < c->sources_len; i++) came[i] = c->came[i];
    f->key = (struct gw_shake_key){key, c->key_len, c->tls};
    f->config.streams = c->streams ? c->streams : 1;
    f->config.stall_us = c->stall_us ? c->stall_us : GW_FETCH_STALL_S * GW_US_PER_S;
    f->rate.bytes_s = c->rate_bytes_s;
    if (!c->from) return make_plan(f, from, ctx);
    memcpy(from, c->from, pages);
    return GW_OK;
}

static void free_stream(struct fetch_stream *s)
{
    if (!s) return;
    peer_line_close(&s->line);
    for (int i = 0; i < GW_FETCH_ASKS_MAX; i++) free(s->asks[i].page_at);
    free(s);
}

static struct fetch_stream *alloc_stream(struct gw_peer_fetch *f, uint32_t source)
{
    struct fetch_stream *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->fetch = f;
    s->source = source;
    s->line = (struct peer_line){gw_socket_none(), &f->lock, &f->cancelled};
    for (int i = 0; i < GW_FETCH_ASKS_MAX; i++) {
        s->asks[i].page_at = calloc(gw_page_rect_pages(f->config.want), sizeof *s->asks[i].page_at);
        if (s->asks[i].page_at) continue;
        free_stream(s);
        return NULL;
    }
    return s;
}

static gw_err_t alloc_streams(struct gw_peer_fetch *f, struct gw_err_ctx *ctx)
{
    uint32_t len = f->config.sources_len * f->config.streams;
    f->streams = calloc(len, sizeof(struct fetch_stream *));
    if (!f->streams) return gw_fail(ctx, GW_ERR_MEMORY, "no memory for a fetch");
    for (; f->streams_len < len; f->streams_len++) {
        struct fetch_stream *s = alloc_stream(f, f->streams_len % f->config.sources_len);
        if (!s) return gw_fail(ctx, GW_ERR_MEMORY, "no memory for a fetch");
        f->streams[f->streams_len] = s;
    }
    return GW_OK;
}

static void init_lock(struct gw_peer_fetch *f)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->changed, &attr);
    pthread_condattr_destroy(&attr);
}

gw_err_t gw_peer_fetch_create(const struct gw_peer_fetch_config *config, struct gw_peer_fetch **out,
                              struct gw_err_ctx *ctx)
{
    TRY(check(config, ctx));
    struct gw_peer_fetch *f = calloc(1, sizeof *f);
    if (!f) return gw_fail(ctx, GW_ERR_MEMORY, "no memory for a fetch");
    init_lock(f);
    gw_err_t err = copy_config(f, config, ctx);
    if (err == GW_OK) err = alloc_streams(f, ctx);
    if (err == GW_OK)
        *out = f;
    else
        gw_peer_fetch_destroy(f);
    return err;
}

/* Memory of ours, though the configuration shows it as const. */
static void *own(const void *p)
{
    return (void *)(uintptr_t)p;
}

void gw_peer_fetch_destroy(struct gw_peer_fetch *f)
{
    if (!f) return;
    for (uint32_t i = 0; i < f->streams_len; i++) free_stream(f->streams[i]);
    free(f->streams);
    if (f->config.key) gw_bytes_wipe(own(f->config.key), f->config.key_len);
    free(own(f->config.key));
    free(own(f->config.from));
    free(own(f->config.sources));
    free(own(f->config.came));
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

/* ---- a run ---- */

static gw_err_t start_stream(struct fetch_stream *s, struct gw_err_ctx *ctx)
{
    TRY(gw_thread_start(&s->thread, GW_FETCH_THREAD_STACK, fetch_stream_main, s, ctx));
    s->started = true;
    return GW_OK;
}

/* Streams that the plan asks nothing of wait for what others cannot give. */
static gw_err_t run_streams(struct gw_peer_fetch *f, struct gw_err_ctx *ctx)
{
    gw_err_t err = GW_OK;
    for (uint32_t i = 0; err == GW_OK && i < f->streams_len; i++) err = start_stream(f->streams[i], ctx);
    if (err != GW_OK) { /* the others shall not wait for what this one would have done */
        pthread_mutex_lock(&f->lock);
        f->failed = true;
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
    }
    for (uint32_t i = 0; i < f->streams_len; i++) {
        if (f->streams[i]->started) pthread_join(f->streams[i]->thread, NULL);
        f->streams[i]->started = false;
    }
    return err;
}

gw_err_t gw_peer_fetch_run(struct gw_peer_fetch *f, const struct gw_block_name *names, uint32_t len,
                           int64_t deadline_us, bool *there, struct gw_fetch_result *result,
                           struct gw_err_ctx *ctx)
{
    uint32_t pages = gw_page_rect_pages(f->config.want);
    memset(there, 0, len * sizeof *there);
    *result = (struct gw_fetch_result){0};
    if (len == 0 || len > GW_FETCH_PAGES_MAX / pages)
        return gw_fail(ctx, GW_ERR_LIMIT, "a fetch of %u blocks, 1 to %u are possible", len,
                       GW_FETCH_PAGES_MAX / pages);
    f->result = *result;
    f->deadline_us = deadline_us;
    f->failed = false;
    memset(f->fails, 0, sizeof f->fails);
    if (fetch_items_init(&f->items, &f->config, names, len, there, &f->result) != GW_OK)
        return gw_fail(ctx, GW_ERR_MEMORY, "no memory for a fetch of %u blocks", len);
    gw_err_t err = run_streams(f, ctx);
    if (err == GW_OK && f->items.unsettled > 0)
        err = gw_fail(ctx, GW_ERR_IO, "%u of %u blocks were not there when %s", f->items.unsettled, len,
                      f->cancelled ? "the fetch was cancelled" : "the time was over");
    fetch_items_fini(&f->items);
    *result = f->result;
    return err;
}

void gw_peer_fetch_cancel(struct gw_peer_fetch *f)
{
    pthread_mutex_lock(&f->lock);
    f->cancelled = true;
    pthread_cond_broadcast(&f->changed);
    for (uint32_t i = 0; i < f->streams_len; i++) peer_line_shut(&f->streams[i]->line);
    pthread_mutex_unlock(&f->lock);
}
