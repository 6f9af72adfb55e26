/* What the decisions' actions do: calls to the cloud, notices to the core, intents to the journal. */
#include "controller/capacity_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/rng.h"
#include "controller/capacity_intent.h"

#define INTENT_BYTES_MAX 1024
/* A drain's notice outlives the decision to drain, to store and to delete: what was drained must not take work again. */
#define NOTICE_FACTOR   2
#define NOTICE_EXTRA_US (300 * GW_US_PER_S)

/* One call on its way; a description goes on to a thread with the fleet and prices of its time. */
struct flight {
    struct gw_capacities *c;
    struct gw_capacity_action action;
    struct gw_cloud_ask ask;
    struct gw_cloud_answer answer; /* a description */
    struct gw_capacity_fleet fleet;
    struct capacity_prices prices;
    struct gw_capacity_seen seen;
    double usd_h, default_usd_h;
    struct gw_capacity_view_instance *shown; /* [shown_len] */
    size_t shown_len;
    const char *prices_file; /* NULL: there is none */
    gw_err_t prices_err;
    struct gw_err_ctx prices_ctx;
    char types[GW_CLOUD_TYPES_MAX][64];
    size_t types_len;
};

static void free_flight(struct flight *f)
{
    gw_cloud_answer_fini(&f->answer);
    gw_capacity_fleet_fini(&f->fleet);
    free(f->prices.list);
    free(f->shown);
    free(f);
}

static struct flight *new_flight(struct gw_capacities *c, const struct gw_capacity_action *a)
{
    struct flight *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    f->c = c;
    f->action = *a;
    f->ask = (struct gw_cloud_ask){.group = c->groups[a->group].name, .desired = a->desired};
    return f;
}

static void tell(struct gw_capacities *c, enum gw_capacity_event_type type, enum gw_capacity_group group)
{
    const struct gw_capacity_event e = {.type = type, .group = group};
    capacity_feed(c, &e);
}

void capacity_complain(struct gw_capacities *c, enum gw_capacity_group group, const char *text)
{
    struct capacity_group *g = &c->groups[group];
    c->failures++;
    snprintf(c->trouble, sizeof c->trouble, "%s", text);
    if (!g->complained)
        gw_logf(c->config.log, GW_LOG_ERROR, "capacity: %s: %s", capacity_group_name(group), text);
    g->complained = true;
}

static void praise(struct gw_capacities *c, enum gw_capacity_group group)
{
    c->groups[group].complained = false;
    c->trouble[0] = '\0';
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static void note_type(struct flight *f, const char *type)
{
    for (size_t i = 0; i < f->types_len; i++)
        if (strcmp(f->types[i], type) == 0) return;
    if (f->types_len < GW_CLOUD_TYPES_MAX) snprintf(f->types[f->types_len++], sizeof f->types[0], "%s", type);
}

static void add_cost(struct flight *f)
{
    bool spot = f->action.group == GW_CAPACITY_SPOT;
    struct gw_price_file file = {0};
    if (f->prices_file) f->prices_err = gw_price_file_read(f->prices_file, &file, &f->prices_ctx);
    const struct capacity_price_sources sources = {
        .told = spot ? &f->prices : NULL, .file = &file, .spot = spot, .default_usd_h = f->default_usd_h};
    f->usd_h = capacity_cost(&sources, &f->answer, f->shown, &f->shown_len);
    gw_price_file_fini(&file);
}

/* On a thread: a group may have ten thousand instances. What is looked through is freed there, too. */
static void look_work(void *arg)
{
    struct flight *f = arg;
    gw_capacity_look(&f->answer, gw_capacity_fleet_rank, &f->fleet, &f->seen);
    /* not by what the description says of each: some clouds' do not tell */
    add_cost(f);
    for (size_t i = 0; i < f->answer.instances_len; i++) note_type(f, f->answer.instances[i].type);
    gw_cloud_answer_fini(&f->answer);
}

/* A file that was good at the start and is not now: said once, and the flags' prices count. */
static void look_at_prices(struct gw_capacities *c, const struct flight *f)
{
    if (f->prices_err != GW_OK && !c->prices_file_bad)
        gw_logf(c->config.log, GW_LOG_WARN, "capacity: prices are not known: %s", f->prices_ctx.text);
    c->prices_file_bad = f->prices_err != GW_OK;
}

static void look_done(void *arg, bool skipped)
{
    struct flight *f = arg;
    struct gw_capacities *c = f->c;
    struct capacity_group *g = &c->groups[f->action.group];
    if (!skipped && !c->stopped) {
        const struct gw_capacity_event e = {
            .type = GW_CAPACITY_EV_GROUP, .group = f->action.group, .seen = &g->seen};
        g->seen = f->seen;
        g->seen_once = true;
        g->usd_h = f->usd_h;
        free(g->shown);
        g->shown = f->shown;
        g->shown_len = f->shown_len;
        f->shown = NULL;
        capacity_note_types(c, (const char(*)[64])f->types, f->types_len);
        praise(c, f->action.group);
        look_at_prices(c, f);
        capacity_feed(c, &e);
    }
    free_flight(f);
}

static gw_err_t look(struct flight *f)
{
    const struct gw_job job = {.work = look_work, .done = look_done, .arg = f};
    TRY(gw_capacity_fleet_read(f->c->config.core, &f->fleet));
    TRY(capacity_prices_copy(&f->c->prices, &f->prices));
    f->shown = calloc(GW_CAPACITY_VIEW_SHOWN, sizeof *f->shown);
    if (!f->shown) return GW_ERR_MEMORY;
    f->prices_file = f->c->config.options->prices_file;
    f->default_usd_h = f->c->groups[f->action.group].default_usd_h;
    return gw_pool_submit(f->c->config.pool, job);
}

static void read_failed(struct flight *f, const char *text)
{
    struct gw_capacities *c = f->c;
    enum gw_capacity_group group = f->action.group;
    free_flight(f);
    if (c->stopped) return;
    capacity_complain(c, group, text);
    tell(c, GW_CAPACITY_EV_GROUP, group);
}

static void on_described(void *arg, gw_err_t err, const char *text, struct gw_cloud_answer *answer)
{
    struct flight *f = arg;
    if (err != GW_OK || f->c->stopped) {
        read_failed(f, text);
        return;
    }
    f->answer = *answer;
    *answer = (struct gw_cloud_answer){0};
    if (look(f) != GW_OK) read_failed(f, "no room to look through a description");
}

static void carry_read(struct gw_capacities *c, const struct gw_capacity_action *a)
{
    if (!c->groups[a->group].name) {
        c->groups[a->group].read_due =
            true; /* nothing is there: said on the next tick, as an answer would be */
        return;
    }
    struct flight *f = new_flight(c, a);
    if (!f) {
        tell(c, GW_CAPACITY_EV_GROUP, a->group);
        return;
    }
    f->ask.question = GW_CLOUD_DESCRIBE_GROUP;
    if (gw_calls_start(c->config.calls, &f->ask, on_described, f) != GW_OK)
        read_failed(f, "no room for a call");
}

/* ---- draining ------------------------------------------------------------------------------------------ */

static void post_notice(struct gw_capacities *c, const char *instance, uint8_t kind, int64_t deadline_us)
{
    const struct gw_event e = {.type = GW_EV_NOTICE,
                               .notice = {.name = instance, .kind = kind, .deadline_us = deadline_us}};
    c->draining_now = true;
    c->config.post(c->config.arg, &e);
    c->draining_now = false;
}

/* Who is under notice already keeps the cloud's deadline. */
static void carry_drain(struct gw_capacities *c, const struct gw_capacity_action *a)
{
    struct capacity_group *g = &c->groups[a->group];
    struct gw_capacity_fleet fleet;
    memcpy(g->draining, a->instance, sizeof g->draining);
    g->told = g->drained = false;
    if (gw_capacity_fleet_read(c->config.core, &fleet) != GW_OK)
        return; /* it is not drained then, and spared */
    const struct gw_capacity_host *h = gw_capacity_fleet_find(&fleet, a->instance);
    g->told = !h || !h->doomed;
    gw_capacity_fleet_fini(&fleet);
    gw_logf(c->config.log, GW_LOG_INFO, "capacity: %s: instance %s is drained, to be deleted",
            capacity_group_name(a->group), a->instance);
    if (!g->told) return;
    g->deadline_us = capacity_now(c) + NOTICE_EXTRA_US +
                     NOTICE_FACTOR * (int64_t)(c->config.options->drain_s * (double)GW_US_PER_S);
    post_notice(c, g->draining, GW_NOTICE_SCALE_IN, g->deadline_us);
}

/* Is the notice that it is under still ours? The cloud may have announced its end since: that stands. */
static bool notice_is_ours(const struct gw_capacities *c, const struct capacity_group *g)
{
    struct gw_capacity_fleet fleet;
    if (!g->told || gw_capacity_fleet_read(c->config.core, &fleet) != GW_OK) return false;
    const struct gw_capacity_host *h = gw_capacity_fleet_find(&fleet, g->draining);
    bool ours = !h || !h->doomed || h->deadline_us == g->deadline_us;
    gw_capacity_fleet_fini(&fleet);
    return ours;
}

static void carry_undrain(struct gw_capacities *c, const struct gw_capacity_action *a)
{
    struct capacity_group *g = &c->groups[a->group];
    if (strcmp(g->draining, a->instance) != 0) return;
    gw_logf(c->config.log, GW_LOG_INFO, "capacity: %s: instance %s stays", capacity_group_name(a->group),
            a->instance);
    if (notice_is_ours(c, g)) post_notice(c, g->draining, GW_NOTICE_CANCEL, 0);
    g->draining[0] = '\0';
}

void capacity_look_at_drains(struct gw_capacities *c, const struct gw_capacity_fleet *fleet)
{
    for (int i = 0; i < GW_CAPACITY_GROUPS; i++) {
        struct capacity_group *g = &c->groups[i];
        if (!g->draining[0] || g->drained) continue;
        const struct gw_capacity_host *h = gw_capacity_fleet_find(fleet, g->draining);
        if (h && (h->busy || !h->doomed)) continue;
        g->drained = true;
        capacity_feed(c, &(struct gw_capacity_event){.type = GW_CAPACITY_EV_DRAINED,
                                                     .group = (enum gw_capacity_group)i,
                                                     .instance = g->draining});
    }
}

/* ---- intents ------------------------------------------------------------------------------------------- */

static void end_intent(struct gw_capacities *c, struct capacity_group *g)
{
    if (g->entry && !c->stopped) c->config.end(c->config.arg, g->entry);
    g->entry = 0;
}

struct store {
    struct gw_capacities *c;
    enum gw_capacity_group group;
};

static void on_stored(void *arg, gw_err_t err)
{
    struct store *s = arg;
    struct gw_capacities *c = s->c;
    enum gw_capacity_group group = s->group;
    free(s);
    if (c->stopped) return;
    if (err != GW_OK) {
        capacity_complain(c, group, "the journal does not take what is to be done, so it is not done");
        end_intent(c, &c->groups[group]);
    }
    if (err == GW_OK) gw_failpoint("intent", "stored");
    tell(c, err == GW_OK ? GW_CAPACITY_EV_STORED : GW_CAPACITY_EV_FAILED, group);
}

static gw_err_t store(struct gw_capacities *c, const struct gw_capacity_action *a)
{
    struct gw_buf piece;
    struct store *s = calloc(1, sizeof *s);
    if (!s) return GW_ERR_MEMORY;
    *s = (struct store){c, a->group};
    gw_buf_init(&piece, INTENT_BYTES_MAX);
    gw_capacity_intent_put(&piece, a);
    uint64_t entry = 0;
    while (entry == 0) gw_random_bytes(&entry, sizeof entry);
    gw_err_t err = piece.err;
    if (err == GW_OK)
        err = c->config.append ? c->config.append(c->config.arg, entry, piece.data, piece.len, on_stored, s)
                               : GW_ERR_IO;
    gw_buf_fini(&piece);
    if (err == GW_OK) c->groups[a->group].entry = entry;
    if (err != GW_OK) free(s);
    return err;
}

static void carry_intent(struct gw_capacities *c, const struct gw_capacity_action *a)
{
    if (store(c, a) == GW_OK) return;
    capacity_complain(c, a->group, "the journal takes no more, so nothing is done");
    tell(c, GW_CAPACITY_EV_FAILED, a->group);
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static void write_ended(struct gw_capacities *c, const struct gw_capacity_action *a, gw_err_t err,
                        const char *text)
{
    struct capacity_group *g = &c->groups[a->group];
    if (c->stopped) return; /* its intent stays for the next controller */
    if (err == GW_OK) gw_failpoint("write", "accepted");
    end_intent(c, g);
    if (err == GW_OK) {
        praise(c, a->group);
        *(a->type == GW_CAPACITY_DELETE ? &c->deletions : &c->writes) += 1;
        if (a->type == GW_CAPACITY_DELETE) g->draining[0] = '\0'; /* it stays under notice until it is gone */
    } else {
        capacity_complain(c, a->group, text);
    }
    tell(c, err == GW_OK ? GW_CAPACITY_EV_DONE : GW_CAPACITY_EV_FAILED, a->group);
}

static void on_written(void *arg, gw_err_t err, const char *text, struct gw_cloud_answer *answer)
{
    struct flight *f = arg;
    (void)answer;
    write_ended(f->c, &f->action, err, text);
    free_flight(f);
}

/* Whoever drained may have got work again: its notice ran out, a worker came. */
static bool still_drained(const struct gw_capacities *c, const char *instance)
{
    struct gw_capacity_fleet fleet;
    if (gw_capacity_fleet_read(c->config.core, &fleet) != GW_OK) return false;
    const struct gw_capacity_host *h = gw_capacity_fleet_find(&fleet, instance);
    bool drained = !h || (h->doomed && !h->busy);
    gw_capacity_fleet_fini(&fleet);
    return drained;
}

static void carry_write(struct gw_capacities *c, const struct gw_capacity_action *a)
{
    bool deletes = a->type == GW_CAPACITY_DELETE;
    if (deletes && !still_drained(c, a->instance)) {
        write_ended(c, a, GW_ERR_LIMIT, "the drained instance has work again");
        return;
    }
    struct flight *f = new_flight(c, a);
    if (!f) {
        write_ended(c, a, GW_ERR_MEMORY, "out of memory");
        return;
    }
    f->ask.question = deletes ? GW_CLOUD_DELETE_INSTANCE : GW_CLOUD_SET_DESIRED;
    f->ask.instance = f->action.instance;
    f->ask.handle = f->action.handle;
    if (deletes)
        gw_logf(c->config.log, GW_LOG_INFO, "capacity: %s: instance %s is deleted",
                capacity_group_name(a->group), a->instance);
    else
        gw_logf(c->config.log, GW_LOG_INFO, "capacity: %s: size %u, %u wished for",
                capacity_group_name(a->group), a->desired, c->wished);
    if (gw_calls_start(c->config.calls, &f->ask, on_written, f) == GW_OK) return;
    free_flight(f);
    write_ended(c, a, GW_ERR_LIMIT, "no room for a call");
}

void capacity_carry(struct gw_capacities *c, const struct gw_capacity_action *a)
{
    switch (a->type) {
    case GW_CAPACITY_READ: carry_read(c, a); break;
    case GW_CAPACITY_DRAIN: carry_drain(c, a); break;
    case GW_CAPACITY_UNDRAIN: carry_undrain(c, a); break;
    case GW_CAPACITY_INTENT: carry_intent(c, a); break;
    case GW_CAPACITY_SET_DESIRED:
    case GW_CAPACITY_DELETE: carry_write(c, a); break;
    }
}
