#include "controller/cli/cloud_cmd.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/sockaddr.h"
#include "controller/cli/procs.h"
#include "controller/cli/sim_groups.h"
#include "controller/cli/sim_trace.h"

#define TICK_MS         100
#define END_GRACE_MS    3000
#define BODY_MAX        4096
#define ANSWER_MAX      (64u << 10)
#define PATH_BYTES      (PATH_MAX + 64)
#define WORKER_ARGS_MAX 24

struct options {
    const char *model, *weights, *controller, *key_file, *listen, *trace, *log_dir;
    int64_t spot, on_demand, supply, threads;
    double trace_speed, notice_s, boot_s, spot_usd_h;
};

struct cloud {
    struct options o;
    struct sim_groups groups;
    struct sim_trace trace;
    struct event_base *loop;
    struct evhttp *http;
    struct event *tick, *sigint, *sigterm;
    char bin_dir[PATH_MAX];
    int64_t begun_us;
    gw_err_t err; /* that ends it */
    struct gw_err_ctx *ctx;
};

static void say(const struct cloud *c, const char *id, const char *what)
{
    printf("[%7.1f s] %s %s\n", (double)(gw_clock_mono_us() - c->begun_us) / (double)GW_US_PER_S, id, what);
    fflush(stdout);
}

/* ---- instances ----------------------------------------------------------------------------------------- */

static gw_err_t start_worker(struct cloud *c, struct sim_instance *i)
{
    char program[PATH_BYTES], log[PATH_BYTES], grace[32], threads[24];
    snprintf(program, sizeof program, "%s/godwit-worker", c->bin_dir);
    snprintf(log, sizeof log, "%s/%s.log", c->o.log_dir, i->id);
    snprintf(grace, sizeof grace, "%g", c->o.notice_s);
    snprintf(threads, sizeof threads, "%lld", (long long)c->o.threads);
    char *argv[WORKER_ARGS_MAX] = {program,
                                   "--model",
                                   (char *)c->o.model,
                                   "--weights",
                                   (char *)c->o.weights,
                                   "--controller",
                                   (char *)c->o.controller,
                                   "--cluster-key-file",
                                   (char *)c->o.key_file,
                                   "--worker-id",
                                   i->id,
                                   "--instance-id",
                                   i->id,
                                   "--threads",
                                   threads,
                                   "--term-grace-s",
                                   grace,
                                   NULL};
    return gw_proc_start(argv, log, &i->pid, c->ctx);
}

static void kill_instance(const struct sim_instance *i)
{
    if (i->pid) kill(i->pid, SIGKILL);
}

/* SIGTERM is how a worker is told; without a notice there is none. */
static void take_away(struct cloud *c)
{
    struct sim_groups *g = &c->groups;
    struct sim_instance *i;
    int64_t now_us = gw_clock_mono_us();
    while ((i = sim_groups_taken(g, now_us))) {
        say(c, i->id, c->o.notice_s > 0 ? "is reclaimed with notice" : "is reclaimed without notice");
        if (i->pid && c->o.notice_s > 0) kill(i->pid, SIGTERM);
    }
    while ((i = sim_groups_over(g, now_us))) {
        say(c, i->id, "is gone");
        kill_instance(i);
    }
}

static void reap(struct cloud *c)
{
    pid_t pid;
    char how[64];
    while (gw_proc_reap(&pid, how, sizeof how)) {
        struct sim_instance *i = sim_groups_exited(&c->groups, pid);
        if (i) say(c, i->id, how);
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct cloud *c = arg;
    struct sim_instance *i;
    int64_t now_us = gw_clock_mono_us();
    (void)fd;
    (void)what;
    double at_s = (double)(now_us - c->begun_us) / (double)GW_US_PER_S * c->o.trace_speed;
    if (c->trace.len) c->groups.supply = sim_trace_supply(&c->trace, at_s);
    reap(c);
    take_away(c);
    sim_groups_follow(&c->groups, now_us);
    while (c->err == GW_OK && (i = sim_groups_due(&c->groups, now_us))) {
        say(c, i->id, "runs");
        c->err = start_worker(c, i);
    }
    if (c->err != GW_OK) event_base_loopbreak(c->loop);
}

/* ---- the API (cloud/sim.c) ----------------------------------------------------------------------------- */

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

static void answer_group(const struct cloud *c, struct evhttp_request *r, enum sim_market market)
{
    struct gw_buf b;
    gw_buf_init(&b, ANSWER_MAX);
    sim_groups_put(&c->groups, market, &b);
    if (b.err == GW_OK)
        answer(r, HTTP_OK, (const char *)b.data, b.len);
    else
        refuse(r, HTTP_INTERNAL, "no memory");
    gw_buf_fini(&b);
}

static void set_size(struct cloud *c, struct evhttp_request *r, enum sim_market market)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(r);
    size_t len = evbuffer_get_length(in);
    int64_t size = -1;
    cJSON *tree = NULL;
    if (len > 0 && gw_json_parse((const char *)evbuffer_pullup(in, -1), len, BODY_MAX, &tree, NULL) == GW_OK)
        (void)!gw_json_int(tree, "desired", 0, SIM_INSTANCES_MAX / SIM_MARKETS, &size, NULL);
    cJSON_Delete(tree);
    if (size < 0) {
        refuse(r, HTTP_BADREQUEST, "desired is no size");
        return;
    }
    char line[64];
    snprintf(line, sizeof line, "is to have %d instances", (int)size);
    say(c, sim_market_name(market), line);
    c->groups.desired[market] = (uint32_t)size;
    answer(r, HTTP_OK, "{}", 2);
}

static void delete_instance(struct cloud *c, struct evhttp_request *r, const char *id)
{
    const struct sim_instance *i = sim_groups_delete(&c->groups, id);
    if (!i) {
        refuse(r, HTTP_NOTFOUND, "there is no such instance");
        return;
    }
    say(c, i->id, "is deleted");
    kill_instance(i);
    answer(r, HTTP_OK, "{}", 2);
}

static void answer_prices(const struct cloud *c, struct evhttp_request *r)
{
    char body[160];
    int len =
        snprintf(body, sizeof body, "{\"prices\":[{\"type\":\"sim.spot\",\"zone\":\"here\",\"usd_h\":%.6f}]}",
                 c->o.spot_usd_h);
    answer(r, HTTP_OK, body, (size_t)len);
}

static void on_request(struct evhttp_request *r, void *arg)
{
    struct cloud *c = arg;
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(r));
    enum evhttp_cmd_type method = evhttp_request_get_command(r);
    char name[SIM_ID_MAX] = "";
    int end = 0;
    enum sim_market market;
    bool group =
        path && sscanf(path, "/v1/groups/%31[a-z-]%n", name, &end) == 1 && sim_market_find(name, &market);
    if (group && path[end] == '\0' && method == EVHTTP_REQ_GET)
        answer_group(c, r, market);
    else if (group && strcmp(path + end, "/desired") == 0 && method == EVHTTP_REQ_POST)
        set_size(c, r, market);
    else if (path && strncmp(path, "/v1/instances/", 14) == 0 && method == EVHTTP_REQ_DELETE)
        delete_instance(c, r, path + 14);
    else if (path && strcmp(path, "/v1/prices") == 0 && method == EVHTTP_REQ_GET)
        answer_prices(c, r);
    else
        refuse(r, HTTP_NOTFOUND, "there is no such route");
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static void on_end_signal(evutil_socket_t sig, short what, void *arg)
{
    (void)sig;
    (void)what;
    event_base_loopbreak(((struct cloud *)arg)->loop);
}

static gw_err_t listen_on(struct cloud *c, struct gw_err_ctx *ctx)
{
    char host[64];
    uint16_t port;
    TRY(gw_sockaddr_split(c->o.listen, host, sizeof host, &port, ctx));
    c->http = evhttp_new(c->loop);
    if (!c->http || evhttp_bind_socket(c->http, host, port) != 0)
        return gw_fail(ctx, GW_ERR_IO, "--listen %s: the port cannot be had", c->o.listen);
    evhttp_set_allowed_methods(c->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_DELETE);
    evhttp_set_max_body_size(c->http, BODY_MAX);
    evhttp_set_gencb(c->http, on_request, c);
    return GW_OK;
}

static gw_err_t start(struct cloud *c, struct gw_err_ctx *ctx)
{
    const struct timeval tick = {.tv_usec = TICK_MS * 1000};
    c->groups = (struct sim_groups){.desired = {(uint32_t)c->o.spot, (uint32_t)c->o.on_demand},
                                    .supply = (uint32_t)c->o.supply,
                                    .boot_us = (int64_t)(c->o.boot_s * (double)GW_US_PER_S),
                                    .notice_us = (int64_t)(c->o.notice_s * (double)GW_US_PER_S)};
    if (c->o.trace) TRY(sim_trace_read(c->o.trace, &c->trace, ctx));
    TRY(gw_proc_own_dir(c->bin_dir, ctx));
    c->loop = event_base_new();
    if (!c->loop) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    TRY(listen_on(c, ctx));
    c->tick = event_new(c->loop, -1, EV_PERSIST, on_tick, c);
    c->sigint = evsignal_new(c->loop, SIGINT, on_end_signal, c);
    c->sigterm = evsignal_new(c->loop, SIGTERM, on_end_signal, c);
    if (!c->tick || !c->sigint || !c->sigterm || event_add(c->tick, &tick) != 0 ||
        event_add(c->sigint, NULL) != 0 || event_add(c->sigterm, NULL) != 0)
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    c->begun_us = gw_clock_mono_us();
    printf("godwit cloud: groups 'spot' and 'on-demand' at http://%s; Ctrl-C ends all instances\n",
           c->o.listen);
    fflush(stdout);
    return GW_OK;
}

static void stop(struct cloud *c)
{
    pid_t pids[SIM_INSTANCES_MAX] = {0};
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) pids[i] = c->groups.instances[i].pid;
    gw_procs_end(pids, SIM_INSTANCES_MAX, SIGINT, END_GRACE_MS);
    if (c->http) evhttp_free(c->http);
    if (c->tick) event_free(c->tick);
    if (c->sigint) event_free(c->sigint);
    if (c->sigterm) event_free(c->sigterm);
    if (c->loop) event_base_free(c->loop);
    sim_trace_fini(&c->trace);
}

static gw_err_t parse(struct options *o, int argc, char **argv, bool *help, struct gw_err_ctx *ctx)
{
    const double most = SIM_INSTANCES_MAX / SIM_MARKETS;
    const struct gw_flag flags[] = {
        {"model", GW_FLAG_STRING, &o->model, "DIR", "the workers' model (needed)", 0, 0},
        {"weights", GW_FLAG_STRING, &o->weights, "FORMAT", "what they keep it in: file or int8", 0, 0},
        {"cluster-key-file", GW_FLAG_STRING, &o->key_file, "FILE", "the cluster's secret (needed)", 0, 0},
        {"controller", GW_FLAG_STRING, &o->controller, "HOST:PORT[,...]", "what workers dial", 0, 0},
        {"listen", GW_FLAG_STRING, &o->listen, "HOST:PORT", "the API: --cloud-endpoint http://HOST:PORT", 0,
         0},
        {"spot", GW_FLAG_INT, &o->spot, "N", "first size of the group 'spot'", 0, most},
        {"on-demand", GW_FLAG_INT, &o->on_demand, "N", "of 'on-demand'", 0, most},
        {"supply", GW_FLAG_INT, &o->supply, "N", "spot instances that there are at most", 0, most},
        {"trace", GW_FLAG_STRING, &o->trace, "FILE",
         "supply over time instead: lines `ms,add|remove,node`, `[ms, \"add\"|\"remove\", {\"nodes\": "
         "[…]}]`, or "
         "`s,count`",
         0, 0},
        {"trace-speed", GW_FLAG_DOUBLE, &o->trace_speed, "X", "its time goes so much faster", 0.001, 1e6},
        {"notice-s", GW_FLAG_DOUBLE, &o->notice_s, "S",
         "notice of a reclaim (AWS 120, GCP and Azure 30; 0: none)", 0, 3600},
        {"boot-s", GW_FLAG_DOUBLE, &o->boot_s, "S", "until a new instance runs", 0, 3600},
        {"spot-price", GW_FLAG_DOUBLE, &o->spot_usd_h, "USD", "of a spot instance per hour", 1e-6, 1e6},
        {"threads-per-worker", GW_FLAG_INT, &o->threads, "N", "threads of each worker", 1, 256},
        {"log-dir", GW_FLAG_STRING, &o->log_dir, "DIR", "where the workers' logs go", 0, 0},
        {0}};
    TRY(gw_args_parse(argc, argv, flags, NULL, 0, NULL, help, ctx));
    if (*help) {
        gw_args_help(
            "godwit cloud --model DIR --cluster-key-file FILE [flags]",
            "Plays a cloud for a controller that runs with\n"
            "    --cloud sim --cloud-endpoint URL --spot-group spot --on-demand-group on-demand --journal "
            "DIR\n"
            "Each instance is a worker on this machine; the groups' sizes are the controller's to set.",
            flags);
        return GW_OK;
    }
    if (!o->model || !o->key_file)
        return gw_fail(ctx, GW_ERR_INPUT, "--model DIR and --cluster-key-file FILE are needed");
    return GW_OK;
}

int gw_cloud_main(int argc, char **argv)
{
    struct gw_err_ctx ctx = {0};
    bool help = false;
    struct cloud c = {.ctx = &ctx,
                      .o = {.weights = "file",
                            .controller = "127.0.0.1:8002",
                            .listen = "127.0.0.1:8010",
                            .log_dir = ".",
                            .spot = 1,
                            .supply = SIM_INSTANCES_MAX / SIM_MARKETS,
                            .threads = 1,
                            .trace_speed = 1,
                            .notice_s = 30,
                            .boot_s = 1,
                            .spot_usd_h = 0.25}};
    signal(SIGPIPE, SIG_IGN);
    gw_err_t err = parse(&c.o, argc, argv, &help, &ctx);
    if (err == GW_OK && !help) {
        err = start(&c, &ctx);
        if (err == GW_OK) event_base_dispatch(c.loop);
        if (err == GW_OK) err = c.err;
        stop(&c);
    }
    if (err != GW_OK) fprintf(stderr, "godwit cloud: %s\n", ctx.text);
    return err == GW_OK ? 0 : 1;
}
