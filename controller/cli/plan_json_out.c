#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "controller/cli/plan_report.h"

static void put_text(struct gw_buf *b, const char *text)
{
    gw_json_put_string(b, text, strlen(text));
}

static const char *promise_name(enum gw_promise p)
{
    static const char *const names[] = {"none", "rate", "slo"};
    return names[p];
}

static const char *verdict_name(enum gw_verdict v)
{
    static const char *const names[] = {"no_fit", "keep", "move"};
    return names[v];
}

static const char *kind_name(enum gw_move_kind k)
{
    static const char *const names[] = {"kv", "weights", "evict", "drop"};
    return names[k];
}

static void put_score(struct gw_buf *b, const struct gw_score *s)
{
    gw_buf_printf(b,
                  "{\"promise\": \"%s\", \"latency_p99_s\": %.9g, \"ttft_p99_s\": %.9g, \"tpot_s\": %.9g, "
                  "\"throughput_rps\": %.9g, \"usd_h\": %.9g}",
                  promise_name(s->promise), s->latency_p99_s, s->ttft_p99_s, s->tpot_s, s->throughput_rps,
                  s->usd_h);
}

static void put_device(struct gw_buf *b, const struct gw_plan_fleet *f, const char *prefix, uint32_t device)
{
    const struct gw_plan_device *d = &f->devices[device];
    gw_buf_printf(b, "\"%s\": ", prefix);
    put_text(b, f->instances[d->instance].id);
    gw_buf_printf(b, ", \"%s\": %u", strcmp(prefix, "instance") == 0 ? "device" : "source_device", d->index);
}

static void put_cells(struct gw_buf *b, const struct gw_cell_rect *c)
{
    gw_buf_printf(b, "\"groups\": [%u, %u], \"shares\": [%u, %u]", c->g0, c->g1, c->s0, c->s1);
}

/* In the form that --current reads. */
static void put_layout(struct gw_buf *b, const struct gw_plan_fleet *f, const struct gw_layout *l)
{
    gw_buf_printf(b, "{\"pipelines\": %u, \"ranks\": [", l->pipelines);
    for (uint32_t i = 0; i < l->ranks_len; i++) {
        const struct gw_layout_rank *r = &l->ranks[i];
        gw_buf_puts(b, i ? ",\n  {" : "\n  {");
        put_device(b, f, "instance", r->device);
        gw_buf_printf(b, ", \"pipeline\": %u, ", r->pipeline);
        put_cells(b, &r->cells);
        gw_buf_puts(b, "}");
    }
    gw_buf_puts(b, "]}");
}

static void put_move(struct gw_buf *b, const struct gw_plan_fleet *f, const struct gw_move *m)
{
    gw_buf_printf(b,
                  "{\"kept_bytes\": %" PRIu64 ", \"kv_bytes\": %" PRIu64 ", \"weight_bytes\": %" PRIu64
                  ", \"store_bytes\": %" PRIu64 ", \"zone_bytes\": %" PRIu64
                  ", \"recomputed_bytes\": %" PRIu64 ", \"seconds\": %.9g, \"gap_s\": %.9g, \"late_s\": "
                  "%.9g, \"usd\": %.9g, \"touched\": %u, \"steps\": [",
                  m->kept_bytes, m->kv_bytes, m->weight_bytes, m->store_bytes, m->zone_bytes,
                  m->recomputed_bytes, m->seconds, m->gap_s, m->late_s, m->usd, m->touched);
    for (uint32_t i = 0; i < m->steps_len; i++) {
        const struct gw_move_step *s = &m->steps[i];
        gw_buf_printf(b, "%s\n  {\"kind\": \"%s\", ", i ? "," : "", kind_name(s->kind));
        put_device(b, f, "instance", s->device);
        gw_buf_puts(b, ", ");
        if (s->source != GW_PLAN_NONE) {
            put_device(b, f, "source", s->source);
            gw_buf_puts(b, ", ");
        }
        put_cells(b, &s->cells);
        gw_buf_printf(b, ", \"bytes\": %" PRIu64 "}", s->bytes);
    }
    gw_buf_puts(b, "]}");
}

static void put_losses(struct gw_buf *b, const struct plan_report *r)
{
    gw_buf_puts(b, "[");
    for (uint32_t i = 0; i < r->losses_len; i++) {
        const struct plan_loss *l = &r->losses[i];
        gw_buf_puts(b, i ? ",\n  {\"instance\": " : "\n  {\"instance\": ");
        put_text(b, r->files->fleet.instances[l->instance].id);
        gw_buf_printf(b,
                      ", \"alike\": %u, \"verdict\": \"%s\", \"go_on\": %u, \"pipelines\": %u, \"move_s\": "
                      "%.9g, \"gap_s\": %.9g, \"score\": ",
                      l->count, verdict_name(l->verdict), l->go_on, l->pipelines, l->move_s, l->gap_s);
        put_score(b, &l->after);
        gw_buf_puts(b, "}");
    }
    gw_buf_puts(b, "]");
}

static void put_wish(struct gw_buf *b, const struct plan_report *r)
{
    const struct gw_wish *w = &r->plan.wish;
    gw_buf_printf(b, "{\"instances\": %u, \"devices\": %u, \"type\": ", w->instances, w->devices);
    if (w->instances)
        put_text(b, r->files->fleet.types[w->type].name);
    else
        gw_buf_puts(b, "null");
    gw_buf_printf(b,
                  ", \"pipelines\": %u, \"usd_h\": %.9g, \"margin\": %.9g, \"on_demand\": %s, "
                  "\"slo_missed\": %s, \"impossible\": %s}",
                  w->pipelines, w->usd_h, w->margin, w->on_demand ? "true" : "false",
                  w->slo_missed ? "true" : "false", w->impossible ? "true" : "false");
}

void plan_report_json(const struct plan_report *r, struct gw_buf *b)
{
    const struct gw_plan *p = &r->plan;
    const struct gw_plan_fleet *f = &r->files->fleet;
    gw_buf_printf(b, "{\"verdict\": \"%s\",\n\"layout\": ", verdict_name(p->verdict));
    put_layout(b, f, &p->layout);
    gw_buf_puts(b, ",\n\"score\": ");
    put_score(b, &p->score);
    gw_buf_puts(b, ",\n\"current_score\": ");
    put_score(b, &p->current_score);
    gw_buf_puts(b, ",\n\"runner_up\": ");
    put_layout(b, f, &p->runner_up);
    gw_buf_puts(b, ",\n\"runner_up_score\": ");
    put_score(b, &p->runner_up_score);
    gw_buf_printf(b,
                  ",\n\"gain\": %.9g, \"loss\": %.9g, \"headroom\": %.9g, \"headroom_kept\": %s, "
                  "\"evaluated\": %" PRIu64 ",\n\"move\": ",
                  p->gain, p->loss, p->headroom, p->headroom_kept ? "true" : "false", p->evaluated);
    put_move(b, f, &p->move);
    gw_buf_puts(b, ",\n\"losses\": ");
    put_losses(b, r);
    gw_buf_puts(b, ",\n\"wish\": ");
    put_wish(b, r);
    gw_buf_puts(b, "}\n");
}
