#include "controller/cli/sim_groups.h"

#include <stdio.h>
#include <string.h>

static const char *const names[SIM_MARKETS] = {"spot", "on-demand"};

const char *sim_market_name(enum sim_market market)
{
    return names[market];
}

bool sim_market_find(const char *name, enum sim_market *out)
{
    for (int m = 0; m < SIM_MARKETS; m++) {
        if (strcmp(names[m], name) != 0) continue;
        *out = (enum sim_market)m;
        return true;
    }
    return false;
}

const char *sim_zone_of(const struct sim_groups *g, const struct sim_instance *i)
{
    return g->zones[i->zone];
}

static bool is_live(const struct sim_instance *i)
{
    return i->state == SIM_PENDING || i->state == SIM_RUNNING;
}

static uint32_t count_live(const struct sim_groups *g, enum sim_market market)
{
    uint32_t n = 0;
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++)
        n += is_live(&g->instances[i]) && g->instances[i].market == market;
    return n;
}

/* A group counts those under notice until they are gone, as clouds do. */
static uint32_t count_there(const struct sim_groups *g, enum sim_market market)
{
    uint32_t n = count_live(g, market);
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++)
        n += g->instances[i].state == SIM_NOTICED && g->instances[i].market == market;
    return n;
}

static struct sim_instance *free_entry(struct sim_groups *g)
{
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++)
        if (g->instances[i].state == SIM_GONE) return &g->instances[i];
    return NULL;
}

static void launch(struct sim_groups *g, enum sim_market market, int64_t now_us)
{
    struct sim_instance *i = free_entry(g);
    if (!i) return; /* like a quota that is used up */
    *i = (struct sim_instance){.state = SIM_PENDING,
                               .market = market,
                               .zone = g->number % g->zones_len,
                               .at_us = now_us + g->boot_us};
    snprintf(i->id, sizeof i->id, "i-%s-%u", market == SIM_SPOT ? "s" : "d", ++g->number);
}

void sim_groups_follow(struct sim_groups *g, int64_t now_us)
{
    for (int m = 0; m < SIM_MARKETS; m++) {
        enum sim_market market = (enum sim_market)m;
        for (uint32_t there = count_there(g, market); there < g->desired[m]; there++) {
            if (market == SIM_SPOT && count_live(g, market) >= g->supply) break;
            launch(g, market, now_us);
        }
    }
}

struct sim_instance *sim_groups_due(struct sim_groups *g, int64_t now_us)
{
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) {
        struct sim_instance *in = &g->instances[i];
        if (in->state != SIM_PENDING || in->at_us > now_us) continue;
        in->state = SIM_RUNNING;
        return in;
    }
    return NULL;
}

/* The oldest goes: those that have run longest have most to lose. */
struct sim_instance *sim_groups_taken(struct sim_groups *g, int64_t now_us)
{
    struct sim_instance *oldest = NULL;
    if (count_live(g, SIM_SPOT) <= g->supply) return NULL;
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) {
        struct sim_instance *in = &g->instances[i];
        if (!is_live(in) || in->market != SIM_SPOT) continue;
        if (!oldest || in->at_us < oldest->at_us) oldest = in;
    }
    sim_groups_reclaim(oldest, now_us, now_us + g->notice_us);
    return oldest;
}

static void end(struct sim_instance *i, int64_t kill_us)
{
    i->state = i->worker || i->watch ? SIM_ENDING : SIM_GONE;
    i->at_us = kill_us;
}

struct sim_instance *sim_groups_over(struct sim_groups *g, int64_t now_us)
{
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) {
        struct sim_instance *in = &g->instances[i];
        if ((in->state != SIM_NOTICED && in->state != SIM_ENDING) || in->at_us > now_us) continue;
        end(in, INT64_MAX); /* once is enough */
        return in;
    }
    return NULL;
}

struct sim_instance *sim_groups_find(struct sim_groups *g, const char *id)
{
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) {
        struct sim_instance *in = &g->instances[i];
        if (in->state != SIM_GONE && in->state != SIM_ENDING && strcmp(in->id, id) == 0) return in;
    }
    return NULL;
}

void sim_groups_reclaim(struct sim_instance *i, int64_t now_us, int64_t deadline_us)
{
    const struct sim_notice notice = {.kind = SIM_PREEMPT, .deadline_us = deadline_us};
    i->state = SIM_NOTICED;
    i->at_us = deadline_us;
    if (deadline_us > now_us) sim_notices_add(&i->notices, &notice);
}

void sim_groups_spare(struct sim_instance *i)
{
    const struct sim_notice notice = {.kind = SIM_PREEMPT, .cancel = true};
    if (i->state == SIM_NOTICED) i->state = i->worker ? SIM_RUNNING : SIM_PENDING;
    sim_notices_add(&i->notices, &notice);
}

void sim_groups_delete(struct sim_groups *g, struct sim_instance *i, int64_t now_us)
{
    if (g->desired[i->market]) g->desired[i->market]--;
    end(i, now_us + SIM_SHUTDOWN_US);
}

void sim_groups_kill(struct sim_instance *i, int64_t now_us)
{
    end(i, now_us);
}

struct sim_instance *sim_groups_exited(struct sim_groups *g, pid_t pid, int64_t now_us)
{
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) {
        struct sim_instance *in = &g->instances[i];
        if (in->state == SIM_GONE || (in->worker != pid && in->watch != pid)) continue;
        bool worker = in->worker == pid;
        *(worker ? &in->worker : &in->watch) = 0;
        if (worker && in->state != SIM_ENDING) end(in, now_us + SIM_SHUTDOWN_US);
        if (!in->worker && in->state == SIM_ENDING && !in->watch) in->state = SIM_GONE;
        return in;
    }
    return NULL;
}

bool sim_groups_needs(const struct sim_groups *g, pid_t pid)
{
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++)
        if (g->instances[i].state == SIM_RUNNING && g->instances[i].worker == pid) return true;
    return false;
}

static const char *const states[] = {
    [SIM_PENDING] = "pending", [SIM_RUNNING] = "running", [SIM_NOTICED] = "running", [SIM_ENDING] = "ending"};

void sim_groups_put(const struct sim_groups *g, enum sim_market market, struct gw_buf *b)
{
    const char *comma = "";
    gw_buf_printf(b, "{\"min\":0,\"max\":%d,\"desired\":%u,\"instances\":[", SIM_INSTANCES_MAX / SIM_MARKETS,
                  g->desired[market]);
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) {
        const struct sim_instance *in = &g->instances[i];
        if (in->state == SIM_GONE || in->market != market) continue;
        gw_buf_printf(b, "%s{\"id\":\"%s\",\"type\":\"sim.%s\",\"zone\":\"%s\",\"state\":\"%s\",\"spot\":%s}",
                      comma, in->id, names[market], sim_zone_of(g, in), states[in->state],
                      market == SIM_SPOT ? "true" : "false");
        comma = ",";
    }
    gw_buf_puts(b, "]}");
}

void sim_groups_put_all(const struct sim_groups *g, int64_t now_us, struct gw_buf *b)
{
    const char *comma = "";
    gw_buf_printf(b, "{\"supply\":%u,\"instances\":[", g->supply);
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) {
        const struct sim_instance *in = &g->instances[i];
        if (in->state == SIM_GONE) continue;
        gw_buf_printf(b,
                      "%s{\"id\":\"%s\",\"group\":\"%s\",\"zone\":\"%s\",\"state\":\"%s\",\"usd_h\":%.6f,"
                      "\"worker_pid\":%d,\"watch_pid\":%d",
                      comma, in->id, names[in->market], sim_zone_of(g, in),
                      in->state == SIM_NOTICED ? "noticed" : states[in->state], g->usd_h[in->market],
                      (int)in->worker, (int)in->watch);
        if (in->state == SIM_NOTICED)
            gw_buf_printf(b, ",\"goes_in_s\":%.3f", (double)(in->at_us - now_us) / (double)GW_US_PER_S);
        gw_buf_u8(b, '}');
        comma = ",";
    }
    gw_buf_puts(b, "]}");
}
