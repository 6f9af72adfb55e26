/* The admin listener's handlers: workers, stats, notices, timeline, metrics. */
#include "controller/front/front_internal.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "base/json.h"
#include "controller/front/openai_fields.h"

#define BODY_BYTES_MAX     (4u << 20)
#define DEADLINE_S_MAX     86400.0
#define DEADLINE_S_DEFAULT 30.0 /* GCP gives 30 s, AWS 120 s: assume the shorter */

/* ---- who may ------------------------------------------------------------------------------------------- */

static bool token_ok(const struct gw_front *f, struct gw_http_conn *conn)
{
    const char *token = gw_bearer_token(gw_http_request_header(gw_http_conn_request(conn), "authorization"));
    if (!token || strlen(token) != f->admin_token_len) return false;
    return gw_bytes_equal_ct(token, f->admin_token, f->admin_token_len) != 0;
}

/* "localhost", or a numeric address: a name may be one that a hostile page has pointed at this machine. */
static bool host_is_literal(const char *host)
{
    char name[64];
    struct in6_addr addr;
    size_t len = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    if (len >= sizeof name) return false;
    memcpy(name, host, len);
    name[len] = '\0';
    if (host[0] == '[') {
        name[len - 1] = '\0';
        return inet_pton(AF_INET6, name + 1, &addr) == 1;
    }
    return strcasecmp(name, "localhost") == 0 || inet_pton(AF_INET, name, &addr) == 1;
}

/* Without a token, whoever reaches the listener may use it; a web page in the operator's browser must not be
 * one of them. Browsers name the page's origin; a page that calls this address by a name of its own gives the
 * name away. */
static bool from_foreign_page(const struct gw_http_request *r)
{
    const char *host = gw_http_request_header(r, "host"), *origin = gw_http_request_header(r, "origin");
    if (!host || !host_is_literal(host)) return true;
    const char *origin_host = origin ? strstr(origin, "://") : NULL;
    return origin && (!origin_host || strcasecmp(origin_host + 3, host) != 0);
}

bool gw_front_admit_admin(void *arg, struct gw_http_conn *conn, const struct gw_http_route *route)
{
    const struct gw_front *f = arg;
    struct gw_openai_error error;
    if (f->released) { /* all that could be shown or changed here is over */
        (void)gw_openai_error_set(&error, 503, NULL, NULL, "another controller has taken over: ask again");
        error.retry_after_s = 1;
        gw_front_respond_error(conn, &error);
        return false;
    }
    if (f->admin_token ? ((route && route->open) || token_ok(f, conn))
                       : !from_foreign_page(gw_http_conn_request(conn)))
        return true;
    if (f->admin_token)
        (void)gw_openai_error_set(&error, 401, NULL, NULL,
                                  "the admin token is needed: Authorization: Bearer TOKEN");
    else
        (void)gw_openai_error_set(&error, 403, NULL, NULL,
                                  "without an admin token, web pages may not ask this");
    gw_front_respond_error(conn, &error);
    return false;
}

/* ---- workers and stats --------------------------------------------------------------------------------- */

struct workers {
    struct gw_core_worker_view *list;
    size_t len;
};

static bool read_workers(const struct gw_front *f, struct workers *out)
{
    out->list = calloc(GW_FRONT_WORKERS_MAX, sizeof *out->list);
    if (!out->list) return false;
    size_t there = f->port.workers(f->port.arg, out->list, GW_FRONT_WORKERS_MAX);
    out->len = there < GW_FRONT_WORKERS_MAX ? there : GW_FRONT_WORKERS_MAX;
    return true;
}

static void respond_memory(struct gw_http_conn *conn)
{
    struct gw_openai_error error;
    (void)gw_openai_error_memory(&error);
    gw_front_respond_error(conn, &error);
}

static void put_string(struct gw_buf *b, const char *field, const char *text)
{
    gw_buf_printf(b, "\"%s\":", field);
    gw_json_put_string(b, text, strlen(text));
    gw_buf_u8(b, ',');
}

static void put_heartbeat(struct gw_buf *b, const struct gw_msg_heartbeat *h)
{
    gw_buf_printf(b,
                  "\"heartbeat\":{\"steps\":%llu,\"step_us\":%llu,\"running\":%u,\"waiting\":%u,"
                  "\"kv_used_tokens\":%u,\"kv_total_tokens\":%u,\"prefix_hit_tokens\":%llu,"
                  "\"prefix_query_tokens\":%llu,\"preemptions\":%llu,\"kv_offered\":%llu,\"kv_stored\":%llu,"
                  "\"kv_stored_bytes\":%llu,\"kv_forged_pages\":%llu}",
                  (unsigned long long)h->steps, (unsigned long long)h->step_us, h->running, h->waiting,
                  h->kv_used_tokens, h->kv_total_tokens, (unsigned long long)h->prefix_hit_tokens,
                  (unsigned long long)h->prefix_query_tokens, (unsigned long long)h->preemptions,
                  (unsigned long long)h->kv_offered, (unsigned long long)h->kv_stored,
                  (unsigned long long)h->kv_stored_bytes, (unsigned long long)h->kv_forged_pages);
}

static void put_worker(struct gw_buf *b, const struct gw_core_worker_view *w, int64_t now_us)
{
    gw_buf_u8(b, '{');
    put_string(b, "worker", w->worker);
    put_string(b, "instance", w->instance);
    put_string(b, "profile", w->profile);
    put_string(b, "state", w->state);
    gw_buf_printf(b, "\"pipeline\":%u,\"generation\":%llu,\"requests\":%u,\"pid\":%u,\"deadline_in_s\":",
                  w->pipeline, (unsigned long long)w->generation, w->requests, w->pid);
    if (w->deadline_us)
        gw_buf_printf(b, "%.3f,", (double)(w->deadline_us - now_us) / (double)GW_US_PER_S);
    else
        gw_buf_puts(b, "null,");
    if (w->advised) gw_buf_puts(b, "\"advised\":true,");
    put_heartbeat(b, &w->last);
    gw_buf_u8(b, '}');
}

void gw_front_handle_workers(void *arg, struct gw_http_conn *conn, const char *rest)
{
    const struct gw_front *f = arg;
    struct workers workers;
    struct gw_buf b;
    (void)rest;
    if (!read_workers(f, &workers)) {
        respond_memory(conn);
        return;
    }
    gw_buf_init(&b, BODY_BYTES_MAX);
    gw_buf_puts(&b, "{\"workers\":[");
    for (size_t i = 0; i < workers.len; i++) {
        if (i) gw_buf_u8(&b, ',');
        put_worker(&b, &workers.list[i], gw_front_now_us(f));
    }
    gw_buf_puts(&b, "]}");
    free(workers.list);
    gw_front_respond_json(conn, 200, &b);
}

static void put_instances(struct gw_buf *b, const struct gw_capacity_view_group *g)
{
    gw_buf_puts(b, "\"instances\":[");
    for (size_t i = 0; i < g->instances_len; i++) {
        const struct gw_capacity_view_instance *in = &g->instances[i];
        gw_buf_puts(b, i ? ",{" : "{");
        put_string(b, "instance", in->id);
        put_string(b, "zone", in->zone);
        gw_buf_printf(b, "\"pending\":%s,\"usd_h\":%.6f}", in->pending ? "true" : "false", in->usd_h);
    }
    gw_buf_puts(b, "],");
}

static void put_group(struct gw_buf *b, const char *name, const struct gw_capacity_view_group *g)
{
    gw_buf_printf(b, "\"%s\":{", name);
    put_instances(b, g);
    put_string(b, "group", g->name);
    gw_buf_printf(b,
                  "\"seen\":%s,\"min\":%u,\"max\":%u,\"target\":%u,\"desired\":%u,\"running\":%u,\"live\":%u,"
                  "\"usd_h\":%.6f},",
                  g->seen ? "true" : "false", g->min, g->max, g->target, g->desired, g->running, g->live,
                  g->usd_h);
}

/* "capacity" and "notice_queue", where the controller has them. */
static void put_clouds(const struct gw_front *f, struct gw_buf *b)
{
    struct gw_capacity_view v = {0};
    const struct gw_notice_queue_view *q = &v.queue;
    if (f->port.capacity) f->port.capacity(f->port.arg, &v);
    if (v.on) {
        gw_buf_puts(b, "\"capacity\":{");
        put_string(b, "cloud", v.cloud);
        put_group(b, "spot", &v.groups[0]);
        if (v.groups[1].name[0]) put_group(b, "on_demand", &v.groups[1]);
        put_string(b, "draining", v.draining);
        put_string(b, "trouble", v.trouble);
        gw_buf_printf(b,
                      "\"dry_run\":%s,\"need\":%u,\"wish\":%u,\"writes\":%llu,\"deletions\":%llu,"
                      "\"failures\":%llu},",
                      v.dry_run ? "true" : "false", v.need, v.wish, (unsigned long long)v.writes,
                      (unsigned long long)v.deletions, (unsigned long long)v.failures);
    }
    if (q->on)
        gw_buf_printf(b,
                      "\"notice_queue\":{\"received\":%llu,\"taken\":%llu,\"unknown\":%llu,\"odd\":%llu,"
                      "\"completed\":%llu},",
                      (unsigned long long)q->received, (unsigned long long)q->taken,
                      (unsigned long long)q->unknown, (unsigned long long)q->odd,
                      (unsigned long long)q->completed);
}

static void put_traffic(const struct gw_front *f, const struct gw_core_stats *s, struct gw_buf *b)
{
    static const char *const kinds[GW_TRAFFIC_KINDS] = {"steps", "pages", "stores", "weights"};
    uint64_t far = 0;
    gw_buf_puts(b, "\"worker_bytes\":{");
    for (int k = 0; k < GW_TRAFFIC_KINDS; k++) {
        gw_buf_printf(b, "\"%s\":{\"same_zone\":%llu,\"other_zone\":%llu},", kinds[k],
                      (unsigned long long)s->traffic.near[k], (unsigned long long)s->traffic.far[k]);
        far += s->traffic.far[k];
    }
    gw_buf_printf(b, "\"other_zone_usd\":%.9g,\"other_zone_usd_h\":%.9g},",
                  (double)far * 1e-9 * f->config.egress_usd_gb,
                  s->far_bytes_s * 3600 * 1e-9 * f->config.egress_usd_gb);
}

void gw_front_handle_stats(void *arg, struct gw_http_conn *conn, const char *rest)
{
    const struct gw_front *f = arg;
    struct gw_core_stats s = {0};
    struct gw_buf b;
    (void)rest;
    f->port.stats(f->port.arg, &s);
    gw_buf_init(&b, BODY_BYTES_MAX);
    gw_buf_printf(
        &b,
        "{\"workers_up\":%u,\"workers_doomed\":%u,\"queued\":%u,\"running\":%u,\"accepted\":%llu,"
        "\"done\":%llu,\"failed\":%llu,\"cancelled\":%llu,\"tokens\":%llu,\"losses\":%llu,"
        "\"announced_moves\":%llu,\"unannounced_moves\":%llu,\"stale_frames\":%llu,\"diverged\":%llu,",
        s.workers_up, s.workers_doomed, s.queued, s.running, (unsigned long long)s.accepted,
        (unsigned long long)s.done, (unsigned long long)s.failed, (unsigned long long)s.cancelled,
        (unsigned long long)s.tokens, (unsigned long long)s.losses, (unsigned long long)s.announced_moves,
        (unsigned long long)s.unannounced_moves, (unsigned long long)s.stale_frames,
        (unsigned long long)s.diverged);
    gw_buf_printf(&b,
                  "\"warms\":%llu,\"warmed\":%llu,\"kv_tokens\":{\"cache\":%llu,\"peer\":%llu,\"store\":%llu,"
                  "\"recompute\":%llu},",
                  (unsigned long long)s.warms, (unsigned long long)s.warmed, (unsigned long long)s.kv.cached,
                  (unsigned long long)s.kv.moved, (unsigned long long)s.kv.stored,
                  (unsigned long long)gw_kv_recomputed(&s.kv));
    put_traffic(f, &s, &b);
    put_clouds(f, &b);
    gw_buf_printf(&b, "\"connections\":%d,\"requests\":%d}", gw_http_server_connections(f->api),
                  f->completions_len);
    gw_front_respond_json(conn, 200, &b);
}

static void count_pipelines(const struct gw_front *f, struct gw_metrics_now *now)
{
    struct gw_core_pipeline_view p;
    for (size_t i = 0; f->port.pipeline(f->port.arg, i, &p); i++) {
        now->forming += strcmp(p.state, "forming") == 0;
        now->ready += strcmp(p.state, "ready") == 0;
        now->serving += strcmp(p.state, "serving") == 0;
        now->draining += strcmp(p.state, "draining") == 0;
    }
}

void gw_front_handle_metrics(void *arg, struct gw_http_conn *conn, const char *rest)
{
    const struct gw_front *f = arg;
    struct gw_metrics_now now = {.model = f->model.name,
                                 .egress_usd_gb = f->config.egress_usd_gb,
                                 .connections = gw_http_server_connections(f->api),
                                 .requests = f->completions_len,
                                 .streams_held = f->held_len};
    struct workers workers;
    struct gw_buf b;
    (void)rest;
    if (!read_workers(f, &workers)) {
        respond_memory(conn);
        return;
    }
    struct gw_layout_view view = {0};
    f->port.stats(f->port.arg, &now.core);
    f->port.layout(f->port.arg, &view);
    if (f->config.journal.stats) f->config.journal.stats(f->config.journal.arg, &now.journal);
    if (f->port.turned_away) now.turned_away = f->port.turned_away(f->port.arg);
    if (f->port.capacity) f->port.capacity(f->port.arg, &now.capacity);
    count_pipelines(f, &now);
    now.epoch = f->port.epoch(f->port.arg);
    now.plans = view.plans;
    now.plans_us = view.plans_us;
    for (size_t i = 0; i < workers.len; i++) {
        const struct gw_msg_heartbeat *h = &workers.list[i].last;
        now.kv_used_tokens += h->kv_used_tokens;
        now.kv_total_tokens += h->kv_total_tokens;
        now.preemptions += h->preemptions;
        now.prefix_hit_tokens += h->prefix_hit_tokens;
        now.prefix_query_tokens += h->prefix_query_tokens;
        now.kv_offered += h->kv_offered;
        now.kv_stored += h->kv_stored;
        now.kv_stored_bytes += h->kv_stored_bytes;
        now.kv_forged_pages += h->kv_forged_pages;
    }
    free(workers.list);
    gw_buf_init(&b, BODY_BYTES_MAX);
    gw_metrics_put(&f->metrics, &now, &b);
    const struct gw_http_answer answer = {.status = b.err == GW_OK ? 200 : 503,
                                          .content_type = "text/plain; version=0.0.4; charset=utf-8",
                                          .body = b.data,
                                          .body_len = b.err == GW_OK ? b.len : 0};
    gw_http_conn_respond(conn, &answer);
    gw_buf_fini(&b);
}

/* ---- notices ------------------------------------------------------------------------------------------- */

struct notice {
    const char *name; /* worker or instance; in the tree */
    const char *field;
    uint8_t kind;
    double deadline_s;
};

/* What a watch says of itself: no notices, and not the core's matter. */
enum { KIND_BLIND = 254, KIND_SEES = 255 };

static int notice_kind(const char *name)
{
    static const struct {
        const char *name;
        int kind;
    } kinds[] = {{"preempt", GW_NOTICE_PREEMPT},
                 {"rebalance", GW_NOTICE_REBALANCE},
                 {"maintenance", GW_NOTICE_MAINTENANCE},
                 {"scale-in", GW_NOTICE_SCALE_IN},
                 {"cancel", GW_NOTICE_CANCEL},
                 {"blind", KIND_BLIND},
                 {"sees", KIND_SEES}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].name, name) == 0) return kinds[i].kind;
    return 0;
}

static gw_err_t read_notice(const cJSON *body, struct notice *n, struct gw_openai_error *error)
{
    const char *worker = NULL, *instance = NULL, *kind = NULL;
    struct gw_err_ctx ctx = {0};
    TRY(gw_field_string(body, "worker", &worker, error));
    TRY(gw_field_string(body, "instance", &instance, error));
    TRY(gw_field_string(body, "kind", &kind, error));
    if (!worker == !instance)
        return gw_openai_error_set(error, 400, NULL, "instance", "either 'instance' or 'worker' is needed");
    n->name = worker ? worker : instance;
    n->field = worker ? "worker" : "instance";
    n->kind = (uint8_t)(kind ? notice_kind(kind) : 0);
    if (n->kind == 0)
        return gw_openai_error_set(error, 400, NULL, "kind",
                                   "'kind' must be preempt, rebalance, maintenance, scale-in or cancel");
    n->deadline_s = DEADLINE_S_DEFAULT;
    if (gw_json_double(body, "deadline_s", 0, DEADLINE_S_MAX, &n->deadline_s, &ctx) != GW_OK)
        return gw_openai_error_set(error, 400, NULL, "deadline_s", "%s", ctx.text);
    return GW_OK;
}

static gw_err_t check_known(const struct gw_front *f, const struct notice *n, struct gw_openai_error *error)
{
    struct workers workers;
    bool known = false, by_worker = strcmp(n->field, "worker") == 0;
    if (!read_workers(f, &workers)) return gw_openai_error_memory(error);
    for (size_t i = 0; i < workers.len; i++)
        known |= strcmp(by_worker ? workers.list[i].worker : workers.list[i].instance, n->name) == 0;
    free(workers.list);
    if (known) return GW_OK;
    return gw_openai_error_set(error, 404, NULL, n->field, "there is no %s '%.128s'", n->field, n->name);
}

static void note_sight(struct gw_front *f, const struct notice *n)
{
    f->metrics.watches_blind += n->kind == KIND_BLIND;
    if (n->kind == KIND_BLIND)
        gw_logf(f->log, GW_LOG_WARN,
                "%s %.128s: its cloud does not answer its watch: notices would not be heard", n->field,
                n->name);
    else
        gw_logf(f->log, GW_LOG_INFO, "%s %.128s: its cloud answers again", n->field, n->name);
}

static gw_err_t post_notice(struct gw_front *f, const cJSON *body, struct gw_openai_error *error)
{
    struct notice n = {0};
    TRY(read_notice(body, &n, error));
    TRY(check_known(f, &n, error));
    if (n.kind == KIND_BLIND || n.kind == KIND_SEES) {
        note_sight(f, &n);
        return GW_OK;
    }
    bool cancel = n.kind == GW_NOTICE_CANCEL;
    const struct gw_event event = {
        .type = GW_EV_NOTICE,
        .notice = {.name = n.name,
                   .kind = n.kind,
                   .deadline_us =
                       cancel ? 0 : gw_front_now_us(f) + (int64_t)(n.deadline_s * (double)GW_US_PER_S)}};
    f->port.post(f->port.arg, &event);
    return GW_OK;
}

void gw_front_handle_notice(void *arg, struct gw_http_conn *conn, const char *rest)
{
    struct gw_front *f = arg;
    const struct gw_buf *body = &gw_http_conn_request(conn)->body;
    struct gw_openai_error error = {0};
    struct gw_err_ctx ctx = {0};
    cJSON *tree = NULL;
    gw_err_t err;
    (void)rest;
    if (body->len == 0 || gw_json_parse((const char *)body->data, body->len, body->len, &tree, &ctx) != GW_OK)
        err =
            gw_openai_error_set(&error, 400, NULL, NULL, "%s", ctx.text[0] ? ctx.text : "the body is empty");
    else
        err = post_notice(f, tree, &error);
    cJSON_Delete(tree);
    if (err != GW_OK) {
        gw_front_respond_error(conn, &error);
        return;
    }
    struct gw_buf b;
    gw_buf_init(&b, BODY_BYTES_MAX);
    gw_buf_puts(&b, "{\"status\":\"accepted\"}");
    gw_front_respond_json(conn, 202, &b);
}

/* ---- timeline ------------------------------------------------------------------------------------------ */

void gw_front_handle_events(void *arg, struct gw_http_conn *conn, const char *rest)
{
    const struct gw_front *f = arg;
    struct gw_openai_error error;
    const char *last = gw_http_request_header(gw_http_conn_request(conn), "last-event-id");
    (void)rest;
    if (gw_timeline_watch(f->timeline, conn, last ? strtoull(last, NULL, 10) : 0, f->config.sse_ping_us) ==
        GW_OK)
        return;
    (void)gw_openai_error_set(&error, 503, NULL, NULL, "too many watch the timeline already");
    gw_front_respond_error(conn, &error);
}
