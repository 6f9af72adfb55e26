#include "controller/clouds.h"

#include <stdlib.h>

#include "base/rng.h"
#include "cloud/backend.h"
#include "controller/capacity_intent.h"
#include "controller/notice_queue.h"

#define JOBS_MAX (GW_CALLS_MAX + 8) /* answers of calls; descriptions and needs that are looked at */

struct gw_clouds {
    struct gw_clouds_config config;
    struct gw_pool *pool;
    struct gw_web_client *web;
    struct gw_calls *calls;
    struct gw_capacities *capacities; /* NULL: sizes are nobody's matter here */
    struct gw_notice_queue *queue;    /* NULL: there is none */
};

static const char *env(const char *name)
{
    return getenv(name);
}

/* ---- the journal --------------------------------------------------------------------------------------- */

static bool may_write(void *arg)
{
    const struct gw_clouds *c = arg;
    return c->config.journal && gw_journal_held(c->config.journal);
}

static gw_err_t append(void *arg, uint64_t entry, const void *piece, size_t len,
                       void (*durable)(void *arg, gw_err_t err), void *durable_arg)
{
    const struct gw_clouds *c = arg;
    return gw_journal_append(c->config.journal, entry, piece, len, durable, durable_arg);
}

static void end(void *arg, uint64_t entry)
{
    const struct gw_clouds *c = arg;
    gw_journal_end(c->config.journal, entry);
}

static void post(void *arg, const struct gw_event *event)
{
    const struct gw_clouds *c = arg;
    c->config.post(c->config.arg, event);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static gw_err_t open_calls(struct gw_clouds *c, struct gw_err_ctx *ctx)
{
    const struct gw_capacity_options *o = c->config.options;
    const struct gw_cloud_backend *backend = gw_cloud_backend_find(o->cloud);
    if (!backend) return gw_fail(ctx, GW_ERR_INPUT, "no cloud is named '%s'", o->cloud);
    TRY(gw_pool_create(c->config.loop, 1, JOBS_MAX, &c->pool, ctx));
    TRY(gw_web_client_create(c->config.loop, &c->web, ctx));
    struct gw_calls_config config = {.loop = c->config.loop,
                                     .pool = c->pool,
                                     .fetcher = gw_web_client_table(c->web),
                                     .provider = backend->provider,
                                     .auth = backend->auth,
                                     .auth_config = {.metadata_url = o->metadata_url,
                                                     .endpoint = o->endpoint,
                                                     .region = o->region,
                                                     .env = env,
                                                     .log = c->config.log},
                                     .place = {.region = o->region, .endpoint = o->endpoint},
                                     .may_write = o->sizes && !o->dry_run ? may_write : NULL,
                                     .may_write_arg = c};
    gw_random_bytes(&config.seed, sizeof config.seed);
    return gw_calls_create(&config, &c->calls, ctx);
}

static gw_err_t open_capacities(struct gw_clouds *c, struct gw_err_ctx *ctx)
{
    const struct gw_capacities_config config = {.loop = c->config.loop,
                                                .calls = c->calls,
                                                .pool = c->pool,
                                                .options = c->config.options,
                                                .core = c->config.core,
                                                .layouts = c->config.layouts,
                                                .log = c->config.log,
                                                .clock = c->config.clock,
                                                .term = c->config.term,
                                                .post = post,
                                                .append = c->config.journal ? append : NULL,
                                                .end = end,
                                                .arg = c};
    return gw_capacities_create(&config, &c->capacities, ctx);
}

static gw_err_t open_queue(struct gw_clouds *c, struct gw_err_ctx *ctx)
{
    const struct gw_notice_queue_config config = {
        .loop = c->config.loop,
        .calls = c->calls,
        .url = c->config.options->queue_url,
        .hook_us = (int64_t)(c->config.options->hook_s * (double)GW_US_PER_S),
        .core = c->config.core,
        .log = c->config.log,
        .clock = c->config.clock,
        .post = post,
        .arg = c};
    return gw_notice_queue_create(&config, &c->queue, ctx);
}

gw_err_t gw_clouds_create(const struct gw_clouds_config *config, struct gw_clouds **out,
                          struct gw_err_ctx *ctx)
{
    const struct gw_capacity_options *o = config->options;
    *out = NULL;
    if (!o->sizes && !o->notices) return GW_OK;
    struct gw_clouds *c = calloc(1, sizeof *c);
    if (!c) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    c->config = *config;
    gw_err_t err = open_calls(c, ctx);
    if (err == GW_OK && o->sizes) err = open_capacities(c, ctx);
    if (err == GW_OK && o->notices) err = open_queue(c, ctx);
    if (err != GW_OK) {
        gw_clouds_destroy(c);
        return gw_fail_prefix(ctx, err, "cloud %s", o->cloud);
    }
    *out = c;
    return GW_OK;
}

void gw_clouds_stop(struct gw_clouds *c)
{
    if (!c) return;
    if (c->capacities) gw_capacities_stop(c->capacities);
    if (c->queue) gw_notice_queue_stop(c->queue);
    c->config.journal = NULL;
}

void gw_clouds_destroy(struct gw_clouds *c)
{
    if (!c) return;
    gw_clouds_stop(c);
    if (c->web) gw_web_client_destroy(c->web);
    if (c->pool) gw_pool_destroy(c->pool);
    gw_calls_destroy(c->calls);
    gw_capacities_destroy(c->capacities);
    gw_notice_queue_destroy(c->queue);
    free(c);
}

/* ---- what it hears and shows --------------------------------------------------------------------------- */

bool gw_clouds_restore(struct gw_clouds *c, struct gw_journal *journal, uint64_t entry, const void *pieces,
                       size_t len)
{
    struct gw_reader r;
    const uint8_t *piece = NULL;
    gw_reader_init(&r, pieces, len);
    size_t piece_len = gw_read_bytes(&r, len, &piece);
    if (r.err != GW_OK || !gw_capacity_intent_is(piece, piece_len)) return false;
    if (c && c->capacities)
        gw_capacities_restore(c->capacities, entry, piece, piece_len);
    else
        gw_journal_end(journal, entry); /* sizes are another's matter now */
    return true;
}

void gw_clouds_on_action(struct gw_clouds *c, const struct gw_action *action)
{
    if (c && c->capacities) gw_capacities_on_action(c->capacities, action);
}

void gw_clouds_view(const struct gw_clouds *c, struct gw_capacity_view *out)
{
    *out = (struct gw_capacity_view){0};
    if (c && c->capacities) gw_capacities_view(c->capacities, out);
    if (c && c->queue) gw_notice_queue_view(c->queue, &out->queue);
}
