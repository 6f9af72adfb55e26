#include "controller/plan/shape_internal.h"

/* ---- every cut ---- */

/* Slots by stage; false if a stage has none. */
static bool cut_by_stage(const struct shaping *s, const uint32_t *stage_of, struct cut *cut)
{
    uint32_t at = 0;
    cut->stages = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if (stage_of[i] >= cut->stages) cut->stages = stage_of[i] + 1;
    for (uint32_t k = 0; k < cut->stages; k++) {
        cut->begin[k] = at;
        for (uint32_t i = 0; i < s->n; i++)
            if (stage_of[i] == k) cut->slot[at++] = (uint8_t)i;
        if (at == cut->begin[k]) return false;
    }
    cut->begin[cut->stages] = at;
    return true;
}

struct dealing {
    struct shaping *s;
    void (*visit)(struct shaping *s, const struct cut *cut);
    uint32_t stage_of[GW_SHAPE_RANKS_MAX];
};

static void deal_devices(struct dealing *d, uint32_t at)
{
    struct shaping *s = d->s;
    struct cut cut;
    uint32_t from = 0, most = s->n < s->in->model->groups ? s->n : s->in->model->groups;
    if (at == s->n) {
        if (cut_by_stage(s, d->stage_of, &cut) && shaping_cut_holds(s, &cut)) d->visit(s, &cut);
        return;
    }
    for (uint32_t i = 0; i < at; i++)
        if (s->alike[i] == s->alike[at]) from = d->stage_of[i];
    for (uint32_t k = from; k < most; k++) {
        d->stage_of[at] = k;
        deal_devices(d, at + 1);
    }
}

void shaping_all_cuts(struct shaping *s, void (*visit)(struct shaping *s, const struct cut *cut))
{
    struct dealing d = {.s = s, .visit = visit};
    deal_devices(&d, 0);
}

/* ---- even cuts ---- */

/* K stages over runs that begin at run[0..n): with K >= n each run gets stages by its length, else neighbours are
 * merged, K parts of about the same length. run[n] is the list's end. */
static void try_runs(struct shaping *s, const uint32_t *run, uint32_t n, uint32_t stages)
{
    struct cut cut = {.stages = stages};
    uint32_t parts[GW_SHAPE_RANKS_MAX], k = 0;
    for (uint32_t i = 0; i < n; i++) parts[i] = 1;
    for (uint32_t left = stages > n ? stages - n : 0; left > 0; left--) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < n; i++)
            if ((run[i + 1] - run[i]) * (parts[best] + 1) > (run[best + 1] - run[best]) * (parts[i] + 1))
                best = i;
        parts[best]++;
    }
    if (stages < n) {
        for (k = 0; k < stages; k++) cut.begin[k] = run[k * n / stages];
    } else {
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t p = 0; p < parts[i]; p++)
                cut.begin[k++] = run[i] + p * (run[i + 1] - run[i]) / parts[i];
    }
    cut.begin[stages] = s->n;
    for (uint32_t i = 0; i < s->n; i++) cut.slot[i] = (uint8_t)i;
    for (k = 0; k < stages; k++)
        if (cut.begin[k] >= cut.begin[k + 1]) return;
    if (shaping_cut_holds(s, &cut)) shaping_try_cut(s, &cut);
}

enum run_kind { RUN_ZONE, RUN_TYPE, RUN_INSTANCE, RUN_KINDS };

static bool run_ends(const struct shaping *s, uint32_t slot, enum run_kind kind)
{
    const struct gw_plan_device *d = s->in->fleet->devices;
    if (shaping_zone(s, slot - 1) != shaping_zone(s, slot)) return true;
    if (kind == RUN_TYPE) return shaping_type(s, slot - 1) != shaping_type(s, slot);
    return kind == RUN_INSTANCE && d[s->devices[slot - 1]].instance != d[s->devices[slot]].instance;
}

void shaping_even_cuts(struct shaping *s)
{
    uint32_t run[RUN_KINDS][GW_SHAPE_RANKS_MAX + 1], len[RUN_KINDS] = {0};
    for (enum run_kind kind = 0; kind < RUN_KINDS; kind++) {
        run[kind][len[kind]++] = 0;
        for (uint32_t i = 1; i < s->n; i++)
            if (run_ends(s, i, kind)) run[kind][len[kind]++] = i;
        run[kind][len[kind]] = s->n;
    }
    uint32_t most = s->n < s->in->model->groups ? s->n : s->in->model->groups;
    for (uint32_t stages = 1; stages <= most; stages++) {
        try_runs(s, run[RUN_ZONE], len[RUN_ZONE], stages);
        if (len[RUN_TYPE] > len[RUN_ZONE]) try_runs(s, run[RUN_TYPE], len[RUN_TYPE], stages);
        if (len[RUN_INSTANCE] > len[RUN_TYPE] && stages % len[RUN_INSTANCE] != 0)
            try_runs(s, run[RUN_INSTANCE], len[RUN_INSTANCE], stages);
    }
}
