#include "controller/cli/sim_api.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/json.h"
#include "base/sockaddr.h"

#define BODY_MAX   4096
#define ANSWER_MAX (64u << 10)

/* A watch that waits for a notice of one instance. */
struct waiter {
    struct evhttp_request *request; /* NULL: nobody waits */
    char instance[SIM_ID_MAX];
    uint32_t after;
    int64_t until_us;
};

struct sim_api {
    struct sim_cloud *cloud;
    struct evhttp *http;
    uint16_t port;
    struct waiter waiters[SIM_INSTANCES_MAX];
};

/* ---- answers ------------------------------------------------------------------------------------------- */

static void answer(struct evhttp_request *r, int status, const char *body, size_t len)
{
    struct evbuffer *b = evhttp_request_get_output_buffer(r);
    evhttp_add_header(evhttp_request_get_output_headers(r), "Content-Type", "application/json");
    evbuffer_add(b, body, len);
    evhttp_send_reply(r, status, NULL, NULL);
}

static void refuse(struct evhttp_request *r, int status, const char *why)
{
    char body[128];
    int len = snprintf(body, sizeof body, "{\"error\":{\"code\":%d,\"message\":\"%s\"}}", status, why);
    answer(r, status, body, (size_t)len);
}

static void done(struct evhttp_request *r, bool there)
{
    if (there)
        answer(r, HTTP_OK, "{}", 2);
    else
        refuse(r, HTTP_NOTFOUND, "there is no such instance");
}

/* b is finished here. */
static void answer_buf(struct evhttp_request *r, struct gw_buf *b)
{
    if (b->err == GW_OK)
        answer(r, HTTP_OK, (const char *)b->data, b->len);
    else
        refuse(r, HTTP_SERVUNAVAIL, "no memory");
    gw_buf_fini(b);
}

/* The request's JSON object; NULL, and an answer, if it is none. */
static cJSON *read_body(struct evhttp_request *r)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(r);
    size_t len = evbuffer_get_length(in);
    cJSON *tree = NULL;
    if (len > 0 &&
        gw_json_parse((const char *)evbuffer_pullup(in, -1), len, BODY_MAX, &tree, NULL) == GW_OK &&
        cJSON_IsObject(tree))
        return tree;
    cJSON_Delete(tree);
    refuse(r, HTTP_BADREQUEST, "the body is no JSON object");
    return NULL;
}

/* ---- groups -------------------------------------------------------------------------------------------- */

static void answer_group(const struct sim_api *api, struct evhttp_request *r, enum sim_market market)
{
    struct gw_buf b;
    gw_buf_init(&b, ANSWER_MAX);
    sim_groups_put(&api->cloud->groups, market, &b);
    answer_buf(r, &b);
}

/* A count of instances. False, and an answer, if the body has none. */
static bool read_count(struct evhttp_request *r, const char *field, uint32_t *out)
{
    int64_t n = -1;
    cJSON *tree = read_body(r);
    if (!tree) return false;
    gw_err_t err = gw_json_int(tree, field, 0, SIM_INSTANCES_MAX / SIM_MARKETS, &n, NULL);
    cJSON_Delete(tree);
    if (err != GW_OK || n < 0) refuse(r, HTTP_BADREQUEST, "that is no count of instances");
    *out = (uint32_t)n;
    return err == GW_OK && n >= 0;
}

static void set_size(struct sim_api *api, struct evhttp_request *r, enum sim_market market)
{
    char line[64];
    uint32_t size;
    if (!read_count(r, "desired", &size)) return;
    snprintf(line, sizeof line, "is to have %u instances", size);
    sim_cloud_say(api->cloud, sim_market_name(market), line);
    api->cloud->groups.desired[market] = size;
    done(r, true);
}

static void set_supply(struct sim_api *api, struct evhttp_request *r)
{
    char line[64];
    uint32_t supply;
    if (!read_count(r, "spot", &supply)) return;
    snprintf(line, sizeof line, "has %u instances at most", supply);
    sim_cloud_say(api->cloud, sim_market_name(SIM_SPOT), line);
    api->cloud->groups.supply = supply;
    done(r, true);
}

static void answer_prices(const struct sim_api *api, struct evhttp_request *r)
{
    const struct sim_groups *g = &api->cloud->groups;
    struct gw_buf b;
    gw_buf_init(&b, ANSWER_MAX);
    gw_buf_puts(&b, "{\"prices\":[");
    for (uint32_t z = 0; z < g->zones_len; z++)
        gw_buf_printf(&b, "%s{\"type\":\"sim.spot\",\"zone\":\"%s\",\"usd_h\":%.6f}", z ? "," : "",
                      g->zones[z], g->usd_h[SIM_SPOT]);
    gw_buf_puts(&b, "]}");
    answer_buf(r, &b);
}

static bool route_groups(struct sim_api *api, struct evhttp_request *r, const char *path)
{
    enum evhttp_cmd_type method = evhttp_request_get_command(r);
    char name[SIM_ID_MAX] = "";
    int end = 0;
    enum sim_market market;
    if (strcmp(path, "/v1/prices") == 0 && method == EVHTTP_REQ_GET) {
        answer_prices(api, r);
        return true;
    }
    if (strcmp(path, "/v1/supply") == 0 && method == EVHTTP_REQ_POST) {
        set_supply(api, r);
        return true;
    }
    if (sscanf(path, "/v1/groups/%31[a-z-]%n", name, &end) != 1 || !sim_market_find(name, &market))
        return false;
    if (path[end] == '\0' && method == EVHTTP_REQ_GET)
        answer_group(api, r, market);
    else if (strcmp(path + end, "/desired") == 0 && method == EVHTTP_REQ_POST)
        set_size(api, r, market);
    else
        return false;
    return true;
}

/* ---- notices ------------------------------------------------------------------------------------------- */

static void answer_notices(const struct sim_instance *i, struct evhttp_request *r, uint32_t after)
{
    static const struct sim_notices none;
    struct gw_buf b;
    gw_buf_init(&b, ANSWER_MAX);
    sim_notices_put(i ? &i->notices : &none, after, gw_clock_mono_us(), &b);
    answer_buf(r, &b);
}

static void answer_waiter(struct sim_api *api, struct waiter *w)
{
    struct evhttp_request *r = w->request;
    w->request = NULL;
    answer_notices(sim_groups_find(&api->cloud->groups, w->instance), r, w->after);
}

void sim_api_tick(struct sim_api *api)
{
    int64_t now_us = gw_clock_mono_us();
    for (size_t k = 0; k < SIM_INSTANCES_MAX; k++) {
        struct waiter *w = &api->waiters[k];
        if (!w->request) continue;
        const struct sim_instance *i = sim_groups_find(&api->cloud->groups, w->instance);
        if (!i || i->notices.sequence > w->after || w->until_us <= now_us) answer_waiter(api, w);
    }
}

static double query_number(struct evkeyvalq *query, const char *name, double most)
{
    const char *text = evhttp_find_header(query, name);
    double v = text ? strtod(text, NULL) : 0;
    return v > 0 && v <= most ? v : 0; /* not a number: none of both */
}

/* Its own waiter, or a free one: an instance has one watch, and the latest question counts. */
static struct waiter *find_waiter(struct sim_api *api, const char *instance)
{
    struct waiter *unused = NULL;
    for (size_t k = 0; k < SIM_INSTANCES_MAX; k++) {
        struct waiter *w = &api->waiters[k];
        if (w->request && strcmp(w->instance, instance) == 0) return w;
        if (!w->request && !unused) unused = w;
    }
    return unused;
}

static void wait_for_notices(struct sim_api *api, struct evhttp_request *r, const char *id)
{
    struct evkeyvalq query;
    const struct sim_instance *i = sim_groups_find(&api->cloud->groups, id);
    const char *text = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(r));
    if (!i) {
        done(r, false);
        return;
    }
    if (evhttp_parse_query_str(text ? text : "", &query) != 0) {
        refuse(r, HTTP_BADREQUEST, "the query is none");
        return;
    }
    uint32_t after = (uint32_t)query_number(&query, "after", INT32_MAX);
    double wait_s = query_number(&query, "wait_s", SIM_API_WAIT_S_MAX);
    evhttp_clear_headers(&query);
    struct waiter *w = find_waiter(api, id);
    if (i->notices.sequence > after || wait_s <= 0 || !w) {
        answer_notices(i, r, after);
        return;
    }
    if (w->request) answer_waiter(api, w);
    *w = (struct waiter){.request = r,
                         .after = after,
                         .until_us = gw_clock_mono_us() + (int64_t)(wait_s * (double)GW_US_PER_S)};
    snprintf(w->instance, sizeof w->instance, "%s", id);
}

static void post_notice(struct sim_api *api, struct evhttp_request *r, const char *id)
{
    struct sim_notice n = {0};
    const char *kind = NULL;
    double deadline_s = api->cloud->config.notice_s;
    cJSON *tree = read_body(r);
    if (!tree) return;
    bool ok = gw_json_string(tree, "kind", &kind, NULL) == GW_OK && kind && sim_notice_find(kind, &n.kind) &&
              gw_json_double(tree, "deadline_s", 0, SIM_API_DEADLINE_S_MAX, &deadline_s, NULL) == GW_OK &&
              gw_json_bool(tree, "cancel", &n.cancel, NULL) == GW_OK;
    cJSON_Delete(tree);
    if (!ok) {
        refuse(r, HTTP_BADREQUEST, "kind: preempt, rebalance or maintenance; deadline_s; cancel");
        return;
    }
    if (!n.cancel) n.deadline_us = gw_clock_mono_us() + (int64_t)(deadline_s * (double)GW_US_PER_S);
    done(r, sim_cloud_notice(api->cloud, id, &n));
}

/* ---- instances ----------------------------------------------------------------------------------------- */

static bool route_instances(struct sim_api *api, struct evhttp_request *r, const char *path)
{
    enum evhttp_cmd_type method = evhttp_request_get_command(r);
    char id[SIM_ID_MAX] = "";
    int end = 0;
    if (strcmp(path, "/v1/instances") == 0 && method == EVHTTP_REQ_GET) {
        struct gw_buf b;
        gw_buf_init(&b, ANSWER_MAX);
        sim_groups_put_all(&api->cloud->groups, gw_clock_mono_us(), &b);
        answer_buf(r, &b);
        return true;
    }
    if (sscanf(path, "/v1/instances/%31[a-z0-9-]%n", id, &end) != 1) return false;
    const char *rest = path + end;
    if (*rest == '\0' && method == EVHTTP_REQ_DELETE)
        done(r, sim_cloud_delete(api->cloud, id));
    else if (strcmp(rest, "/kill") == 0 && method == EVHTTP_REQ_POST)
        done(r, sim_cloud_kill(api->cloud, id));
    else if (strcmp(rest, "/notices") == 0 && method == EVHTTP_REQ_POST)
        post_notice(api, r, id);
    else if (strcmp(rest, "/notices") == 0 && method == EVHTTP_REQ_GET)
        wait_for_notices(api, r, id);
    else
        return false;
    return true;
}

static void on_request(struct evhttp_request *r, void *arg)
{
    struct sim_api *api = arg;
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(r));
    if (path && (route_groups(api, r, path) || route_instances(api, r, path))) return;
    refuse(r, HTTP_NOTFOUND, "there is no such route");
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static uint16_t port_of(evutil_socket_t fd)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    if (getsockname(fd, (struct sockaddr *)&addr, &len) != 0) return 0;
    return ntohs(addr.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)&addr)->sin6_port
                                            : ((const struct sockaddr_in *)&addr)->sin_port);
}

static gw_err_t listen_on(struct sim_api *api, struct event_base *loop, const char *where,
                          struct gw_err_ctx *ctx)
{
    char host[64];
    uint16_t port;
    TRY(gw_sockaddr_split(where, host, sizeof host, &port, ctx));
    api->http = evhttp_new(loop);
    struct evhttp_bound_socket *bound =
        api->http ? evhttp_bind_socket_with_handle(api->http, host, port) : NULL;
    if (!bound) return gw_fail(ctx, GW_ERR_IO, "--listen %s: the port cannot be had", where);
    api->port = port_of(evhttp_bound_socket_get_fd(bound));
    snprintf(api->cloud->url, sizeof api->cloud->url, strchr(host, ':') ? "http://[%s]:%u" : "http://%s:%u",
             host, api->port);
    evhttp_set_allowed_methods(api->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_DELETE);
    evhttp_set_max_body_size(api->http, BODY_MAX);
    evhttp_set_gencb(api->http, on_request, api);
    return GW_OK;
}

gw_err_t sim_api_open(struct event_base *loop, const char *where, struct sim_cloud *cloud,
                      struct sim_api **out, struct gw_err_ctx *ctx)
{
    struct sim_api *api = calloc(1, sizeof *api);
    if (!api) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    api->cloud = cloud;
    gw_err_t err = listen_on(api, loop, where, ctx);
    if (err == GW_OK)
        *out = api;
    else
        sim_api_close(api);
    return err;
}

void sim_api_close(struct sim_api *api)
{
    if (!api) return;
    if (api->http) evhttp_free(api->http); /* with the questions that wait */
    free(api);
}

uint16_t sim_api_port(const struct sim_api *api)
{
    return api->port;
}
