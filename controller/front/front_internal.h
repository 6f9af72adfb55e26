/* What the parts of the front share: included by controller/front/ alone.
 *
 * front.c makes it and wires listeners and core; completion.c, text_routes.c, info_routes.c, admin.c and admin_layout.c hold
 * the handlers. Owner: front.c. Thread: the loop's, but for `model`, which jobs read (it never changes). */
#ifndef GW_CONTROLLER_FRONT_INTERNAL_H
#define GW_CONTROLLER_FRONT_INTERNAL_H

#include <sys/queue.h>

#include "controller/front/api_keys.h"
#include "controller/front/front.h"
#include "controller/front/http_server.h"
#include "base/id_map.h"
#include "controller/front/metrics.h"
#include "controller/front/openai_error.h"
#include "controller/front/openai_request.h"
#include "controller/front/timeline.h"

#define GW_FRONT_WORKERS_MAX 1024 /* shown by the admin listener */

struct gw_layout_waiter; /* admin_layout.c */
LIST_HEAD(gw_layout_waiter_list, gw_layout_waiter);
struct gw_completion;
LIST_HEAD(gw_completion_list, gw_completion);
STAILQ_HEAD(gw_completion_queue, gw_completion);

struct gw_front {
    struct event_base *loop;
    struct gw_pool *pool;
    struct gw_front_config config;
    struct gw_front_port port;
    struct gw_openai_model model;
    const struct gw_log *log;
    struct gw_http_server *api, *admin;
    struct gw_api_keys *keys;
    char *admin_token;
    size_t admin_token_len;
    int64_t created_s;      /* shown as the model's age */
    struct gw_id_map parts; /* core request id → what waits for it (completion.c) */
    struct gw_completion_list completions;
    int completions_len;
    struct gw_completion_queue dirty; /* have something to post, or are to be freed */
    struct event *flush, *tick;
    struct gw_metrics metrics;
    struct gw_timeline *timeline;
    struct gw_layout_waiter_list layout_waiters;
    uint32_t held_len; /* streams that have ended and can still be read */
    bool stopping, failed_rest, destroying;
    bool released; /* stopping, for a successor: who is connected is still served, once more */
    int64_t stop_deadline_us;
    void (*stopped)(void *arg);
    void *stopped_arg;
};

static inline int64_t gw_front_now_us(const struct gw_front *f)
{
    return f->config.clock.now_us(f->config.clock.arg);
}

/* Answers with an OpenAI-shaped error (and Retry-After if it has one). */
void gw_front_respond_error(struct gw_http_conn *conn, const struct gw_openai_error *error);
/* Answers with JSON: takes the buffer's bytes (a broken buffer becomes a 500) and empties it. */
void gw_front_respond_json(struct gw_http_conn *conn, int status, struct gw_buf *body);
/* The salt of the connection's key (its request has been admitted). */
void gw_front_tenant(const struct gw_front *f, struct gw_http_conn *conn,
                     uint8_t tenant[GW_REQUEST_TENANT_BYTES]);

/* Handlers (struct gw_http_route). arg is the front. */
void gw_front_handle_chat(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_completions(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_stream(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_tokenize(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_detokenize(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_models(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_model(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_version(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_health(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_ready(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_workers(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_stats(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_layout(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_force_layout(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_notice(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_events(void *arg, struct gw_http_conn *conn, const char *rest);
void gw_front_handle_metrics(void *arg, struct gw_http_conn *conn, const char *rest);

/* Who may use the admin listener (struct gw_http_server_config.admit). */
bool gw_front_admit_admin(void *arg, struct gw_http_conn *conn, const struct gw_http_route *route);

/* completion.c */
void gw_completion_on_action(struct gw_front *f, const struct gw_action *action);
/* Posts what is due and frees what is done; run from the loop. */
void gw_completions_flush(struct gw_front *f);
/* Streams that wait long for their first token get their head, so that pings can follow. */
void gw_completions_tick(struct gw_front *f, int64_t now_us);
/* The next controller goes on with all that it can go on with. */
void gw_completions_release(struct gw_front *f);
/* Nobody waits for what has no connection: the next controller goes on with it, or it ends. */
void gw_completions_drain(struct gw_front *f);
/* Ends all with 503, but those that the next controller goes on with. */
void gw_completions_fail(struct gw_front *f);
/* Frees all, silently; their connections are gone. */
void gw_completions_destroy(struct gw_front *f);

#endif
