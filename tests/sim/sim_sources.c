/* Sources of weights: whom ASSIGN names is there, of the rank's profile, somebody else, of a protocol that gives weights, and
 * may have cells that the rank is to have. */
#include "tests/sim/sim.h"

#include "migrate/plan.h"

#define PROTO_CELLS 4

static const char *judge(const struct sim *sim, const struct sim_link *to, struct gw_cell_rect cells,
                         const struct gw_cell_holder *h)
{
    uint32_t slot, life;
    if (!sim_kv_parse(h->pages, &slot, &life)) return "is nobody's address";
    const struct sim_link *l = sim_link_of_process(sim, slot, life);
    if (!l || !l->core_open) return "is dead";
    if (l == to) return "is itself";
    if (l->proto < PROTO_CELLS) return "speaks an older protocol";
    if (l->profile != to->profile) return "is of another profile";
    return gw_rect_empty(gw_rect_meet(h->cells, cells)) ? "has nothing that it lacks" : NULL;
}

void sim_sources_check(struct sim *sim, const struct sim_link *l, const struct gw_msg_assign *a)
{
    if (a->sources_len > 0 && l->proto < PROTO_CELLS)
        sim_fail(sim, "sources of weights are named to w%u, of protocol %u", l->slot, l->proto);
    for (uint32_t i = 0; i < a->sources_len && !sim->failed; i++) {
        const char *why = judge(sim, l, a->ranks[a->self].cells, &a->sources[i]);
        if (why)
            sim_fail(sim, "%s is named to w%u as a source of weights: it %s", a->sources[i].pages, l->slot,
                     why);
    }
    sim->sources += a->sources_len;
}
