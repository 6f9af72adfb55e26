#include "controller/cli/plan_report.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "controller/plan/search.h"

/* Of what an instance is in the layout: its kind, and for each rank its cells and the form of its pipeline. */
struct role {
    uint64_t hash;
    uint32_t instance;
};

static uint64_t mix(uint64_t h, uint64_t v)
{
    return gw_mix64(h ^ gw_mix64(v));
}

static uint64_t pipeline_form(const struct gw_plan_fleet *f, const struct gw_layout *l, uint32_t first)
{
    uint64_t h = 1;
    for (uint32_t i = first; i < l->ranks_len && l->ranks[i].pipeline == l->ranks[first].pipeline; i++) {
        const struct gw_plan_device *d = &f->devices[l->ranks[i].device];
        const struct gw_cell_rect *c = &l->ranks[i].cells;
        h = mix(h, d->type);
        h = mix(h, (uint64_t)c->g0 << 48 | (uint64_t)c->g1 << 32 | (uint64_t)c->s0 << 16 | c->s1);
    }
    return h;
}

static void find_roles(const struct gw_plan_fleet *f, const struct gw_layout *l, struct role *roles)
{
    uint64_t form = 0;
    for (uint32_t i = 0; i < f->instances_len; i++) roles[i] = (struct role){0, i};
    for (uint32_t i = 0; i < l->ranks_len; i++) {
        const struct gw_cell_rect *c = &l->ranks[i].cells;
        uint32_t in = f->devices[l->ranks[i].device].instance;
        if (i == 0 || l->ranks[i].pipeline != l->ranks[i - 1].pipeline) form = pipeline_form(f, l, i);
        uint64_t kind = mix(f->instances[in].zone, f->instances[in].devices);
        roles[in].hash += mix(form, mix(kind, (uint64_t)c->g0 << 32 | c->s0)) | 1;
    }
}

static int by_role(const void *a, const void *b)
{
    const struct role *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return x->instance < y->instance ? -1 : x->instance > y->instance;
}

static int by_instance(const void *a, const void *b)
{
    const struct plan_loss *x = a, *y = b;
    return x->instance < y->instance ? -1 : x->instance > y->instance;
}

static gw_err_t try_loss(struct plan_report *r, struct plan_loss *loss, struct gw_err_ctx *ctx)
{
    const struct gw_plan_files *f = r->files;
    struct gw_plan_input in = {&f->fleet, &f->model, &f->load};
    struct gw_plan then;
    TRY(gw_planner_loss(&in, &f->options, &r->plan, loss->instance, PLAN_LOSS_NOTICE_S, &then, ctx));
    loss->verdict = then.verdict;
    loss->go_on = then.current.pipelines;
    loss->pipelines = then.layout.pipelines;
    loss->meanwhile = then.current_score;
    loss->after = then.score;
    loss->move_s = then.move.seconds;
    loss->gap_s = then.move.gap_s;
    gw_plan_fini(&then);
    return GW_OK;
}

static gw_err_t try_losses(struct plan_report *r, const struct role *roles, uint32_t n,
                           struct gw_err_ctx *ctx)
{
    for (uint32_t i = 0, next; i < n; i = next) {
        for (next = i + 1; next < n && roles[next].hash == roles[i].hash;) next++;
        if (roles[i].hash == 0) continue; /* it does nothing */
        if (r->losses_len == PLAN_LOSSES_MAX) {
            r->losses_left += next - i;
            continue;
        }
        struct plan_loss *loss = &r->losses[r->losses_len++];
        *loss = (struct plan_loss){.instance = roles[i].instance, .count = next - i};
        TRY(try_loss(r, loss, ctx));
    }
    qsort(r->losses, r->losses_len, sizeof *r->losses, by_instance);
    return GW_OK;
}

gw_err_t plan_report_losses(struct plan_report *r, struct gw_err_ctx *ctx)
{
    uint32_t n = r->files->fleet.instances_len;
    struct role *roles = malloc((n + 1) * sizeof *roles);
    r->losses = calloc(PLAN_LOSSES_MAX, sizeof *r->losses);
    gw_err_t err = roles && r->losses ? GW_OK : gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    if (err == GW_OK) {
        find_roles(&r->files->fleet, &r->plan.layout, roles);
        qsort(roles, n, sizeof *roles, by_role);
        err = try_losses(r, roles, n, ctx);
    }
    free(roles);
    return err;
}

void plan_report_fini(struct plan_report *r)
{
    gw_plan_fini(&r->plan);
    free(r->losses);
    r->losses = NULL;
}
