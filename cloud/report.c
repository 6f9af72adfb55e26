#include "cloud/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"

#define TIMEOUT_US      (2 * GW_US_PER_S)
#define LOOK_US         GW_US_PER_S
#define RETRY_US        (250 * GW_US_PER_MS)
#define RETRY_MAX_US    (2 * GW_US_PER_S)
#define UNKNOWN_US      GW_US_PER_S
#define REFUSED_US      (5 * GW_US_PER_S)
#define SAME_US         (500 * GW_US_PER_MS) /* deadlines that differ by less are one */
#define ANSWER_MAX      (8u << 20)           /* the list of all workers */
#define URL_MAX         512
#define DEADLINE_S_MAX  86400.0
#define TOKEN_MAX_BYTES 4096

/* What a controller may know of this instance. */
struct doom {
    bool doomed;
    enum gw_cloud_notice_kind kind;
    int64_t deadline_us;
};

struct announced {
    bool active;
    int64_t deadline_us;
};

struct gw_report {
    struct gw_report_config config;
    size_t urls_len, url; /* url: the one that is asked now */
    char instance[GW_CLOUD_INSTANCE_MAX];
    struct announced announced[GW_CLOUD_NOTICE_KINDS];
    struct doom told, telling; /* acknowledged; in flight */
    bool blind, blind_told;    /* the cloud is not heard; the controller knows */
    bool blind_telling;        /* what blind_told will be once it is acknowledged */
    int64_t told_us;
    int64_t advice_due_us; /* a recommendation that stands is told then */
    struct event *timer;
    bool in_flight, drained, unknown_said, refused_said, unheard_said;
    int64_t retry_us;
    char text_url[URL_MAX], authorization[TOKEN_MAX_BYTES + 32], body[512];
};

/* ---- what should be known ------------------------------------------------------------------------------ */

static struct doom wanted(const struct gw_report *r, int64_t now_us)
{
    struct doom d = {0};
    for (int k = 0; k < GW_CLOUD_NOTICE_KINDS; k++) {
        const struct announced *a = &r->announced[k];
        if (!a->active || k == GW_CLOUD_REBALANCE) continue;
        if (k == GW_CLOUD_MAINTENANCE && a->deadline_us > now_us + GW_REPORT_LEAD_US) continue;
        if (d.doomed && d.deadline_us <= a->deadline_us) continue;
        d = (struct doom){true, (enum gw_cloud_notice_kind)k, a->deadline_us};
    }
    return d;
}

static bool same(const struct doom *a, const struct doom *b)
{
    int64_t apart_us = a->deadline_us - b->deadline_us;
    return a->doomed == b->doomed &&
           (!a->doomed || (a->kind == b->kind && apart_us < SAME_US && apart_us > -SAME_US));
}

static bool must_tell(const struct gw_report *r, const struct doom *want, int64_t now_us)
{
    if (!same(want, &r->told)) return true;
    return want->doomed && now_us < want->deadline_us && now_us >= r->told_us + GW_REPORT_AGAIN_US;
}

static bool anything_announced(const struct gw_report *r)
{
    for (int k = 0; k < GW_CLOUD_NOTICE_KINDS; k++)
        if (r->announced[k].active) return true;
    return false;
}

static bool must_advise(const struct gw_report *r, int64_t now_us)
{
    return r->announced[GW_CLOUD_REBALANCE].active && now_us >= r->advice_due_us;
}

static void look_in(struct gw_report *r, int64_t in_us)
{
    struct timeval tv = {.tv_sec = in_us / GW_US_PER_S, .tv_usec = in_us % GW_US_PER_S};
    event_add(r->timer, &tv);
}

/* ---- telling it ---------------------------------------------------------------------------------------- */

static void fill(struct gw_report *r, const char *path, struct gw_web_request *q)
{
    snprintf(r->text_url, sizeof r->text_url, "%s%s", r->config.urls[r->url], path);
    *q = (struct gw_web_request){.method = "GET",
                                 .url = r->text_url,
                                 .timeout_us = TIMEOUT_US,
                                 .body_max = ANSWER_MAX,
                                 .direct = true};
    if (r->config.token) q->headers[0] = r->authorization;
}

static void write_body(struct gw_report *r, int64_t now_us)
{
    double left_s = (double)(r->telling.deadline_us - now_us) / (double)GW_US_PER_S;
    if (left_s < 0) left_s = 0;
    if (left_s > DEADLINE_S_MAX) left_s = DEADLINE_S_MAX;
    if (r->telling.doomed) {
        snprintf(r->body, sizeof r->body, "{\"instance\":\"%s\",\"kind\":\"%s\",\"deadline_s\":%.3f}",
                 r->instance, gw_cloud_notice_name(r->telling.kind), left_s);
    } else {
        snprintf(r->body, sizeof r->body, "{\"instance\":\"%s\",\"kind\":\"cancel\"}", r->instance);
    }
}

static void retry(struct gw_report *r, const struct gw_web_reply *reply)
{
    if (!r->unheard_said)
        gw_logf(r->config.log, GW_LOG_WARN,
                "controller %s does not take the notice (%s, status %d): trying on", r->config.urls[r->url],
                reply->why, reply->status);
    r->unheard_said = true;
    r->url = (r->url + 1) % r->urls_len;
    look_in(r, r->retry_us);
    r->retry_us = r->retry_us * 2 < RETRY_MAX_US ? r->retry_us * 2 : RETRY_MAX_US;
}

static void accepted(struct gw_report *r, int64_t now_us)
{
    if (!same(&r->told, &r->telling)) {
        if (r->telling.doomed)
            gw_logf(r->config.log, GW_LOG_INFO, "instance %s: controller %s knows of the %s in %.1f s",
                    r->instance, r->config.urls[r->url], gw_cloud_notice_name(r->telling.kind),
                    (double)(r->telling.deadline_us - now_us) / (double)GW_US_PER_S);
        else
            gw_logf(r->config.log, GW_LOG_INFO, "instance %s: controller %s knows that it stays", r->instance,
                    r->config.urls[r->url]);
    }
    r->told = r->telling;
    r->told_us = now_us;
    if (!r->told.doomed) r->advice_due_us = 0; /* a cancel takes it back, too */
    r->drained = r->drained && r->told.doomed;
    r->unknown_said = r->refused_said = r->unheard_said = false;
    r->retry_us = RETRY_US;
    look_in(r, 0);
}

static void unknown(struct gw_report *r)
{
    if (!r->unknown_said)
        gw_logf(r->config.log, GW_LOG_INFO, "the controller does not know instance %s yet: telling it again",
                r->instance);
    r->unknown_said = true;
    if (!r->telling.doomed) r->told = r->telling; /* who is not known is not doomed either */
    look_in(r, UNKNOWN_US);
}

static void refused(struct gw_report *r, int status)
{
    if (!r->refused_said)
        gw_logf(r->config.log, GW_LOG_ERROR,
                "POST %s/admin/notice: status %d: --admin-token-file must hold the controller's admin token",
                r->config.urls[r->url], status);
    r->refused_said = true;
    look_in(r, REFUSED_US);
}

static void on_told(void *arg, const struct gw_web_reply *reply)
{
    struct gw_report *r = arg;
    r->in_flight = false;
    if (reply->cancelled) return;
    if (reply->err != GW_OK)
        retry(r, reply);
    else if (reply->status / 100 == 2)
        accepted(r, gw_clock_mono_us());
    else if (reply->status == 404)
        unknown(r);
    else if (reply->status == 401 || reply->status == 403)
        refused(r, reply->status);
    else
        retry(r, reply);
}

/* Its body is in r->body. */
static void post_notice(struct gw_report *r, gw_web_done done)
{
    struct gw_web_request q;
    struct gw_web_flight *fetch;
    fill(r, "/admin/notice", &q);
    q.method = "POST";
    q.body = r->body;
    q.body_len = strlen(r->body);
    q.headers[r->config.token ? 1 : 0] = "Content-Type: application/json";
    r->in_flight = r->config.fetcher.start(r->config.fetcher.arg, &q, done, r, &fetch) == GW_OK;
    if (!r->in_flight) look_in(r, LOOK_US);
}

static void tell(struct gw_report *r, const struct doom *want, int64_t now_us)
{
    r->telling = *want;
    write_body(r, now_us);
    post_notice(r, on_told);
}

/* ---- what is no notice --------------------------------------------------------------------------------- */

/* Did the controller take it? One that does not know the word need not hear it again. */
static bool is_taken(struct gw_report *r, const struct gw_web_reply *reply)
{
    bool unknown_yet = reply->err == GW_OK && reply->status == 404;
    bool failed = unknown_yet || reply->err != GW_OK || reply->status / 100 == 5;
    if (reply->err == GW_OK && (reply->status == 401 || reply->status == 403)) {
        refused(r, reply->status);
        return false;
    }
    if (failed && !unknown_yet) r->url = (r->url + 1) % r->urls_len;
    look_in(r, failed ? RETRY_MAX_US : 0);
    return !failed;
}

static void on_told_sight(void *arg, const struct gw_web_reply *reply)
{
    struct gw_report *r = arg;
    r->in_flight = false;
    if (!reply->cancelled && is_taken(r, reply)) r->blind_told = r->blind_telling;
}

static void tell_sight(struct gw_report *r)
{
    r->blind_telling = r->blind;
    snprintf(r->body, sizeof r->body, "{\"instance\":\"%s\",\"kind\":\"%s\"}", r->instance,
             r->blind ? "blind" : "sees");
    post_notice(r, on_told_sight);
}

static void on_advised(void *arg, const struct gw_web_reply *reply)
{
    struct gw_report *r = arg;
    r->in_flight = false;
    if (!reply->cancelled && is_taken(r, reply)) r->advice_due_us = gw_clock_mono_us() + GW_REPORT_ADVICE_US;
}

static void advise(struct gw_report *r)
{
    snprintf(r->body, sizeof r->body, "{\"instance\":\"%s\",\"kind\":\"rebalance\"}", r->instance);
    post_notice(r, on_advised);
}

/* ---- is it drained? ------------------------------------------------------------------------------------ */

/* True if the list is one, and no worker of this instance has requests or takes new ones. */
static bool list_is_drained(const struct gw_report *r, const cJSON *tree)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, "workers"), *w;
    if (!cJSON_IsArray(list)) return false;
    cJSON_ArrayForEach(w, list)
    {
        const char *instance = NULL, *state = NULL;
        int64_t requests = -1;
        if (gw_json_string(w, "instance", &instance, NULL) != GW_OK || !instance) return false;
        if (strcmp(instance, r->instance) != 0) continue;
        if (gw_json_string(w, "state", &state, NULL) != GW_OK || !state) return false;
        if (gw_json_int(w, "requests", 0, INT32_MAX, &requests, NULL) != GW_OK) return false;
        if (requests != 0 || strcmp(state, "doomed") != 0) return false;
    }
    return true;
}

static void on_workers(void *arg, const struct gw_web_reply *reply)
{
    struct gw_report *r = arg;
    cJSON *tree = NULL;
    r->in_flight = false;
    if (reply->cancelled) return;
    look_in(r, LOOK_US);
    if (reply->err != GW_OK || reply->status != 200) return;
    if (gw_json_parse(reply->body, reply->body_len, ANSWER_MAX, &tree, NULL) != GW_OK) return;
    r->drained = list_is_drained(r, tree);
    cJSON_Delete(tree);
    if (!r->drained) return;
    gw_logf(r->config.log, GW_LOG_INFO, "instance %s is drained", r->instance);
    r->config.drained(r->config.arg);
}

static void ask_workers(struct gw_report *r)
{
    struct gw_web_request q;
    struct gw_web_flight *fetch;
    fill(r, "/admin/workers", &q);
    r->in_flight = r->config.fetcher.start(r->config.fetcher.arg, &q, on_workers, r, &fetch) == GW_OK;
    if (!r->in_flight) look_in(r, LOOK_US);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    struct gw_report *r = arg;
    int64_t now_us = gw_clock_mono_us();
    struct doom want = wanted(r, now_us);
    (void)fd;
    (void)what;
    if (r->in_flight) return; /* its answer looks again */
    if (must_tell(r, &want, now_us))
        tell(r, &want, now_us);
    else if (r->blind != r->blind_told)
        tell_sight(r);
    else if (must_advise(r, now_us))
        advise(r);
    else if (r->told.doomed && !r->drained && r->config.drained)
        ask_workers(r);
    else if (anything_announced(r))
        look_in(r, LOOK_US);
}

static void say(const struct gw_report *r, const struct gw_cloud_notice *n)
{
    const char *name = gw_cloud_notice_name(n->kind);
    double left_s = (double)(n->deadline_us - gw_clock_mono_us()) / (double)GW_US_PER_S;
    if (n->cancel)
        gw_logf(r->config.log, GW_LOG_INFO, "instance %s: the %s is cancelled", n->instance, name);
    else if (n->kind == GW_CLOUD_REBALANCE)
        gw_logf(r->config.log, GW_LOG_INFO, "instance %s: rebalance recommended: %s", n->instance, n->raw);
    else
        gw_logf(r->config.log, GW_LOG_WARN, "instance %s: %s in %.1f s: %s", n->instance, name, left_s,
                n->raw);
}

void gw_report_notice(struct gw_report *r, const struct gw_cloud_notice *n)
{
    say(r, n);
    memcpy(r->instance, n->instance, sizeof r->instance);
    if (n->kind == GW_CLOUD_REBALANCE) r->advice_due_us = 0;
    r->announced[n->kind] = (struct announced){.active = !n->cancel, .deadline_us = n->deadline_us};
    if (!r->in_flight) look_in(r, 0);
}

void gw_report_sees(struct gw_report *r, const char *instance, bool sees)
{
    if (instance[0] == '\0') return;
    snprintf(r->instance, sizeof r->instance, "%s", instance);
    r->blind = !sees;
    if (!r->in_flight) look_in(r, 0);
}

gw_err_t gw_report_create(const struct gw_report_config *config, struct gw_report **out,
                          struct gw_err_ctx *ctx)
{
    struct gw_report *r = calloc(1, sizeof *r);
    if (!r) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    r->config = *config;
    while (r->urls_len < GW_REPORT_URLS_MAX && config->urls[r->urls_len]) r->urls_len++;
    if (config->token)
        snprintf(r->authorization, sizeof r->authorization, "Authorization: Bearer %s", config->token);
    r->retry_us = RETRY_US;
    r->timer = evtimer_new(config->loop, on_look, r);
    if (!r->timer) {
        free(r);
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    }
    *out = r;
    return GW_OK;
}

void gw_report_destroy(struct gw_report *r)
{
    if (!r) return;
    event_free(r->timer);
    gw_bytes_wipe(r->authorization, sizeof r->authorization);
    free(r);
}
