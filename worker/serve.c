#include "worker/serve.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

#define IDLE_WAIT_US   (50 * GW_US_PER_MS) /* messages end it; signals are looked at that often */
#define ITEMS_PER_TURN 1024                /* of the link, between two steps */

struct gw_serve {
    struct gw_serve_config config;
    struct gw_engine *engine;
    struct gw_link *link;
    uint64_t session; /* 0 = no controller */
    bool leaving, ended;
    enum gw_serve_status status;
    int64_t deadline_us;  /* of our own NOTICE */
    int64_t busy_last_us; /* while leaving: when there was a request last */
    uint32_t handoff_len[GW_REQUEST_BRANCHES_MAX];
};

gw_err_t gw_serve_create(const struct gw_serve_config *config, struct gw_serve **out)
{
    struct gw_serve *s = calloc(1, sizeof *s);
    if (!s) return GW_ERR_MEMORY;
    s->config = *config;
    *out = s;
    return GW_OK;
}

void gw_serve_destroy(struct gw_serve *s)
{
    free(s);
}

/* ---- what the engine says ---- */

static void send_tokens(void *arg, uint64_t request, uint32_t attempt, uint32_t branch,
                        const struct gw_tokens *tokens)
{
    struct gw_serve *s = arg;
    struct gw_msg msg = {
        .type = GW_MSG_TOKENS,
        .tokens = {.request = request, .attempt = attempt, .branch = branch, .tokens = *tokens}};
    gw_link_send(s->link, s->session, &msg);
}

static void send_started(void *arg, uint64_t request, uint32_t attempt)
{
    const struct gw_tokens none = {0};
    send_tokens(arg, request, attempt, 0, &none);
}

struct gw_engine_sink gw_serve_sink(struct gw_serve *s)
{
    return (struct gw_engine_sink){.arg = s, .started = send_started, .tokens = send_tokens};
}

/* ---- what the controller says ---- */

static void end(struct gw_serve *s, enum gw_serve_status status)
{
    s->ended = true;
    s->status = status;
}

static void on_submit(struct gw_serve *s, struct gw_msg_submit *submit)
{
    struct gw_err_ctx ctx = {0};
    struct gw_msg msg = {.type = GW_MSG_REJECT,
                         .reject = {.request = submit->request.id, .attempt = submit->attempt}};
    gw_err_t err = gw_engine_submit(s->engine, submit, &ctx);
    if (err == GW_OK) return;
    gw_logf(s->config.log, GW_LOG_WARN, "request=%llu attempt=%u rejected: %s",
            (unsigned long long)msg.reject.request, msg.reject.attempt, ctx.text);
    msg.reject.code = (uint16_t)err;
    snprintf(msg.reject.text, sizeof msg.reject.text, "%.*s", GW_WIRE_TEXT_MAX, ctx.text);
    gw_link_send(s->link, s->session, &msg);
}

/* Steps are synchronous: between two of them nothing is in flight, and all TOKENS have been queued. What is
 * not here has ended, and its last TOKENS said so. */
static void on_cutover(struct gw_serve *s, const struct gw_msg_cutover *cutover)
{
    for (uint32_t i = 0; i < cutover->count; i++) {
        const struct gw_cutover_item *item = &cutover->items[i];
        struct gw_msg msg = {
            .type = GW_MSG_HANDOFF,
            .handoff = {.request = item->request, .attempt = item->attempt, .log_len = s->handoff_len}};
        if (gw_engine_hand_off(s->engine, item->request, item->attempt, s->handoff_len, &msg.handoff.n))
            gw_link_send(s->link, s->session, &msg);
    }
}

static void on_msg(struct gw_serve *s, struct gw_msg *msg)
{
    switch (msg->type) {
    case GW_MSG_SUBMIT: on_submit(s, &msg->submit); break;
    case GW_MSG_CANCEL:
        gw_engine_cancel(s->engine, msg->cancel.request, msg->cancel.attempt, msg->cancel.branch);
        break;
    case GW_MSG_CUTOVER: on_cutover(s, &msg->cutover); break;
    case GW_MSG_GOODBYE:
        gw_logf(s->config.log, GW_LOG_INFO, "the controller says goodbye: %s", msg->goodbye.text);
        if (s->leaving) end(s, GW_SERVE_ENDED);
        break;
    default: gw_logf(s->config.log, GW_LOG_WARN, "unexpected %s", gw_msg_name(msg->type)); break;
    }
}

static enum gw_serve_status status_of(uint16_t refuse_code)
{
    switch (refuse_code) {
    case GW_REFUSE_AUTH: return GW_SERVE_REFUSED_AUTH;
    case GW_REFUSE_MODEL: return GW_SERVE_REFUSED_MODEL;
    case GW_REFUSE_DIGEST: return GW_SERVE_REFUSED_DIGEST;
    default: return GW_SERVE_REFUSED_PROTO;
    }
}

static void on_item(struct gw_serve *s, struct gw_link_item *item)
{
    switch (item->type) {
    case GW_LINK_UP:
        gw_engine_reset(s->engine);
        s->session = item->session;
        break;
    case GW_LINK_LOST:
        gw_engine_reset(s->engine);
        s->session = 0;
        if (s->leaving) end(s, GW_SERVE_ENDED);
        break;
    case GW_LINK_REFUSED:
        gw_logf(s->config.log, GW_LOG_ERROR, "the controller refuses this worker: %s", item->msg.refuse.text);
        end(s, status_of(item->msg.refuse.code));
        break;
    case GW_LINK_MSG:
        if (item->session == s->session) on_msg(s, &item->msg);
        gw_msg_fini(&item->msg);
        break;
    }
}

/* ---- leaving ---- */

static void announce(struct gw_serve *s, int64_t now_us)
{
    double grace_ms = s->config.term_grace_s * 1000;
    struct gw_msg msg = {.type = GW_MSG_NOTICE,
                         .notice = {.kind = GW_NOTICE_PREEMPT, .deadline_ms = (uint32_t)grace_ms}};
    s->leaving = true;
    s->deadline_us = now_us + (int64_t)(grace_ms * 1000);
    s->busy_last_us = now_us;
    gw_logf(s->config.log, GW_LOG_INFO, "SIGTERM: leaving within %.1f s, %u requests are here",
            s->config.term_grace_s, gw_engine_jobs(s->engine));
    gw_link_send(s->link, s->session, &msg);
}

static void look_at_signals(struct gw_serve *s, int64_t now_us)
{
    enum gw_stop level = gw_stop_level(s->config.signals);
    if (level == GW_STOP_NOW || (level == GW_STOP_GRACEFUL && s->session == 0)) {
        end(s, GW_SERVE_ENDED);
        return;
    }
    if (level == GW_STOP_GRACEFUL && !s->leaving) announce(s, now_us);
    if (!s->leaving) return;
    if (gw_engine_jobs(s->engine) > 0) s->busy_last_us = now_us;
    if (now_us >= s->deadline_us || now_us - s->busy_last_us >= GW_SERVE_LINGER_MS * GW_US_PER_MS)
        end(s, GW_SERVE_ENDED);
}

static void say_goodbye(struct gw_serve *s)
{
    struct gw_msg msg = {.type = GW_MSG_GOODBYE, .goodbye = {.text = "told to end"}};
    gw_link_send(s->link, s->session, &msg);
}

/* ---- the loop ---- */

static void take_items(struct gw_serve *s, int64_t wait_us)
{
    struct gw_link_item item;
    for (int i = 0; i < ITEMS_PER_TURN && !s->ended; i++) {
        if (!gw_link_receive(s->link, i == 0 ? wait_us : 0, &item)) return;
        on_item(s, &item);
    }
}

enum gw_serve_status gw_serve_run(struct gw_serve *s, struct gw_engine *engine, struct gw_link *link)
{
    struct gw_engine_stats stats;
    bool stepped = false;
    s->engine = engine;
    s->link = link;
    while (!s->ended) {
        take_items(s, stepped ? 0 : IDLE_WAIT_US);
        if (!s->ended) look_at_signals(s, gw_clock_mono_us());
        if (s->ended) break;
        stepped = gw_engine_step(engine);
        gw_engine_stats(engine, &stats);
        gw_link_set_progress(link, &stats.progress);
    }
    say_goodbye(s);
    return s->status;
}
