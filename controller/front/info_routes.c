/* Handlers that say what is served, and in what state. */
#include "controller/front/front_internal.h"

#include <string.h>

#include "base/json.h"
#include "controller/front/openai_response.h"

#define BODY_BYTES_MAX 8192

void gw_front_handle_models(void *arg, struct gw_http_conn *conn, const char *rest)
{
    const struct gw_front *f = arg;
    struct gw_buf b;
    (void)rest;
    gw_buf_init(&b, BODY_BYTES_MAX);
    gw_buf_puts(&b, "{\"object\":\"list\",\"data\":[");
    gw_openai_put_model(&b, &f->model, f->created_s);
    gw_buf_puts(&b, "]}");
    gw_front_respond_json(conn, 200, &b);
}

void gw_front_handle_model(void *arg, struct gw_http_conn *conn, const char *rest)
{
    const struct gw_front *f = arg;
    struct gw_openai_error error;
    struct gw_buf b;
    if (strcmp(rest, f->model.name) != 0) {
        (void)gw_openai_error_set(&error, 404, "model_not_found", "model",
                                  "the model '%.128s' does not exist, this is '%s'", rest, f->model.name);
        gw_front_respond_error(conn, &error);
        return;
    }
    gw_buf_init(&b, BODY_BYTES_MAX);
    gw_openai_put_model(&b, &f->model, f->created_s);
    gw_front_respond_json(conn, 200, &b);
}

void gw_front_handle_version(void *arg, struct gw_http_conn *conn, const char *rest)
{
    const struct gw_front *f = arg;
    struct gw_buf b;
    (void)rest;
    gw_buf_init(&b, BODY_BYTES_MAX);
    gw_buf_puts(&b, "{\"version\":");
    gw_json_put_string(&b, f->config.version, strlen(f->config.version));
    gw_buf_puts(&b, "}");
    gw_front_respond_json(conn, 200, &b);
}

void gw_front_handle_health(void *arg, struct gw_http_conn *conn, const char *rest)
{
    struct gw_buf b;
    (void)arg, (void)rest;
    gw_buf_init(&b, BODY_BYTES_MAX);
    gw_buf_puts(&b, "{\"status\":\"alive\"}");
    gw_front_respond_json(conn, 200, &b);
}

static bool any_serves(const struct gw_front *f)
{
    struct gw_core_pipeline_view p;
    for (size_t i = 0; f->port.pipeline(f->port.arg, i, &p); i++)
        if (strcmp(p.state, "serving") == 0 || strcmp(p.state, "draining") == 0) return true;
    return false;
}

/* Would a request be served now? Without a pipeline that serves it would only be queued. */
void gw_front_handle_ready(void *arg, struct gw_http_conn *conn, const char *rest)
{
    const struct gw_front *f = arg;
    struct gw_core_stats stats = {0};
    struct gw_buf b;
    (void)rest;
    f->port.stats(f->port.arg, &stats);
    struct gw_layout_view view = {0};
    f->port.layout(f->port.arg, &view);
    bool workers = stats.workers_up + stats.workers_doomed > 0, serves = any_serves(f);
    bool ready = !f->stopping && serves;
    const char *why = f->stopping ? "stopping"
                      : ready     ? "ready"
                      : !workers  ? "no worker is up"
                                  : "no pipeline serves";
    gw_buf_init(&b, BODY_BYTES_MAX);
    gw_buf_printf(&b, "{\"status\":\"%s\",\"workers_up\":%u", why, stats.workers_up);
    if (workers && !serves && view.pipelines == 0) {
        gw_buf_printf(&b, ",\"missing_bytes\":%llu,\"reason\":", (unsigned long long)view.missing_bytes);
        gw_json_put_string(&b, view.reason, strlen(view.reason));
    }
    gw_buf_u8(&b, '}');
    gw_front_respond_json(conn, ready ? 200 : 503, &b);
}
