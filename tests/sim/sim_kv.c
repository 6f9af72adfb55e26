#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A worker's pages of one request are the positions [0, tokens) of the cells that it had when they were computed or
 * copied: names would say no more here. They outlive pipelines, not the process. */
#define BLOCK_TOKENS 16
#define COPY_MIN_MS  2 /* WARM to WARMED */
#define COPY_MAX_MS  400
#define SLOW_MIN_MS  500 /* the same of a slow peer */
#define SLOW_MAX_MS  12000

struct sim_copy {
    struct sim_copy *next;
    uint64_t generation;
    struct gw_msg warm; /* owned */
};

static uint32_t sealed(uint32_t tokens)
{
    return tokens / BLOCK_TOKENS * BLOCK_TOKENS;
}

static bool covers(struct gw_cell_rect r, uint32_t group, uint32_t share)
{
    return group >= r.g0 && group < r.g1 && share >= r.s0 && share < r.s1;
}

void sim_kv_address(const struct sim_worker *w, char out[GW_WIRE_NAME_MAX + 1])
{
    snprintf(out, GW_WIRE_NAME_MAX + 1, "10.0.%u.%u:9000", w->slot, w->life);
}

bool sim_kv_parse(const char *address, uint32_t *slot, uint32_t *life)
{
    return sscanf(address, "10.0.%u.%u:9000", slot, life) == 2 && *slot < SIM_WORKERS_MAX;
}

/* Rank i of role, if its process is still the one that it was. */
static struct sim_worker *rank_process(struct sim *sim, const struct sim_role *role, uint32_t i)
{
    struct sim_worker *w = role->slots[i] == SIM_NEVER ? NULL : &sim->workers[role->slots[i]];
    return w && w->alive && w->life == role->lives[i] ? w : NULL;
}

static struct sim_pages *pages_of(struct sim_worker *w, uint64_t request)
{
    return &w->pages[request - 1];
}

/* Positions that w can give of one cell. */
static uint32_t has(struct sim_worker *w, uint64_t request, uint32_t group, uint32_t share)
{
    const struct sim_pages *p = pages_of(w, request);
    return covers(p->cells, group, share) ? p->tokens : 0;
}

static uint32_t holders_have(struct sim *sim, const struct gw_msg_submit *s, uint32_t group, uint32_t share)
{
    uint32_t most = 0, slot, life;
    for (uint32_t i = 0; i < s->holders_len; i++) {
        if (!sim_kv_parse(s->holders[i].pages, &slot, &life)) continue;
        struct sim_worker *w = &sim->workers[slot];
        bool answers = w->alive && w->life == life && !sim_worker_frozen(sim, w) &&
                       w->unreachable_until_us <= sim->now_us;
        uint32_t tokens = answers ? has(w, s->request.id, group, share) : 0;
        if (tokens > most) most = tokens;
    }
    return most;
}

/* Positions of s that the ranks of role have (*own), and that they have or the holders do (*all), in every cell. */
static void look(struct sim *sim, const struct sim_role *role, const struct gw_msg_submit *s, uint32_t *own,
                 uint32_t *all)
{
    *own = *all = UINT32_MAX;
    for (uint32_t i = 0; i < role->ranks_len; i++) {
        struct sim_worker *w = rank_process(sim, role, i);
        struct gw_cell_rect r = role->rects[i];
        for (uint32_t g = r.g0; g < r.g1; g++)
            for (uint32_t c = r.s0; c < r.s1; c++) {
                uint32_t mine = w ? has(w, s->request.id, g, c) : 0, theirs = holders_have(sim, s, g, c);
                if (mine < *own) *own = mine;
                if (theirs < mine) theirs = mine;
                if (theirs < *all) *all = theirs;
            }
    }
}

void sim_kv_keep(struct sim *sim, const struct sim_role *role, uint64_t request, uint32_t tokens)
{
    for (uint32_t i = 0; i < role->ranks_len; i++) {
        struct sim_worker *w = rank_process(sim, role, i);
        struct sim_pages *p = w ? pages_of(w, request) : NULL;
        if (!p) continue;
        if (!gw_rect_equal(p->cells, role->rects[i])) *p = (struct sim_pages){.cells = role->rects[i]};
        if (sealed(tokens) > p->tokens) p->tokens = sealed(tokens);
    }
}

/* ---- SUBMIT ---- */

uint32_t sim_kv_submit(struct sim *sim, const struct sim_role *role, const struct gw_msg_submit *s,
                       struct gw_msg_origin *origin)
{
    uint32_t own, all, first = s->request.prompt_len + s->logs[0].len, total = s->request.prompt_len;
    for (uint32_t b = 0; b < s->request.n; b++) total += s->logs[b].len;
    look(sim, role, s, &own, &all);
    if (own > first) own = first;
    if (all > first) all = first;
    uint32_t stored = sim->stored[s->request.id - 1];
    if (stored > first) stored = first; /* more was computed than the log has */
    stored = stored > all ? stored - all : 0;
    sim_kv_keep(sim, role, s->request.id, all + stored);
    *origin = (struct gw_msg_origin){s->request.id, s->attempt, total, own, all - own, stored};
    return total - all - stored;
}

/* What is computed is stored now and then, by who has a store. */
void sim_kv_computed(struct sim *sim, const struct sim_role *role, uint64_t request, uint32_t tokens)
{
    uint32_t *stored = &sim->stored[request - 1];
    sim_kv_keep(sim, role, request, tokens);
    if (sim->stores && sim_chance(sim, 8) && sealed(tokens) > *stored) *stored = sealed(tokens);
}

/* ---- WARM ---- */

static struct sim_copy **find_copy(struct sim_worker *w, uint64_t request, uint32_t attempt)
{
    struct sim_copy **at = &w->copies;
    while (*at && ((*at)->warm.submit.request.id != request || (*at)->warm.submit.attempt != attempt))
        at = &(*at)->next;
    return at;
}

static void remove_copy(struct sim_copy **at)
{
    struct sim_copy *c = *at;
    *at = c->next;
    gw_msg_fini(&c->warm);
    free(c);
}

void sim_kv_forget(struct sim_worker *w, uint64_t generation)
{
    for (struct sim_copy **at = &w->copies; *at;)
        if (generation == 0 || (*at)->generation == generation)
            remove_copy(at);
        else
            at = &(*at)->next;
}

void sim_kv_warm(struct sim *sim, struct sim_worker *w, struct gw_msg *m)
{
    uint64_t request = m->warm.request.id;
    if (*find_copy(w, request, m->warm.attempt)) {
        sim_fail(sim, "w%u shall copy request %llu, and does already", w->slot, (unsigned long long)request);
        return;
    }
    struct sim_copy *c = sim_alloc(1, sizeof *c);
    *c = (struct sim_copy){.next = w->copies, .generation = m->generation, .warm = *m};
    w->copies = c;
    memset(m, 0, sizeof *m);
    int64_t took_ms = sim_chance(sim, 8) ? sim_between(sim, SLOW_MIN_MS, SLOW_MAX_MS)
                                         : sim_between(sim, COPY_MIN_MS, COPY_MAX_MS);
    sim_queue_push(sim, (struct sim_event){.at_us = sim->now_us + took_ms * GW_US_PER_MS,
                                           .type = SIM_WORKER_COPIED,
                                           .slot = w->slot,
                                           .life = w->life,
                                           .generation = c->generation,
                                           .request = (uint32_t)request,
                                           .branch = c->warm.warm.attempt});
}

void sim_kv_cancel(struct sim_worker *w, const struct gw_msg_cancel *c)
{
    struct sim_copy **at = find_copy(w, c->request, c->attempt);
    if (*at) remove_copy(at);
}

/* The attempt that was copied for begins: a WARMED would come too late. */
void sim_kv_begin(struct sim_worker *w, uint64_t request)
{
    for (struct sim_copy **at = &w->copies; *at;)
        if ((*at)->warm.submit.request.id == request)
            remove_copy(at);
        else
            at = &(*at)->next;
}

void sim_kv_copied(struct sim *sim, struct sim_worker *w, const struct sim_event *e)
{
    uint32_t own, all;
    struct sim_copy **at = find_copy(w, e->request, e->branch), *c = *at;
    if (!c || c->generation != e->generation) return;
    const struct sim_role *role = w->serving.generation == c->generation ? &w->serving : &w->prepared;
    if (role->generation != c->generation) return;
    look(sim, role, &c->warm.submit, &own, &all);
    sim_kv_keep(sim, role, e->request, all);
    struct gw_msg m = sim_worker_message(w, role, GW_MSG_WARMED);
    m.warmed = (struct gw_msg_warmed){e->request, e->branch, all};
    remove_copy(at);
    if (!w->forgets || sim_chance(sim, 2)) sim_worker_send(sim, w, &m);
}
