#include "controller/notice_queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "controller/capacity_fleet.h"

/* Queue and instance name the same end in whole seconds, each by its own clock. */
#define SAME_US (15 * GW_US_PER_S)

/* An instance that a group is ending, and that waits for our word. */
struct lifecycle {
    struct gw_notice_queue *queue;
    struct gw_aws_event event; /* instance "": a free entry */
    int64_t deadline_us;
    struct gw_cloud_ask ask;
    bool asked;
};

struct gw_notice_queue {
    struct gw_notice_queue_config config;
    struct gw_queue *queue;
    struct event *tick;
    struct lifecycle lifecycles[GW_NOTICE_LIFECYCLES_MAX];
    uint64_t completed;
    bool stopped;
};

/* ---- notices ------------------------------------------------------------------------------------------- */

static uint8_t kind_of(enum gw_cloud_notice_kind kind)
{
    static const uint8_t kinds[GW_CLOUD_NOTICE_KINDS] = {
        [GW_CLOUD_PREEMPT] = GW_NOTICE_PREEMPT,
        [GW_CLOUD_MAINTENANCE] = GW_NOTICE_MAINTENANCE,
        [GW_CLOUD_SCALE_IN] = GW_NOTICE_SCALE_IN,
        [GW_CLOUD_REBALANCE] = GW_NOTICE_REBALANCE,
    };
    return kinds[kind];
}

static void post(const struct gw_notice_queue *q, const struct gw_aws_event *e, int64_t deadline_us)
{
    const struct gw_event event = {
        .type = GW_EV_NOTICE,
        .notice = {.name = e->instance, .kind = kind_of(e->kind), .deadline_us = deadline_us}};
    gw_logf(q->config.log, GW_LOG_INFO, "queue: %s of %s", gw_cloud_notice_name(e->kind), e->instance);
    q->config.post(q->config.arg, &event);
}

static bool is_news(const struct gw_capacity_host *h, const struct gw_aws_event *e, int64_t deadline_us)
{
    if (e->kind == GW_CLOUD_REBALANCE) return !h->advised;
    return !h->doomed || deadline_us < h->deadline_us - SAME_US;
}

/* ---- lifecycles ---------------------------------------------------------------------------------------- */

static struct lifecycle *find(struct gw_notice_queue *q, const char *instance)
{
    for (size_t i = 0; i < GW_NOTICE_LIFECYCLES_MAX; i++)
        if (strcmp(q->lifecycles[i].event.instance, instance) == 0) return &q->lifecycles[i];
    return NULL;
}

static void wait_for_drain(struct gw_notice_queue *q, const struct gw_aws_event *e, int64_t deadline_us)
{
    if (find(q, e->instance)) return;
    struct lifecycle *l = find(q, "");
    if (!l) {
        gw_logf(q->config.log, GW_LOG_WARN,
                "queue: too many instances wait for their hooks, %s waits its time out", e->instance);
        return;
    }
    *l = (struct lifecycle){.queue = q, .event = *e, .deadline_us = deadline_us};
}

static void on_completed(void *arg, gw_err_t err, const char *text, struct gw_cloud_answer *answer)
{
    struct lifecycle *l = arg;
    (void)answer;
    if (err == GW_OK) l->queue->completed++;
    if (err != GW_OK && err != GW_ERR_IO)
        gw_logf(l->queue->config.log, GW_LOG_WARN, "queue: the lifecycle of %s ends by its time-out: %s",
                l->event.instance, text);
    l->event.instance[0] = '\0';
    l->asked = false;
}

static void complete(struct gw_notice_queue *q, struct lifecycle *l)
{
    l->ask = (struct gw_cloud_ask){.question = GW_CLOUD_COMPLETE_LIFECYCLE,
                                   .group = l->event.group,
                                   .hook = l->event.hook,
                                   .instance = l->event.instance,
                                   .token = l->event.token};
    l->asked = gw_calls_start(q->config.calls, &l->ask, on_completed, l) == GW_OK;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct gw_notice_queue *q = arg;
    struct gw_capacity_fleet fleet;
    int64_t now_us = q->config.clock.now_us(q->config.clock.arg);
    if (gw_capacity_fleet_read(q->config.core, &fleet) != GW_OK) return;
    for (size_t i = 0; i < GW_NOTICE_LIFECYCLES_MAX; i++) {
        struct lifecycle *l = &q->lifecycles[i];
        if (!l->event.instance[0] || l->asked) continue;
        const struct gw_capacity_host *h = gw_capacity_fleet_find(&fleet, l->event.instance);
        if (!h || !h->busy)
            complete(q, l);
        else if (now_us > l->deadline_us)
            l->event.instance[0] = '\0';
    }
    gw_capacity_fleet_fini(&fleet);
}

/* ---- events -------------------------------------------------------------------------------------------- */

static enum gw_queue_verdict on_event(void *arg, const struct gw_aws_event *e, int64_t deadline_us)
{
    struct gw_notice_queue *q = arg;
    struct gw_capacity_fleet fleet;
    if (q->stopped || gw_capacity_fleet_read(q->config.core, &fleet) != GW_OK) return GW_QUEUE_UNKNOWN;
    const struct gw_capacity_host *h = gw_capacity_fleet_find(&fleet, e->instance);
    enum gw_queue_verdict verdict = h ? GW_QUEUE_TAKEN : GW_QUEUE_UNKNOWN;
    if (e->type == GW_AWS_EVENT_LIFECYCLE)
        deadline_us = q->config.clock.now_us(q->config.clock.arg) + q->config.hook_us;
    bool news = h && is_news(h, e, deadline_us);
    gw_capacity_fleet_fini(&fleet);
    if (news) post(q, e, deadline_us);
    if (verdict == GW_QUEUE_TAKEN && e->type == GW_AWS_EVENT_LIFECYCLE) wait_for_drain(q, e, deadline_us);
    return verdict;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

gw_err_t gw_notice_queue_create(const struct gw_notice_queue_config *config, struct gw_notice_queue **out,
                                struct gw_err_ctx *ctx)
{
    const struct timeval second = {.tv_sec = 1};
    struct gw_notice_queue *q = calloc(1, sizeof *q);
    if (!q) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    q->config = *config;
    q->tick = event_new(config->loop, -1, EV_PERSIST, on_tick, q);
    const struct gw_queue_config queue = {.loop = config->loop,
                                          .calls = config->calls,
                                          .url = config->url,
                                          .log = config->log,
                                          .event = on_event,
                                          .arg = q};
    gw_err_t err =
        q->tick && event_add(q->tick, &second) == 0 ? GW_OK : gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    if (err == GW_OK) err = gw_queue_create(&queue, &q->queue, ctx);
    if (err != GW_OK) {
        gw_notice_queue_destroy(q);
        return err;
    }
    *out = q;
    return GW_OK;
}

void gw_notice_queue_stop(struct gw_notice_queue *q)
{
    q->stopped = true;
    event_del(q->tick);
}

void gw_notice_queue_destroy(struct gw_notice_queue *q)
{
    if (!q) return;
    gw_queue_destroy(q->queue);
    if (q->tick) event_free(q->tick);
    free(q);
}

void gw_notice_queue_view(const struct gw_notice_queue *q, struct gw_notice_queue_view *out)
{
    struct gw_queue_stats s;
    gw_queue_stats(q->queue, &s);
    *out = (struct gw_notice_queue_view){.on = true,
                                         .received = s.received,
                                         .taken = s.taken,
                                         .unknown = s.unknown,
                                         .odd = s.odd,
                                         .completed = q->completed};
}
