#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#define LATENCY_MIN_US 50   /* a LAN */
#define LATENCY_MAX_US 3000 /* with a queue now and then */

struct sim_link *sim_link_find(struct sim *sim, uint64_t id)
{
    return id >= 1 && id <= sim->links_len ? &sim->links[id - 1] : NULL;
}

struct sim_link *sim_link_open(struct sim *sim, struct sim_worker *w)
{
    if (sim->links_len == sim->links_cap) {
        sim->links_cap = sim->links_cap ? sim->links_cap * 2 : 64;
        sim->links = realloc(sim->links, sim->links_cap * sizeof *sim->links);
        if (!sim->links) abort();
    }
    struct sim_link *l = &sim->links[sim->links_len++];
    *l = (struct sim_link){.id = sim->links_len,
                           .slot = w->slot,
                           .life = w->life,
                           .proto = w->proto,
                           .profile = w->profile,
                           .core_open = true,
                           .worker_open = true,
                           .healthy = true,
                           .heard_us = sim->now_us,
                           .quiet_us = sim->now_us};
    memcpy(l->worker, w->name, sizeof l->worker);
    return l;
}

/* Arrival time of what is sent now: random, but never before what was sent earlier. */
static int64_t arrival(struct sim *sim, int64_t *last_us)
{
    int64_t at_us = sim->now_us + sim_between(sim, LATENCY_MIN_US, LATENCY_MAX_US);
    if (at_us < *last_us) at_us = *last_us;
    *last_us = at_us;
    return at_us;
}

static void send_frame(struct sim *sim, struct sim_link *l, const struct gw_msg *m, enum sim_event_type type)
{
    struct gw_buf b;
    gw_buf_init(&b, GW_FRAME_PAYLOAD_MAX);
    gw_msg_encode(m, &b);
    if (b.err != GW_OK) abort();
    struct sim_event e = {.type = type, .link = l->id, .slot = l->slot, .life = l->life};
    e.at_us = arrival(sim, type == SIM_FRAME_TO_CORE ? &l->to_core_us : &l->to_worker_us);
    e.frame = (struct gw_frame){.type = (uint16_t)m->type,
                                .len = (uint32_t)b.len,
                                .term = m->term,
                                .pipeline = m->pipeline,
                                .generation = m->generation,
                                .payload = b.data};
    sim_queue_push(sim, e);
    sim->frames++;
}

void sim_net_to_core(struct sim *sim, struct sim_link *l, const struct gw_msg *m)
{
    if (l->worker_open && !l->cut) send_frame(sim, l, m, SIM_FRAME_TO_CORE);
}

void sim_net_to_worker(struct sim *sim, struct sim_link *l, const struct gw_msg *m)
{
    if (l->core_open && !l->cut) send_frame(sim, l, m, SIM_FRAME_TO_WORKER);
}

static void send_down(struct sim *sim, struct sim_link *l, enum sim_event_type type)
{
    struct sim_event e = {.type = type, .link = l->id, .slot = l->slot, .life = l->life};
    e.at_us = arrival(sim, type == SIM_DOWN_TO_CORE ? &l->to_core_us : &l->to_worker_us);
    sim_queue_push(sim, e);
}

void sim_link_close_by_worker(struct sim *sim, struct sim_link *l)
{
    if (!l->worker_open) return;
    l->worker_open = false;
    l->healthy = false;
    if (!l->cut) send_down(sim, l, SIM_DOWN_TO_CORE);
}

void sim_link_close_by_core(struct sim *sim, struct sim_link *l)
{
    if (!l->core_open) return;
    l->core_open = false;
    if (!l->cut) send_down(sim, l, SIM_DOWN_TO_WORKER);
}

/* Frames in flight on l that would arrive after at_us in that direction never do. */
static void lose_suffix(struct sim *sim, const struct sim_link *l, enum sim_event_type type, int64_t at_us)
{
    for (size_t i = 0; i < sim->queue_len; i++) {
        struct sim_event *e = &sim->queue[i];
        if (e->type == type && e->link == l->id && e->at_us > at_us) e->link = 0;
    }
}

void sim_link_cut(struct sim *sim, struct sim_link *l, bool tell_core, bool tell_worker)
{
    if (l->cut) return;
    l->cut = true;
    l->healthy = false;
    lose_suffix(sim, l, SIM_FRAME_TO_CORE, sim->now_us + sim_between(sim, 0, LATENCY_MAX_US));
    lose_suffix(sim, l, SIM_FRAME_TO_WORKER, sim->now_us + sim_between(sim, 0, LATENCY_MAX_US));
    if (tell_core) send_down(sim, l, SIM_DOWN_TO_CORE);
    if (tell_worker) send_down(sim, l, SIM_DOWN_TO_WORKER);
}

void sim_on_frame_to_core(struct sim *sim, const struct sim_event *e)
{
    struct gw_msg m;
    struct sim_link *l = sim_link_find(sim, e->link);
    if (!l) return;
    /* The links drop what comes after a close; the core promises not to mind if they did not. */
    if (!l->core_open && !(l->welcomed && sim_chance(sim, 4))) return;
    if (gw_msg_decode(&e->frame, &m, NULL) != GW_OK) {
        sim_fail(sim, "a %s does not decode", gw_msg_name(e->frame.type));
        return;
    }
    struct gw_event event = {.type = m.type == GW_MSG_HELLO ? GW_EV_HELLO : GW_EV_MSG,
                             .link = {.link = l->id, .msg = &m}};
    if (m.type != GW_MSG_HEARTBEAT)
        sim_trace(sim, "core   <- w%u link %llu %s gen %llu", l->slot, (unsigned long long)l->id,
                  gw_msg_name(m.type), (unsigned long long)m.generation);
    bool diverges = sim_check_diverges(sim, &m, l);
    if (l->core_open) sim_check_frame(sim, &m, l);
    sim_step(sim, &event);
    if (diverges && l->core_open) sim_fail(sim, "a worker whose records differ from the log was kept");
    gw_msg_fini(&m);
}

void sim_on_down_to_core(struct sim *sim, const struct sim_event *e)
{
    struct sim_link *l = sim_link_find(sim, e->link);
    if (!l || !l->core_open) return;
    l->core_open = false;
    sim_trace(sim, "core   <- w%u link %llu down", l->slot, (unsigned long long)l->id);
    sim_check_link_gone(sim, l);
    struct gw_event event = {.type = GW_EV_LINK_DOWN, .link = {.link = l->id}};
    sim_step(sim, &event);
}
