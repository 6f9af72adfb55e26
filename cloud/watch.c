#include "cloud/watch.h"

#include <stdlib.h>

#include "base/clock.h"

#define START_RETRY_US GW_US_PER_S /* no memory, or too many requests: both pass */

struct lane {
    struct gw_watch *watch;
    int index;
    struct event *timer;
    struct gw_web_flight *fetch; /* in flight */
};

struct gw_watch {
    struct gw_watch_config config;
    void *source;
    struct lane lanes[GW_SOURCE_LANES_MAX];
    int64_t heard_us; /* the last good answer */
    bool blind, asks; /* asks: it has put a question over the network */
    struct event *blind_timer;
};

static struct gw_source_now now_of(void)
{
    return (struct gw_source_now){.mono_us = gw_clock_mono_us(), .unix_ms = gw_clock_unix_ms()};
}

static void set_timer(struct event *timer, int64_t in_us)
{
    if (in_us < 0) in_us = 0;
    struct timeval tv = {.tv_sec = in_us / GW_US_PER_S, .tv_usec = in_us % GW_US_PER_S};
    event_add(timer, &tv);
}

/* ---- can the cloud be heard? --------------------------------------------------------------------------- */

static void set_blind(struct gw_watch *w, bool blind)
{
    if (w->blind == blind) return;
    w->blind = blind;
    if (w->config.sees) w->config.sees(w->config.arg, !blind);
}

static void on_blind(evutil_socket_t fd, short what, void *arg)
{
    struct gw_watch *w = arg;
    (void)fd;
    (void)what;
    int64_t left_us = w->heard_us + w->config.blind_us - gw_clock_mono_us();
    if (left_us <= 0 && w->asks) set_blind(w, true);
    set_timer(w->blind_timer, left_us > 0 ? left_us : w->config.blind_us);
}

/* An answer that the service meant, whatever it says. */
static bool is_good(const struct gw_web_reply *r)
{
    return r->err == GW_OK && (r->status / 100 == 2 || r->status == 404);
}

/* ---- lanes --------------------------------------------------------------------------------------------- */

static void plan_all(struct gw_watch *w);

static void hear(struct lane *l, const struct gw_web_reply *reply)
{
    struct gw_watch *w = l->watch;
    if (reply && is_good(reply)) {
        w->heard_us = gw_clock_mono_us();
        set_blind(w, false);
    }
    w->config.ops->hear(w->source, l->index, now_of(), reply);
    plan_all(w);
}

static void on_reply(void *arg, const struct gw_web_reply *reply)
{
    struct lane *l = arg;
    l->fetch = NULL;
    if (!reply->cancelled) hear(l, reply);
}

static void start(struct lane *l, const struct gw_web_request *request)
{
    struct gw_watch *w = l->watch;
    w->asks = true;
    if (w->config.fetcher.start(w->config.fetcher.arg, request, on_reply, l, &l->fetch) == GW_OK) return;
    l->fetch = NULL;
    set_timer(l->timer, START_RETRY_US);
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
    struct lane *l = arg;
    struct gw_watch *w = l->watch;
    struct gw_web_request request;
    struct gw_source_now now = now_of();
    (void)fd;
    (void)what;
    int64_t due_us = w->config.ops->next(w->source, l->index, now, &request);
    if (due_us > now.mono_us) {
        if (due_us != INT64_MAX) set_timer(l->timer, due_us - now.mono_us);
    } else if (request.url) {
        start(l, &request);
    } else {
        hear(l, NULL);
    }
}

/* What one lane has heard may make another's question due, or change when it is. */
static void plan_all(struct gw_watch *w)
{
    for (int i = 0; i < w->config.ops->lanes; i++) {
        if (!w->lanes[i].fetch) set_timer(w->lanes[i].timer, 0);
    }
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static gw_err_t open_lanes(struct gw_watch *w)
{
    for (int i = 0; i < w->config.ops->lanes; i++) {
        struct lane *l = &w->lanes[i];
        l->watch = w;
        l->index = i;
        l->timer = evtimer_new(w->config.loop, on_due, l);
        if (!l->timer) return GW_ERR_MEMORY;
        set_timer(l->timer, 0);
    }
    w->blind_timer = evtimer_new(w->config.loop, on_blind, w);
    if (!w->blind_timer) return GW_ERR_MEMORY;
    set_timer(w->blind_timer, w->config.blind_us);
    return GW_OK;
}

gw_err_t gw_watch_create(const struct gw_watch_config *config, struct gw_watch **out, struct gw_err_ctx *ctx)
{
    struct gw_watch *w = calloc(1, sizeof *w);
    if (!w) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    w->config = *config;
    w->heard_us = gw_clock_mono_us();
    gw_err_t err = config->ops->create(&config->source, &w->source);
    if (err == GW_OK) err = open_lanes(w);
    if (err != GW_OK) {
        gw_watch_destroy(w);
        return gw_fail(ctx, err, "cannot watch cloud %s", config->ops->name);
    }
    *out = w;
    return GW_OK;
}

void gw_watch_destroy(struct gw_watch *w)
{
    if (!w) return;
    for (int i = 0; i < GW_SOURCE_LANES_MAX; i++)
        if (w->lanes[i].timer) event_free(w->lanes[i].timer);
    if (w->blind_timer) event_free(w->blind_timer);
    if (w->source) w->config.ops->destroy(w->source);
    free(w);
}

const char *gw_watch_instance(const struct gw_watch *w)
{
    return w->config.ops->instance(w->source);
}

void gw_watch_drained(struct gw_watch *w)
{
    if (!w->config.ops->drained) return;
    w->config.ops->drained(w->source);
    plan_all(w);
}
