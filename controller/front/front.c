#include "controller/front/front_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

#define TICK_US_MAX           GW_US_PER_S
#define STOP_TICK_US          20000 /* clients wait for the end: what can go on elsewhere does so at once */
#define ADMIN_CONNECTIONS_MAX 128
#define ADMIN_BODY_BYTES_MAX  65536
#define STOP_FLUSH_US         (2 * GW_US_PER_S) /* for the last answers to leave */
#define FIRST_US              (2 * GW_US_PER_S) /* for the first request of who has just connected */

static const struct gw_http_route api_routes[] = {
    {GW_HTTP_POST, "/v1/chat/completions", false, gw_front_handle_chat},
    {GW_HTTP_POST, "/v1/completions", false, gw_front_handle_completions},
    {GW_HTTP_GET, "/v1/streams/", false, gw_front_handle_stream},
    {GW_HTTP_GET, "/v1/models", false, gw_front_handle_models},
    {GW_HTTP_GET, "/v1/models/", false, gw_front_handle_model},
    {GW_HTTP_POST, "/tokenize", false, gw_front_handle_tokenize},
    {GW_HTTP_POST, "/detokenize", false, gw_front_handle_detokenize},
    {GW_HTTP_GET, "/version", false, gw_front_handle_version},
    {GW_HTTP_GET, "/health", true, gw_front_handle_health},
    {GW_HTTP_GET, "/ready", true, gw_front_handle_ready},
};

static const struct gw_http_route admin_routes[] = {
    {GW_HTTP_GET, "/admin/workers", false, gw_front_handle_workers},
    {GW_HTTP_GET, "/admin/stats", false, gw_front_handle_stats},
    {GW_HTTP_GET, "/admin/layout", false, gw_front_handle_layout},
    {GW_HTTP_POST, "/admin/layout", false, gw_front_handle_force_layout},
    {GW_HTTP_POST, "/admin/notice", false, gw_front_handle_notice},
    {GW_HTTP_GET, "/admin/events", false, gw_front_handle_events},
    {GW_HTTP_GET, "/metrics", false, gw_front_handle_metrics},
    {GW_HTTP_GET, "/health", true, gw_front_handle_health},
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

void gw_front_config_default(struct gw_front_config *config)
{
    *config = (struct gw_front_config){
        .host = "127.0.0.1",
        .port = 8000,
        .admin_host = "127.0.0.1",
        .admin_port = 8001,
        .version = "unknown",
        .max_connections = 4096,
        .max_head_bytes = 32 << 10,
        .max_target_bytes = 8 << 10,
        .max_body_bytes = 8 << 20,
        .max_bodies_bytes = 1 << 30,
        .max_queued_bytes = 4 << 20,
        .head_timeout_us = 10 * GW_US_PER_S,
        .body_timeout_us = 60 * GW_US_PER_S,
        .idle_timeout_us =
            75 * GW_US_PER_S, /* longer than common clients keep theirs, so that they close first */
        .stall_timeout_us = 60 * GW_US_PER_S,
        .sse_ping_us = 15 * GW_US_PER_S,
        .resume_grace_us = 60 * GW_US_PER_S,
        .clock = gw_clock_mono(),
    };
}

/* ---- answers ------------------------------------------------------------------------------------------- */

static void put_error_body(struct gw_buf *body, int status, const char *message)
{
    struct gw_openai_error error;
    (void)gw_openai_error_set(&error, status, NULL, NULL, "%s", message);
    gw_openai_error_put(body, &error);
}

void gw_front_respond_error(struct gw_http_conn *conn, const struct gw_openai_error *error)
{
    struct gw_buf body;
    char seconds[16];
    struct gw_http_header headers[2];
    int len = 0;
    if (error->retry_after_s > 0) {
        snprintf(seconds, sizeof seconds, "%d", error->retry_after_s);
        headers[len++] = (struct gw_http_header){"Retry-After", seconds};
    }
    if (error->status == 401) headers[len++] = (struct gw_http_header){"WWW-Authenticate", "Bearer"};
    gw_buf_init(&body, 8 * GW_ERR_TEXT_MAX);
    gw_openai_error_put(&body, error);
    const struct gw_http_answer answer = {.status = error->status,
                                          .content_type = "application/json",
                                          .headers = headers,
                                          .headers_len = len,
                                          .body = body.data,
                                          .body_len = body.len};
    gw_http_conn_respond(conn, &answer);
    gw_buf_fini(&body);
}

void gw_front_respond_json(struct gw_http_conn *conn, int status, struct gw_buf *body)
{
    const struct gw_http_answer answer = {
        .status = status, .content_type = "application/json", .body = body->data, .body_len = body->len};
    struct gw_openai_error error;
    if (body->err == GW_OK) {
        gw_http_conn_respond(conn, &answer);
    } else if (body->err == GW_ERR_LIMIT) {
        (void)gw_openai_error_set(&error, 500, NULL, NULL, "the answer is too large to be held");
        gw_front_respond_error(conn, &error);
    } else {
        (void)gw_openai_error_memory(&error);
        gw_front_respond_error(conn, &error);
    }
    gw_buf_fini(body);
}

/* ---- keys ---------------------------------------------------------------------------------------------- */

static bool admit_api(void *arg, struct gw_http_conn *conn, const struct gw_http_route *route)
{
    const struct gw_front *f = arg;
    struct gw_openai_error error;
    uint8_t tenant[GW_REQUEST_TENANT_BYTES];
    const char *authorization = gw_http_request_header(gw_http_conn_request(conn), "authorization");
    if ((route && route->open) || gw_api_keys_check(f->keys, authorization, tenant)) return true;
    (void)gw_openai_error_set(&error, 401, "invalid_api_key", NULL,
                              authorization ? "the API key is not known here"
                                            : "an API key is needed: Authorization: Bearer KEY");
    gw_front_respond_error(conn, &error);
    return false;
}

void gw_front_tenant(const struct gw_front *f, struct gw_http_conn *conn,
                     uint8_t tenant[GW_REQUEST_TENANT_BYTES])
{
    const char *authorization = gw_http_request_header(gw_http_conn_request(conn), "authorization");
    if (!gw_api_keys_check(f->keys, authorization, tenant)) memset(tenant, 0, GW_REQUEST_TENANT_BYTES);
}

/* ---- events -------------------------------------------------------------------------------------------- */

void gw_front_on_action(struct gw_front *f, const struct gw_action *action)
{
    if (action->type == GW_ACT_NOTE) {
        f->metrics.transitions += action->note.kind == GW_NOTE_PIPELINE_SERVING;
        gw_timeline_add(f->timeline, &action->note, gw_clock_unix_ms());
    } else {
        gw_completion_on_action(f, action);
    }
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    gw_completions_flush(arg);
}

/* Finish: what ends by itself; then fail the rest; then let the answers leave. */
static void check_stop(struct gw_front *f, int64_t now_us)
{
    if (!f->stopping || !f->stopped) return;
    if (now_us >= f->stop_deadline_us && !f->failed_rest) {
        f->failed_rest = true;
        gw_completions_fail(f);
    }
    bool sent = f->completions_len == 0 && gw_http_server_connections(f->api) == 0;
    if (!sent && now_us < f->stop_deadline_us + STOP_FLUSH_US) return;
    void (*stopped)(void *) = f->stopped;
    f->stopped = NULL;
    stopped(f->stopped_arg);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct gw_front *f = arg;
    int64_t now = gw_front_now_us(f);
    gw_completions_tick(f, now);
    check_stop(f, now);
}

void gw_front_stop(struct gw_front *f, int64_t grace_us, void (*stopped)(void *arg), void *arg)
{
    if (f->stopping) return;
    f->stopping = true;
    f->stop_deadline_us = gw_front_now_us(f) + grace_us;
    f->stopped = stopped;
    f->stopped_arg = arg;
    gw_completions_drain(f);
    gw_http_server_drain(f->api, f->released ? FIRST_US : 0);
    const struct timeval often = {.tv_usec = STOP_TICK_US};
    (void)event_add(f->tick, &often); /* on failure it stays as slow as it was */
}

void gw_front_release(struct gw_front *f, int64_t grace_us, void (*stopped)(void *arg), void *arg)
{
    gw_completions_release(f);
    f->released = true;
    gw_front_stop(f, grace_us, stopped, arg);
    gw_http_server_drain(f->admin, 0);
    gw_completions_flush(f);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static struct gw_http_conn_config conn_config(const struct gw_front_config *k)
{
    return (struct gw_http_conn_config){.limits = {.head_bytes = k->max_head_bytes,
                                                   .target_bytes = k->max_target_bytes,
                                                   .body_bytes = k->max_body_bytes},
                                        .head_timeout_us = k->head_timeout_us,
                                        .body_timeout_us = k->body_timeout_us,
                                        .idle_timeout_us = k->idle_timeout_us,
                                        .stall_timeout_us = k->stall_timeout_us,
                                        .queued_bytes_max = k->max_queued_bytes};
}

static gw_err_t listen_api(struct gw_front *f, struct gw_err_ctx *ctx)
{
    const struct gw_http_server_config config = {.name = "api",
                                                 .host = f->config.host,
                                                 .port = f->config.port,
                                                 .socket = f->config.socket,
                                                 .max_connections = (int)f->config.max_connections,
                                                 .max_bodies_bytes = f->config.max_bodies_bytes,
                                                 .conn = conn_config(&f->config),
                                                 .routes = api_routes,
                                                 .routes_len = COUNT(api_routes),
                                                 .admit = admit_api,
                                                 .error_body = put_error_body,
                                                 .arg = f};
    return gw_http_server_create(f->loop, f->config.clock, &config, f->log, &f->api, ctx);
}

static gw_err_t listen_admin(struct gw_front *f, struct gw_err_ctx *ctx)
{
    struct gw_http_server_config config = {.name = "admin",
                                           .host = f->config.admin_host,
                                           .port = f->config.admin_port,
                                           .socket = f->config.admin_socket,
                                           .max_connections = ADMIN_CONNECTIONS_MAX,
                                           .max_bodies_bytes = ADMIN_CONNECTIONS_MAX * ADMIN_BODY_BYTES_MAX,
                                           .conn = conn_config(&f->config),
                                           .routes = admin_routes,
                                           .routes_len = COUNT(admin_routes),
                                           .admit = gw_front_admit_admin,
                                           .error_body = put_error_body,
                                           .arg = f};
    config.conn.limits.body_bytes = ADMIN_BODY_BYTES_MAX;
    return gw_http_server_create(f->loop, f->config.clock, &config, f->log, &f->admin, ctx);
}

static gw_err_t start_events(struct gw_front *f, struct gw_err_ctx *ctx)
{
    int64_t tick_us = f->config.sse_ping_us / 4 < TICK_US_MAX ? f->config.sse_ping_us / 4 + 1 : TICK_US_MAX;
    struct timeval tick = {.tv_sec = tick_us / GW_US_PER_S, .tv_usec = tick_us % GW_US_PER_S};
    f->flush = evtimer_new(f->loop, on_flush, f);
    f->tick = event_new(f->loop, -1, EV_PERSIST, on_tick, f);
    if (!f->flush || !f->tick || event_add(f->tick, &tick) != 0 || gw_timeline_create(&f->timeline) != GW_OK)
        return gw_fail(ctx, GW_ERR_MEMORY, "front: out of memory");
    return GW_OK;
}

static gw_err_t start(struct gw_front *f, struct gw_err_ctx *ctx)
{
    TRY(start_events(f, ctx));
    if (f->config.api_keys_file) TRY(gw_api_keys_open(f->config.api_keys_file, &f->keys, ctx));
    if (f->config.admin_token_file)
        TRY(gw_secret_read(f->config.admin_token_file, &f->admin_token, &f->admin_token_len, ctx));
    TRY(listen_api(f, ctx));
    return listen_admin(f, ctx);
}

gw_err_t gw_front_create(struct event_base *loop, struct gw_pool *pool, const struct gw_front_text *text,
                         const struct gw_front_config *config, const struct gw_front_port *port,
                         const struct gw_log *log, struct gw_front **out, struct gw_err_ctx *ctx)
{
    struct gw_front *f = calloc(1, sizeof *f);
    if (!f) return gw_fail(ctx, GW_ERR_MEMORY, "front: out of memory");
    f->loop = loop;
    f->pool = pool;
    f->config = *config;
    f->port = *port;
    f->log = log;
    f->created_s = gw_clock_unix_s();
    f->model = (struct gw_openai_model){.name = config->model_name,
                                        .tokenizer = text->tokenizer,
                                        .chat = text->chat,
                                        .vocab = config->vocab,
                                        .context = config->context};
    if (f->model.vocab == 0) f->model.vocab = gw_tokenizer_vocab(text->tokenizer);
    LIST_INIT(&f->completions);
    LIST_INIT(&f->layout_waiters);
    STAILQ_INIT(&f->dirty);
    gw_metrics_init(&f->metrics);
    gw_err_t err = start(f, ctx);
    if (err != GW_OK) {
        gw_front_destroy(f);
        return err;
    }
    *out = f;
    return GW_OK;
}

void gw_front_destroy(struct gw_front *f)
{
    if (!f) return;
    f->destroying = true;
    gw_http_server_destroy(f->admin);
    gw_http_server_destroy(f->api);
    gw_completions_destroy(f);
    gw_timeline_destroy(f->timeline);
    gw_id_map_fini(&f->parts);
    gw_api_keys_destroy(f->keys);
    gw_secret_free(f->admin_token, f->admin_token_len);
    if (f->flush) event_free(f->flush);
    if (f->tick) event_free(f->tick);
    free(f);
}

int gw_front_socket(const struct gw_front *f)
{
    return gw_http_server_socket(f->api);
}

int gw_front_admin_socket(const struct gw_front *f)
{
    return gw_http_server_socket(f->admin);
}

uint16_t gw_front_http_port(const struct gw_front *f)
{
    return gw_http_server_port(f->api);
}

uint16_t gw_front_admin_port(const struct gw_front *f)
{
    return gw_http_server_port(f->admin);
}
