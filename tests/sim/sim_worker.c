#include "tests/sim/sim.h"

#include <stdio.h>
#include <string.h>

#define WELCOME_TIMEOUT_US (5 * GW_US_PER_S)

/* ---- sending ---- */

static struct sim_link *link_of(struct sim *sim, const struct sim_worker *w)
{
    return sim_link_find(sim, w->link);
}

struct gw_msg sim_worker_message(const struct sim_worker *w, const struct sim_role *role,
                                 enum gw_msg_type type)
{
    if (w->proto == 1) role = &w->serving;
    return (struct gw_msg){.type = type,
                           .term = w->term,
                           .pipeline = role ? role->pipeline : 0,
                           .generation = role ? role->generation : 0};
}

void sim_worker_send(struct sim *sim, struct sim_worker *w, const struct gw_msg *m)
{
    struct sim_link *l = link_of(sim, w);
    if (l) sim_net_to_core(sim, l, m);
}

void sim_worker_send_notice(struct sim *sim, struct sim_worker *w, uint8_t kind, uint32_t deadline_ms)
{
    struct gw_msg m = sim_worker_message(w, NULL, GW_MSG_NOTICE);
    m.notice = (struct gw_msg_notice){kind, deadline_ms};
    if (w->welcome) sim_worker_send(sim, w, &m);
}

void sim_worker_later(struct sim *sim, const struct sim_worker *w, enum sim_event_type type, int64_t after_us)
{
    sim_queue_push(sim, (struct sim_event){
                            .at_us = sim->now_us + after_us, .type = type, .slot = w->slot, .life = w->life});
}

/* ---- the process ---- */

void sim_worker_fini(struct sim_worker *w)
{
    sim_jobs_clear(w);
    sim_kv_forget(w, 0);
}

static void name_worker(struct sim *sim, struct sim_worker *w, const struct sim_worker *old)
{
    if (old) {
        memcpy(w->name, old->name, sizeof w->name);
        memcpy(w->instance, old->instance, sizeof w->instance);
        return;
    }
    snprintf(w->name, sizeof w->name, "w%u-%u", w->slot, w->life);
    snprintf(w->instance, sizeof w->instance, "i-%u", sim->next_instance++ / sim->per_instance);
}

static uint16_t protocol_of(const struct sim *sim, uint32_t slot)
{
    if (sim->old_protocol > 0 && slot % sim->old_protocol == 0) return 1;
    if (sim->middle_protocol > 0 && slot % sim->middle_protocol == 0) return 2;
    return slot % 3 == 2 ? 3 : 4;
}

static void draw_manners(struct sim *sim, struct sim_worker *w)
{
    w->step_us = sim_between(sim, 4, 40) * GW_US_PER_MS;
    w->step_deadline_us = sim_between(sim, 300, 2000) * GW_US_PER_MS;
    w->flush_every = (uint32_t)sim_between(sim, 1, 4);
    w->overshoots = sim_chance(sim, 4);
    w->repeats = sim_chance(sim, 4);
    w->forgets = sim_chance(sim, 8);
    w->corrupt = sim_chance(sim, 20) ? 20 : 0;
    w->skips = sim_chance(sim, 20) ? 20 : 0;
}

void sim_worker_start(struct sim *sim, uint32_t slot, bool same_identity)
{
    struct sim_worker *w = &sim->workers[slot];
    struct sim_worker old = *w;
    sim_kv_forget(w, 0);
    memset(w, 0, sizeof *w);
    w->slot = slot;
    w->life = old.life + 1;
    w->alive = true;
    w->profile = 1 + slot / sim->per_instance % sim->profiles;
    w->proto = protocol_of(sim, slot);
    w->pid = ++sim->next_pid;
    name_worker(sim, w, same_identity ? &old : NULL);
    w->max_term = sim->config.term - 1;
    draw_manners(sim, w);
    sim_worker_later(sim, w, SIM_WORKER_CONNECT, sim_between(sim, 0, 200) * GW_US_PER_MS);
    sim_worker_later(sim, w, SIM_WORKER_STEP, w->step_us);
}

/* How the other end learns of it is up to the link: cut it before, if the machine goes with the process. */
void sim_worker_die(struct sim *sim, struct sim_worker *w, int64_t replace_after_us)
{
    struct sim_link *l = link_of(sim, w);
    sim_trace(sim, "w%u is gone", w->slot);
    if (l) sim_link_close_by_worker(sim, l);
    sim_rank_forget(w);
    w->alive = false;
    w->link = 0;
    sim_worker_later(sim, w, SIM_WORKER_START, replace_after_us);
}

static void leave(struct sim *sim, struct sim_worker *w)
{
    struct gw_msg m = sim_worker_message(w, NULL, GW_MSG_GOODBYE);
    snprintf(m.goodbye.text, sizeof m.goodbye.text, "the instance goes");
    sim_worker_send(sim, w, &m);
    sim_worker_die(sim, w, sim_between(sim, 300, 2000) * GW_US_PER_MS);
}

/* ---- the link ---- */

/* Devices of one instance are alike. */
static bool is_slow(const struct sim *sim, const struct sim_worker *w)
{
    return w->slot / sim->per_instance % 3 == 2;
}

static void say_hello(struct sim *sim, struct sim_worker *w)
{
    struct gw_msg m = {.type = GW_MSG_HELLO};
    struct gw_msg_hello *h = &m.hello;
    h->proto = w->proto;
    memcpy(h->worker, w->name, sizeof h->worker);
    memcpy(h->instance, w->instance, sizeof h->instance);
    snprintf(h->profile, sizeof h->profile, "sim-%u", w->profile);
    h->max_term = w->max_term;
    h->pid = w->pid;
    h->vocab = SIM_VOCAB;
    h->context = SIM_CONTEXT;
    h->kv_tokens = w->proto == 1 ? 1 << 16 : 0;
    h->max_sequences = 16;
    snprintf(h->data, sizeof h->data, "10.0.0.%u:7000", w->slot);
    snprintf(h->device, sizeof h->device, "%s", is_slow(sim, w) ? "slow" : "fast");
    h->memory_bytes = sim_planner_memory(sim);
    h->bytes_s = is_slow(sim, w) ? 20000000000 : 50000000000;
    h->flop_s = h->bytes_s * 10;
    h->holds = w->holds;
    if (w->proto > 2) sim_kv_address(w, h->pages);
    h->store_bytes = sim_stores_bytes(w);
    sim_worker_send(sim, w, &m);
}

static void on_connect(struct sim *sim, struct sim_worker *w)
{
    struct sim_link *l = sim_link_open(sim, w);
    w->link = l->id;
    w->heard_us = sim->now_us;
    sim_queue_push(sim, (struct sim_event){.at_us = sim->now_us + WELCOME_TIMEOUT_US,
                                           .type = SIM_WORKER_BEAT,
                                           .slot = w->slot,
                                           .life = w->life,
                                           .link = l->id});
    sim_trace(sim, "w%u %s connects by link %llu", w->slot, w->name, (unsigned long long)l->id);
    say_hello(sim, w);
}

static void reconnect(struct sim *sim, struct sim_worker *w)
{
    sim_rank_forget(w);
    w->link = 0;
    w->welcome = false;
    sim_worker_later(sim, w, SIM_WORKER_CONNECT, sim_between(sim, 20, 500) * GW_US_PER_MS);
}

/* A handshake that takes too long is begun again. */
static void check_welcome(struct sim *sim, struct sim_worker *w, uint64_t link)
{
    if (w->link != link || w->welcome) return;
    sim_link_find(sim, link)->healthy = false;
    sim_link_close_by_worker(sim, sim_link_find(sim, link));
    reconnect(sim, w);
}

static void on_beat(struct sim *sim, struct sim_worker *w)
{
    struct gw_msg m = sim_worker_message(w, NULL, GW_MSG_HEARTBEAT);
    struct sim_link *l = link_of(sim, w);
    if (!l || !w->welcome) return;
    if (sim->now_us - w->heard_us > w->timeout_us) {
        if (l->healthy) sim_fail(sim, "w%u heard nothing from a living controller", w->slot);
        sim_link_close_by_worker(sim, l);
        reconnect(sim, w);
        return;
    }
    m.heartbeat.steps = w->steps;
    m.heartbeat.running = w->jobs_len;
    sim_worker_send(sim, w, &m);
    sim_worker_later(sim, w, SIM_WORKER_BEAT, w->beat_us);
    sim_rank_watch(sim, w);
    bool empty = w->jobs_len == 0 && (w->proto == 1 || w->serving.generation == 0 || w->serving.self == 0);
    if (w->leaves && empty) leave(sim, w);
}

static void on_step(struct sim *sim, struct sim_worker *w)
{
    sim_worker_later(sim, w, SIM_WORKER_STEP, w->step_us);
    if (w->jobs_len > 0 && sim_rank_can_step(sim, w)) sim_jobs_step(sim, w);
}

/* ---- frames ---- */

static void on_welcome(struct sim *sim, struct sim_worker *w, const struct gw_msg *m)
{
    w->welcome = true;
    w->term = w->max_term = m->term;
    w->beat_us = m->welcome.heartbeat_ms * GW_US_PER_MS;
    w->timeout_us = m->welcome.controller_timeout_ms * GW_US_PER_MS;
    if (w->proto == 1) sim_rank_on_welcome(sim, w, m);
    sim_worker_later(sim, w, SIM_WORKER_BEAT, w->beat_us);
}

/* What is for a leader: of a pipeline that it has left (BROKEN is under way) it means nothing. */
static void on_leader_frame(struct sim *sim, struct sim_worker *w, struct gw_msg *m)
{
    bool serving = m->generation == w->serving.generation;
    const struct sim_role *role = serving ? &w->serving : &w->prepared;
    if (m->generation != role->generation) return;
    if (role->self != 0) {
        sim_fail(sim, "w%u was sent a %s and does not lead", w->slot, gw_msg_name(m->type));
        return;
    }
    if (m->type == GW_MSG_WARM) sim_kv_warm(sim, w, m);
    if (m->type == GW_MSG_CANCEL) sim_kv_cancel(w, &m->cancel);
    if (serving && m->type == GW_MSG_SUBMIT) sim_jobs_submit(sim, w, m);
    if (serving && m->type == GW_MSG_CANCEL) sim_jobs_cancel(w, &m->cancel);
    if (serving && m->type == GW_MSG_CUTOVER) sim_jobs_cutover(w, &m->cutover);
}

static void on_msg(struct sim *sim, struct sim_worker *w, struct gw_msg *m)
{
    switch (m->type) {
    case GW_MSG_WELCOME: on_welcome(sim, w, m); break;
    case GW_MSG_SUBMIT:
    case GW_MSG_CANCEL:
    case GW_MSG_WARM:
    case GW_MSG_CUTOVER: on_leader_frame(sim, w, m); break;
    case GW_MSG_ASSIGN: sim_rank_on_assign(sim, w, m); break;
    case GW_MSG_START: sim_rank_on_start(sim, w, m); break;
    case GW_MSG_RELEASE: sim_rank_on_release(w, m); break;
    case GW_MSG_STORES:
    case GW_MSG_ZONES:
    case GW_MSG_PING: break;
    default: sim_fail(sim, "a worker was sent a %s", gw_msg_name(m->type));
    }
}

static void on_frame(struct sim *sim, struct sim_worker *w, const struct sim_event *e)
{
    struct gw_msg m;
    if (gw_msg_decode(&e->frame, &m, NULL) != GW_OK) {
        sim_fail(sim, "a %s does not decode", gw_msg_name(e->frame.type));
        return;
    }
    if (m.type != GW_MSG_PING)
        sim_trace(sim, "w%u     <- %s gen %llu", w->slot, gw_msg_name(m.type),
                  (unsigned long long)m.generation);
    w->heard_us = sim->now_us;
    on_msg(sim, w, &m);
    gw_msg_fini(&m);
}

/* ---- events ---- */

bool sim_worker_frozen(const struct sim *sim, const struct sim_worker *w)
{
    return w->alive && w->frozen_until_us > sim->now_us;
}

static void on_down(struct sim *sim, struct sim_worker *w, const struct sim_event *e)
{
    struct sim_link *l = sim_link_find(sim, e->link);
    l->worker_open = false;
    if (w->link != e->link) return;
    sim_trace(sim, "w%u     <- link %llu down", w->slot, (unsigned long long)e->link);
    reconnect(sim, w);
}

void sim_on_worker_event(struct sim *sim, const struct sim_event *e)
{
    struct sim_worker *w = &sim->workers[e->slot];
    if (e->life != w->life) return;
    if (e->type == SIM_WORKER_START) {
        sim_worker_start(sim, e->slot, sim_chance(sim, 2));
        return;
    }
    if (!w->alive) return;
    switch (e->type) {
    case SIM_WORKER_CONNECT: on_connect(sim, w); break;
    case SIM_WORKER_STEP: on_step(sim, w); break;
    case SIM_WORKER_PREPARE: sim_rank_prepare(sim, w, e->generation); break;
    case SIM_WORKER_COPIED: sim_kv_copied(sim, w, e); break;
    case SIM_WORKER_BEAT:
        if (e->link != 0)
            check_welcome(sim, w, e->link);
        else
            on_beat(sim, w);
        break;
    case SIM_FRAME_TO_WORKER:
        if (e->link != 0 && e->link == w->link) on_frame(sim, w, e);
        break;
    default: on_down(sim, w, e);
    }
}
