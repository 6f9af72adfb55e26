#include "controller/front/http_server.h"

#include <errno.h>
#include <event2/listener.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define BACKLOG         1024
#define ACCEPT_PAUSE_MS 100 /* when the process is out of descriptors */
#define REFUSED_MAX     256 /* connections beyond the maximum that are told so; more are dropped */
#define ERROR_BYTES_MAX 4096
#define PATH_REST_MAX   512 /* bytes of "anything" in a path */

struct node {
    LIST_ENTRY(node) link;
    struct gw_http_conn *conn;
    bool refused; /* beyond the maximum: it only gets told so */
};
LIST_HEAD(node_list, node);

struct gw_http_server {
    struct gw_http_server_config config;
    const struct gw_log *log;
    struct gw_http_budget budget;
    struct gw_http_conn_env env, full_env; /* full_env: of connections beyond the maximum */
    struct evconnlistener *listener;
    struct event *resume; /* accepting goes on after a pause */
    struct event *reaper; /* frees the dead, outside their own callbacks */
    struct node_list live, dead;
    int live_len, refused_len; /* live_len: refused ones included */
    uint16_t port;
};

uint16_t gw_http_server_port(const struct gw_http_server *s)
{
    return s->port;
}

int gw_http_server_socket(const struct gw_http_server *s)
{
    return s->listener ? evconnlistener_get_fd(s->listener) : -1;
}

int gw_http_server_connections(const struct gw_http_server *s)
{
    return s->live_len - s->refused_len;
}

/* ---- routes -------------------------------------------------------------------------------------------- */

static bool path_matches(const struct gw_http_route *route, const char *path)
{
    size_t len = strlen(route->path);
    if (len > 1 && route->path[len - 1] == '/') return strncmp(path, route->path, len) == 0 && path[len];
    return strcmp(path, route->path) == 0;
}

static bool method_matches(const struct gw_http_route *route, enum gw_http_method method)
{
    return route->method == method || (route->method == GW_HTTP_GET && method == GW_HTTP_HEAD);
}

/* The route for this request, or NULL; *allow collects the methods that the path would have. */
static const struct gw_http_route *find_route(const struct gw_http_server *s, const struct gw_http_request *r,
                                              struct gw_buf *allow)
{
    for (size_t i = 0; i < s->config.routes_len; i++) {
        const struct gw_http_route *route = &s->config.routes[i];
        if (!path_matches(route, r->path)) continue;
        if (method_matches(route, r->method)) return route;
        gw_buf_printf(allow, "%s%s", allow->len ? ", " : "", gw_http_method_name(route->method));
        if (route->method == GW_HTTP_GET) gw_buf_puts(allow, ", HEAD");
    }
    return NULL;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool percent_decode(const char *s, char *out, size_t size)
{
    size_t n = 0;
    for (; *s; s++) {
        int c = (unsigned char)*s;
        if (c == '%') {
            int hi = hex_value(s[1]), lo = hi < 0 ? -1 : hex_value(s[2]);
            if (lo < 0 || (hi == 0 && lo == 0)) return false;
            c = hi * 16 + lo;
            s += 2;
        }
        if (n + 1 >= size) return false;
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return true;
}

static void refuse_with(struct gw_http_server *s, struct gw_http_conn *conn, int status, const char *message,
                        const struct gw_http_header *headers, int headers_len)
{
    struct gw_buf body;
    gw_buf_init(&body, ERROR_BYTES_MAX);
    s->config.error_body(&body, status, message);
    struct gw_http_answer answer = {.status = status,
                                    .content_type = "application/json",
                                    .headers = headers,
                                    .headers_len = headers_len,
                                    .body = body.data,
                                    .body_len = body.err == GW_OK ? body.len : 0};
    gw_http_conn_respond(conn, &answer);
    gw_buf_fini(&body);
}

void gw_http_server_refuse(struct gw_http_server *s, struct gw_http_conn *conn, int status,
                           const char *message)
{
    refuse_with(s, conn, status, message, NULL, 0);
}

static void refuse_unrouted(struct gw_http_server *s, struct gw_http_conn *conn, struct gw_buf *allow)
{
    char message[128];
    const char *methods = allow->len ? gw_buf_cstr(allow) : NULL;
    if (!methods) {
        gw_http_server_refuse(s, conn, 404, "there is nothing at this path");
        return;
    }
    const struct gw_http_header header = {"Allow", methods};
    snprintf(message, sizeof message, "this path takes %s", methods);
    refuse_with(s, conn, 405, message, &header, 1);
}

static void dispatch(struct gw_http_server *s, struct gw_http_conn *conn, const struct gw_http_route *route)
{
    char rest[PATH_REST_MAX];
    const char *path = gw_http_conn_request(conn)->path;
    size_t prefix = strlen(route->path);
    gw_http_conn_set_route(conn, route->path);
    if (!percent_decode(strlen(path) > prefix ? path + prefix : "", rest, sizeof rest))
        gw_http_server_refuse(s, conn, 404, "there is nothing at this path");
    else
        route->handle(s->config.arg, conn, rest);
}

/* ---- what connections ask of the server ---------------------------------------------------------------- */

static bool admitted(struct gw_http_server *s, struct gw_http_conn *conn, const struct gw_http_route *route)
{
    return !s->config.admit || s->config.admit(s->config.arg, conn, route);
}

static void on_head(void *arg, struct gw_http_conn *conn)
{
    struct gw_http_server *s = arg;
    struct gw_buf allow;
    gw_buf_init(&allow, 128);
    const struct gw_http_route *route = find_route(s, gw_http_conn_request(conn), &allow);
    if (admitted(s, conn, route) && !route) refuse_unrouted(s, conn, &allow);
    gw_buf_fini(&allow);
}

static void on_request(void *arg, struct gw_http_conn *conn)
{
    struct gw_http_server *s = arg;
    struct gw_buf allow;
    gw_buf_init(&allow, 128);
    const struct gw_http_route *route = find_route(s, gw_http_conn_request(conn), &allow);
    if (admitted(s, conn, route)) {
        if (route)
            dispatch(s, conn, route);
        else
            refuse_unrouted(s, conn, &allow);
    }
    gw_buf_fini(&allow);
}

static void on_refuse(void *arg, struct gw_http_conn *conn, int status, const char *why)
{
    gw_http_server_refuse(arg, conn, status, why);
}

static void on_full(void *arg, struct gw_http_conn *conn)
{
    static const struct gw_http_header retry = {"Retry-After", "1"};
    gw_http_conn_close_after(conn);
    refuse_with(arg, conn, 503, "too many connections", &retry, 1);
}

static void on_access(void *arg, const struct gw_http_access *a)
{
    struct gw_http_server *s = arg;
    gw_logf(s->log, GW_LOG_INFO, "%s request=%s %s %s status=%d%s bytes=%llu ms=%.1f%s%s", s->config.name,
            a->request_id, a->method, a->route, a->status, a->whole ? "" : " client-gone",
            (unsigned long long)a->bytes, (double)a->us / (double)GW_US_PER_MS, *a->note ? " " : "", a->note);
}

static void on_dead(void *arg, struct gw_http_conn *conn)
{
    struct gw_http_server *s = arg;
    struct node *node = gw_http_conn_user(conn);
    LIST_REMOVE(node, link);
    LIST_INSERT_HEAD(&s->dead, node, link);
    s->live_len--;
    if (node->refused) s->refused_len--;
    event_active(s->reaper, EV_TIMEOUT, 0);
}

static void free_node(struct node *node)
{
    LIST_REMOVE(node, link);
    gw_http_conn_destroy(node->conn);
    free(node);
}

static void on_reap(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct gw_http_server *s = arg;
    while (!LIST_EMPTY(&s->dead)) free_node(LIST_FIRST(&s->dead));
}

/* ---- accepting ----------------------------------------------------------------------------------------- */

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *addr,
                      int addr_len, void *arg)
{
    (void)listener, (void)addr, (void)addr_len;
    struct gw_http_server *s = arg;
    bool full = s->live_len - s->refused_len >= s->config.max_connections;
    struct node *node = full && s->refused_len >= REFUSED_MAX ? NULL : calloc(1, sizeof *node);
    if (!node) {
        evutil_closesocket(fd);
        return;
    }
    if (gw_http_conn_create(full ? &s->full_env : &s->env, fd, &node->conn) != GW_OK) {
        free(node);
        return;
    }
    gw_http_conn_set_user(node->conn, node);
    LIST_INSERT_HEAD(&s->live, node, link);
    s->live_len++;
    node->refused = full;
    if (full) s->refused_len++;
}

/* Out of descriptors: the listener would fire without end. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
    struct gw_http_server *s = arg;
    struct timeval pause = {.tv_usec = ACCEPT_PAUSE_MS * GW_US_PER_MS};
    gw_logf(s->log, GW_LOG_WARN, "%s: accept: %s", s->config.name,
            evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    if (event_add(s->resume, &pause) == 0) evconnlistener_disable(listener);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct gw_http_server *s = arg;
    if (s->listener) evconnlistener_enable(s->listener);
}

static uint16_t bound_port(evutil_socket_t fd)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    if (getsockname(fd, (struct sockaddr *)&addr, &len) != 0) return 0;
    if (addr.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&addr)->sin6_port);
    return ntohs(((struct sockaddr_in *)&addr)->sin_port);
}

static gw_err_t listen_at(struct gw_http_server *s, struct event_base *loop, unsigned flags,
                          struct gw_err_ctx *ctx)
{
    const char *host = s->config.host ? s->config.host : "127.0.0.1";
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *found = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", s->config.port);
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0)
        return gw_fail(ctx, GW_ERR_IO, "%s: listen on %s: %s", s->config.name, host, gai_strerror(rc));
    s->listener =
        evconnlistener_new_bind(loop, on_accept, s, flags, BACKLOG, found->ai_addr, (int)found->ai_addrlen);
    int why = errno;
    freeaddrinfo(found);
    if (!s->listener)
        return gw_fail(ctx, GW_ERR_IO, "%s: listen on %s:%s: %s", s->config.name, host, port, strerror(why));
    return GW_OK;
}

static gw_err_t listen_on(struct gw_http_server *s, struct event_base *loop, struct gw_err_ctx *ctx)
{
    const unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
    if (s->config.socket <= 0) TRY(listen_at(s, loop, flags, ctx));
    if (s->config.socket > 0)
        s->listener = evconnlistener_new(loop, on_accept, s, flags, 0, s->config.socket);
    if (!s->listener) return gw_fail(ctx, GW_ERR_MEMORY, "%s: cannot listen", s->config.name);
    evconnlistener_set_error_cb(s->listener, on_accept_error);
    s->port = bound_port(evconnlistener_get_fd(s->listener));
    return GW_OK;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static void fill_env(struct gw_http_server *s, struct event_base *loop, struct gw_clock clock)
{
    s->env = (struct gw_http_conn_env){.loop = loop,
                                       .clock = clock,
                                       .config = &s->config.conn,
                                       .budget = &s->budget,
                                       .head = on_head,
                                       .request = on_request,
                                       .refuse = on_refuse,
                                       .access = on_access,
                                       .dead = on_dead,
                                       .arg = s};
    s->full_env = s->env;
    s->full_env.head = s->full_env.request = on_full;
}

gw_err_t gw_http_server_create(struct event_base *loop, struct gw_clock clock,
                               const struct gw_http_server_config *config, const struct gw_log *log,
                               struct gw_http_server **out, struct gw_err_ctx *ctx)
{
    gw_err_t err = GW_OK;
    struct gw_http_server *s = calloc(1, sizeof *s);
    if (!s) return gw_fail(ctx, GW_ERR_MEMORY, "%s: out of memory", config->name);
    s->config = *config;
    s->log = log;
    s->budget.max = config->max_bodies_bytes;
    LIST_INIT(&s->live);
    LIST_INIT(&s->dead);
    fill_env(s, loop, clock);
    signal(SIGPIPE, SIG_IGN);
    s->resume = evtimer_new(loop, on_resume, s);
    s->reaper = evtimer_new(loop, on_reap, s);
    if (!s->resume || !s->reaper)
        err = gw_fail(ctx, GW_ERR_MEMORY, "%s: out of memory", config->name);
    else
        err = listen_on(s, loop, ctx);
    if (err != GW_OK) {
        gw_http_server_destroy(s);
        return err;
    }
    *out = s;
    return GW_OK;
}

void gw_http_server_drain(struct gw_http_server *s, int64_t first_us)
{
    if (s->listener) evconnlistener_free(s->listener);
    s->listener = NULL;
    for (struct node *node = LIST_FIRST(&s->live); node; node = LIST_NEXT(node, link))
        gw_http_conn_drain(node->conn, first_us);
}

void gw_http_server_destroy(struct gw_http_server *s)
{
    if (!s) return;
    if (s->listener) evconnlistener_free(s->listener);
    while (!LIST_EMPTY(&s->dead)) free_node(LIST_FIRST(&s->dead));
    while (!LIST_EMPTY(&s->live)) free_node(LIST_FIRST(&s->live));
    if (s->resume) event_free(s->resume);
    if (s->reaper) event_free(s->reaper);
    free(s);
}
