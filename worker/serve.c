#include "worker/serve_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/failpoint.h"

#define IDLE_WAIT_US   (50 * GW_US_PER_MS) /* messages end it; signals are looked at that often */
#define GO_WAIT_US     500  /* for ranks that have not started yet: no message will end that wait */
#define ITEMS_PER_TURN 1024 /* of the link, between two steps */

#define FIRST_PULL_US (1 * GW_US_PER_S)    /* whoever takes over from us begins to pull by then */
#define NEXT_PULL_US  (300 * GW_US_PER_MS) /* and is through when nothing was asked for so long */

gw_err_t gw_serve_create(const struct gw_serve_config *config, struct gw_serve **out)
{
    struct gw_serve *s = calloc(1, sizeof *s);
    if (!s) return GW_ERR_MEMORY;
    s->config = *config;
    s->log = config->host->log;
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return GW_OK;
}

/* ---- the link's thread ---- */

void gw_serve_arrived(void *arg)
{
    struct gw_serve *s = arg;
    pthread_mutex_lock(&s->lock);
    if (s->serving) gw_member_wake(s->serving);
    pthread_mutex_unlock(&s->lock);
}

static void abort_if(struct gw_member *m, uint64_t generation)
{
    if (m && (generation == 0 || generation == gw_member_generation(m))) gw_member_abort(m);
}

void gw_serve_released(void *arg, uint64_t generation)
{
    struct gw_serve *s = arg;
    pthread_mutex_lock(&s->lock);
    abort_if(s->serving, generation);
    abort_if(s->prepared, generation);
    pthread_mutex_unlock(&s->lock);
}

/* ---- members ---- */

/* Its sealed pages can be had for lease_us more. */
static void leave(struct gw_serve *s, struct gw_member **which, int64_t lease_us)
{
    pthread_mutex_lock(&s->lock);
    struct gw_member *m = *which;
    *which = NULL;
    pthread_mutex_unlock(&s->lock);
    gw_member_destroy(m, lease_us);
}

static void leave_all(struct gw_serve *s)
{
    const struct gw_engine *engine = s->serving ? gw_member_engine(s->serving) : NULL;
    if (engine) gw_resync_note(&s->resync, engine);
    leave(s, &s->prepared, GW_MEMBER_LEASE_US);
    leave(s, &s->serving, GW_MEMBER_LEASE_US);
}

bool serve_is(const struct gw_member *m, const struct gw_msg *msg)
{
    return m && gw_member_pipeline(m) == msg->pipeline && gw_member_generation(m) == msg->generation;
}

void gw_serve_destroy(struct gw_serve *s)
{
    if (!s) return;
    leave_all(s);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void serve_send_for(struct gw_serve *s, uint32_t pipeline, uint64_t generation, struct gw_msg *msg)
{
    msg->pipeline = pipeline;
    msg->generation = generation;
    gw_failpoint("sending", gw_msg_name(msg->type));
    gw_link_send(s->link, s->session, msg);
}

void serve_send_of(struct gw_serve *s, const struct gw_member *m, struct gw_msg *msg)
{
    serve_send_for(s, gw_member_pipeline(m), gw_member_generation(m), msg);
}

/* rank: that is at fault. */
static void say_broken(struct gw_serve *s, uint32_t pipeline, uint64_t generation, uint32_t rank,
                       const struct gw_err_ctx *why)
{
    struct gw_msg msg = {.type = GW_MSG_BROKEN, .broken = {.rank = rank, .code = (uint16_t)why->code}};
    if (why->code == GW_OK) msg.broken.code = GW_ERR_INTERNAL;
    snprintf(msg.broken.text, sizeof msg.broken.text, "%.*s", GW_WIRE_TEXT_MAX, why->text);
    gw_logf(s->log, GW_LOG_WARN, "pipeline=%u gen=%llu is broken: %s", pipeline,
            (unsigned long long)generation, why->text);
    serve_send_for(s, pipeline, generation, &msg);
}

static void end(struct gw_serve *s, enum gw_serve_status status)
{
    s->ended = true;
    s->status = status;
}

void serve_give_up(struct gw_serve *s, struct gw_member **which, const struct gw_err_ctx *why)
{
    if (why->code == GW_ERR_CUDA) end(s, GW_SERVE_DEVICE_FAILED);
    say_broken(s, gw_member_pipeline(*which), gw_member_generation(*which), gw_member_unreached(*which), why);
    leave(s, which, GW_MEMBER_LEASE_US);
}

/* ---- becoming a rank, and ceasing to be one ---- */

static void on_prepared(void *arg)
{
    struct gw_serve *s = arg;
    gw_link_wake(s->link);
    gw_serve_arrived(s);
}

static void prepare(struct gw_serve *s, const struct gw_msg *head, const struct gw_msg_assign *assign)
{
    struct gw_err_ctx ctx = {0};
    struct gw_member *m = NULL;
    leave(s, &s->prepared, GW_MEMBER_LEASE_US);
    const struct gw_member_config config = {.host = s->config.host,
                                            .term = head->term,
                                            .pipeline = head->pipeline,
                                            .generation = head->generation,
                                            .assign = assign,
                                            .beside = s->serving != NULL,
                                            .prepared = on_prepared,
                                            .arg = s};
    gw_logf(s->log, GW_LOG_INFO, "pipeline=%u gen=%llu: rank %u of %u, preparing", head->pipeline,
            (unsigned long long)head->generation, assign->self, assign->ranks_len);
    if (gw_member_create(&config, &m, &ctx) != GW_OK) {
        say_broken(s, head->pipeline, head->generation, GW_RANK_NONE, &ctx);
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->prepared = m;
    pthread_mutex_unlock(&s->lock);
    s->told = false;
}

static bool arm(struct gw_serve *s)
{
    struct gw_err_ctx ctx = {0};
    s->sink = serve_next_sink(s, s->prepared);
    if (gw_member_arm(s->prepared, &s->sink, &ctx) == GW_OK) return true;
    serve_give_up(s, &s->prepared, &ctx);
    return false;
}

static void tell_prepared(struct gw_serve *s)
{
    struct gw_msg msg = {.type = GW_MSG_READY};
    if (!s->prepared || s->told) return;
    enum gw_member_state state = gw_member_state(s->prepared);
    if (state == GW_MEMBER_FAILED) {
        struct gw_err_ctx why = *gw_member_error(s->prepared);
        serve_give_up(s, &s->prepared, &why);
    } else if (state == GW_MEMBER_PREPARED && arm(s)) {
        gw_member_ready(s->prepared, &msg.ready);
        serve_send_of(s, s->prepared, &msg);
        s->told = true;
    }
}

static void start(struct gw_serve *s)
{
    struct gw_err_ctx ctx = {0};
    leave(s, &s->serving, gw_member_is_armed(s->prepared) ? GW_MEMBER_LEASE_US : 0);
    pthread_mutex_lock(&s->lock);
    s->serving = s->prepared;
    s->speaker = 1 - s->speaker;
    s->prepared = NULL;
    pthread_mutex_unlock(&s->lock);
    gw_err_t err = gw_member_start(s->serving, &s->sink, &ctx);
    gw_link_set_holds(s->link, gw_member_cells(s->serving));
    if (err != GW_OK) {
        serve_give_up(s, &s->serving, &ctx);
        return;
    }
    gw_logf(s->log, GW_LOG_INFO, "pipeline=%u gen=%llu: serving", gw_member_pipeline(s->serving),
            (unsigned long long)gw_member_generation(s->serving));
}

static void on_start(struct gw_serve *s, const struct gw_msg *msg)
{
    struct gw_err_ctx ctx = {0};
    if (serve_is(s->prepared, msg) && gw_member_state(s->prepared) == GW_MEMBER_PREPARED) {
        start(s);
    } else if (!serve_is(s->serving, msg)) {
        gw_err_t err = gw_fail(&ctx, GW_ERR_PROTO, "told to start what is not prepared here");
        (void)err; /* what BROKEN says */
        say_broken(s, msg->pipeline, msg->generation, GW_RANK_NONE, &ctx);
    }
}

static void on_release(struct gw_serve *s, const struct gw_msg *msg)
{
    if (serve_is(s->prepared, msg)) leave(s, &s->prepared, GW_MEMBER_LEASE_US);
    if (serve_is(s->serving, msg)) leave(s, &s->serving, GW_MEMBER_LEASE_US);
}

/* The session is the pipeline: one rank, all cells. */
static void be_protocol_1(struct gw_serve *s, const struct gw_msg *welcome)
{
    struct gw_assign_rank self = {.cells = gw_cells_all(&s->config.host->model->cells)};
    const struct gw_msg_assign assign = {.ranks_len = 1, .ranks = &self};
    prepare(s, welcome, &assign);
    if (!s->prepared) return;
    if (gw_member_wait(s->prepared) == GW_MEMBER_FAILED)
        tell_prepared(s);
    else if (arm(s))
        start(s);
}

/* ---- messages ---- */

static void on_msg(struct gw_serve *s, struct gw_msg *msg)
{
    gw_failpoint("received", gw_msg_name(msg->type));
    switch (msg->type) {
    case GW_MSG_SUBMIT:
    case GW_MSG_WARM:
    case GW_MSG_CANCEL:
    case GW_MSG_CUTOVER: serve_on_request_msg(s, msg); break;
    case GW_MSG_ASSIGN: prepare(s, msg, &msg->assign); break;
    case GW_MSG_START: on_start(s, msg); break;
    case GW_MSG_RELEASE: on_release(s, msg); break;
    case GW_MSG_STORES:
        if (s->config.host->stores) gw_stores_set_peers(s->config.host->stores, &msg->stores);
        break;
    case GW_MSG_ZONES: gw_traffic_learn(s->config.host->traffic, &msg->zones); break;
    case GW_MSG_GOODBYE:
        gw_logf(s->log, GW_LOG_INFO, "the controller says goodbye: %s", msg->goodbye.text);
        if (s->leaving) end(s, GW_SERVE_ENDED);
        break;
    default: gw_logf(s->log, GW_LOG_WARN, "unexpected %s", gw_msg_name(msg->type)); break;
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
        leave_all(s);
        s->session = item->session;
        s->proto = item->proto;
        s->before = gw_cell_loader_stats(s->config.host->loader);
        gw_traffic_read(s->config.host->traffic, &s->traffic_before);
        if (s->config.host->pages) gw_peer_server_set_term(s->config.host->pages, item->msg.term);
        gw_mesh_set_term(s->config.host->mesh, item->msg.term);
        gw_resync_tell(&s->resync, s->link, s->session, s->proto, s->log);
        if (item->proto == 1) be_protocol_1(s, &item->msg);
        break;
    case GW_LINK_LOST:
        leave_all(s);
        s->session = 0;
        if (s->leaving) end(s, GW_SERVE_ENDED);
        break;
    case GW_LINK_REFUSED:
        gw_logf(s->log, GW_LOG_ERROR, "the controller refuses this worker: %s", item->msg.refuse.text);
        end(s, status_of(item->msg.refuse.code));
        break;
    case GW_LINK_MSG:
        if (item->session == s->session) on_msg(s, &item->msg);
        gw_msg_fini(&item->msg);
        break;
    }
}

/* ---- leaving ---- */

uint32_t serve_requests_here(const struct gw_serve *s)
{
    struct gw_engine *engine = s->serving ? gw_member_engine(s->serving) : NULL;
    return engine ? gw_engine_jobs(engine) : 0;
}

static bool has_something_to_do(const struct gw_serve *s, int64_t now_us)
{
    if (gw_shelf_is_wanted(s->config.host->shelf, now_us, FIRST_PULL_US, NEXT_PULL_US)) return true;
    if (!s->serving) return false;
    return !gw_member_is_alone(s->serving) || serve_requests_here(s) > 0;
}

static void announce(struct gw_serve *s, int64_t now_us)
{
    double grace_ms = s->config.term_grace_s * 1000;
    struct gw_msg msg = {.type = GW_MSG_NOTICE,
                         .notice = {.kind = GW_NOTICE_PREEMPT, .deadline_ms = (uint32_t)grace_ms}};
    s->leaving = true;
    s->deadline_us = now_us + (int64_t)(grace_ms * 1000);
    s->busy_last_us = now_us;
    gw_logf(s->log, GW_LOG_INFO, "SIGTERM: leaving within %.1f s, %u requests are here",
            s->config.term_grace_s, serve_requests_here(s));
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
    if (has_something_to_do(s, now_us)) s->busy_last_us = now_us;
    if (now_us >= s->deadline_us || now_us - s->busy_last_us >= GW_SERVE_LINGER_MS * GW_US_PER_MS)
        end(s, GW_SERVE_ENDED);
}

static void say_goodbye(struct gw_serve *s)
{
    struct gw_msg msg = {.type = GW_MSG_GOODBYE, .goodbye = {.text = "told to end"}};
    if (s->status == GW_SERVE_DEVICE_FAILED)
        snprintf(msg.goodbye.text, sizeof msg.goodbye.text, "its device failed");
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

/* Where to wait for something to do: with the link, or, a rank that follows, with the others of its pipeline. */
static int64_t link_wait_us(const struct gw_serve *s, bool stepped)
{
    if (stepped) return 0;
    if (!s->serving) return IDLE_WAIT_US;
    if (!gw_member_leads(s->serving)) return 0;
    return gw_member_may_step(s->serving) ? IDLE_WAIT_US : GO_WAIT_US;
}

static bool step(struct gw_serve *s)
{
    struct gw_err_ctx ctx = {0};
    bool did = false;
    if (!s->serving) return false;
    if (gw_member_step(s->serving, IDLE_WAIT_US, &did, &ctx) != GW_OK) serve_give_up(s, &s->serving, &ctx);
    return did;
}

/* Pages of requests that will come are fetched, and those of pipelines that are over are freed in time. */
static void tend_prepared(struct gw_serve *s)
{
    struct gw_engine *engine = s->prepared && s->told ? gw_member_engine(s->prepared) : NULL;
    if (engine) gw_engine_tend(engine);
    gw_shelf_sweep(s->config.host->shelf, gw_clock_mono_us());
}

enum gw_serve_status gw_serve_run(struct gw_serve *s, struct gw_link *link)
{
    bool stepped = false;
    s->link = link;
    while (!s->ended) {
        take_items(s, link_wait_us(s, stepped));
        if (!s->ended) tell_prepared(s);
        if (!s->ended) look_at_signals(s, gw_clock_mono_us());
        if (s->ended) break;
        gw_link_flush(link);
        stepped = step(s);
        gw_link_flush(link);
        tend_prepared(s);
        serve_say_progress(s, stepped);
    }
    say_goodbye(s);
    leave_all(s);
    return s->status;
}
