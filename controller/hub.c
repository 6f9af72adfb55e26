#include "controller/hub.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"

#define QUEUE_FIRST_CAP                                                                                      \
    64 /* one TOKENS action can bring one STOP or CANCEL; grows with the branches of a step */

struct gw_hub {
    struct gw_core *core;
    struct event *tick;
    struct gw_hub_sinks sinks;
    const struct gw_log *log;
    struct gw_event *queue; /* posted while actions were carried out; at most a few per action */
    size_t queue_len, queue_cap;
    bool busy, stopped;
};

/* Where the KV of a request that moved came from. */
static void log_origin(const struct gw_hub *hub, const struct gw_note *n)
{
    const struct gw_kv_origin *o = &n->origin;
    gw_logf(
        hub->log, GW_LOG_INFO,
        "kv origin: worker=%s gen=%llu request=%llu attempt=%u left=%llu announced=%d total=%llu cache=%llu "
        "peer=%llu store=%llu recompute=%llu",
        n->worker, (unsigned long long)n->generation, (unsigned long long)n->request, n->attempt,
        (unsigned long long)n->left, n->announced, (unsigned long long)o->total,
        (unsigned long long)o->cached, (unsigned long long)o->moved, (unsigned long long)o->stored,
        (unsigned long long)gw_kv_recomputed(o));
}

static void log_note(const struct gw_hub *hub, const struct gw_note *n)
{
    static const char *const names[] = {
        [GW_NOTE_WORKER_UP] = "worker up",
        [GW_NOTE_WORKER_REFUSED] = "worker refused",
        [GW_NOTE_WORKER_DOOMED] = "worker doomed",
        [GW_NOTE_NOTICE_CANCELLED] = "notice cancelled",
        [GW_NOTE_WORKER_LOST] = "worker lost",
        [GW_NOTE_WORKER_LEFT] = "worker left",
        [GW_NOTE_REQUEST_MOVED] = "request moved",
        [GW_NOTE_REQUEST_ALONE] = "request runs alone",
        [GW_NOTE_DIVERGED] = "worker's tokens differ",
        [GW_NOTE_EPOCH] = "epoch",
        [GW_NOTE_PIPELINE_FORMING] = "pipeline forming",
        [GW_NOTE_PIPELINE_SERVING] = "pipeline serving",
        [GW_NOTE_PIPELINE_DRAINING] = "pipeline draining",
        [GW_NOTE_WORKERS_APART] = "workers apart",
        [GW_NOTE_PIPELINE_DEAD] = "pipeline dead",
        [GW_NOTE_WORKER_ADVISED] = "worker advised to leave",
        [GW_NOTE_PIPELINE_WARMING] = "pipeline warming",
        [GW_NOTE_REQUEST_ORIGIN] = "kv origin",
    };
    if (n->kind == GW_NOTE_REQUEST_ORIGIN) {
        log_origin(hub, n);
        return;
    }
    bool bad = n->kind == GW_NOTE_DIVERGED || n->kind == GW_NOTE_WORKER_REFUSED;
    gw_logf(hub->log, bad ? GW_LOG_WARN : GW_LOG_INFO,
            "%s: worker=%s gen=%llu request=%llu attempt=%u count=%u announced=%d %s", names[n->kind],
            n->worker, (unsigned long long)n->generation, (unsigned long long)n->request, n->attempt,
            n->count, n->announced, n->text ? n->text : "");
}

static void carry_out(struct gw_hub *hub, const struct gw_action *a)
{
    switch (a->type) {
    case GW_ACT_SEND: hub->sinks.send(hub->sinks.links, a->link.link, a->link.msg); break;
    case GW_ACT_CLOSE: hub->sinks.close(hub->sinks.links, a->link.link, a->link.reason); break;
    case GW_ACT_NOTE: log_note(hub, &a->note); __attribute__((fallthrough));
    default: hub->sinks.front(hub->sinks.front_arg, a); break;
    }
}

static void step(struct gw_hub *hub, const struct gw_event *event)
{
    size_t count;
    gw_core_step(hub->core, gw_clock_mono_us(), event);
    const struct gw_action *actions = gw_core_actions(hub->core, &count);
    for (size_t i = 0; i < count; i++) carry_out(hub, &actions[i]);
}

static void rearm(struct gw_hub *hub)
{
    int64_t due_us = gw_core_next_deadline_us(hub->core);
    if (due_us == INT64_MAX) {
        event_del(hub->tick);
        return;
    }
    int64_t wait_us = due_us - gw_clock_mono_us();
    if (wait_us < 0) wait_us = 0;
    struct timeval wait = {.tv_sec = wait_us / GW_US_PER_S, .tv_usec = wait_us % GW_US_PER_S};
    event_add(hub->tick, &wait);
}

static void enqueue(struct gw_hub *hub, const struct gw_event *event)
{
    assert(event->type == GW_EV_SUBMIT || event->type == GW_EV_CANCEL || event->type == GW_EV_STOP);
    if (hub->queue_len == hub->queue_cap) {
        size_t cap = hub->queue_cap ? hub->queue_cap * 2 : QUEUE_FIRST_CAP;
        struct gw_event *queue = realloc(hub->queue, cap * sizeof *queue);
        if (!queue) abort(); /* a lost STOP would break exactness: better to restart */
        hub->queue = queue;
        hub->queue_cap = cap;
    }
    hub->queue[hub->queue_len++] = *event;
}

void gw_hub_stop(struct gw_hub *hub)
{
    hub->stopped = true;
    event_del(hub->tick);
}

void gw_hub_post(struct gw_hub *hub, const struct gw_event *event)
{
    if (hub->stopped) {
        if (event->type == GW_EV_SUBMIT) gw_request_destroy(event->submit.request);
        if (event->type == GW_EV_RESTORE) gw_request_destroy(event->restore.request);
        return;
    }
    if (hub->busy) {
        enqueue(hub, event);
        return;
    }
    hub->busy = true;
    step(hub, event);
    for (size_t i = 0; i < hub->queue_len; i++) {
        struct gw_event next = hub->queue[i]; /* the queue may move while it is carried out */
        step(hub, &next);
    }
    hub->queue_len = 0;
    hub->busy = false;
    rearm(hub);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    const struct gw_event tick = {.type = GW_EV_TICK};
    gw_hub_post(arg, &tick);
}

gw_err_t gw_hub_create(struct event_base *loop, const struct gw_core_config *config, const struct gw_log *log,
                       struct gw_hub **out, struct gw_err_ctx *ctx)
{
    struct gw_hub *hub = calloc(1, sizeof *hub);
    if (!hub) return gw_fail(ctx, GW_ERR_MEMORY, "hub: out of memory");
    hub->log = log;
    hub->tick = evtimer_new(loop, on_tick, hub);
    gw_err_t err = hub->tick ? gw_core_create(config, &hub->core) : GW_ERR_MEMORY;
    if (err != GW_OK) {
        gw_hub_destroy(hub);
        return gw_fail(ctx, err, "hub: cannot create the core");
    }
    event_priority_set(hub->tick, GW_HUB_PRIORITY_TICKS);
    *out = hub;
    return GW_OK;
}

void gw_hub_destroy(struct gw_hub *hub)
{
    if (!hub) return;
    if (hub->tick) event_free(hub->tick);
    gw_core_destroy(hub->core);
    free(hub->queue);
    free(hub);
}

void gw_hub_set_sinks(struct gw_hub *hub, const struct gw_hub_sinks *sinks)
{
    hub->sinks = *sinks;
}

const struct gw_core *gw_hub_core(const struct gw_hub *hub)
{
    return hub->core;
}
