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

/* Would a request be served now? Without a worker it would only be queued. */
void gw_front_handle_ready(void *arg, struct gw_http_conn *conn, const char *rest)
{
    const struct gw_front *f = arg;
    struct gw_core_stats stats = {0};
    struct gw_buf b;
    (void)rest;
    f->port.stats(f->port.arg, &stats);
    bool ready = !f->stopping && stats.workers_up > 0;
    const char *why = f->stopping ? "stopping" : ready ? "ready" : "no worker is up";
    gw_buf_init(&b, BODY_BYTES_MAX);
    gw_buf_printf(&b, "{\"status\":\"%s\",\"workers_up\":%u}", why, stats.workers_up);
    gw_front_respond_json(conn, ready ? 200 : 503, &b);
}
