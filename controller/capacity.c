#include "controller/capacity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "controller/capacity_intent.h"
#include "controller/capacity_internal.h"

/* A lost instance's successor serves after so long: it boots, fetches the package, loads weights. */
#define REPLACE_S 180

static int64_t us_of(double s)
{
    return (int64_t)(s * (double)GW_US_PER_S);
}

/* ---- steps --------------------------------------------------------------------------------------------- */

static void step(struct gw_capacities *c, const struct gw_capacity_event *e)
{
    struct gw_capacity_action actions[GW_CAPACITY_ACTIONS_MAX];
    size_t len;
    gw_capacity_step(c->decisions, capacity_now(c), e);
    const struct gw_capacity_action *list = gw_capacity_actions(c->decisions, &len);
    memcpy(actions, list, len * sizeof *actions);
    for (size_t i = 0; i < len; i++) capacity_carry(c, &actions[i]);
}

void capacity_feed(struct gw_capacities *c, const struct gw_capacity_event *e)
{
    if (c->stopped || c->events_len == CAPACITY_EVENTS_MAX) return; /* a tick comes each second */
    c->events[c->events_len++] = *e;
    if (c->feeding) return;
    c->feeding = true;
    for (size_t i = 0; i < c->events_len; i++) {
        struct gw_capacity_event next = c->events[i];
        step(c, &next);
    }
    c->events_len = 0;
    c->feeding = false;
}

/* ---- what the load needs ------------------------------------------------------------------------------- */

static void need_work(void *arg)
{
    struct gw_capacities *c = arg;
    gw_capacity_need_run(c->need_job); /* set before it was submitted, cleared after this has returned */
}

static void need_done(void *arg, bool skipped)
{
    struct gw_capacities *c = arg;
    struct gw_capacity_need *n = c->need_job;
    c->need_job = NULL;
    if (!skipped && n->err == GW_OK) c->need = n->instances;
    gw_capacity_need_destroy(n);
}

static gw_err_t begin_need(struct gw_capacities *c)
{
    const struct gw_preemptions preemptions = {.per_instance_h = gw_churn_per_instance_h(&c->churn),
                                               .replace_s = REPLACE_S};
    struct gw_layout_job *seen;
    TRY(gw_layouts_look(c->config.layouts, &seen));
    gw_err_t err = gw_capacity_need_create(seen, &preemptions, &c->need_job);
    if (err != GW_OK) {
        gw_layout_job_destroy(seen);
        return err;
    }
    err = gw_pool_submit(c->config.pool, (struct gw_job){.work = need_work, .done = need_done, .arg = c});
    if (err == GW_OK) return GW_OK;
    gw_capacity_need_destroy(c->need_job);
    c->need_job = NULL;
    return err;
}

/* Without memory it is looked at later. */
static void look_at_need(struct gw_capacities *c, int64_t now_us)
{
    if (c->need_job || now_us < c->need_due_us) return;
    c->need_due_us = now_us + GW_CAPACITY_NEED_US;
    if (begin_need(c) != GW_OK)
        gw_logf(c->config.log, GW_LOG_WARN, "capacity: no memory to look at the load");
}

/* ---- the wish ------------------------------------------------------------------------------------------ */

/* The wish begins at what is there: nothing shrinks before the load has been seen to need less. */
static bool settle(struct gw_capacities *c, int64_t now_us)
{
    if (c->settled) return true;
    for (int g = 0; g < GW_CAPACITY_GROUPS; g++)
        if (!c->groups[g].seen_once) return false;
    if (now_us - c->begun_us < us_of(c->config.options->settle_s)) return false;
    c->wish.steady = c->groups[GW_CAPACITY_SPOT].seen.desired;
    c->settled = true;
    return true;
}

static void wish(struct gw_capacities *c, int64_t now_us, const struct gw_capacity_fleet *fleet)
{
    struct gw_core_stats stats;
    struct gw_capacity_demand d = {.need = c->need};
    gw_core_stats(c->config.core, &stats);
    gw_capacity_fleet_count(fleet, &d.serving, &d.leaving);
    d.queued = stats.queued;
    gw_churn_pass(&c->churn, now_us, d.serving + d.leaving);
    if (!settle(c, now_us)) return;
    c->wished = gw_capacity_wish_step(&c->wish, now_us, &d);
    const struct gw_capacity_event e = {.type = GW_CAPACITY_EV_WISH, .count = c->wished};
    capacity_feed(c, &e);
}

/* ---- time ---------------------------------------------------------------------------------------------- */

/* A group that is not there is empty. */
static void describe_absent(struct gw_capacities *c)
{
    for (int i = 0; i < GW_CAPACITY_GROUPS; i++) {
        struct capacity_group *g = &c->groups[i];
        if (!g->read_due) continue;
        g->read_due = false;
        g->seen_once = true;
        capacity_feed(c, &(struct gw_capacity_event){.type = GW_CAPACITY_EV_GROUP,
                                                     .group = (enum gw_capacity_group)i,
                                                     .seen = &g->seen});
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct gw_capacities *c = arg;
    struct gw_capacity_fleet fleet;
    const struct gw_capacity_event tick = {.type = GW_CAPACITY_EV_TICK};
    int64_t now_us = capacity_now(c);
    describe_absent(c);
    look_at_need(c, now_us);
    capacity_ask_prices(c, now_us);
    if (gw_capacity_fleet_read(c->config.core, &fleet) == GW_OK) {
        capacity_look_at_drains(c, &fleet);
        wish(c, now_us, &fleet);
        gw_capacity_fleet_fini(&fleet);
    }
    capacity_feed(c, &tick);
}

/* ---- what it hears ------------------------------------------------------------------------------------- */

void gw_capacities_restore(struct gw_capacities *c, uint64_t entry, const void *piece, size_t len)
{
    struct gw_capacity_action a;
    c->config.end(c->config.arg, entry);
    if (gw_capacity_intent_get(piece, len, &a) != GW_OK) {
        gw_logf(c->config.log, GW_LOG_WARN, "capacity: the journal holds an intent that cannot be read");
        return;
    }
    if (a.type == GW_CAPACITY_SET_DESIRED) {
        gw_logf(c->config.log, GW_LOG_INFO, "capacity: %s: size %u was about to be set under term %llu",
                capacity_group_name(a.group), a.desired, (unsigned long long)a.term);
        return;
    }
    gw_logf(c->config.log, GW_LOG_INFO, "capacity: %s: instance %s was about to be deleted under term %llu",
            capacity_group_name(a.group), a.instance, (unsigned long long)a.term);
    const struct gw_event e = {.type = GW_EV_NOTICE,
                               .notice = {.name = a.instance,
                                          .kind = GW_NOTICE_SCALE_IN,
                                          .deadline_us = capacity_now(c) + GW_CAPACITY_RESTORED_US}};
    c->config.post(c->config.arg, &e);
}

void gw_capacities_on_action(struct gw_capacities *c, const struct gw_action *a)
{
    if (a->type != GW_ACT_NOTE || c->draining_now) return;
    if (a->note.kind == GW_NOTE_WORKER_LOST || (a->note.kind == GW_NOTE_WORKER_DOOMED && !a->note.text[0]))
        gw_churn_lost(&c->churn);
}

/* ---- what it shows ------------------------------------------------------------------------------------- */

static void view_group(const struct gw_capacities *c, enum gw_capacity_group which,
                       struct gw_capacity_view_group *out)
{
    const struct capacity_group *g = &c->groups[which];
    const struct gw_capacity_options *o = c->config.options;
    bool spot = which == GW_CAPACITY_SPOT;
    if (!g->name) return;
    snprintf(out->name, sizeof out->name, "%s", g->name);
    out->seen = g->seen_once;
    out->min = (uint32_t)(spot ? o->spot_min : o->on_demand_min);
    out->max = (uint32_t)(spot ? o->spot_max : o->on_demand_max);
    out->target = c->settled ? gw_capacity_target(c->decisions, which) : g->seen.desired;
    out->desired = g->seen.desired;
    out->running = g->seen.running;
    out->live = g->seen.live;
    out->usd_h = g->usd_h;
    out->instances = g->shown;
    out->instances_len = g->shown_len;
}

void gw_capacities_view(const struct gw_capacities *c, struct gw_capacity_view *out)
{
    *out = (struct gw_capacity_view){.on = true,
                                     .dry_run = c->config.options->dry_run,
                                     .cloud = c->config.options->cloud,
                                     .need = c->need,
                                     .need_known = c->need > 0,
                                     .wish = c->wished,
                                     .writes = c->writes,
                                     .deletions = c->deletions,
                                     .failures = c->failures};
    for (int g = 0; g < GW_CAPACITY_GROUPS; g++) {
        view_group(c, (enum gw_capacity_group)g, &out->groups[g]);
        if (c->groups[g].draining[0] && !out->draining[0])
            memcpy(out->draining, c->groups[g].draining, sizeof out->draining);
    }
    memcpy(out->trouble, c->trouble, sizeof out->trouble);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static void configure(const struct gw_capacity_options *o, struct gw_capacity_config *config)
{
    gw_capacity_config_default(config);
    config->min[GW_CAPACITY_SPOT] = (uint32_t)o->spot_min;
    config->max[GW_CAPACITY_SPOT] = (uint32_t)o->spot_max;
    if (o->on_demand_group) {
        config->min[GW_CAPACITY_ON_DEMAND] = (uint32_t)o->on_demand_min;
        config->max[GW_CAPACITY_ON_DEMAND] = (uint32_t)o->on_demand_max;
    }
    config->short_us = us_of(o->short_s);
    config->whole_us = us_of(o->whole_s);
    config->cooldown_us = us_of(o->cooldown_s);
    config->drain_us = us_of(o->drain_s);
    config->read_us = us_of(o->read_s);
    config->dry_run = o->dry_run;
}

static gw_err_t start(struct gw_capacities *c, struct gw_err_ctx *ctx)
{
    const struct gw_capacity_options *o = c->config.options;
    const struct timeval second = {.tv_sec = 1};
    struct gw_capacity_config config;
    configure(o, &config);
    gw_err_t err = gw_capacity_create(&config, &c->decisions);
    if (err == GW_OK) c->tick = event_new(c->config.loop, -1, EV_PERSIST, on_tick, c);
    if (err == GW_OK && (!c->tick || event_add(c->tick, &second) != 0)) err = GW_ERR_MEMORY;
    if (err != GW_OK) return gw_fail(ctx, err, "the groups' sizes cannot be set");
    c->groups[GW_CAPACITY_SPOT].name = o->spot_group;
    c->groups[GW_CAPACITY_SPOT].default_usd_h = o->spot_usd_h;
    c->groups[GW_CAPACITY_ON_DEMAND].name = o->on_demand_group;
    c->groups[GW_CAPACITY_ON_DEMAND].default_usd_h = o->on_demand_usd_h;
    gw_capacity_wish_init(&c->wish, (uint32_t)o->spare, us_of(o->shrink_s));
    c->begun_us = capacity_now(c);
    const struct gw_capacity_event lease = {.type = GW_CAPACITY_EV_LEASE, .term = c->config.term};
    capacity_feed(c, &lease);
    return GW_OK;
}

gw_err_t gw_capacities_create(const struct gw_capacities_config *config, struct gw_capacities **out,
                              struct gw_err_ctx *ctx)
{
    struct gw_capacities *c = calloc(1, sizeof *c);
    if (!c) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    c->config = *config;
    gw_err_t err = start(c, ctx);
    if (err != GW_OK) {
        gw_capacities_destroy(c);
        return err;
    }
    *out = c;
    return GW_OK;
}

void gw_capacities_stop(struct gw_capacities *c)
{
    c->stopped = true;
    event_del(c->tick);
}

void gw_capacities_destroy(struct gw_capacities *c)
{
    if (!c) return;
    if (c->tick) event_free(c->tick);
    if (c->decisions) gw_capacity_destroy(c->decisions);
    free(c->prices.list);
    for (int g = 0; g < GW_CAPACITY_GROUPS; g++) free(c->groups[g].shown);
    free(c);
}
