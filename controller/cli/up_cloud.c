#include "controller/cli/up_cloud.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "controller/cli/procs.h"

#define PATH_BYTES     (PATH_MAX + 64)
#define READY_MAX      4096
#define LIST_MAX       (64u << 10)
#define ASK_TIMEOUT_S  2
#define SPARE_OF_SPOT  2 /* beyond --workers: replacements come before those that go are gone */
#define GROUP_MAX_SIZE (SIM_INSTANCES_MAX / SIM_MARKETS)

/* Times of the capacity controller: a laptop's instances come within seconds, and a person watches. Spot counts as whole while those
 * under notice are there, so what is on demand is not given back before they have gone. */
#define CAPACITY_WHOLE_BEHIND_NOTICE_S 5
#define CAPACITY_SHORT_S               "5"
#define CAPACITY_SHRINK_S              "60"
#define CAPACITY_DRAIN_S               "60"

/* ---- starting ------------------------------------------------------------------------------------------ */

static void ready_path(const struct up_cloud *c, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/cloud.json", c->dir);
}

gw_err_t up_cloud_start(struct up_cloud *c, struct gw_err_ctx *ctx)
{
    const struct up_options *o = c->options;
    char program[PATH_BYTES], key[PATH_BYTES], ready[PATH_BYTES], controller_ready[PATH_BYTES],
        log[PATH_BYTES];
    char listen[48], spot[24], supply[24], boot[32], notice[32], spot_price[32], on_demand_price[32];
    char threads[24], kv_tokens[24], memory[24];
    snprintf(program, sizeof program, "%s/godwit", c->bin_dir);
    snprintf(key, sizeof key, "%s/cluster-key", c->dir);
    ready_path(c, ready);
    snprintf(controller_ready, sizeof controller_ready, "%s/ready.json", c->dir);
    snprintf(log, sizeof log, "%s/" UP_CLOUD_LOG, c->log_dir);
    snprintf(listen, sizeof listen, "127.0.0.1:%lld", (long long)o->cloud_port);
    snprintf(spot, sizeof spot, "%lld", (long long)o->workers);
    snprintf(supply, sizeof supply, "%lld", (long long)o->supply);
    snprintf(boot, sizeof boot, "%g", o->replace_after_s);
    snprintf(notice, sizeof notice, "%g", o->term_grace_s);
    snprintf(spot_price, sizeof spot_price, "%g", o->spot_usd_h);
    snprintf(on_demand_price, sizeof on_demand_price, "%g", o->on_demand_usd_h);
    snprintf(threads, sizeof threads, "%lld", (long long)o->threads);
    snprintf(kv_tokens, sizeof kv_tokens, "%lld", (long long)o->kv_tokens);
    snprintf(memory, sizeof memory, "%lld", (long long)o->memory_limit);
    char *argv[] = {program,
                    "cloud",
                    "--model",
                    (char *)o->model,
                    "--cluster-key-file",
                    key,
                    "--controller-ready",
                    controller_ready,
                    "--ready-file",
                    ready,
                    "--listen",
                    listen,
                    "--log-dir",
                    (char *)c->log_dir,
                    "--spot",
                    spot,
                    "--supply",
                    supply,
                    "--boot-s",
                    boot,
                    "--notice-s",
                    notice,
                    "--zones",
                    (char *)o->zones,
                    "--spot-price",
                    spot_price,
                    "--on-demand-price",
                    on_demand_price,
                    "--threads-per-worker",
                    threads,
                    "--kv-tokens",
                    kv_tokens,
                    "--memory-limit",
                    memory,
                    "--kv",
                    (char *)o->kv,
                    "--kv-restore",
                    (char *)o->kv_restore,
                    "--weights",
                    (char *)o->weights,
                    "--weights-from",
                    (char *)o->weights_from,
                    "--isa",
                    (char *)o->isa,
                    "--store",
                    (char *)c->store,
                    o->worker_connect ? "--controller" : NULL,
                    (char *)o->worker_connect,
                    NULL};
    return gw_proc_start(argv, log, &c->pid, ctx);
}

/* ---- the controller's flags ---------------------------------------------------------------------------- */

static void write_flags(struct up_cloud *c)
{
    const struct up_options *o = c->options;
    int64_t most = o->workers + SPARE_OF_SPOT < GROUP_MAX_SIZE ? o->workers + SPARE_OF_SPOT : GROUP_MAX_SIZE;
    char(*t)[sizeof c->flag_text[0]] = c->flag_text;
    snprintf(t[0], sizeof t[0], "http://127.0.0.1:%d", c->port);
    snprintf(t[1], sizeof t[1], "%lld", (long long)o->workers);
    snprintf(t[2], sizeof t[2], "%lld", (long long)most);
    snprintf(t[3], sizeof t[3], "%g", o->on_demand_usd_h);
    snprintf(t[4], sizeof t[4], "%g", o->term_grace_s + CAPACITY_WHOLE_BEHIND_NOTICE_S);
    const char *const flags[] = {"--cloud",
                                 "sim",
                                 "--cloud-endpoint",
                                 t[0],
                                 "--spot-group",
                                 "spot",
                                 "--spot-min",
                                 t[1],
                                 "--spot-max",
                                 t[2],
                                 "--on-demand-group",
                                 "on-demand",
                                 "--on-demand-max",
                                 t[2],
                                 "--on-demand-price",
                                 t[3],
                                 "--capacity-cooldown",
                                 "1",
                                 "--capacity-read",
                                 "1",
                                 "--capacity-settle",
                                 "3",
                                 "--capacity-short",
                                 CAPACITY_SHORT_S,
                                 "--capacity-whole",
                                 t[4],
                                 "--capacity-shrink",
                                 CAPACITY_SHRINK_S,
                                 "--capacity-drain",
                                 CAPACITY_DRAIN_S,
                                 NULL};
    _Static_assert(sizeof flags <= sizeof c->flags, "room for them");
    memcpy(c->flags, flags, sizeof flags);
}

bool up_cloud_ready(struct up_cloud *c)
{
    char path[PATH_BYTES];
    cJSON *ready = NULL;
    int64_t port = 0;
    ready_path(c, path);
    if (c->port || access(path, F_OK) != 0) return c->port != 0;
    if (gw_json_parse_file(path, READY_MAX, &ready, NULL) == GW_OK &&
        gw_json_int(ready, "port", 1, 65535, &port, NULL) == GW_OK && port) {
        c->port = (int)port;
        write_flags(c);
    }
    cJSON_Delete(ready);
    return c->port != 0;
}

/* ---- looking ------------------------------------------------------------------------------------------- */

/* An instance whose worker has not been started, or has ended, is none that can be looked at. */
static void take_instance(struct up_cloud *c, const cJSON *item)
{
    const char *id = NULL, *group = NULL;
    int64_t pid = 0;
    if (c->seen_len == SIM_INSTANCES_MAX || gw_json_string(item, "id", &id, NULL) != GW_OK ||
        gw_json_string(item, "group", &group, NULL) != GW_OK ||
        gw_json_int(item, "worker_pid", 0, INT32_MAX, &pid, NULL) != GW_OK || !id || !group || pid == 0)
        return;
    struct fleet_seen *s = &c->seen[c->seen_len++];
    snprintf(s->id, sizeof s->id, "%s", id);
    snprintf(s->group, sizeof s->group, "%s", group);
    s->pid = (pid_t)pid;
}

static void on_list(struct evhttp_request *req, void *arg)
{
    struct up_cloud *c = arg;
    const cJSON *item;
    cJSON *list = NULL;
    c->asking = false;
    if (!req || evhttp_request_get_response_code(req) != 200) return; /* the next tick asks again */
    struct evbuffer *body = evhttp_request_get_input_buffer(req);
    size_t len = evbuffer_get_length(body);
    if (gw_json_parse((const char *)evbuffer_pullup(body, -1), len, LIST_MAX, &list, NULL) != GW_OK) return;
    c->seen_len = 0;
    c->answered = true;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(list, "instances")) take_instance(c, item);
    cJSON_Delete(list);
}

void up_cloud_ask(struct up_cloud *c, struct event_base *loop)
{
    if (c->asking) return;
    if (!c->connection) {
        c->connection = evhttp_connection_base_new(loop, NULL, "127.0.0.1", (uint16_t)c->port);
        if (!c->connection) return;
        evhttp_connection_set_timeout(c->connection, ASK_TIMEOUT_S);
    }
    struct evhttp_request *req = evhttp_request_new(on_list, c);
    if (!req) return;
    evhttp_add_header(evhttp_request_get_output_headers(req), "Host", "127.0.0.1");
    c->asking = evhttp_make_request(c->connection, req, EVHTTP_REQ_GET, "/v1/instances") == 0;
}

void up_cloud_close(struct up_cloud *c)
{
    char path[PATH_BYTES];
    if (c->connection) evhttp_connection_free(c->connection);
    c->connection = NULL;
    if (!c->dir) return;
    ready_path(c, path);
    unlink(path);
}
