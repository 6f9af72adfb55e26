/* AWS: the instance metadata service, version 2.
 *
 *     one cycle:  [token]  instance-action  target-lifecycle-state  rebalance  [scheduled maintenance, each minute]
 *
 *     answer                     what follows
 *     ────────────────────────   ──────────────────────────────────────────────────────────────────────────────
 *     200, as documented         the document's notice; next document
 *     404                        the document says nothing; next document
 *     401                        one new token, the same document again; 401 again: a failure
 *     429, 5xx, none in time     a failure: back off, then a new cycle, which begins with instance-action
 *     anything else              odd; next document
 *
 * instance-action may end in `hibernate`, which begins at once: its time is not a promise, the deadline is now.
 * target-lifecycle-state `Terminated` is a scale-in: the terminate hook's time-out is what is left.
 *
 * Source: Amazon EC2 User Guide, "Spot Instance interruption notices", "EC2 instance rebalance recommendations",
 * "Use the Instance Metadata Service", "Scheduled events"; Auto Scaling User Guide, "Retrieve the target lifecycle
 * state through instance metadata". */
#include "cloud/source_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cloud/times.h"

#define DEFAULT_URL          "http://169.254.169.254"
#define POLL_US              (2 * GW_US_PER_S)
#define MAINTENANCE_EVERY_US (60 * GW_US_PER_S) /* announced days ahead */
#define TOKEN_TTL_S          21600              /* the most that the service gives */
#define TOKEN_REFRESH_US     ((int64_t)(TOKEN_TTL_S - 600) * GW_US_PER_S)
#define TOKEN_MAX            256
#define HOOK_US              (90 * GW_US_PER_S) /* the terraform modules' hook waits 100 s */

enum doc { DOC_ID, DOC_ACTION, DOC_LIFECYCLE, DOC_REBALANCE, DOC_MAINTENANCE, DOC_END, DOC_TOKEN = DOC_END };

static const char *const paths[DOC_END] = {
    "/latest/meta-data/instance-id",
    "/latest/meta-data/spot/instance-action",
    "/latest/meta-data/autoscaling/target-lifecycle-state",
    "/latest/meta-data/events/recommendations/rebalance",
    "/latest/meta-data/events/maintenance/scheduled",
};

struct aws {
    struct source_base base;
    char token_header[sizeof "X-aws-ec2-metadata-token: " + TOKEN_MAX]; /* "": there is no token */
    int64_t token_old_us;                                               /* when to ask for a new one */
    bool token_refused;                       /* a document answered 401 to a token that is new */
    enum doc doc;                             /* to be asked next */
    int64_t due_us, cycle_us, maintenance_us; /* cycle_us: when this one began */
    char url[SOURCE_URL_MAX];
    struct source_slot action, lifecycle, rebalance, maintenance;
};

/* ---- what is asked ------------------------------------------------------------------------------------- */

static bool needs_token(const struct aws *a, int64_t now_us)
{
    return a->token_header[0] == '\0' || now_us >= a->token_old_us;
}

static int64_t aws_next(void *source, int lane, struct gw_source_now now, struct gw_web_request *out)
{
    struct aws *a = source;
    (void)lane;
    bool token = needs_token(a, now.mono_us);
    if (a->doc == DOC_ACTION && now.mono_us >= a->due_us) a->cycle_us = now.mono_us;
    source_ask(&a->base, token ? "/latest/api/token" : paths[a->doc], a->url, out);
    out->headers[0] = token ? "X-aws-ec2-metadata-token-ttl-seconds: 21600" : a->token_header;
    if (token) {
        out->method = "PUT";
        out->body = "";
    }
    return a->due_us;
}

static void begin_cycle(struct aws *a, int64_t due_us)
{
    a->doc = a->base.instance[0] ? DOC_ACTION : DOC_ID;
    a->due_us = due_us;
}

static void fail(struct aws *a, int64_t now_us, const struct gw_web_reply *reply)
{
    begin_cycle(a, now_us + source_backoff_us(&a->base, POLL_US / 4, reply));
}

static void next_doc(struct aws *a, int64_t now_us)
{
    a->base.failures = 0;
    a->doc++;
    if (a->doc == DOC_MAINTENANCE && now_us < a->maintenance_us) a->doc++;
    a->due_us = now_us;
    if (a->doc < DOC_END) return;
    int64_t due_us = a->cycle_us + source_jitter_us(&a->base, POLL_US);
    begin_cycle(a, due_us > now_us ? due_us : now_us);
}

/* ---- tokens -------------------------------------------------------------------------------------------- */

static bool token_ok(const struct gw_web_reply *reply)
{
    if (reply->status != 200 || reply->body_len == 0 || reply->body_len > TOKEN_MAX) return false;
    for (size_t i = 0; i < reply->body_len; i++)
        if (!isalnum((unsigned char)reply->body[i]) && !memchr("+/=_-", reply->body[i], 5)) return false;
    return true;
}

static void hear_token(struct aws *a, int64_t now_us, const struct gw_web_reply *reply)
{
    if (!token_ok(reply)) {
        a->token_header[0] = '\0';
        struct gw_web_reply said = *reply; /* what looks like a token is not for the log */
        said.body_len = 0;
        if (!source_failed(reply)) source_odd(&a->base, DOC_TOKEN, "IMDSv2 token", &said);
        fail(a, now_us, reply);
        return;
    }
    snprintf(a->token_header, sizeof a->token_header, "X-aws-ec2-metadata-token: %.*s", (int)reply->body_len,
             reply->body);
    a->token_old_us = now_us + TOKEN_REFRESH_US;
    a->due_us = now_us;
}

/* 401: the token has died before its time (the service restarted). One new one; then it is something else. */
static void hear_unauthorized(struct aws *a, int64_t now_us, const struct gw_web_reply *reply)
{
    bool again = a->token_refused;
    a->token_header[0] = '\0';
    a->token_refused = !again;
    if (again)
        fail(a, now_us, reply);
    else
        a->due_us = now_us;
}

/* ---- documents ----------------------------------------------------------------------------------------- */

static bool parse(const struct gw_web_reply *reply, cJSON **tree)
{
    *tree = NULL;
    return gw_json_parse(reply->body, reply->body_len, GW_SOURCE_BODY_MAX, tree, NULL) == GW_OK;
}

/* {"action": "terminate", "time": "2017-09-18T08:22:00Z"} */
static bool read_action(struct aws *a, struct gw_source_now now, const struct gw_web_reply *reply,
                        cJSON *tree)
{
    const char *action = NULL, *time = NULL;
    int64_t unix_ms;
    if (gw_json_string(tree, "action", &action, NULL) != GW_OK || !action) return false;
    if (gw_json_string(tree, "time", &time, NULL) != GW_OK || !time) return false;
    bool hibernate = strcmp(action, "hibernate") == 0;
    if (!hibernate && strcmp(action, "terminate") != 0 && strcmp(action, "stop") != 0) return false;
    if (gw_time_parse_iso(time, &unix_ms) != GW_OK) return false;
    int64_t at_us = source_deadline_us(now, reply, unix_ms);
    if (hibernate) at_us = a->action.told ? a->action.deadline_us : now.mono_us;
    source_present(&a->base, &a->action, GW_CLOUD_PREEMPT, at_us, reply);
    return true;
}

/* {"noticeTime": "2020-10-26T22:02:14Z"} */
static bool read_rebalance(struct aws *a, const struct gw_web_reply *reply, cJSON *tree)
{
    const char *time = NULL;
    int64_t unix_ms;
    if (gw_json_string(tree, "noticeTime", &time, NULL) != GW_OK || !time) return false;
    if (gw_time_parse_iso(time, &unix_ms) != GW_OK) return false;
    source_present(&a->base, &a->rebalance, GW_CLOUD_REBALANCE, 0, reply);
    return true;
}

/* One of [{"NotBefore": "21 Jan 2019 09:00:43 GMT", "Code": "system-reboot", "State": "active", …}]. *first_ms: the
 * earliest active one's time so far, 0 = none. */
static bool read_event(const cJSON *event, int64_t *first_ms)
{
    const char *state = NULL, *not_before = NULL;
    int64_t unix_ms;
    if (gw_json_string(event, "State", &state, NULL) != GW_OK || !state) return false;
    if (gw_json_string(event, "NotBefore", &not_before, NULL) != GW_OK || !not_before) return false;
    if (gw_time_parse_http(not_before, &unix_ms) != GW_OK) return false;
    if (strcmp(state, "active") == 0 && (*first_ms == 0 || unix_ms < *first_ms)) *first_ms = unix_ms;
    return true;
}

static bool read_maintenance(struct aws *a, struct gw_source_now now, const struct gw_web_reply *reply,
                             cJSON *tree)
{
    const cJSON *event;
    int64_t first_ms = 0;
    if (!cJSON_IsArray(tree)) return false;
    cJSON_ArrayForEach(event, tree) if (!read_event(event, &first_ms)) return false;
    if (first_ms)
        source_present(&a->base, &a->maintenance, GW_CLOUD_MAINTENANCE,
                       source_deadline_us(now, reply, first_ms), reply);
    else
        source_absent(&a->base, &a->maintenance, GW_CLOUD_MAINTENANCE);
    return true;
}

static bool read_lifecycle(struct aws *a, struct gw_source_now now, const struct gw_web_reply *reply)
{
    static const char *const states[] = {"InService",         "Standby",          "Detached",
                                         "Warmed:Stopped",    "Warmed:Running",   "Warmed:Pending",
                                         "Warmed:Hibernated", "Warmed:Terminated"};
    if (source_body_is(reply, "Terminated")) {
        int64_t hook_us = a->base.config.hook_us ? a->base.config.hook_us : HOOK_US;
        source_present(&a->base, &a->lifecycle, GW_CLOUD_SCALE_IN,
                       a->lifecycle.told ? a->lifecycle.deadline_us : now.mono_us + hook_us, reply);
        return true;
    }
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        if (!source_body_is(reply, states[i])) continue;
        source_absent(&a->base, &a->lifecycle, GW_CLOUD_SCALE_IN);
        return true;
    }
    return false;
}

static bool read_json(struct aws *a, struct gw_source_now now, const struct gw_web_reply *reply)
{
    cJSON *tree;
    bool ok = parse(reply, &tree);
    if (ok && a->doc == DOC_ACTION) ok = read_action(a, now, reply, tree);
    if (ok && a->doc == DOC_REBALANCE) ok = read_rebalance(a, reply, tree);
    if (ok && a->doc == DOC_MAINTENANCE) ok = read_maintenance(a, now, reply, tree);
    cJSON_Delete(tree);
    return ok;
}

static bool read_doc(struct aws *a, struct gw_source_now now, const struct gw_web_reply *reply)
{
    if (a->doc == DOC_ID) return source_take_instance(&a->base, reply->body, reply->body_len);
    if (a->doc == DOC_LIFECYCLE) return read_lifecycle(a, now, reply);
    return read_json(a, now, reply);
}

static void doc_absent(struct aws *a)
{
    if (a->doc == DOC_ACTION) source_absent(&a->base, &a->action, GW_CLOUD_PREEMPT);
    if (a->doc == DOC_LIFECYCLE) source_absent(&a->base, &a->lifecycle, GW_CLOUD_SCALE_IN);
    if (a->doc == DOC_REBALANCE) source_absent(&a->base, &a->rebalance, GW_CLOUD_REBALANCE);
    if (a->doc == DOC_MAINTENANCE) source_absent(&a->base, &a->maintenance, GW_CLOUD_MAINTENANCE);
}

static void hear_doc(struct aws *a, struct gw_source_now now, const struct gw_web_reply *reply)
{
    a->token_refused = false;
    bool whole = reply->err == GW_OK;
    bool good = whole && reply->status == 200 && read_doc(a, now, reply);
    bool none = whole && reply->status == 404 && a->doc != DOC_ID;
    if (none) doc_absent(a);
    if (!good && !none) source_odd(&a->base, a->doc, paths[a->doc], reply);
    if (!good && a->doc == DOC_ID) {
        fail(a, now.mono_us, reply);
        return;
    }
    if (a->doc == DOC_MAINTENANCE) a->maintenance_us = now.mono_us + MAINTENANCE_EVERY_US;
    next_doc(a, now.mono_us);
}

static void aws_hear(void *source, int lane, struct gw_source_now now, const struct gw_web_reply *reply)
{
    struct aws *a = source;
    (void)lane;
    bool token = strcmp(a->url + strlen(a->base.base_url), "/latest/api/token") == 0;
    if (token)
        hear_token(a, now.mono_us, reply);
    else if (source_failed(reply))
        fail(a, now.mono_us, reply);
    else if (reply->status == 401)
        hear_unauthorized(a, now.mono_us, reply);
    else
        hear_doc(a, now, reply);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static gw_err_t aws_create(const struct gw_source_config *config, void **out)
{
    struct aws *a = calloc(1, sizeof *a);
    if (!a) return GW_ERR_MEMORY;
    source_init(&a->base, config, DEFAULT_URL);
    begin_cycle(a, 0);
    *out = a;
    return GW_OK;
}

static const char *aws_instance(const void *source)
{
    return ((const struct aws *)source)->base.instance;
}

const struct gw_source_ops gw_source_aws = {.name = "aws",
                                            .lanes = 1,
                                            .create = aws_create,
                                            .destroy = free,
                                            .next = aws_next,
                                            .hear = aws_hear,
                                            .instance = aws_instance};
