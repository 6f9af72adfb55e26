#include "tests/sim/sim.h"

#include <string.h>

#define LOOK_MIN_MS 5 /* between two looks at what is prepared */
#define LOOK_MAX_MS 30
#define FIND_MIN_MS 300 /* until a peer that is not there is given up */
#define FIND_MAX_MS 2500
#define LOAD_MAX_MS 150 /* per cell that is not there */

enum peers { PEERS_HERE, PEERS_STUCK, PEERS_GONE };

/* ---- peers ---- */

static bool reachable(const struct sim *sim, const struct sim_worker *w)
{
    return w->unreachable_until_us <= sim->now_us;
}

/* What a peer shows of generation to others of its pipeline: GONE if it is not, or no longer, in it. */
static enum peers peer_state(const struct sim *sim, const struct sim_role *role, uint32_t i)
{
    if (role->slots[i] == SIM_NEVER) return PEERS_GONE;
    const struct sim_worker *p = &sim->workers[role->slots[i]];
    bool serves = p->serving.generation == role->generation;
    if (!p->alive || p->life != role->lives[i]) return PEERS_GONE;
    if (!reachable(sim, p) || sim_worker_frozen(sim, p)) return PEERS_STUCK;
    if (!serves && p->prepared.generation != role->generation) return PEERS_GONE;
    return serves == role->started ? PEERS_HERE : PEERS_STUCK;
}

static enum peers peers_state(const struct sim *sim, const struct sim_worker *w, const struct sim_role *role)
{
    enum peers worst = reachable(sim, w) ? PEERS_HERE : PEERS_STUCK;
    for (uint32_t i = 0; i < role->ranks_len; i++) {
        enum peers state = i == role->self ? PEERS_HERE : peer_state(sim, role, i);
        if (state > worst) worst = state;
    }
    return worst;
}

/* ---- the end ---- */

static void drop(struct sim_worker *w, struct sim_role *role)
{
    if (role == &w->serving) sim_jobs_clear(w);
    if (role->generation != 0) sim_kv_forget(w, role->generation);
    memset(role, 0, sizeof *role);
}

void sim_rank_forget(struct sim_worker *w)
{
    drop(w, &w->serving);
    drop(w, &w->prepared);
}

static void say_broken(struct sim *sim, struct sim_worker *w, struct sim_role *role, const char *why)
{
    struct gw_msg m = sim_worker_message(w, role, GW_MSG_BROKEN);
    m.broken = (struct gw_msg_broken){.rank = GW_RANK_NONE, .code = GW_ERR_IO};
    strncpy(m.broken.text, why, sizeof m.broken.text - 1);
    sim_trace(sim, "w%u says that generation %llu is broken: %s", w->slot,
              (unsigned long long)role->generation, why);
    sim_worker_send(sim, w, &m);
    drop(w, role);
}

void sim_rank_on_release(struct sim_worker *w, const struct gw_msg *m)
{
    if (m->generation == w->prepared.generation) drop(w, &w->prepared);
    if (m->generation == w->serving.generation) drop(w, &w->serving);
}

/* ---- preparing ---- */

static uint32_t slot_named(const struct sim *sim, const char *name)
{
    for (uint32_t i = 0; i < sim->slots; i++)
        if (sim->workers[i].alive && strcmp(sim->workers[i].name, name) == 0) return i;
    return SIM_NEVER;
}

static uint32_t missing_cells(const struct sim_worker *w, struct gw_cell_rect r)
{
    struct gw_cell_rect kept = gw_rect_meet(w->holds, r);
    return (uint32_t)(gw_rect_cells(r) - gw_rect_cells(kept));
}

static void look_later(struct sim *sim, const struct sim_worker *w)
{
    sim_queue_push(sim, (struct sim_event){.at_us = sim->now_us +
                                                    sim_between(sim, LOOK_MIN_MS, LOOK_MAX_MS) * GW_US_PER_MS,
                                           .type = SIM_WORKER_PREPARE,
                                           .slot = w->slot,
                                           .life = w->life,
                                           .generation = w->prepared.generation});
}

static void draw_fate(struct sim *sim, const struct sim_worker *w, struct sim_role *role)
{
    bool troubled = sim->now_us < sim->faults_end_us;
    int64_t load_ms = missing_cells(w, role->cells) * sim_between(sim, 1, LOAD_MAX_MS) / 4;
    role->loaded_us = sim->now_us + load_ms * GW_US_PER_MS;
    role->find_until_us = role->loaded_us + sim_between(sim, FIND_MIN_MS, FIND_MAX_MS) * GW_US_PER_MS;
    role->fails = troubled && sim_chance(sim, 40);
    role->hangs = troubled && sim_chance(sim, 25);
}

void sim_rank_on_assign(struct sim *sim, struct sim_worker *w, const struct gw_msg *m)
{
    const struct gw_msg_assign *a = &m->assign;
    struct sim_role *role = &w->prepared;
    if (strcmp(a->ranks[a->self].worker, w->name) != 0) {
        sim_fail(sim, "w%u is assigned what another worker should be", w->slot);
        return;
    }
    drop(w, role);
    role->generation = m->generation;
    role->pipeline = m->pipeline;
    role->self = a->self;
    role->ranks_len = a->ranks_len;
    role->cells = a->ranks[a->self].cells;
    for (uint32_t i = 0; i < a->ranks_len; i++) {
        role->slots[i] = slot_named(sim, a->ranks[i].worker);
        role->rects[i] = a->ranks[i].cells;
        if (role->slots[i] != SIM_NEVER) role->lives[i] = sim->workers[role->slots[i]].life;
    }
    draw_fate(sim, w, role);
    look_later(sim, w);
}

static void say_ready(struct sim *sim, struct sim_worker *w, struct sim_role *role)
{
    struct gw_msg m = sim_worker_message(w, role, GW_MSG_READY);
    uint32_t missing = missing_cells(w, role->cells);
    m.ready = (struct gw_msg_ready){.kv_tokens = sim->kv_tokens,
                                    .context = SIM_CONTEXT,
                                    .max_sequences = 16,
                                    .loaded_bytes = missing * 1000ull,
                                    .after_start = w->serving.generation != 0 && sim_chance(sim, 4)};
    role->ready = true;
    if (w->serving.generation == 0) w->holds = role->cells;
    sim_worker_send(sim, w, &m);
    if (sim_chance(sim, 20)) sim_worker_send(sim, w, &m); /* says it twice */
}

void sim_rank_prepare(struct sim *sim, struct sim_worker *w, uint64_t generation)
{
    struct sim_role *role = &w->prepared;
    if (role->generation != generation || role->ready || role->hangs) return;
    look_later(sim, w);
    if (sim->now_us < role->loaded_us) return;
    enum peers peers = peers_state(sim, w, role);
    if (role->fails)
        say_broken(sim, w, role, "a shard of the weights is damaged");
    else if (peers == PEERS_HERE)
        say_ready(sim, w, role);
    else if (sim->now_us > role->find_until_us)
        say_broken(sim, w, role, "a peer cannot be found");
}

/* ---- serving ---- */

void sim_rank_on_welcome(struct sim *sim, struct sim_worker *w, const struct gw_msg *m)
{
    struct gw_cell_rect all = {0, (uint16_t)sim->config.groups, 0, (uint16_t)sim->config.shares};
    w->serving = (struct sim_role){.generation = m->generation,
                                   .pipeline = m->pipeline,
                                   .ranks_len = 1,
                                   .slots = {w->slot},
                                   .lives = {w->life},
                                   .rects = {all},
                                   .started = true};
}

void sim_rank_on_start(struct sim *sim, struct sim_worker *w, const struct gw_msg *m)
{
    if (m->generation != w->prepared.generation) return; /* it has said BROKEN */
    if (!w->prepared.ready) sim_fail(sim, "w%u shall start what it has not prepared", w->slot);
    if (w->jobs_len > 0) sim_fail(sim, "w%u shall start and still has requests", w->slot);
    drop(w, &w->serving);
    w->serving = w->prepared;
    w->serving.started = true;
    w->serving.stuck_us = 0;
    w->holds = w->serving.cells;
    memset(&w->prepared, 0, sizeof w->prepared);
}

bool sim_rank_can_step(struct sim *sim, struct sim_worker *w)
{
    struct sim_role *role = &w->serving;
    enum peers peers = peers_state(sim, w, role);
    if (w->proto == 1) return true;
    if (peers == PEERS_HERE) {
        role->stuck_us = 0;
        return true;
    }
    if (role->stuck_us == 0) role->stuck_us = sim->now_us;
    if (peers == PEERS_GONE)
        say_broken(sim, w, role, "a peer is gone");
    else if (sim->now_us - role->stuck_us > w->step_deadline_us)
        say_broken(sim, w, role, "a step took too long");
    return false;
}

void sim_rank_watch(struct sim *sim, struct sim_worker *w)
{
    struct sim_role *roles[] = {&w->serving, &w->prepared};
    for (size_t i = 0; i < 2 && w->proto > 1; i++) {
        if (roles[i]->generation == 0 || (i == 1 && !roles[i]->ready)) continue;
        if (peers_state(sim, w, roles[i]) == PEERS_GONE) say_broken(sim, w, roles[i], "a peer has left");
    }
}
