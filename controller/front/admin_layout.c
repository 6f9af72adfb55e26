/* The admin listener's layout: which pipelines there are, of which ranks, and forcing another one. */
#include "controller/front/front_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "controller/front/openai_fields.h"

#define BODY_BYTES_MAX (16u << 20) /* 1024 workers in as many pipelines, old and new, take 2 MB */
#define PIPELINES_MAX  4096        /* shown */

/* Someone who forced a layout and waits for its epoch. */
struct gw_layout_waiter {
    LIST_ENTRY(gw_layout_waiter) link;
    struct gw_http_conn *conn;
    uint64_t ticket;
};

struct writer {
    const struct gw_front *f;
    struct gw_buf *b;
    struct gw_layout_view view;
    struct gw_core_pipeline_view pipeline;
    struct gw_core_worker_view *workers;
    uint8_t *placed; /* [workers_len] is it a rank of some pipeline? */
    size_t workers_len;
};

/* ---- pipelines ----------------------------------------------------------------------------------------- */

static void put_text(struct gw_buf *b, const char *field, const char *text)
{
    gw_buf_printf(b, "\"%s\":", field);
    gw_json_put_string(b, text, strlen(text));
}

static struct gw_core_worker_view *find_worker(const struct writer *w, const char *name)
{
    for (size_t i = 0; i < w->workers_len; i++)
        if (strcmp(w->workers[i].worker, name) == 0) return &w->workers[i];
    return NULL;
}

static void put_rank(struct writer *w, const struct gw_core_rank_view *r)
{
    const struct gw_core_worker_view *worker = find_worker(w, r->worker);
    if (worker) w->placed[worker - w->workers] = 1;
    gw_buf_u8(w->b, '{');
    put_text(w->b, "worker", r->worker);
    gw_buf_u8(w->b, ',');
    put_text(w->b, "instance", worker ? worker->instance : "");
    gw_buf_printf(w->b,
                  ",\"stage\":%u,\"groups\":[%u,%u],\"shares\":[%u,%u],\"weight_bytes\":%llu,\"ready\":%s,"
                  "\"loaded_bytes\":%llu}",
                  r->stage, r->cells.g0, r->cells.g1, r->cells.s0, r->cells.s1,
                  (unsigned long long)gw_plan_weight_bytes(w->view.model, r->cells),
                  r->ready ? "true" : "false", (unsigned long long)r->loaded_bytes);
}

static void put_pipeline(struct writer *w)
{
    const struct gw_core_pipeline_view *p = &w->pipeline;
    gw_buf_printf(w->b,
                  "{\"pipeline\":%u,\"generation\":%llu,\"epoch\":%llu,\"state\":\"%s\",\"requests\":%u,"
                  "\"kv_tokens\":%u,\"context\":%u,\"ranks\":[",
                  p->pipeline, (unsigned long long)p->generation, (unsigned long long)p->epoch, p->state,
                  p->requests, p->kv_tokens, p->context);
    for (uint32_t i = 0; i < p->ranks_len; i++) {
        if (i) gw_buf_u8(w->b, ',');
        put_rank(w, &p->ranks[i]);
    }
    gw_buf_puts(w->b, "]}");
}

static void put_pipelines(struct writer *w)
{
    const struct gw_front_port *port = &w->f->port;
    gw_buf_puts(w->b, "\"pipelines\":[");
    for (size_t i = 0; i < PIPELINES_MAX && port->pipeline(port->arg, i, &w->pipeline); i++) {
        if (i) gw_buf_u8(w->b, ',');
        put_pipeline(w);
    }
    gw_buf_u8(w->b, ']');
}

/* ---- the others, and the plan -------------------------------------------------------------------------- */

static void put_unplaced(struct writer *w)
{
    const char *comma = "";
    gw_buf_puts(w->b, "\"unplaced\":[");
    for (size_t i = 0; i < w->workers_len; i++) {
        if (w->placed[i]) continue;
        gw_buf_printf(w->b, "%s{", comma);
        put_text(w->b, "worker", w->workers[i].worker);
        gw_buf_u8(w->b, ',');
        put_text(w->b, "instance", w->workers[i].instance);
        gw_buf_u8(w->b, ',');
        put_text(w->b, "why", w->f->port.why(w->f->port.arg, w->workers[i].worker));
        gw_buf_u8(w->b, '}');
        comma = ",";
    }
    gw_buf_u8(w->b, ']');
}

static void put_plan(struct writer *w)
{
    const struct gw_layout_view *v = &w->view;
    gw_buf_puts(w->b, "\"plan\":{");
    put_text(w->b, "reason", v->reason);
    gw_buf_printf(w->b,
                  ",\"fleet\":%llu,\"pipelines\":%u,\"pipelines_wanted\":%u,\"missing_bytes\":%llu,"
                  "\"under_way\":%s,\"made\":%llu,\"took_ms\":%.3f}",
                  (unsigned long long)v->fleet, v->pipelines, v->pipelines_wanted,
                  (unsigned long long)v->missing_bytes, v->planning ? "true" : "false",
                  (unsigned long long)v->plans, (double)v->plan_us / (double)GW_US_PER_MS);
}

static void put_load(struct writer *w)
{
    const struct gw_plan_load *l = &w->view.load;
    gw_buf_printf(
        w->b,
        "\"load\":{\"arrival_rps\":%.3f,\"measured_rps\":%.3f,\"prompt\":{\"mean\":%.1f,\"p99\":%.1f},"
        "\"output\":{\"mean\":%.1f,\"p99\":%.1f},\"tokens_s\":%.1f}",
        l->arrival_rps, w->view.measured_rps, l->prompt_mean, l->prompt_p99, l->output_mean, l->output_p99,
        w->view.tokens_s);
}

static void put_layout(struct writer *w)
{
    const struct gw_front_port *port = &w->f->port;
    const struct gw_plan_model *m = w->view.model;
    const struct gw_cell_rect all = {0, (uint16_t)m->groups, 0, (uint16_t)m->shares};
    gw_buf_printf(w->b, "{\"epoch\":%llu,", (unsigned long long)port->epoch(port->arg));
    put_text(w->b, "layout", w->view.layout);
    gw_buf_u8(w->b, ',');
    put_text(w->b, "model", w->f->model.name);
    gw_buf_printf(w->b, ",\"groups\":%u,\"shares\":%u,\"weight_bytes\":%llu,", m->groups, m->shares,
                  (unsigned long long)gw_plan_weight_bytes(m, all));
    put_pipelines(w);
    gw_buf_u8(w->b, ',');
    put_unplaced(w);
    gw_buf_u8(w->b, ',');
    put_plan(w);
    gw_buf_u8(w->b, ',');
    put_load(w);
    gw_buf_u8(w->b, '}');
}

static void respond_memory(struct gw_http_conn *conn)
{
    struct gw_openai_error error;
    (void)gw_openai_error_memory(&error);
    gw_front_respond_error(conn, &error);
}

void gw_front_handle_layout(void *arg, struct gw_http_conn *conn, const char *rest)
{
    const struct gw_front *f = arg;
    struct gw_buf b;
    (void)rest;
    struct writer *w = calloc(1, sizeof *w);
    if (w) *w = (struct writer){.f = f, .b = &b};
    if (w) w->workers = calloc(GW_FRONT_WORKERS_MAX, sizeof *w->workers);
    if (w) w->placed = calloc(GW_FRONT_WORKERS_MAX, sizeof *w->placed);
    if (w && w->workers && w->placed) {
        size_t there = f->port.workers(f->port.arg, w->workers, GW_FRONT_WORKERS_MAX);
        w->workers_len = there < GW_FRONT_WORKERS_MAX ? there : GW_FRONT_WORKERS_MAX;
        f->port.layout(f->port.arg, &w->view);
        gw_buf_init(&b, BODY_BYTES_MAX);
        put_layout(w);
        gw_front_respond_json(conn, 200, &b);
    } else {
        respond_memory(conn);
    }
    if (w) free(w->workers);
    if (w) free(w->placed);
    free(w);
}

/* ---- forcing one --------------------------------------------------------------------------------------- */

static void on_gone(void *arg)
{
    struct gw_layout_waiter *waiter = arg;
    LIST_REMOVE(waiter, link);
    free(waiter);
}

static gw_err_t read_wish(const struct gw_buf *body, cJSON **tree, const char **layout,
                          struct gw_openai_error *error)
{
    struct gw_err_ctx ctx = {0};
    if (body->len == 0) return gw_openai_error_set(error, 400, NULL, NULL, "the body is empty");
    if (gw_json_parse((const char *)body->data, body->len, body->len, tree, &ctx) != GW_OK)
        return gw_openai_error_set(error, 400, NULL, NULL, "%s", ctx.text);
    TRY(gw_field_string(*tree, "layout", layout, error));
    if (*layout) return GW_OK;
    return gw_openai_error_set(error, 400, NULL, "layout",
                               "'layout' is needed: auto, replicas, or a shape such as tp4");
}

static gw_err_t force(struct gw_front *f, struct gw_http_conn *conn, const char *layout,
                      struct gw_openai_error *error)
{
    struct gw_err_ctx ctx = {0};
    struct gw_layout_waiter *waiter = calloc(1, sizeof *waiter);
    if (!waiter) return gw_openai_error_memory(error);
    gw_err_t err = f->port.force(f->port.arg, layout, &waiter->ticket, &ctx);
    if (err != GW_OK) {
        free(waiter);
        return gw_openai_error_set(error, err == GW_ERR_INPUT ? 400 : 503, NULL, "layout", "%s", ctx.text);
    }
    waiter->conn = conn;
    LIST_INSERT_HEAD(&f->layout_waiters, waiter, link);
    gw_http_conn_hold(conn, on_gone, waiter);
    return GW_OK;
}

void gw_front_handle_force_layout(void *arg, struct gw_http_conn *conn, const char *rest)
{
    struct gw_front *f = arg;
    struct gw_openai_error error = {0};
    cJSON *tree = NULL;
    const char *layout = NULL;
    (void)rest;
    gw_err_t err = read_wish(&gw_http_conn_request(conn)->body, &tree, &layout, &error);
    if (err == GW_OK) err = force(f, conn, layout, &error);
    cJSON_Delete(tree);
    if (err != GW_OK) gw_front_respond_error(conn, &error);
}

static void answer(const struct gw_layout_view *view, struct gw_http_conn *conn, uint64_t epoch)
{
    struct gw_openai_error error;
    struct gw_buf b;
    if (epoch == 0) {
        (void)gw_openai_error_set(&error, 503, NULL, "layout", "no plan could be made: %s", view->reason);
        gw_front_respond_error(conn, &error);
        return;
    }
    gw_buf_init(&b, BODY_BYTES_MAX);
    gw_buf_printf(&b, "{\"epoch\":%llu,", (unsigned long long)epoch);
    put_text(&b, "layout", view->layout);
    gw_buf_printf(&b, ",\"pipelines\":%u,\"pipelines_wanted\":%u,", view->pipelines, view->pipelines_wanted);
    put_text(&b, "reason", view->reason);
    gw_buf_u8(&b, '}');
    gw_front_respond_json(conn, 200, &b);
}

void gw_front_on_layout(struct gw_front *f, uint64_t ticket, uint64_t epoch)
{
    struct gw_layout_view view = {0};
    struct gw_layout_waiter *next;
    f->port.layout(f->port.arg, &view);
    for (struct gw_layout_waiter *w = LIST_FIRST(&f->layout_waiters); w; w = next) {
        next = LIST_NEXT(w, link);
        if (w->ticket > ticket) continue;
        LIST_REMOVE(w, link);
        answer(&view, w->conn, epoch);
        free(w);
    }
}
