#include "cloud/capacity.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define READ_DEADLINE_US (70 * GW_US_PER_S) /* behind the call's own (calls.h) */

enum phase { PHASE_IDLE, PHASE_READING, PHASE_DRAINING, PHASE_DRAINED, PHASE_STORING, PHASE_WRITING };

struct group {
    enum phase phase;
    int64_t phase_us;       /* when it began */
    int64_t seen_us;        /* of the description; -1: there is none */
    int64_t quiet_until_us; /* cool-down */
    struct gw_capacity_seen seen;
    bool asked;                      /* PHASE_DRAINED has asked for a description */
    struct gw_capacity_action write; /* what is drained for, stored, written */
};

struct gw_capacity {
    struct gw_capacity_config config;
    struct group groups[GW_CAPACITY_GROUPS];
    uint64_t term; /* 0: the lease is another's */
    uint32_t wish;
    bool wished;
    int64_t short_since_us, whole_since_us; /* -1: it is not */
    bool fallback;
    bool inherited; /* what an earlier holder of the lease had on demand has been looked at */
    uint32_t fallback_count;
    int64_t now_us;
    struct gw_capacity_action actions[GW_CAPACITY_ACTIONS_MAX];
    size_t actions_len;
};

void gw_capacity_config_default(struct gw_capacity_config *c)
{
    *c = (struct gw_capacity_config){.short_us = 120 * GW_US_PER_S,
                                     .whole_us = 600 * GW_US_PER_S,
                                     .fresh_us = 10 * GW_US_PER_S,
                                     .cooldown_us = 30 * GW_US_PER_S,
                                     .drain_us = 600 * GW_US_PER_S,
                                     .read_us = 60 * GW_US_PER_S};
}

/* ---- targets ------------------------------------------------------------------------------------------- */

static uint32_t clamp(const struct gw_capacity *c, enum gw_capacity_group g, uint32_t n)
{
    uint32_t max = c->config.max[g], own = c->groups[g].seen.max;
    if (own && own < max) max = own; /* a size beyond it would be refused again and again */
    if (n < c->config.min[g]) n = c->config.min[g];
    return n > max ? max : n;
}

uint32_t gw_capacity_target(const struct gw_capacity *c, enum gw_capacity_group g)
{
    if (g == GW_CAPACITY_SPOT) return clamp(c, g, c->wish);
    return clamp(c, g, c->fallback ? c->fallback_count : 0);
}

/* How many of the wished-for instances spot does not give, now. */
static uint32_t missing(const struct gw_capacity *c)
{
    uint32_t running = c->groups[GW_CAPACITY_SPOT].seen.running;
    return c->wish > running ? c->wish - running : 0;
}

/* Spot short for long enough: on demand. Whole for long enough: back. In between, things stay as they are. */
static void decide_fallback(struct gw_capacity *c)
{
    uint32_t lack = missing(c);
    if (c->groups[GW_CAPACITY_SPOT].seen_us < 0 || !c->wished) return;
    if (lack > 0) {
        c->whole_since_us = -1;
        if (c->short_since_us < 0) c->short_since_us = c->now_us;
        if (c->now_us - c->short_since_us < c->config.short_us) return;
        c->fallback = true;
        c->fallback_count = lack;
    } else {
        c->short_since_us = -1;
        if (c->whole_since_us < 0) c->whole_since_us = c->now_us;
        if (c->now_us - c->whole_since_us >= c->config.whole_us) c->fallback = false;
    }
}

/* ---- actions ------------------------------------------------------------------------------------------- */

static void act(struct gw_capacity *c, enum gw_capacity_action_type type,
                const struct gw_capacity_action *write)
{
    if (c->actions_len == GW_CAPACITY_ACTIONS_MAX)
        return; /* two groups with one action each never get there */
    struct gw_capacity_action *a = &c->actions[c->actions_len++];
    *a = *write;
    a->type = type;
    a->term = c->term;
}

static void enter(struct gw_capacity *c, struct group *g, enum phase phase)
{
    g->phase = phase;
    g->phase_us = c->now_us;
}

static void read_group(struct gw_capacity *c, enum gw_capacity_group which)
{
    const struct gw_capacity_action read = {.group = which};
    enter(c, &c->groups[which], PHASE_READING);
    act(c, GW_CAPACITY_READ, &read);
}

static bool fresh(const struct gw_capacity *c, const struct group *g)
{
    return g->seen_us >= 0 && c->now_us - g->seen_us <= c->config.fresh_us;
}

/* A size or a deletion follows once its intent is stored. */
static void intend(struct gw_capacity *c, struct group *g)
{
    enter(c, g, PHASE_STORING);
    act(c, GW_CAPACITY_INTENT, &g->write);
}

static void grow(struct gw_capacity *c, enum gw_capacity_group which)
{
    struct group *g = &c->groups[which];
    g->write = (struct gw_capacity_action){.group = which, .desired = gw_capacity_target(c, which)};
    intend(c, g);
}

static void drain(struct gw_capacity *c, enum gw_capacity_group which)
{
    struct group *g = &c->groups[which];
    g->write = (struct gw_capacity_action){.group = which};
    memcpy(g->write.instance, g->seen.victim.id, sizeof g->write.instance);
    memcpy(g->write.handle, g->seen.victim.handle, sizeof g->write.handle);
    enter(c, g, PHASE_DRAINING);
    act(c, GW_CAPACITY_DRAIN, &g->write);
}

/* On demand shrinks only while spot is whole: what it holds up must be carried first. */
static bool may_shrink(const struct gw_capacity *c, enum gw_capacity_group which)
{
    const struct group *g = &c->groups[which];
    uint32_t target = gw_capacity_target(c, which);
    return g->seen.has_victim && g->seen.desired > target && g->seen.desired > c->config.min[which] &&
           g->seen.live > target;
}

static void decide_idle(struct gw_capacity *c, enum gw_capacity_group which)
{
    struct group *g = &c->groups[which];
    bool wants = c->wished && (g->seen.desired < gw_capacity_target(c, which) || may_shrink(c, which));
    bool due = g->seen_us < 0 || c->now_us - g->seen_us >= c->config.read_us;
    if (c->now_us < g->quiet_until_us) return;
    if (due || (wants && !fresh(c, g))) {
        read_group(c, which);
        return;
    }
    if (!wants || c->config.dry_run) return;
    if (g->seen.desired < gw_capacity_target(c, which))
        grow(c, which);
    else
        drain(c, which);
}

/* Who was to go stays. */
static void spare(struct gw_capacity *c, struct group *g)
{
    enter(c, g, PHASE_IDLE);
    act(c, GW_CAPACITY_UNDRAIN, &g->write);
}

/* Drained: is it still to go? The wish may have grown, the group shrunk by itself. */
static void decide_drained(struct gw_capacity *c, enum gw_capacity_group which)
{
    struct group *g = &c->groups[which];
    const struct gw_capacity_action read = {.group = which};
    if (c->now_us - g->phase_us > c->config.drain_us) {
        spare(c, g);
    } else if (!fresh(c, g)) {
        if (!g->asked) act(c, GW_CAPACITY_READ, &read);
        g->asked = true;
    } else if (g->seen.desired > gw_capacity_target(c, which) && g->seen.desired > c->config.min[which]) {
        intend(c, g);
    } else {
        spare(c, g);
    }
}

static void decide_group(struct gw_capacity *c, enum gw_capacity_group which)
{
    struct group *g = &c->groups[which];
    int64_t in_phase_us = c->now_us - g->phase_us;
    if (g->phase == PHASE_READING && in_phase_us > READ_DEADLINE_US) enter(c, g, PHASE_IDLE);
    if (g->phase == PHASE_DRAINING && in_phase_us > c->config.drain_us) spare(c, g);
    if (g->phase == PHASE_IDLE) decide_idle(c, which);
    if (g->phase == PHASE_DRAINED) decide_drained(c, which);
}

/* ---- events -------------------------------------------------------------------------------------------- */

void gw_capacity_look(const struct gw_cloud_answer *a,
                      int (*rank)(void *arg, const struct gw_cloud_instance *instance), void *arg,
                      struct gw_capacity_seen *out)
{
    struct gw_capacity_seen seen = {.max = a->max, .desired = a->desired};
    const struct gw_cloud_instance *victim = NULL;
    int lowest = 0;
    for (size_t i = 0; i < a->instances_len; i++) {
        const struct gw_cloud_instance *in = &a->instances[i];
        seen.running += in->state == GW_CLOUD_RUNNING;
        seen.live += in->state != GW_CLOUD_ENDING;
        if (in->state == GW_CLOUD_ENDING) continue;
        int r = rank ? rank(arg, in) : 0;
        if (victim && r >= lowest) continue;
        victim = in;
        lowest = r;
    }
    seen.has_victim = victim != NULL;
    if (victim) seen.victim = *victim;
    *out = seen;
}

/* What runs on demand when the lease comes makes up for spot until that has been whole for long enough. */
static void inherit(struct gw_capacity *c, const struct gw_capacity_seen *on_demand)
{
    if (c->inherited) return;
    c->inherited = true;
    if (on_demand->desired <= c->config.min[GW_CAPACITY_ON_DEMAND]) return;
    c->fallback = true;
    c->fallback_count = on_demand->desired;
}

static void take_description(struct gw_capacity *c, struct group *g, const struct gw_capacity_seen *seen)
{
    if (g->phase == PHASE_READING) enter(c, g, PHASE_IDLE);
    g->asked = false;
    if (!seen) {
        g->quiet_until_us = c->now_us + c->config.cooldown_us;
        return;
    }
    g->seen_us = c->now_us;
    g->seen = *seen;
    if (g == &c->groups[GW_CAPACITY_ON_DEMAND]) inherit(c, seen);
}

static void write_ended(struct gw_capacity *c, struct group *g, bool failed)
{
    if (g->phase != PHASE_STORING && g->phase != PHASE_WRITING) return;
    enter(c, g, PHASE_IDLE);
    if (failed && g->write.instance[0]) spare(c, g);
    g->seen_us = -1; /* what is there now must be read */
    g->quiet_until_us = c->now_us + c->config.cooldown_us;
}

static void stored(struct gw_capacity *c, struct group *g)
{
    if (g->phase != PHASE_STORING) return;
    enter(c, g, PHASE_WRITING);
    act(c, g->write.instance[0] ? GW_CAPACITY_DELETE : GW_CAPACITY_SET_DESIRED, &g->write);
}

static void drained(struct gw_capacity *c, struct group *g, const char *instance)
{
    if (g->phase != PHASE_DRAINING || strcmp(g->write.instance, instance) != 0) return;
    enter(c, g, PHASE_DRAINED);
    g->asked = false;
}

static void take_lease(struct gw_capacity *c, uint64_t term)
{
    c->term = term;
    for (int g = 0; g < GW_CAPACITY_GROUPS; g++) c->groups[g] = (struct group){.seen_us = -1};
    c->short_since_us = c->whole_since_us = -1;
    c->inherited = false;
}

static void take_event(struct gw_capacity *c, const struct gw_capacity_event *e)
{
    struct group *g = &c->groups[e->group];
    switch (e->type) {
    case GW_CAPACITY_EV_TICK: break;
    case GW_CAPACITY_EV_LEASE: take_lease(c, e->term); break;
    case GW_CAPACITY_EV_WISH:
        c->wish = e->count;
        c->wished = true;
        break;
    case GW_CAPACITY_EV_GROUP: take_description(c, g, e->seen); break;
    case GW_CAPACITY_EV_STORED: stored(c, g); break;
    case GW_CAPACITY_EV_DONE: write_ended(c, g, false); break;
    case GW_CAPACITY_EV_FAILED: write_ended(c, g, true); break;
    case GW_CAPACITY_EV_DRAINED: drained(c, g, e->instance); break;
    }
}

void gw_capacity_step(struct gw_capacity *c, int64_t now_us, const struct gw_capacity_event *e)
{
    c->now_us = now_us;
    c->actions_len = 0;
    if (e->type != GW_CAPACITY_EV_LEASE && e->type != GW_CAPACITY_EV_WISH && c->term == 0) return;
    take_event(c, e);
    if (c->term == 0) return;
    decide_fallback(c);
    for (int g = 0; g < GW_CAPACITY_GROUPS; g++) decide_group(c, (enum gw_capacity_group)g);
}

const struct gw_capacity_action *gw_capacity_actions(const struct gw_capacity *c, size_t *count)
{
    *count = c->actions_len;
    return c->actions;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

gw_err_t gw_capacity_create(const struct gw_capacity_config *config, struct gw_capacity **out)
{
    for (int g = 0; g < GW_CAPACITY_GROUPS; g++)
        if (config->min[g] > config->max[g] || config->max[g] > GW_CLOUD_INSTANCES_MAX) return GW_ERR_INPUT;
    struct gw_capacity *c = calloc(1, sizeof *c);
    if (!c) return GW_ERR_MEMORY;
    c->config = *config;
    take_lease(c, 0);
    *out = c;
    return GW_OK;
}

void gw_capacity_destroy(struct gw_capacity *c)
{
    free(c);
}
