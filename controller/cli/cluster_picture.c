#include "controller/cli/cluster_picture.h"

#include <stdio.h>
#include <string.h>

#define MARGIN        8 /* left of a grid: "groups ", numbers */
#define GAP           2 /* between two pictures: three of models with eight shares fit into 80 columns */
#define COLUMN_MIN    2 /* per share: a mark and a space */
#define COLUMN_MAX    16
#define CELL_ROWS_MAX 8 /* models of more layer groups: one row of cells per stage */

/* ---- head ---- */

static uint32_t count_state(const struct cluster_view *v, const char *state)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->pipelines_len; i++) n += strcmp(v->pipelines[i].state, state) == 0;
    return n;
}

static const char *s_of(uint32_t n)
{
    return n == 1 ? "" : "s";
}

/* Tokens of KV that moved requests needed, by where it came from; nothing while nothing has moved. */
static uint32_t draw_kv(struct canvas *c, uint32_t y, const struct cluster_view *v)
{
    if (v->kv_cached + v->kv_moved + v->kv_stored + v->kv_recomputed == 0) return y;
    canvas_printf(c, 0, y, CANVAS_DIM,
                  "KV of moves, in tokens: %llu moved, %llu stored, %llu cached, %llu recomputed",
                  (unsigned long long)v->kv_moved, (unsigned long long)v->kv_stored,
                  (unsigned long long)v->kv_cached, (unsigned long long)v->kv_recomputed);
    return y + 1;
}

/* The cloud's groups; nothing where their sizes are nobody's matter. */
static uint32_t draw_capacity(struct canvas *c, uint32_t y, const struct view_capacity *v)
{
    double usd_h = v->spot.usd_h + v->on_demand.usd_h;
    if (!v->on) return y;
    uint32_t x = canvas_printf(c, 0, y, CANVAS_PLAIN, "%u instance%s wished for · spot %u of %u", v->wish,
                               s_of(v->wish), v->spot.running, v->spot.target);
    if (v->on_demand.there)
        x += canvas_printf(c, x, y, v->on_demand.target ? CANVAS_YELLOW : CANVAS_PLAIN,
                           " · on demand %u of %u", v->on_demand.running, v->on_demand.target);
    if (usd_h > 0) x += canvas_printf(c, x, y, CANVAS_PLAIN, " · %.2f USD/h", usd_h);
    if (v->draining[0]) x += canvas_printf(c, x, y, CANVAS_CYAN, " · %s is drained", v->draining);
    if (v->dry_run) canvas_printf(c, x, y, CANVAS_YELLOW, " · dry run");
    if (v->trouble[0]) canvas_printf(c, 0, ++y, CANVAS_RED, "%s", v->trouble);
    return y + 1;
}

uint32_t cluster_picture_head(struct canvas *c, uint32_t y, const struct cluster_view *v,
                              const struct cluster_rates *rates)
{
    uint32_t serving = count_state(v, "serving") + count_state(v, "draining");
    uint32_t coming = count_state(v, "forming") + count_state(v, "ready");
    uint32_t x = canvas_printf(c, 0, y, CANVAS_BOLD, "%s", v->model);
    x += canvas_printf(c, x, y, CANVAS_PLAIN, " · layout %s · epoch %llu · ", v->layout,
                       (unsigned long long)v->epoch);
    x += canvas_printf(c, x, y, serving ? CANVAS_GREEN : CANVAS_RED, "%u pipeline%s serve%s", serving,
                       s_of(serving), serving == 1 ? "s" : "");
    if (coming) canvas_printf(c, x, y, CANVAS_YELLOW, ", %u form%s", coming, coming == 1 ? "s" : "");
    y++;
    x = canvas_printf(c, 0, y, v->queued ? CANVAS_YELLOW : CANVAS_PLAIN, "%u running, %u waiting", v->running,
                      v->queued);
    x += canvas_printf(c, x, y, CANVAS_PLAIN, " · %.0f tokens/s, %.1f requests/s",
                       rates->measured ? rates->tokens_s : v->tokens_s,
                       rates->measured ? rates->requests_s : v->requests_s);
    canvas_printf(c, x, y, CANVAS_DIM, " · %llu failed, %llu worker%s lost", (unsigned long long)v->failed,
                  (unsigned long long)v->losses, v->losses == 1 ? "" : "s");
    y = draw_capacity(c, y + 1, &v->capacity);
    if (v->egress_usd_h > 0)
        canvas_printf(c, 0, y++, CANVAS_PLAIN, "bytes between zones: %.4f USD/h", v->egress_usd_h);
    y = draw_kv(c, y, v);
    if (v->reason[0])
        canvas_printf(c, 0, y++, v->plan_pipelines || serving ? CANVAS_DIM : CANVAS_RED, "%s%s", v->reason,
                      v->planning ? " (being planned anew)" : "");
    return y;
}

/* ---- one pipeline ---- */

struct frame {
    uint32_t column;    /* columns per share */
    uint32_t cell_rows; /* per layer group; 0: one row per stage */
    uint32_t width, height;
};

static uint32_t width_of(const struct view_rank *r)
{
    return (uint32_t)(r->cells.s1 - r->cells.s0);
}

static uint32_t stages_of(const struct view_pipeline *p)
{
    return p->ranks_len ? p->ranks[p->ranks_len - 1].stage + 1 : 0;
}

static uint32_t rows_of_stage(const struct frame *f, const struct view_rank *r)
{
    return f->cell_rows ? (uint32_t)(r->cells.g1 - r->cells.g0) : 1;
}

static struct frame frame_of(const struct cluster_view *v, const struct view_pipeline *p, uint32_t room)
{
    struct frame f = {.column = COLUMN_MIN, .cell_rows = v->groups <= CELL_ROWS_MAX};
    uint32_t most = room > MARGIN + 1 ? (room - MARGIN - 1) / v->shares : 1;
    for (uint32_t i = 0; i < p->ranks_len; i++) { /* wide enough for every name */
        uint32_t need =
            ((uint32_t)strlen(p->ranks[i].worker) + 1 + width_of(&p->ranks[i])) / width_of(&p->ranks[i]);
        f.column = need > f.column ? need : f.column;
    }
    if (f.column > COLUMN_MAX) f.column = COLUMN_MAX;
    if (f.column > most) f.column = most > 0 ? most : 1;
    f.width = MARGIN + v->shares * f.column + 1;
    f.height = 3; /* two lines of text, the last edge */
    for (uint32_t i = 0; i < p->ranks_len; i++)
        if (i == 0 || p->ranks[i].stage != p->ranks[i - 1].stage)
            f.height += 2 + rows_of_stage(&f, &p->ranks[i]);
    return f;
}

static enum canvas_style style_of(const char *state)
{
    if (strcmp(state, "serving") == 0) return CANVAS_GREEN;
    return strcmp(state, "draining") == 0 ? CANVAS_CYAN : CANVAS_YELLOW;
}

static const struct view_worker *worker_of(const struct cluster_view *v, const char *name)
{
    for (uint32_t i = 0; i < v->workers_len; i++)
        if (strcmp(v->workers[i].worker, name) == 0) return &v->workers[i];
    return NULL;
}

static bool is_doomed(const struct cluster_view *v, const char *worker)
{
    const struct view_worker *w = worker_of(v, worker);
    return w && strcmp(w->state, "doomed") == 0;
}

/* A mark per cell, where its share begins. */
static void draw_cells(struct canvas *c, uint32_t x, uint32_t y, const struct frame *f,
                       const struct view_rank *r)
{
    enum canvas_style style = r->ready ? CANVAS_PLAIN : CANVAS_YELLOW;
    uint32_t indent = f->column > 2 ? 2 : 1;
    for (uint32_t row = 0; row < rows_of_stage(f, r); row++)
        for (uint32_t s = 0; s < width_of(r); s++)
            canvas_printf(c, x + indent + s * f->column, y + row, style, "%s", r->ready ? "■" : "□");
}

static void draw_rank(struct canvas *c, uint32_t x, uint32_t y, const struct cluster_view *v,
                      const struct frame *f, const struct view_rank *r, enum canvas_style style)
{
    uint32_t left = x + MARGIN + r->cells.s0 * f->column, wide = width_of(r) * f->column;
    bool doomed = is_doomed(v, r->worker);
    canvas_box(c, left, y, wide, 2 + rows_of_stage(f, r), style);
    uint32_t indent = wide > strlen(r->worker) + 2 ? 2 : 1;
    canvas_text(c, left + indent, y + 1, wide > indent ? wide - indent : 0, doomed ? CANVAS_RED : CANVAS_BOLD,
                r->worker);
    draw_cells(c, left, y + 2, f, r);
}

static void draw_labels(struct canvas *c, uint32_t x, uint32_t y, const struct frame *f,
                        const struct view_rank *r)
{
    if (!f->cell_rows) canvas_printf(c, x, y, CANVAS_DIM, "%3u-%-3u", r->cells.g0, r->cells.g1 - 1);
    for (uint32_t g = 0; f->cell_rows && g < rows_of_stage(f, r); g++)
        canvas_printf(c, x, y + g, CANVAS_DIM, "%6u", r->cells.g0 + g);
}

static void draw_title(struct canvas *c, uint32_t x, uint32_t y, const struct cluster_view *v,
                       const struct view_pipeline *p)
{
    uint32_t ready = 0;
    const struct view_worker *leader = p->ranks_len ? worker_of(v, p->ranks[0].worker) : NULL;
    for (uint32_t i = 0; i < p->ranks_len; i++) ready += p->ranks[i].ready;
    uint32_t n = canvas_printf(c, x, y, CANVAS_BOLD, "pipeline %u", p->pipeline);
    n += canvas_printf(c, x + n, y, CANVAS_PLAIN, " · ");
    n += canvas_printf(c, x + n, y, style_of(p->state), "%s", p->state);
    if (strcmp(p->state, "forming") == 0)
        canvas_printf(c, x + n, y, CANVAS_YELLOW, ", %u of %u", ready, p->ranks_len);
    n = canvas_printf(c, x, y + 1, CANVAS_DIM, "%u request%s", p->requests, s_of(p->requests));
    if (strcmp(p->state, "serving") == 0 && leader && leader->kv_total_tokens)
        canvas_printf(c, x + n, y + 1, CANVAS_DIM, ", KV %.0f%%",
                      100.0 * leader->kv_used_tokens / leader->kv_total_tokens);
}

static void draw_pipeline(struct canvas *c, uint32_t x, uint32_t y, const struct cluster_view *v,
                          const struct view_pipeline *p, const struct frame *f)
{
    enum canvas_style style = strcmp(p->state, "serving") == 0 ? CANVAS_PLAIN : style_of(p->state);
    draw_title(c, x, y, v, p);
    uint32_t top = y + 2;
    canvas_printf(c, x, top, CANVAS_DIM, "groups");
    for (uint32_t i = 0; i < p->ranks_len; i++) {
        const struct view_rank *r = &p->ranks[i];
        bool begins = i == 0 || r->stage != p->ranks[i - 1].stage;
        if (begins && i) top += 2 + rows_of_stage(f, &p->ranks[i - 1]);
        if (begins) draw_labels(c, x, top + 2, f, r);
        draw_rank(c, x, top, v, f, r, style);
    }
}

/* ---- all pipelines ---- */

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

uint32_t cluster_picture_pipelines(struct canvas *c, uint32_t y, uint32_t rows, const struct cluster_view *v)
{
    uint32_t x = 0, height = 0, end = y + (rows ? rows : CANVAS_ROWS_MAX), i = 0;
    for (; i < v->pipelines_len; i++) {
        const struct view_pipeline *p = &v->pipelines[i];
        struct frame f = frame_of(v, p, c->columns);
        if (stages_of(p) == 0) continue;
        if (x > 0 && x + f.width > c->columns) { /* a new row of pictures */
            y += height;
            x = height = 0;
        }
        if (y + f.height > end) break;
        draw_pipeline(c, x, y, v, p, &f);
        x += f.width + GAP;
        height = larger(height, f.height + 1);
    }
    y += height;
    if (i < v->pipelines_len && (rows == 0 || y < end))
        canvas_printf(c, 0, y++, CANVAS_DIM, "and %u more pipeline%s", v->pipelines_len - i,
                      s_of(v->pipelines_len - i));
    return y;
}

/* ---- workers ---- */

static const struct view_pipeline *pipeline_of(const struct cluster_view *v, const char *worker)
{
    const struct view_pipeline *found = NULL;
    for (uint32_t i = 0; i < v->pipelines_len; i++)
        for (uint32_t r = 0; r < v->pipelines[i].ranks_len; r++)
            if (strcmp(v->pipelines[i].ranks[r].worker, worker) == 0 &&
                (!found || strcmp(v->pipelines[i].state, "serving") == 0))
                found = &v->pipelines[i];
    return found;
}

/* Kind and price of the instance at hand, where the cloud's groups are the controller's. */
#define PRICE_COLUMNS 15 /* "demand   1.000 ": with it a row of short names has 80 columns */

static void draw_price(struct canvas *c, uint32_t x, uint32_t y, const struct view_instance *in)
{
    if (!in) return;
    canvas_printf(c, x, y, in->spot ? CANVAS_PLAIN : CANVAS_YELLOW, "%s", in->spot ? "spot" : "demand");
    if (in->usd_h > 0) canvas_printf(c, x + 7, y, CANVAS_PLAIN, "%7.3f", in->usd_h);
}

static const struct view_instance *instance_of(const struct cluster_view *v, const char *name)
{
    for (uint32_t i = 0; i < v->capacity.instances_len; i++)
        if (strcmp(v->capacity.instances[i].instance, name) == 0) return &v->capacity.instances[i];
    return NULL;
}

static bool has_worker(const struct cluster_view *v, const char *instance)
{
    for (uint32_t i = 0; i < v->workers_len; i++)
        if (strcmp(v->workers[i].instance, instance) == 0) return true;
    return false;
}

static void draw_worker(struct canvas *c, uint32_t y, uint32_t left, const struct cluster_view *v,
                        const struct view_worker *w)
{
    const struct view_pipeline *p = pipeline_of(v, w->worker);
    bool doomed = strcmp(w->state, "doomed") == 0;
    uint32_t x = left;
    canvas_text(c, 0, y, left / 2 - 1, CANVAS_PLAIN, w->instance);
    canvas_text(c, left / 2, y, left / 2 - 1, CANVAS_BOLD, w->worker);
    if (doomed)
        canvas_printf(c, x, y, CANVAS_RED, "goes in %.0f s", w->deadline_in_s > 0 ? w->deadline_in_s : 0);
    else
        canvas_printf(c, x, y, w->advised ? CANVAS_YELLOW : CANVAS_GREEN, "%s%s", w->state,
                      w->advised ? ", may go" : "");
    x += 14;
    if (v->capacity.on) draw_price(c, x, y, instance_of(v, w->instance));
    if (v->capacity.on) x += PRICE_COLUMNS;
    if (!p) {
        canvas_printf(c, x, y, CANVAS_DIM, "%s", w->why[0] ? w->why : "in no pipeline");
        return;
    }
    canvas_printf(c, x, y, CANVAS_PLAIN, "%8u %9u", p->pipeline, w->requests);
    if (w->step_us) canvas_printf(c, x + 18, y, CANVAS_PLAIN, "%9.1f", (double)w->step_us / 1000);
    if (w->kv_total_tokens)
        canvas_printf(c, x + 28, y, CANVAS_PLAIN, "%4.0f%%", 100.0 * w->kv_used_tokens / w->kv_total_tokens);
}

/* Instances that are paid for, and on which no worker is registered (yet). */
static uint32_t draw_workerless(struct canvas *c, uint32_t y, uint32_t rows, uint32_t left,
                                const struct cluster_view *v)
{
    for (uint32_t i = 0; i < v->capacity.instances_len && rows > 0; i++) {
        const struct view_instance *in = &v->capacity.instances[i];
        if (has_worker(v, in->instance)) continue;
        canvas_text(c, 0, y, left / 2 - 1, CANVAS_PLAIN, in->instance);
        canvas_printf(c, left, y, CANVAS_DIM, "%s", in->pending ? "boots" : "no worker");
        draw_price(c, left + 14, y++, in);
        rows--;
    }
    return y;
}

uint32_t cluster_picture_workers(struct canvas *c, uint32_t y, uint32_t rows, const struct cluster_view *v)
{
    uint32_t name = 9, shown = v->workers_len; /* "instance" */
    for (uint32_t i = 0; i < v->workers_len; i++) {
        name = larger(name, (uint32_t)strlen(v->workers[i].instance) + 1);
        name = larger(name, (uint32_t)strlen(v->workers[i].worker) + 1);
    }
    if (name > 18) name = 18; /* ids of clouds have 19 characters and more: the end is cut */
    canvas_printf(c, 0, y, CANVAS_DIM, "instance");
    canvas_printf(c, name, y, CANVAS_DIM, "worker");
    canvas_printf(c, 2 * name, y++, CANVAS_DIM, "state         %spipeline  requests  step ms   KV",
                  v->capacity.on ? "kind     USD/h " : "");
    if (rows && shown + 1 > rows) shown = rows > 2 ? rows - 2 : 0;
    for (uint32_t i = 0; i < shown; i++) draw_worker(c, y++, 2 * name, v, &v->workers[i]);
    if (shown < v->workers_len) {
        canvas_printf(c, 0, y++, CANVAS_DIM, "and %u more worker%s", v->workers_len - shown,
                      s_of(v->workers_len - shown));
        return y;
    }
    return draw_workerless(c, y, rows ? rows - shown - 1 : CANVAS_ROWS_MAX, 2 * name, v);
}
