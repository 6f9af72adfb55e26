/* Between the link and the engines: what engines say of requests, and what the controller wants of them. */
#include <stdio.h>

#include "worker/serve_internal.h"

/* ---- what the engine says ---- */

static void send_as(const struct speaker *who, struct gw_msg *msg)
{
    serve_send_for(who->serve, who->pipeline, who->generation, msg);
}

static void send_tokens(void *arg, uint64_t request, uint32_t attempt, uint32_t branch,
                        const struct gw_tokens *tokens)
{
    struct gw_msg msg = {
        .type = GW_MSG_TOKENS,
        .tokens = {.request = request, .attempt = attempt, .branch = branch, .tokens = *tokens}};
    send_as(arg, &msg);
}

static void send_started(void *arg, uint64_t request, uint32_t attempt)
{
    const struct gw_tokens none = {0};
    send_tokens(arg, request, attempt, 0, &none);
}

static void send_warmed(void *arg, uint64_t request, uint32_t attempt, uint32_t tokens)
{
    struct gw_msg msg = {.type = GW_MSG_WARMED,
                         .warmed = {.request = request, .attempt = attempt, .tokens = tokens}};
    send_as(arg, &msg);
}

static void send_origin(void *arg, const struct gw_msg_origin *origin)
{
    const struct speaker *who = arg;
    struct gw_msg msg = {.type = GW_MSG_ORIGIN, .origin = *origin};
    if (who->serve->proto >= 3) send_as(who, &msg);
}

struct gw_engine_sink serve_next_sink(struct gw_serve *s, const struct gw_member *m)
{
    struct speaker *who = &s->speakers[1 - s->speaker];
    *who = (struct speaker){
        .serve = s, .pipeline = gw_member_pipeline(m), .generation = gw_member_generation(m)};
    return (struct gw_engine_sink){.arg = who,
                                   .started = send_started,
                                   .tokens = send_tokens,
                                   .warmed = send_warmed,
                                   .origin = send_origin};
}

/* ---- requests ---- */

static struct gw_engine *engine_for(const struct gw_serve *s, const struct gw_msg *msg)
{
    if (serve_is(s->serving, msg)) return gw_member_engine(s->serving);
    return msg->type == GW_MSG_WARM && serve_is(s->prepared, msg) ? gw_member_engine(s->prepared) : NULL;
}

/* Whatever cannot be fetched is computed when the request comes. */
static void on_warm(struct gw_serve *s, struct gw_engine *engine, const struct gw_msg *head,
                    struct gw_msg_submit *warm)
{
    struct gw_err_ctx ctx = {0};
    struct gw_msg msg = {.type = GW_MSG_WARMED,
                         .warmed = {.request = warm->request.id, .attempt = warm->attempt}};
    if (engine && gw_engine_warm(engine, warm, &ctx) == GW_OK) return;
    serve_send_for(s, head->pipeline, head->generation, &msg);
}

static void on_submit(struct gw_serve *s, struct gw_engine *engine, struct gw_msg_submit *submit)
{
    struct gw_err_ctx ctx = {0};
    struct gw_msg msg = {.type = GW_MSG_REJECT,
                         .reject = {.request = submit->request.id, .attempt = submit->attempt}};
    gw_err_t err = gw_engine_submit(engine, submit, &ctx);
    if (err == GW_OK) return;
    gw_logf(s->log, GW_LOG_WARN, "request=%llu attempt=%u rejected: %s",
            (unsigned long long)msg.reject.request, msg.reject.attempt, ctx.text);
    msg.reject.code = (uint16_t)err;
    snprintf(msg.reject.text, sizeof msg.reject.text, "%.*s", GW_WIRE_TEXT_MAX, ctx.text);
    serve_send_of(s, s->serving, &msg);
}

/* Once the steps under way are over, all TOKENS have been queued. What is not here has ended, and its last TOKENS
 * said so. */
static void on_cutover(struct gw_serve *s, struct gw_engine *engine, const struct gw_msg_cutover *cutover)
{
    struct gw_err_ctx ctx = {0};
    if (gw_engine_settle(engine, &ctx) != GW_OK) {
        serve_give_up(s, &s->serving, &ctx);
        return;
    }
    for (uint32_t i = 0; i < cutover->count; i++) {
        const struct gw_cutover_item *item = &cutover->items[i];
        struct gw_msg msg = {
            .type = GW_MSG_HANDOFF,
            .handoff = {.request = item->request, .attempt = item->attempt, .log_len = s->handoff_len}};
        if (gw_engine_hand_off(engine, item->request, item->attempt, s->handoff_len, &msg.handoff.n))
            serve_send_of(s, s->serving, &msg);
    }
    if (gw_engine_settle(engine, &ctx) != GW_OK)
        serve_give_up(s, &s->serving, &ctx); /* the others learn of tails */
}

void serve_on_request_msg(struct gw_serve *s, struct gw_msg *msg)
{
    struct gw_engine *engine = engine_for(s, msg);
    if (msg->type == GW_MSG_WARM) on_warm(s, engine, msg, &msg->warm);
    if (!engine) return;
    if (msg->type == GW_MSG_SUBMIT)
        on_submit(s, engine, &msg->submit);
    else if (msg->type == GW_MSG_CANCEL)
        gw_engine_cancel(engine, msg->cancel.request, msg->cancel.attempt, msg->cancel.branch);
    else if (msg->type == GW_MSG_CUTOVER)
        on_cutover(s, engine, &msg->cutover);
}
