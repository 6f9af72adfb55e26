#include "controller/core/core_internal.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define NOT_OF_ITS_PROTOCOL "sent what its protocol does not have"

/* ---- registration ---- */

static struct core_worker *worker_named(const struct gw_core *core, const char *name)
{
    for (uint32_t i = 0; i < core->workers_end; i++)
        if (core->workers[i] && strcmp(core->workers[i]->hello.worker, name) == 0) return core->workers[i];
    return NULL;
}

uint8_t core_profile_number(struct gw_core *core, const char *profile)
{
    for (uint8_t p = 1; p <= core->profiles_len; p++)
        if (strcmp(core->profiles[p], profile) == 0) return p;
    if (core->profiles_len == CORE_PROFILES_MAX) return 0;
    snprintf(core->profiles[++core->profiles_len], GW_WIRE_NAME_MAX + 1, "%s", profile);
    return core->profiles_len;
}

/* 0 = welcome, else why not, with a text for its log. */
static enum gw_refuse_code judge(struct gw_core *core, const struct gw_msg_hello *h, const char **text)
{
    const struct gw_core_config *c = &core->config;
    const struct core_worker *same = worker_named(core, h->worker);
    *text = "no common protocol version";
    if (h->proto < GW_WIRE_PROTO_MIN || h->proto > GW_WIRE_PROTO) return GW_REFUSE_PROTO;
    *text = "this cluster serves another model, or the same with --weights or --kv of another format";
    if (memcmp(h->fingerprint, c->fingerprint, sizeof c->fingerprint) != 0) return GW_REFUSE_MODEL;
    *text = "unknown numerics profile, or wrong digest for it";
    if (c->digest_ok && !c->digest_ok(h->profile, h->digest)) return GW_REFUSE_DIGEST;
    *text = "the worker has served a controller of a higher term";
    if (h->max_term > c->term) return GW_REFUSE_TERM;
    /* On the same instance a process restarted faster than we noticed; elsewhere two share a name. */
    *text = "a live worker on another instance has this name";
    if (same && strcmp(same->hello.instance, h->instance) != 0) return GW_REFUSE_DUPLICATE;
    *text = "too many workers";
    if (!same && core->workers_len >= c->max_workers) return GW_REFUSE_LIMIT;
    *text = "too many numerics profiles";
    if (core_profile_number(core, h->profile) == CORE_PROFILE_NONE) return GW_REFUSE_LIMIT;
    return 0;
}

static void refuse(struct gw_core *core, uint64_t link, const struct gw_msg_hello *h,
                   enum gw_refuse_code code, const char *text)
{
    struct core_worker stranger = {.link = link};
    struct gw_msg *m = core_send(core, &stranger, NULL, GW_MSG_REFUSE);
    if (m) {
        m->refuse.code = (uint16_t)code;
        snprintf(m->refuse.text, sizeof m->refuse.text, "%s", text);
    }
    char *name = core_arena_alloc(core, sizeof h->worker);
    if (name) memcpy(name, h->worker, sizeof h->worker);
    core_note(core, GW_NOTE_WORKER_REFUSED, NULL, NULL, text)->worker = name ? name : "";
    struct gw_action *a = core_act(core, GW_ACT_CLOSE);
    a->link.link = link;
    a->link.reason = text;
}

/* Makes room in the tables; the lowest free slot keeps the choice deterministic. */
static gw_err_t worker_create(struct gw_core *core, uint64_t link, struct core_worker **out)
{
    TRY(core_actions_reserve(core, core->requests.len, core->workers_len + 1));
    struct core_worker *w = calloc(1, sizeof *w);
    if (!w) return GW_ERR_MEMORY;
    gw_err_t err = gw_id_map_put(&core->links, link, w);
    if (err != GW_OK) {
        free(w);
        return err;
    }
    while (core->workers[w->slot]) w->slot++;
    assert(w->slot < core->config.max_workers);
    core->workers[w->slot] = w;
    if (w->slot >= core->workers_end) core->workers_end = w->slot + 1;
    core->workers_len++;
    w->link = link;
    w->state = CORE_DOOMED; /* until core_worker_set_state */
    *out = w;
    return GW_OK;
}

/* Out of the tables; its memory stays until the next step. */
static void worker_remove(struct gw_core *core, struct core_worker *w)
{
    gw_id_map_remove(&core->links, w->link);
    core->workers[w->slot] = NULL;
    core->workers_len--;
    w->next_dead = core->dead_workers;
    core->dead_workers = w;
}

static void heard(struct gw_core *core, struct core_worker *w, int64_t now_us)
{
    w->heard_us = now_us;
    w->silent_at_us = now_us + core->config.heartbeat_timeout_us;
    w->rechecked = false;
    if (w->silent_at_us < core->silence_due_us) core->silence_due_us = w->silent_at_us;
}

static int64_t ping_interval_us(const struct gw_core *core)
{
    return core->config.heartbeat_us * CORE_PING_EVERY;
}

static void welcome(struct gw_core *core, struct core_worker *w)
{
    struct gw_msg *m = core_send(core, w, NULL, GW_MSG_WELCOME);
    if (!m) return; /* it will hear nothing and try again */
    m->welcome.heartbeat_ms = (uint32_t)(core->config.heartbeat_us / GW_US_PER_MS);
    m->welcome.controller_timeout_ms = (uint32_t)(core->config.controller_timeout_us / GW_US_PER_MS);
}

/* A worker of protocol 1 is a pipeline of its own. */
static gw_err_t serve_alone(struct gw_core *core, struct core_worker *w)
{
    struct core_pipeline *p = NULL;
    TRY(core_pipeline_create(core, 1, &p));
    p->ranks[0] =
        (struct core_rank){.worker = w,
                           .cells = {0, (uint16_t)core->config.groups, 0, (uint16_t)core->config.shares},
                           .ready = true};
    p->ready_len = 1;
    p->single = true;
    p->state = CORE_SERVING;
    p->profile = w->profile;
    p->kv_tokens = w->hello.kv_tokens;
    p->context = w->hello.context;
    w->serving = p;
    w->holds = p->ranks[0].cells;
    return GW_OK;
}

/* Registers who has been judged; on error there is nothing left of it. */
static gw_err_t worker_enter(struct gw_core *core, uint64_t link, const struct gw_msg_hello *h,
                             struct core_worker **out)
{
    struct core_worker *w = NULL;
    TRY(worker_create(core, link, &w));
    w->hello = *h;
    w->profile = core_profile_number(core, h->profile);
    w->holds = h->holds;
    core_zones_enter(core, w);
    *out = w;
    if (h->proto >= CORE_PROTO_PIPELINE) return GW_OK;
    gw_err_t err = serve_alone(core, w);
    if (err != GW_OK) worker_remove(core, w);
    return err;
}

void core_on_hello(struct gw_core *core, int64_t now_us, uint64_t link, const struct gw_msg *msg)
{
    const struct gw_msg_hello *h = &msg->hello;
    const char *text;
    struct core_worker *w = NULL;
    assert(link != 0 && msg->type == GW_MSG_HELLO && !gw_id_map_get(&core->links, link));
    enum gw_refuse_code code = judge(core, h, &text);
    if (code != 0) {
        refuse(core, link, h, code, text);
        return;
    }
    struct core_worker *same = worker_named(core, h->worker);
    if (same) core_worker_lost(core, same, now_us, "it came back on a new link", true);
    if (worker_enter(core, link, h, &w) != GW_OK) {
        refuse(core, link, h, GW_REFUSE_LIMIT, "the controller is out of memory");
        return;
    }
    heard(core, w, now_us);
    if (core->ping_due_us == INT64_MAX) core->ping_due_us = now_us + ping_interval_us(core);
    welcome(core, w);
    core_worker_set_state(core, w, CORE_UP);
    core_note(core, GW_NOTE_WORKER_UP, w, NULL, "");
    core_notices_greet(core, w, now_us);
}

void core_worker_set_state(struct gw_core *core, struct core_worker *w, enum core_worker_state state)
{
    if (w->state == state) return;
    w->state = state;
    if (state == CORE_UP)
        core->workers_up++;
    else
        core->workers_up--;
    core->review_due = true;
    core->dispatch_due = true;
    core->stores_due = true;
    if (w->hello.proto >= CORE_PROTO_PIPELINE) core_want_plan(core);
}

/* ---- loss ---- */

/* Its pipelines cannot go on without it. It is taken out of them first: nothing is sent to it any more. */
static void pipelines_lost(struct gw_core *core, struct core_worker *w, int64_t now_us, bool announced)
{
    struct core_pipeline *serving = w->serving, *prepared = w->prepared;
    w->serving = w->prepared = NULL;
    if (prepared) core_pipeline_end(core, prepared, now_us, "one of its workers was lost", announced);
    if (serving) core_pipeline_end(core, serving, now_us, "one of its workers was lost", announced);
}

void core_worker_lost(struct gw_core *core, struct core_worker *w, int64_t now_us, const char *why,
                      bool close_link)
{
    bool announced = w->state == CORE_DOOMED;
    uint32_t requests = w->serving ? w->serving->requests.len : 0;
    bool left = announced && requests == 0;
    struct gw_note *n = core_note(core, left ? GW_NOTE_WORKER_LEFT : GW_NOTE_WORKER_LOST, w, NULL, why);
    n->announced = announced;
    n->count = requests;
    if (!announced) core->stats.losses++;
    if (close_link) {
        struct gw_action *a = core_act(core, GW_ACT_CLOSE);
        a->link.link = w->link;
        a->link.reason = why;
    }
    core_worker_set_state(core, w, CORE_DOOMED);
    if (w->hello.proto >= CORE_PROTO_PIPELINE) core_want_plan(core);
    worker_remove(core, w);
    pipelines_lost(core, w, now_us, announced);
}

void core_on_link_down(struct gw_core *core, int64_t now_us, uint64_t link)
{
    struct core_worker *w = gw_id_map_get(&core->links, link);
    if (w) core_worker_lost(core, w, now_us, "its link went down", false);
}

/* ---- frames ---- */

static void on_goodbye(struct gw_core *core, struct core_worker *w, int64_t now_us,
                       const struct gw_msg_goodbye *m)
{
    char *text = core_arena_alloc(core, sizeof m->text);
    if (text) memcpy(text, m->text, sizeof m->text);
    core_worker_lost(core, w, now_us, text ? text : "goodbye", true);
}

/* The pipeline that msg names, if w is a rank of it. */
static struct core_pipeline *pipeline_of(const struct gw_core *core, const struct core_worker *w,
                                         const struct gw_msg *msg)
{
    struct core_pipeline *p = core_pipeline_find(core, msg->pipeline, msg->generation);
    return p && (p == w->serving || p == w->prepared) ? p : NULL;
}

static bool about_pipeline(enum gw_msg_type type)
{
    return type == GW_MSG_TOKENS || type == GW_MSG_REJECT || type == GW_MSG_HANDOFF || type == GW_MSG_READY ||
           type == GW_MSG_BROKEN || type == GW_MSG_WARMED || type == GW_MSG_ORIGIN;
}

/* The first protocol that has a message; 1 for those of all. */
static uint16_t proto_of(enum gw_msg_type type)
{
    if (type == GW_MSG_RESYNC) return CORE_PROTO_RESYNC;
    return type == GW_MSG_WARMED || type == GW_MSG_ORIGIN ? CORE_PROTO_KV : 1;
}

/* Are msg's fences those of w? *p: the pipeline that it is about, if it must be about one. */
static bool fences_good(const struct gw_core *core, const struct core_worker *w, const struct gw_msg *msg,
                        struct core_pipeline **p)
{
    if (msg->term != core->config.term) return false;
    *p = pipeline_of(core, w, msg);
    if (w->hello.proto < CORE_PROTO_PIPELINE || about_pipeline(msg->type)) return *p != NULL;
    return msg->pipeline == 0 && msg->generation == 0;
}

/* What a leader says about requests; from others, or before START, it is stale. */
static void on_request_msg(struct gw_core *core, struct core_worker *w, struct core_pipeline *p,
                           int64_t now_us, const struct gw_msg *msg)
{
    if (core_leader(p) != w || p != w->serving) {
        core->stats.stale_frames++;
        return;
    }
    if (msg->type == GW_MSG_TOKENS) core_on_tokens(core, p, now_us, &msg->tokens);
    if (msg->type == GW_MSG_REJECT) core_on_reject(core, p, &msg->reject);
    if (msg->type == GW_MSG_HANDOFF) core_on_handoff(core, p, now_us, &msg->handoff);
    if (msg->type == GW_MSG_ORIGIN) core_on_origin(core, p, &msg->origin);
}

/* What a leader says about a copy: before START, too. */
static void on_warmed(struct gw_core *core, const struct core_worker *w, struct core_pipeline *p,
                      int64_t now_us, const struct gw_msg_warmed *m)
{
    if (core_leader(p) == w)
        core_on_warmed(core, p, now_us, m);
    else
        core->stats.stale_frames++;
}

/* What a rank says about its pipeline. */
static void on_rank_msg(struct gw_core *core, struct core_worker *w, struct core_pipeline *p, int64_t now_us,
                        const struct gw_msg *msg)
{
    if (p->single)
        core_worker_lost(core, w, now_us, NOT_OF_ITS_PROTOCOL, true);
    else if (msg->type == GW_MSG_READY)
        core_on_ready(core, p, w, &msg->ready);
    else
        core_on_broken(core, p, w, now_us, &msg->broken);
}

static uint64_t growth(uint64_t before, uint64_t now)
{
    return now > before ? now - before : 0;
}

/* rate(t) = Σ bytes · exp(-(t - when they were told) / GW_CORE_FAR_S) / GW_CORE_FAR_S */
static void count_traffic(struct gw_core *core, int64_t now_us, const struct gw_traffic_bytes *before,
                          const struct gw_traffic_bytes *now)
{
    uint64_t far = 0;
    for (int k = 0; k < GW_TRAFFIC_KINDS; k++) {
        core->stats.traffic.near[k] += growth(before->near[k], now->near[k]);
        core->stats.traffic.far[k] += growth(before->far[k], now->far[k]);
        far += growth(before->far[k], now->far[k]);
    }
    double past_s = (double)(now_us - core->far_us) / (double)GW_US_PER_S;
    core->stats.far_bytes_s =
        core->stats.far_bytes_s * exp(-past_s / GW_CORE_FAR_S) + (double)far / GW_CORE_FAR_S;
    core->far_us = now_us;
}

static void on_heartbeat(struct gw_core *core, int64_t now_us, struct core_worker *w,
                         const struct gw_msg_heartbeat *h)
{
    core->stats.weight_disk_bytes += growth(w->last.weight_disk_bytes, h->weight_disk_bytes);
    core->stats.weight_peer_bytes += growth(w->last.weight_peer_bytes, h->weight_peer_bytes);
    count_traffic(core, now_us, &w->last.traffic, &h->traffic);
    w->last = *h;
}

void core_on_msg(struct gw_core *core, int64_t now_us, uint64_t link, const struct gw_msg *msg)
{
    struct core_worker *w = gw_id_map_get(&core->links, link);
    struct core_pipeline *p = NULL;
    bool good = w && fences_good(core, w, msg, &p);
    /* On one link of protocol 2 there is one process: a frame about a pipeline of the past proves that it lives. */
    if (good || (w && msg->term == core->config.term && w->hello.proto >= CORE_PROTO_PIPELINE))
        heard(core, w, now_us);
    if (!good) {
        core->stats.stale_frames++;
        if (w && msg->term == core->config.term && msg->type == GW_MSG_BROKEN)
            core_apart_late(core, now_us, w, msg);
        return;
    }
    if (w->hello.proto < proto_of(msg->type)) {
        core_worker_lost(core, w, now_us, NOT_OF_ITS_PROTOCOL, true);
        return;
    }
    switch (msg->type) {
    case GW_MSG_TOKENS:
    case GW_MSG_REJECT:
    case GW_MSG_ORIGIN:
    case GW_MSG_HANDOFF: on_request_msg(core, w, p, now_us, msg); break;
    case GW_MSG_READY:
    case GW_MSG_BROKEN: on_rank_msg(core, w, p, now_us, msg); break;
    case GW_MSG_WARMED: on_warmed(core, w, p, now_us, &msg->warmed); break;
    case GW_MSG_RESYNC: core_on_resync(core, w, &msg->resync); break;
    case GW_MSG_HEARTBEAT: on_heartbeat(core, now_us, w, &msg->heartbeat); break;
    case GW_MSG_NOTICE: core_on_worker_notice(core, w, now_us, &msg->notice); break;
    case GW_MSG_GOODBYE: on_goodbye(core, w, now_us, &msg->goodbye); break;
    default: core_worker_lost(core, w, now_us, "sent what only a controller sends", true); break;
    }
}

/* ---- silence ---- */

/* Is more than half of the fleet quiet at the same moment? Heartbeats are staggered, so a worker that has
 * missed half of its time counts. That points to our side (a stopped loop, a switch): worth a second look. */
static bool mass_silence(const struct gw_core *core, int64_t now_us)
{
    uint32_t quiet = 0;
    for (uint32_t i = 0; i < core->workers_end; i++) {
        const struct core_worker *w = core->workers[i];
        if (w && now_us - w->heard_us >= core->config.heartbeat_timeout_us / 2) quiet++;
    }
    return core->workers_len >= 2 && quiet * 2 > core->workers_len;
}

void core_silence_tick(struct gw_core *core, int64_t now_us)
{
    if (now_us < core->silence_due_us) return;
    bool mass = mass_silence(core, now_us);
    int64_t due_us = INT64_MAX;
    for (uint32_t i = 0; i < core->workers_end; i++) {
        struct core_worker *w = core->workers[i];
        if (!w) continue;
        if (w->silent_at_us <= now_us && mass && !w->rechecked) {
            w->rechecked = true;
            w->silent_at_us = now_us + core->config.mass_loss_recheck_us;
        }
        if (w->silent_at_us <= now_us)
            core_worker_lost(core, w, now_us, "no frame in time", true);
        else if (w->silent_at_us < due_us)
            due_us = w->silent_at_us;
    }
    core->silence_due_us = due_us;
}

void core_silence_extend(struct gw_core *core, int64_t gap_us)
{
    for (uint32_t i = 0; i < core->workers_end; i++) {
        if (!core->workers[i]) continue;
        core->workers[i]->heard_us += gap_us;
        core->workers[i]->silent_at_us += gap_us;
    }
    if (core->silence_due_us != INT64_MAX) core->silence_due_us += gap_us;
}

void core_ping_tick(struct gw_core *core, int64_t now_us)
{
    if (now_us < core->ping_due_us) return;
    core->ping_due_us = core->workers_len > 0 ? now_us + ping_interval_us(core) : INT64_MAX;
    core->ping_sequence++;
    for (uint32_t i = 0; i < core->workers_end; i++) {
        if (!core->workers[i]) continue;
        struct gw_msg *m = core_send(core, core->workers[i], NULL, GW_MSG_PING);
        if (m) m->ping.sequence = core->ping_sequence;
    }
}
