#include <inttypes.h>
#include <stdio.h>

#include "controller/cli/plan_picture.h"
#include "controller/cli/plan_report.h"

static double gb(uint64_t bytes)
{
    return (double)bytes * 1e-9;
}

static const char *promise_text(enum gw_promise p)
{
    switch (p) {
    case GW_PROMISE_SLO: return "keeps up, SLO kept";
    case GW_PROMISE_RATE: return "keeps up, SLO missed";
    default: return "cannot keep up";
    }
}

static uint32_t usable_devices(const struct gw_plan_fleet *f, uint32_t *doomed)
{
    uint32_t n = 0;
    *doomed = 0;
    for (uint32_t i = 0; i < f->instances_len; i++) {
        if (f->instances[i].doomed_at_s > 0)
            ++*doomed;
        else
            n += f->instances[i].devices;
    }
    return n;
}

static void put_inputs(const struct plan_report *r, struct gw_buf *b)
{
    const struct gw_plan_fleet *f = &r->files->fleet;
    const struct gw_plan_model *m = &r->files->model;
    const struct gw_plan_load *l = &r->files->load;
    uint32_t doomed, devices = usable_devices(f, &doomed);
    struct gw_cell_rect all = {0, (uint16_t)m->groups, 0, (uint16_t)m->shares};
    gw_buf_printf(b, "fleet     %u instances, %u devices", f->instances_len - doomed, devices);
    if (doomed) gw_buf_printf(b, " (and %u doomed)", doomed);
    gw_buf_printf(b, ", %u zones\n", f->zones_len);
    gw_buf_printf(
        b, "model     %u layers in %u groups x %u shares, %.4g GB of weights, %.4g kB of KV per token\n",
        m->layers, m->groups, m->shares, gb(gw_plan_weight_bytes(m, all)),
        (double)gw_plan_kv_token_bytes(m, all) * 1e-3);
    gw_buf_printf(b, "load      %g requests/s, prompts of %g (P99 %g), outputs of %g (P99 %g) tokens\n",
                  l->arrival_rps, l->prompt_mean, l->prompt_p99, l->output_mean, l->output_p99);
}

static void put_score(const char *name, uint32_t pipelines, const struct gw_score *s, struct gw_buf *b)
{
    gw_buf_printf(b,
                  "%-10s%3u pipelines, P99 %.3g s (first token %.3g s, then %.3g ms each), up to %.4g "
                  "requests/s, %.4g USD/h: %s\n",
                  name, pipelines, s->latency_p99_s, s->ttft_p99_s, s->tpot_s * 1e3, s->throughput_rps,
                  s->usd_h, promise_text(s->promise));
}

/* Which of the rules of gw_score_compare decided. */
static void put_reason(const struct gw_score *a, const struct gw_score *b, struct gw_buf *out)
{
    double faster = 100 * (1 - a->latency_p99_s / b->latency_p99_s);
    gw_buf_puts(out, "why       ");
    if (a->promise != b->promise)
        gw_buf_printf(out, "it %s; the runner-up %s\n", promise_text(a->promise), promise_text(b->promise));
    else if (a->promise == GW_PROMISE_NONE)
        gw_buf_printf(out, "nothing keeps up; it carries %.1f%% more than the runner-up\n",
                      100 * (a->throughput_rps / b->throughput_rps - 1));
    else if (faster > 100 * GW_COST_STEP)
        gw_buf_printf(out, "its P99 is %.1f%% below the runner-up's\n", faster);
    else if (a->usd_h < b->usd_h)
        gw_buf_printf(out, "as fast as the runner-up within %g%%, and %.4g USD/h cheaper\n",
                      100 * GW_COST_STEP, b->usd_h - a->usd_h);
    else
        gw_buf_printf(out, "as fast and as cheap as the runner-up within %g%%\n", 100 * GW_COST_STEP);
}

static void put_move(const struct gw_plan *p, struct gw_buf *b)
{
    const struct gw_move *m = &p->move;
    if (p->verdict == GW_VERDICT_KEEP) {
        gw_buf_puts(b, "move      none: what serves goes on");
        if (p->loss > 0)
            gw_buf_printf(b, " (the best other layout gains %.2f%%, its move costs %.2f%%)", 100 * p->gain,
                          100 * p->loss);
        gw_buf_puts(b, "\n");
        if (m->kv_bytes + m->weight_bytes == 0) return;
    }
    gw_buf_printf(b,
                  "move      %.4g GB of weights and %.4g GB of KV in %.3g s (%.4g GB stay, %.4g GB from "
                  "files, %.4g GB between zones, %.3g USD)\n",
                  gb(m->weight_bytes), gb(m->kv_bytes), m->seconds, gb(m->kept_bytes), gb(m->store_bytes),
                  gb(m->zone_bytes), m->usd);
    if (p->verdict == GW_VERDICT_MOVE && p->current.pipelines)
        gw_buf_printf(b,
                      "          it touches %u pipelines, gains %.2f%% and costs %.2f%% of what is served "
                      "over the horizon\n",
                      m->touched, 100 * p->gain, 100 * p->loss);
    if (m->gap_s > 0)
        gw_buf_printf(b, "          memory is short: a gap of %.3g s, old cells go before new ones come\n",
                      m->gap_s);
    if (m->recomputed_bytes)
        gw_buf_printf(b, "          %.4g GB of KV are recomputed\n", gb(m->recomputed_bytes));
    if (m->late_s > 0)
        gw_buf_printf(b, "          %.3g s late: a doomed instance goes before its last byte\n", m->late_s);
}

static void put_loss(const struct plan_report *r, const struct plan_loss *l, struct gw_buf *b)
{
    gw_buf_printf(b, "  %-16s", r->files->fleet.instances[l->instance].id);
    if (l->count > 1) gw_buf_printf(b, " (and %u like it)", l->count - 1);
    if (l->verdict == GW_VERDICT_NO_FIT) {
        gw_buf_puts(b, ": not served any more, requests wait for capacity\n");
        return;
    }
    gw_buf_printf(b, ": %u of %u pipelines serve on; ", l->go_on, r->plan.layout.pipelines);
    if (l->verdict == GW_VERDICT_MOVE)
        gw_buf_printf(b, "%u after a move of %.3g s, ", l->pipelines, l->move_s);
    if (l->gap_s > 0) gw_buf_printf(b, "with a gap of %.3g s, ", l->gap_s);
    gw_buf_printf(b, "P99 %.3g s, up to %.4g requests/s: %s\n", l->after.latency_p99_s,
                  l->after.throughput_rps, promise_text(l->after.promise));
}

static void put_wish(const struct plan_report *r, struct gw_buf *b)
{
    const struct gw_wish *w = &r->plan.wish;
    const struct gw_plan_type *types = r->files->fleet.types;
    if (w->impossible)
        gw_buf_puts(b, "wish      no number of devices of any type would do\n");
    else if (w->instances)
        gw_buf_printf(b, "wish      %u more instances of %u x %s (%u pipelines, %.4g USD/h)%s%s\n",
                      w->instances, w->devices, types[w->type].name, w->pipelines, w->usd_h,
                      w->on_demand ? ", on demand" : "", w->slo_missed ? "; no type keeps the SLO" : "");
    else
        gw_buf_printf(b, "wish      nothing is missing%s\n",
                      w->on_demand ? "; but spot alone will not hold: part on demand" : "");
}

static void put_headroom(const struct gw_plan *p, struct gw_buf *b)
{
    if (!p->headroom_kept)
        gw_buf_puts(
            b, "headroom  none: nothing fits with memory kept free for the loss of the largest instance\n");
    else if (p->headroom > 0)
        gw_buf_printf(
            b, "headroom  %.3g%% of each device's memory is kept free for the loss of the largest instance\n",
            100 * p->headroom);
    else
        gw_buf_puts(b, "headroom  none: there is one instance only\n");
}

void plan_report_text(const struct plan_report *r, struct gw_buf *b)
{
    const struct gw_plan *p = &r->plan;
    put_inputs(r, b);
    if (p->verdict == GW_VERDICT_NO_FIT) {
        gw_buf_puts(b, "layout    none: the model fits nowhere on this fleet; requests wait\n");
        put_wish(r, b);
        return;
    }
    plan_picture(&r->files->fleet, &r->files->model, &p->layout, b);
    gw_buf_puts(b, "\n");
    put_score(p->verdict == GW_VERDICT_KEEP ? "kept" : "chosen", p->layout.pipelines, &p->score, b);
    if (p->current.pipelines && p->verdict == GW_VERDICT_MOVE)
        put_score("now", p->current.pipelines, &p->current_score, b);
    if (p->runner_up.pipelines) {
        put_score("runner-up", p->runner_up.pipelines, &p->runner_up_score, b);
        if (p->verdict == GW_VERDICT_MOVE) put_reason(&p->score, &p->runner_up_score, b);
    }
    put_headroom(p, b);
    put_move(p, b);
    put_wish(r, b);
    gw_buf_printf(b, "evaluated %" PRIu64 " candidates\n", p->evaluated);
    if (r->losses_len) gw_buf_printf(b, "\nif one instance went, with %d s of notice:\n", PLAN_LOSS_NOTICE_S);
    for (uint32_t i = 0; i < r->losses_len; i++) put_loss(r, &r->losses[i], b);
    if (r->losses_left) gw_buf_printf(b, "  (%u more instances were not looked at)\n", r->losses_left);
}
