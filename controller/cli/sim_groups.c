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
    *i = (struct sim_instance){.state = SIM_PENDING, .market = market, .at_us = now_us + g->boot_us};
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
    oldest->state = SIM_NOTICED;
    oldest->at_us = now_us + g->notice_us;
    return oldest;
}

struct sim_instance *sim_groups_over(struct sim_groups *g, int64_t now_us)
{
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) {
        struct sim_instance *in = &g->instances[i];
        if (in->state != SIM_NOTICED || in->at_us > now_us) continue;
        in->state = in->pid ? SIM_ENDING : SIM_GONE;
        return in;
    }
    return NULL;
}

struct sim_instance *sim_groups_delete(struct sim_groups *g, const char *id)
{
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) {
        struct sim_instance *in = &g->instances[i];
        if (in->state == SIM_GONE || in->state == SIM_ENDING || strcmp(in->id, id) != 0) continue;
        in->state = in->pid ? SIM_ENDING : SIM_GONE;
        if (g->desired[in->market]) g->desired[in->market]--;
        return in;
    }
    return NULL;
}

struct sim_instance *sim_groups_exited(struct sim_groups *g, pid_t pid)
{
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) {
        struct sim_instance *in = &g->instances[i];
        if (in->state == SIM_GONE || in->pid != pid) continue;
        in->state = SIM_GONE;
        in->pid = 0;
        return in;
    }
    return NULL;
}

void sim_groups_put(const struct sim_groups *g, enum sim_market market, struct gw_buf *b)
{
    static const char *const states[] = {[SIM_PENDING] = "pending",
                                         [SIM_RUNNING] = "running",
                                         [SIM_NOTICED] = "running",
                                         [SIM_ENDING] = "ending"};
    const char *comma = "";
    gw_buf_printf(b, "{\"min\":0,\"max\":%d,\"desired\":%u,\"instances\":[", SIM_INSTANCES_MAX / SIM_MARKETS,
                  g->desired[market]);
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) {
        const struct sim_instance *in = &g->instances[i];
        if (in->state == SIM_GONE || in->market != market) continue;
        gw_buf_printf(b,
                      "%s{\"id\":\"%s\",\"type\":\"sim.%s\",\"zone\":\"here\",\"state\":\"%s\",\"spot\":%s}",
                      comma, in->id, names[market], states[in->state], market == SIM_SPOT ? "true" : "false");
        comma = ",";
    }
    gw_buf_puts(b, "]}");
}
