#include "cloud/queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define RETRY_US    (5 * GW_US_PER_S) /* behind the call's own minute of trying */
#define FORGETS_MAX 32                /* under way; what finds no place is received again */
#define LOG_BYTES   200

struct forget {
    struct gw_queue *queue;
    struct gw_cloud_ask ask;
    char receipt[GW_CLOUD_TOKEN_MAX]; /* "": a free entry */
};

struct gw_queue {
    struct gw_queue_config config;
    struct gw_cloud_ask receive;
    struct event *timer;
    struct forget forgets[FORGETS_MAX];
    struct gw_queue_stats stats;
    bool complained;
};

/* ---- forgetting ---------------------------------------------------------------------------------------- */

static void on_forgotten(void *arg, gw_err_t err, const char *text, struct gw_cloud_answer *answer)
{
    struct forget *f = arg;
    (void)answer;
    if (err != GW_OK && err != GW_ERR_IO)
        gw_logf(f->queue->config.log, GW_LOG_WARN, "a message of the queue stays and will come again: %s",
                text);
    f->receipt[0] = '\0';
}

static void forget(struct gw_queue *q, const struct gw_cloud_message *m)
{
    for (size_t i = 0; i < FORGETS_MAX; i++) {
        struct forget *f = &q->forgets[i];
        if (f->receipt[0]) continue;
        memcpy(f->receipt, m->receipt, strlen(m->receipt) + 1);
        f->queue = q;
        f->ask =
            (struct gw_cloud_ask){.question = GW_CLOUD_FORGET, .queue = q->config.url, .token = f->receipt};
        if (gw_calls_start(q->config.calls, &f->ask, on_forgotten, f) != GW_OK) f->receipt[0] = '\0';
        return;
    }
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static void complain(struct gw_queue *q, const struct gw_cloud_message *m, const char *why)
{
    if (q->stats.odd++) return;
    int len = m->body_len < LOG_BYTES ? (int)m->body_len : LOG_BYTES;
    gw_logf(q->config.log, GW_LOG_WARN, "queue: %s: '%.*s' (more of these are counted, not logged)", why, len,
            m->body);
}

static int64_t deadline_of(const struct gw_aws_event *e)
{
    if (e->ends_unix_ms == 0) return 0;
    return gw_clock_mono_us() + (e->ends_unix_ms - gw_clock_unix_ms()) * GW_US_PER_MS;
}

/* Should the message be forgotten? */
static bool take(struct gw_queue *q, const struct gw_aws_event *e)
{
    if (e->type == GW_AWS_EVENT_OTHER) {
        q->stats.other++;
        return true;
    }
    if (q->config.event(q->config.arg, e, deadline_of(e)) == GW_QUEUE_TAKEN) {
        q->stats.taken++;
        return true;
    }
    q->stats.unknown++;
    return gw_clock_unix_ms() - e->time_unix_ms > GW_QUEUE_KEEP_MS;
}

static void read_message(struct gw_queue *q, const struct gw_cloud_message *m)
{
    struct gw_aws_event event;
    struct gw_err_ctx ctx = {0};
    bool over = true;
    q->stats.received++;
    if (gw_aws_event_read(m->body, m->body_len, &event, &ctx) == GW_OK)
        over = take(q, &event);
    else
        complain(q, m, ctx.text);
    if (over) forget(q, m);
}

/* ---- asking -------------------------------------------------------------------------------------------- */

static void ask_in(struct gw_queue *q, int64_t in_us)
{
    struct timeval tv = {.tv_sec = in_us / GW_US_PER_S, .tv_usec = in_us % GW_US_PER_S};
    event_add(q->timer, &tv);
}

static void on_received(void *arg, gw_err_t err, const char *text, struct gw_cloud_answer *answer)
{
    struct gw_queue *q = arg;
    if (err == GW_ERR_IO) return; /* the program ends */
    if (err != GW_OK && !q->complained)
        gw_logf(q->config.log, GW_LOG_ERROR, "notices are not heard: %s", text);
    q->complained = err != GW_OK;
    for (size_t i = 0; err == GW_OK && i < answer->messages_len; i++) read_message(q, &answer->messages[i]);
    ask_in(q, err == GW_OK ? 0 : RETRY_US);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct gw_queue *q = arg;
    (void)fd;
    (void)what;
    if (gw_calls_start(q->config.calls, &q->receive, on_received, q) != GW_OK) ask_in(q, RETRY_US);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

gw_err_t gw_queue_create(const struct gw_queue_config *config, struct gw_queue **out, struct gw_err_ctx *ctx)
{
    struct gw_queue *q = calloc(1, sizeof *q);
    if (!q) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    q->config = *config;
    q->receive =
        (struct gw_cloud_ask){.question = GW_CLOUD_RECEIVE, .queue = config->url, .wait_s = GW_QUEUE_WAIT_S};
    q->timer = evtimer_new(config->loop, on_turn, q);
    if (!q->timer) {
        free(q);
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    }
    ask_in(q, 0);
    *out = q;
    return GW_OK;
}

void gw_queue_destroy(struct gw_queue *q)
{
    if (!q) return;
    event_free(q->timer);
    free(q);
}

void gw_queue_stats(const struct gw_queue *q, struct gw_queue_stats *out)
{
    *out = q->stats;
}
