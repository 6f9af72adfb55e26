#include "controller/cli/up.h"

#include <dirent.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/rng.h"
#include "controller/cli/fleet.h"
#include "controller/cli/local_redis.h"
#include "controller/cli/procs.h"
#include "controller/cli/settled.h"
#include "controller/cli/up_cloud.h"
#include "controller/cli/up_controller.h"
#include "controller/cli/up_options.h"
#include "controller/cli/up_worker.h"

#define POLL_MS         100 /* how stale the state file may be */
#define START_TIMEOUT_S 120 /* hashing a large model takes long the first time */
#define END_GRACE_MS    3000
#define CLOUD_GRACE_MS  (2 * END_GRACE_MS)
#define VIEW_MAX        (4u << 20)
#define PATH_BYTES      (PATH_MAX + 64)

struct up {
    struct up_options o;
    struct local_redis redis;
    const char *store; /* what workers are told */
    struct event_base *loop;
    struct event *tick;
    struct fleet fleet, shown; /* shown: as it was when a person was last told */
    char bin_dir[PATH_MAX];    /* where our sibling programs are */
    char dir[PATH_MAX];        /* private: cluster key, ready file; removed at the end */
    char log_dir[PATH_MAX];
    bool own_log_dir;
    char model_name[128];
    struct up_controller controller;
    struct up_cloud cloud; /* with --cloud sim */
    char controller_log[PATH_BYTES];
    int port, admin_port, worker_port; /* 0 until the controller is ready */
    cJSON *view;                       /* what the controller last said of its workers */
    struct evhttp_connection *admin;
    bool asking, announced;
    bool settled;                  /* what the fleet can serve is served */
    char unserved[UNSERVED_BYTES]; /* why that is nothing */
    int64_t started_us;
    int exit_status;
};

static void give_up(struct up *up, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void give_up(struct up *up, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "godwit up: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    up->exit_status = 1;
    event_base_loopbreak(up->loop);
}

/* ---- what it starts ---- */

static gw_err_t start_controller(struct up *up, struct gw_err_ctx *ctx)
{
    struct up_controller *c = &up->controller;
    snprintf(up->controller_log, sizeof up->controller_log, "%s/controller.log", up->log_dir);
    *c = (struct up_controller){.bin_dir = up->bin_dir,
                                .dir = up->dir,
                                .log_path = up->controller_log,
                                .model = up->o.model,
                                .weights = up->o.weights,
                                .kv = up->o.kv,
                                .host = up->o.host,
                                .layout = up->o.layout,
                                .api_keys = up->o.api_keys,
                                .more = up->o.sim ? up->cloud.flags : NULL,
                                .port = up->o.port,
                                .admin_port = up->o.admin_port,
                                .worker_port = up->o.worker_port};
    return up_controller_start(c, ctx);
}

static gw_err_t start_worker(struct up *up, struct fleet_worker *w, struct gw_err_ctx *ctx)
{
    const struct up_workers workers = {.o = &up->o,
                                       .bin_dir = up->bin_dir,
                                       .dir = up->dir,
                                       .log_dir = up->log_dir,
                                       .store = up->store,
                                       .port = up->worker_port};
    up->fleet.changed = true;
    return up_worker_start(&workers, (size_t)(w - up->fleet.workers), w, ctx);
}

/* ---- what it tells ---- */

static void write_state(struct up *up)
{
    struct gw_buf b;
    struct gw_err_ctx ctx = {0};
    gw_buf_init(&b, 1u << 20);
    gw_buf_printf(&b, "{\"url\": \"http://%s:%d\", \"admin_url\": \"http://127.0.0.1:%d\", \"model\": ",
                  up->o.host, up->port, up->admin_port);
    gw_json_put_string(&b, up->model_name, strlen(up->model_name));
    gw_buf_printf(
        &b,
        ", \"controller_pid\": %d, \"worker_endpoint\": \"127.0.0.1:%d\", \"redis_pid\": %d, \"log_dir\": ",
        (int)up->controller.pid, up->worker_port, (int)up->redis.pid);
    gw_json_put_string(&b, up->log_dir, strlen(up->log_dir));
    if (up->o.sim) gw_buf_printf(&b, ", \"cloud_url\": \"http://127.0.0.1:%d\"", up->cloud.port);
    gw_buf_puts(&b, ", \"workers\": [");
    const char *comma = "";
    for (size_t i = 0; i < up->fleet.len; i++) {
        const struct fleet_worker *w = &up->fleet.workers[i];
        if (w->state == FLEET_FREE) continue;
        gw_buf_printf(&b, "%s{\"id\": \"%s\", \"pid\": %d, \"state\": \"%s\"", comma, w->id, (int)w->pid,
                      fleet_state_name(w->state));
        if (w->group[0]) gw_buf_printf(&b, ", \"group\": \"%s\"", w->group);
        gw_buf_u8(&b, '}');
        comma = ", ";
    }
    gw_buf_puts(&b, "]}\n");
    if (b.err != GW_OK || gw_file_replace(up->o.state, b.data, b.len, 0644, &ctx) != GW_OK)
        give_up(up, "cannot write --state: %s", ctx.text);
    gw_buf_fini(&b);
}

static void print_ready(struct up *up)
{
    if (up->unserved[0]) printf("godwit up: NOTHING IS SERVED YET: %s\n", up->unserved);
    printf("godwit up: %s is served at http://%s:%d/v1 by %zu workers (%.1f s)\n", up->model_name, up->o.host,
           up->port, fleet_up(&up->fleet), (double)(gw_clock_mono_us() - up->started_us) / 1e6);
    printf("  admin and metrics  http://127.0.0.1:%d (/admin/workers, /admin/events, /metrics)\n",
           up->admin_port);
    printf("  logs               %s\n", up->log_dir);
    printf("  try it             curl -N http://%s:%d/v1/chat/completions -H 'Content-Type: "
           "application/json' -d "
           "'{\"model\": \"%s\", \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"Tell "
           "me a story about a bird.\"}]}'\n",
           up->o.host, up->port, up->model_name);
    if (up->o.sim)
        printf("  be the cloud       godwit cloud list | preempt ID | kill ID | supply N …  --listen "
               "127.0.0.1:%d\n",
               up->cloud.port);
    else
        printf("  be the cloud       kill -9 PID takes a worker away; it is replaced after %g s\n",
               up->o.replace_after_s);
    for (size_t i = 0; i < up->fleet.len; i++)
        if (up->fleet.workers[i].pid)
            printf("  worker %-12s pid %d\n", up->fleet.workers[i].id, (int)up->fleet.workers[i].pid);
    printf("Ctrl-C ends everything.\n");
    fflush(stdout);
}

static const char *words_for(enum fleet_state state)
{
    if (state == FLEET_FREE) return "gone";
    return state == FLEET_LOST ? "lost (frozen or cut off)" : fleet_state_name(state);
}

static void print_changes(struct up *up)
{
    for (size_t i = 0; i < up->fleet.len; i++) {
        const struct fleet_worker *w = &up->fleet.workers[i], *shown = &up->shown.workers[i];
        bool same = i < up->shown.len && strcmp(w->id, shown->id) == 0;
        if (same ? w->state != shown->state : w->state != FLEET_FREE)
            printf("  worker %-12s %s\n", w->id, words_for(w->state));
    }
    up->shown = up->fleet;
    fflush(stdout);
}

/* ---- what it hears ---- */

static const char *view_state_of(void *arg, const char *id)
{
    const struct up *up = arg;
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(up->view, "workers"))
    {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "worker");
        const cJSON *state = cJSON_GetObjectItemCaseSensitive(item, "state");
        if (cJSON_IsString(name) && cJSON_IsString(state) && strcmp(name->valuestring, id) == 0)
            return state->valuestring;
    }
    return NULL;
}

static void on_view(struct evhttp_request *req, void *arg)
{
    struct up *up = arg;
    up->asking = false;
    if (!req || evhttp_request_get_response_code(req) != 200) return; /* the next tick asks again */
    struct evbuffer *body = evhttp_request_get_input_buffer(req);
    size_t len = evbuffer_get_length(body);
    cJSON *view = NULL;
    if (gw_json_parse((const char *)evbuffer_pullup(body, -1), len, VIEW_MAX, &view, NULL) != GW_OK) return;
    cJSON_Delete(up->view);
    up->view = view;
    fleet_on_view(&up->fleet, view_state_of, up, gw_clock_mono_us());
}

static void on_layout(struct evhttp_request *req, void *arg)
{
    struct up *up = arg;
    up->asking = false;
    if (!req || evhttp_request_get_response_code(req) != 200) return;
    struct evbuffer *body = evhttp_request_get_input_buffer(req);
    size_t len = evbuffer_get_length(body);
    cJSON *layout = NULL;
    if (gw_json_parse((const char *)evbuffer_pullup(body, -1), len, VIEW_MAX, &layout, NULL) != GW_OK) return;
    up->settled = cluster_settled(layout, up->unserved);
    cJSON_Delete(layout);
}

static bool workers_are_up(const struct up *up)
{
    return fleet_up(&up->fleet) >= (size_t)up->o.workers;
}

static void ask_controller(struct up *up)
{
    bool layout = !up->announced && workers_are_up(up);
    if (up->asking) return;
    if (!up->admin) {
        up->admin = evhttp_connection_base_new(up->loop, NULL, "127.0.0.1", (uint16_t)up->admin_port);
        if (!up->admin) return;
        evhttp_connection_set_timeout(up->admin, 2);
    }
    struct evhttp_request *req = evhttp_request_new(layout ? on_layout : on_view, up);
    if (!req) return;
    evhttp_add_header(evhttp_request_get_output_headers(req), "Host", "127.0.0.1");
    up->asking =
        evhttp_make_request(up->admin, req, EVHTTP_REQ_GET, layout ? "/admin/layout" : "/admin/workers") == 0;
}

/* False: up cannot go on. */
static bool on_controller_exit(struct up *up, const struct gw_proc_end *end)
{
    char why[400];
    struct gw_err_ctx ctx = {0};
    bool again = up_controller_on_exit(&up->controller, end->status < 0) && up->announced;
    if (again && up_controller_start(&up->controller, &ctx) == GW_OK) {
        printf("  controller          %s, started again as pid %d\n", end->how, (int)up->controller.pid);
        up->fleet.changed = true;
        return true;
    }
    gw_proc_last_line(up->controller_log, why, sizeof why);
    give_up(up, "the controller ended (%s): %s", end->how, why);
    return false;
}

static void reap_children(struct up *up)
{
    struct gw_proc_end end;
    char why[400], log[PATH_BYTES];
    while (gw_proc_reap(&end)) {
        if (end.pid == up->controller.pid) {
            if (!on_controller_exit(up, &end)) return;
            continue;
        }
        if (up->o.sim && end.pid == up->cloud.pid) {
            snprintf(log, sizeof log, "%s/" UP_CLOUD_LOG, up->log_dir);
            gw_proc_last_line(log, why, sizeof why);
            up->cloud.pid = 0;
            give_up(up, "the cloud ended (%s): %s", end.how, why);
            return;
        }
        if (local_redis_on_exit(&up->redis, end.pid, gw_clock_mono_us(),
                                (int64_t)(up->o.replace_after_s * 1e6)))
            continue;
        struct fleet_worker *w = fleet_on_exit(&up->fleet, end.pid, gw_clock_mono_us());
        bool no_device = w && w->fast_exits > 0 && end.status == UP_WORKER_NO_DEVICE;
        if (w && (w->fast_exits >= FAST_EXITS_MAX || no_device)) {
            snprintf(log, sizeof log, "%s/%s.log", up->log_dir, w->id);
            gw_proc_last_line(log, why, sizeof why);
            give_up(up, "worker %s does not come up (%s): %s", w->id, end.how, why);
            return;
        }
        if (w && w->fast_exits > 0)
            w->replace_at_us = gw_clock_mono_us(); /* it never served: no reason to wait */
    }
}

/* ---- its clock ---- */

/* The controller's ready file has appeared: learn the ports. */
static void look_for_ready(struct up *up)
{
    char path[PATH_BYTES];
    cJSON *ready = NULL;
    int64_t port = 0, admin = 0, worker = 0;
    snprintf(path, sizeof path, "%s/ready.json", up->dir);
    if (access(path, F_OK) != 0) return;
    if (gw_json_parse_file(path, 4096, &ready, NULL) != GW_OK) return;
    if (gw_json_int(ready, "port", 1, 65535, &port, NULL) == GW_OK &&
        gw_json_int(ready, "admin_port", 1, 65535, &admin, NULL) == GW_OK &&
        gw_json_int(ready, "worker_port", 1, 65535, &worker, NULL) == GW_OK) {
        up->port = (int)port;
        up->admin_port = (int)admin;
        up->worker_port = (int)worker;
        up->controller.port = port;
        up->controller.admin_port = admin;
        up->controller.worker_port = worker;
    }
    cJSON_Delete(ready);
}

static void start_due_workers(struct up *up)
{
    struct fleet_worker *w;
    struct gw_err_ctx ctx = {0};
    pid_t redis = up->redis.pid;
    if (local_redis_tend(&up->redis, gw_clock_mono_us(), &ctx) != GW_OK) give_up(up, "%s", ctx.text);
    up->fleet.changed |= up->redis.pid != redis;
    while (!up->o.sim && (w = fleet_next_start(&up->fleet, gw_clock_mono_us()))) {
        if (start_worker(up, w, &ctx) == GW_OK) continue;
        give_up(up, "cannot start worker %s: %s", w->id, ctx.text);
        return;
    }
}

/* The controller is told where its cloud is, so it begins behind it. False: it does not yet, or cannot. */
static bool start_late(struct up *up)
{
    struct gw_err_ctx ctx = {0};
    if (up->controller.pid) return true;
    if (!up_cloud_ready(&up->cloud)) return false;
    if (start_controller(up, &ctx) != GW_OK) give_up(up, "%s", ctx.text);
    return up->exit_status == 0;
}

static void follow_cloud(struct up *up)
{
    if (!up->o.sim) return;
    up_cloud_ask(&up->cloud, up->loop);
    if (up->cloud.answered) fleet_follow(&up->fleet, up->cloud.seen, up->cloud.seen_len);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct up *up = arg;
    reap_children(up);
    if (up->exit_status) return;
    if (!up->port && !start_late(up)) return;
    if (!up->port) look_for_ready(up);
    if (up->port) {
        follow_cloud(up);
        start_due_workers(up);
        ask_controller(up);
    }
    if (!up->announced && up->port && workers_are_up(up) && up->settled) {
        up->announced = true;
        up->fleet.changed = true;
        print_ready(up);
        up->shown = up->fleet;
    } else if (up->announced) {
        print_changes(up);
    }
    if (!up->announced && gw_clock_mono_us() - up->started_us > START_TIMEOUT_S * GW_US_PER_S)
        give_up(up, "not ready after %d s; the logs in %s say more", START_TIMEOUT_S, up->log_dir);
    if (up->announced && up->fleet.changed && up->o.state) write_state(up);
    if (up->announced) up->fleet.changed = false;
}

static void on_end_signal(evutil_socket_t sig, short what, void *arg)
{
    (void)sig;
    (void)what;
    struct up *up = arg;
    event_base_loopbreak(up->loop);
}

/* ---- start and end ---- */

static gw_err_t write_cluster_key(struct up *up, struct gw_err_ctx *ctx)
{
    uint8_t key[32];
    char hex[2 * sizeof key + 1], path[PATH_BYTES];
    gw_random_bytes(key, sizeof key);
    gw_hex(key, sizeof key, hex);
    snprintf(path, sizeof path, "%s/cluster-key", up->dir);
    return gw_file_replace(path, hex, sizeof hex - 1, 0600, ctx);
}

static gw_err_t make_dirs(struct up *up, struct gw_err_ctx *ctx)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(up->dir, sizeof up->dir, "%s/godwit-up-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(up->dir)) return gw_fail(ctx, GW_ERR_IO, "%s: %s", up->dir, strerror(errno));
    up->own_log_dir = !up->o.log_dir;
    snprintf(up->log_dir, sizeof up->log_dir, "%s", up->own_log_dir ? up->dir : up->o.log_dir);
    if (!up->own_log_dir && mkdir(up->log_dir, 0755) != 0 && errno != EEXIST)
        return gw_fail(ctx, GW_ERR_IO, "%s: %s", up->log_dir, strerror(errno));
    return write_cluster_key(up, ctx);
}

static void name_model(struct up *up)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", up->o.model);
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') path[--len] = '\0';
    const char *slash = strrchr(path, '/');
    snprintf(up->model_name, sizeof up->model_name, "%s", slash ? slash + 1 : path);
}

/* Removes what is in our private directory; keeps the logs if something went wrong. */
static void remove_dir(struct up *up)
{
    char path[PATH_BYTES + NAME_MAX];
    bool keep_logs = up->own_log_dir && up->exit_status != 0;
    DIR *dir = opendir(up->dir);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        size_t len = strlen(e->d_name);
        bool is_log = len > 4 && strcmp(e->d_name + len - 4, ".log") == 0;
        snprintf(path, sizeof path, "%s/%s", up->dir, e->d_name);
        if (e->d_name[0] != '.' && !(keep_logs && is_log)) unlink(path);
    }
    if (dir) closedir(dir);
    if (keep_logs)
        fprintf(stderr, "godwit up: the logs are in %s\n", up->dir);
    else
        rmdir(up->dir);
}

static void end_everything(struct up *up)
{
    pid_t pids[FLEET_MAX + 1];
    size_t len = 0;
    for (size_t i = 0; i < up->fleet.len && !up->o.sim; i++) pids[len++] = up->fleet.workers[i].pid;
    gw_procs_end(pids, len, SIGINT, END_GRACE_MS);
    gw_procs_end(&up->cloud.pid, 1, SIGINT, CLOUD_GRACE_MS); /* it ends its instances */
    gw_procs_end(&up->controller.pid, 1, SIGTERM, END_GRACE_MS);
    gw_procs_end(&up->redis.pid, 1, SIGTERM, END_GRACE_MS);
    if (up->o.state) unlink(up->o.state);
    if (up->controller.dir) up_controller_clean(&up->controller);
    if (up->dir[0]) remove_dir(up);
}

static gw_err_t add_workers(struct up *up, struct gw_err_ctx *ctx)
{
    struct fleet_worker *ignored;
    for (int64_t i = 0; i < up->o.workers; i++) {
        char id[16];
        snprintf(id, sizeof id, "w%lld", (long long)i);
        if (fleet_add(&up->fleet, id, &ignored) != GW_OK)
            return gw_fail(ctx, GW_ERR_LIMIT, "too many workers");
    }
    return GW_OK;
}

static gw_err_t run(struct up *up, struct gw_err_ctx *ctx)
{
    struct timeval poll = {.tv_usec = POLL_MS * 1000};
    struct event *sigint = evsignal_new(up->loop, SIGINT, on_end_signal, up);
    struct event *sigterm = evsignal_new(up->loop, SIGTERM, on_end_signal, up);
    gw_err_t err = GW_OK;
    if (!sigint || !sigterm || !up->tick) err = gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    if (err == GW_OK) err = up->o.sim ? up_cloud_start(&up->cloud, ctx) : start_controller(up, ctx);
    if (err == GW_OK) {
        event_add(sigint, NULL);
        event_add(sigterm, NULL);
        event_add(up->tick, &poll);
        event_base_dispatch(up->loop);
    }
    if (up->admin) evhttp_connection_free(up->admin);
    up_cloud_close(&up->cloud);
    if (sigint) event_free(sigint);
    if (sigterm) event_free(sigterm);
    return err;
}

/* Where workers keep their KV pages. */
static gw_err_t open_store(struct up *up, struct gw_err_ctx *ctx)
{
    up->store = up->o.redis ? up->redis.url : up->o.store;
    return up->o.redis ? local_redis_start(&up->redis, up->dir, up->log_dir, ctx) : GW_OK;
}

static gw_err_t up_start(struct up *up, struct gw_err_ctx *ctx)
{
    if (!up->o.model)
        return gw_fail(ctx, GW_ERR_INPUT, "--model DIR is needed (try tests/models/tattler-3m)");
    name_model(up);
    up->started_us = gw_clock_mono_us();
    fleet_init(&up->fleet, (int64_t)(up->o.replace_after_s * 1e6));
    if (!up->o.sim) TRY(add_workers(up, ctx));
    TRY(gw_proc_own_dir(up->bin_dir, ctx));
    TRY(make_dirs(up, ctx));
    TRY(open_store(up, ctx));
    up->cloud = (struct up_cloud){.bin_dir = up->bin_dir,
                                  .dir = up->dir,
                                  .log_dir = up->log_dir,
                                  .options = &up->o,
                                  .store = up->store};
    up->loop = event_base_new();
    if (!up->loop) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    up->tick = event_new(up->loop, -1, EV_PERSIST, on_tick, up);
    return run(up, ctx);
}

int gw_up_main(int argc, char **argv)
{
    struct gw_err_ctx ctx = {0};
    bool help = false;
    struct up *up = calloc(1, sizeof *up);
    if (!up) return 1;
    signal(SIGPIPE, SIG_IGN);
    gw_err_t err = up_options_parse(argc, argv, &up->o, &help, &ctx);
    if (err == GW_OK && !help) {
        err = up_start(up, &ctx);
        if (err != GW_OK) up->exit_status = 1;
        end_everything(up);
    }
    if (err != GW_OK) fprintf(stderr, "godwit up: %s\n", ctx.text);
    int status = err != GW_OK ? 1 : up->exit_status;
    cJSON_Delete(up->view);
    if (up->tick) event_free(up->tick);
    if (up->loop) event_base_free(up->loop);
    free(up);
    return status;
}
