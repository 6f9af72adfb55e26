/* An HTTP server: one listening socket, its connections, and a table of routes.
 *
 * A route's handler answers at once or holds the connection (http_conn.h). Before any handler runs, `admit`
 * may turn the request away (keys, origin); it is asked once as soon as the head is known and again when the
 * request is whole, so that nobody without a key has a body read. Errors that the server itself finds (no
 * such route, malformed requests, too many connections) are worded by `error_body`.
 *
 * Owner: create/destroy; routes and all that the config points to outlive the server. destroy ends every
 * connection (each held request's `gone` fires). Thread: the loop's. Units: as in http_conn.h.
 * Errors: GW_ERR_IO when the address cannot be listened on. Source: own design. */
#ifndef GW_CONTROLLER_HTTP_SERVER_H
#define GW_CONTROLLER_HTTP_SERVER_H

#include "base/log.h"
#include "controller/front/http_conn.h"

struct gw_http_server;

struct gw_http_route {
    enum gw_http_method method; /* GET answers HEAD too */
    const char *path;           /* "/v1/models", or "/v1/models/" + anything if it ends with a slash */
    bool open;                  /* needs no key */
    /* rest: what is behind a path that ends with a slash, percent-decoded; else "". */
    void (*handle)(void *arg, struct gw_http_conn *conn, const char *rest);
};

struct gw_http_server_config {
    const char *name; /* "api": for log lines */
    const char *host; /* address or name to listen on; NULL = 127.0.0.1 */
    uint16_t port;    /* 0 = any free one */
    int socket;       /* > 0: a socket that listens already, to be used instead */
    int max_connections;
    size_t max_bodies_bytes; /* of all request bodies that are held at once */
    struct gw_http_conn_config conn;
    const struct gw_http_route *routes;
    size_t routes_len;
    /* True = go on; false = it has answered. NULL admits all. route is NULL when there is none. */
    bool (*admit)(void *arg, struct gw_http_conn *conn, const struct gw_http_route *route);
    /* Writes the JSON body of an error. */
    void (*error_body)(struct gw_buf *body, int status, const char *message);
    void *arg; /* for handlers and admit */
};

/* Listens from the return on. Makes the process ignore SIGPIPE, which a closed socket would raise. */
gw_err_t gw_http_server_create(struct event_base *loop, struct gw_clock clock,
                               const struct gw_http_server_config *config, const struct gw_log *log,
                               struct gw_http_server **out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_http_server_destroy(struct gw_http_server *server);

uint16_t gw_http_server_port(const struct gw_http_server *server);
/* The socket that it listens on, -1 once drained; it stays the server's. */
int gw_http_server_socket(const struct gw_http_server *server);
int gw_http_server_connections(const struct gw_http_server *server);

/* Stops listening; connections end when they are idle (first_us: gw_http_conn_drain). */
void gw_http_server_drain(struct gw_http_server *server, int64_t first_us);

/* Answers with an error in the server's form and its Content-Type; fields as in struct gw_http_answer. */
void gw_http_server_refuse(struct gw_http_server *server, struct gw_http_conn *conn, int status,
                           const char *message);

#endif
