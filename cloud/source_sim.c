/* sim: a cloud that takes instances by a script, for the demo, tests and a laptop.
 *
 * From a file (base_url is its path), read once; times count from then:
 *
 *     [{"instance": "i-1", "at_s": 5, "kind": "preempt", "deadline_s": 30},
 *      {"instance": "i-1", "at_s": 9, "kind": "preempt", "cancel": true}]
 *
 * Or from a simulated metadata service (base_url begins with http://), asked by long polls:
 *
 *     GET /v1/instances/ID/notices?after=N&wait_s=8   →   {"sequence": 4, "notices": [{"kind": "preempt",
 *                                                           "deadline_in_s": 29.4}, {"kind": …, "cancel": true}]}
 *
 * with the notices numbered after N up to `sequence`; nothing new within wait_s: an empty list.
 *
 * Source: own design. */
#include "cloud/source_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define FILE_MAX_BYTES (8u << 20)
#define STEPS_MAX      4096
#define DEADLINE_S_MAX 86400.0
#define WAIT_S         8
#define RETRY_US       (500 * GW_US_PER_MS)

struct step {
    int64_t at_us, deadline_us; /* from the start; from at_us */
    enum gw_cloud_notice_kind kind;
    bool cancel;
};

struct sim {
    struct source_base base;
    bool by_http;
    struct step *steps; /* of this instance, in the file's order */
    size_t steps_len, at;
    int64_t start_us; /* when the first question came; -1: not yet */
    int64_t sequence, due_us;
    char url[SOURCE_URL_MAX];
    struct source_slot slots[GW_CLOUD_NOTICE_KINDS];
};

/* ---- steps --------------------------------------------------------------------------------------------- */

static bool read_kind(const cJSON *item, enum gw_cloud_notice_kind *kind)
{
    const char *name = NULL;
    if (gw_json_string(item, "kind", &name, NULL) != GW_OK || !name) return false;
    for (int k = 0; k < GW_CLOUD_NOTICE_KINDS; k++) {
        if (strcmp(name, gw_cloud_notice_name((enum gw_cloud_notice_kind)k)) != 0) continue;
        *kind = (enum gw_cloud_notice_kind)k;
        return true;
    }
    return false;
}

static bool read_step(const cJSON *item, const char *deadline_field, struct step *out)
{
    double at_s = 0, deadline_s = 0;
    *out = (struct step){0};
    if (!read_kind(item, &out->kind) ||
        gw_json_double(item, "at_s", 0, DEADLINE_S_MAX, &at_s, NULL) != GW_OK ||
        gw_json_double(item, deadline_field, 0, DEADLINE_S_MAX, &deadline_s, NULL) != GW_OK ||
        gw_json_bool(item, "cancel", &out->cancel, NULL) != GW_OK)
        return false;
    out->at_us = (int64_t)(at_s * (double)GW_US_PER_S);
    out->deadline_us = (int64_t)(deadline_s * (double)GW_US_PER_S);
    return true;
}

static void play(struct sim *s, const struct step *step, int64_t now_us, const struct gw_web_reply *reply)
{
    struct source_slot *slot = &s->slots[step->kind];
    if (step->cancel) { /* a simulated cloud means what it says: no second look */
        slot->absent = GW_SOURCE_ABSENT_MIN;
        source_absent(&s->base, slot, step->kind);
    } else {
        source_present(&s->base, slot, step->kind, now_us + step->deadline_us, reply);
    }
}

static bool read_steps(struct sim *s, const cJSON *list)
{
    const cJSON *item;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > STEPS_MAX) return false;
    s->steps = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *s->steps);
    if (!s->steps) return false;
    cJSON_ArrayForEach(item, list)
    {
        const char *instance = NULL;
        if (gw_json_string(item, "instance", &instance, NULL) != GW_OK || !instance) return false;
        if (!read_step(item, "deadline_s", &s->steps[s->steps_len])) return false;
        if (strcmp(instance, s->base.instance) == 0) s->steps_len++;
    }
    return true;
}

static gw_err_t open_file(struct sim *s)
{
    struct gw_err_ctx ctx = {0};
    cJSON *tree = NULL;
    gw_err_t err = gw_json_parse_file(s->base.config.base_url, FILE_MAX_BYTES, &tree, &ctx);
    if (err == GW_OK && !read_steps(s, tree))
        err =
            gw_fail(&ctx, GW_ERR_INPUT,
                    "%s: expected a list of {\"instance\", \"at_s\", \"kind\", \"deadline_s\" or \"cancel\"}",
                    s->base.config.base_url);
    cJSON_Delete(tree);
    if (err != GW_OK) gw_logf(s->base.config.log, GW_LOG_ERROR, "sim: %s", ctx.text);
    return err;
}

/* ---- asking and hearing -------------------------------------------------------------------------------- */

static int64_t sim_next(void *source, int lane, struct gw_source_now now, struct gw_web_request *out)
{
    struct sim *s = source;
    (void)lane;
    *out = (struct gw_web_request){0};
    if (!s->by_http) {
        if (s->start_us < 0) s->start_us = now.mono_us;
        return s->at < s->steps_len ? s->start_us + s->steps[s->at].at_us : INT64_MAX;
    }
    char path[SOURCE_URL_MAX / 2];
    snprintf(path, sizeof path, "/v1/instances/%s/notices?after=%lld&wait_s=%d", s->base.instance,
             (long long)s->sequence, WAIT_S);
    source_ask(&s->base, path, s->url, out);
    out->timeout_us += WAIT_S * GW_US_PER_S;
    return s->due_us;
}

static bool read_reply(struct sim *s, int64_t now_us, const struct gw_web_reply *reply)
{
    cJSON *tree = NULL;
    const cJSON *item;
    struct step step;
    if (reply->err != GW_OK || reply->status != 200) return false;
    if (gw_json_parse(reply->body, reply->body_len, GW_SOURCE_BODY_MAX, &tree, NULL) != GW_OK) return false;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, "notices");
    int64_t sequence = -1;
    bool ok = gw_json_int(tree, "sequence", 0, INT32_MAX, &sequence, NULL) == GW_OK &&
              sequence >= s->sequence && cJSON_IsArray(list);
    if (ok) cJSON_ArrayForEach(item, list) ok = ok && read_step(item, "deadline_in_s", &step);
    if (ok) s->sequence = sequence;
    if (ok)
        cJSON_ArrayForEach(item, list) if (read_step(item, "deadline_in_s", &step))
            play(s, &step, now_us, reply);
    cJSON_Delete(tree);
    return ok;
}

static void hear_http(struct sim *s, int64_t now_us, const struct gw_web_reply *reply)
{
    bool failed = source_failed(reply);
    if (!failed && read_reply(s, now_us, reply)) {
        s->base.failures = 0;
        s->due_us = now_us;
        return;
    }
    if (!failed) source_odd(&s->base, 0, "sim notices", reply);
    s->due_us = now_us + source_backoff_us(&s->base, RETRY_US, reply);
}

static void sim_hear(void *source, int lane, struct gw_source_now now, const struct gw_web_reply *reply)
{
    struct sim *s = source;
    (void)lane;
    if (s->by_http)
        hear_http(s, now.mono_us, reply);
    else if (s->at < s->steps_len)
        play(s, &s->steps[s->at++], now.mono_us, NULL);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static void sim_destroy(void *source)
{
    struct sim *s = source;
    if (!s) return;
    free(s->steps);
    free(s);
}

static gw_err_t sim_create(const struct gw_source_config *config, void **out)
{
    if (!config->base_url || !config->instance) {
        gw_logf(config->log, GW_LOG_ERROR,
                "sim: a scenario file or http:// address, and an instance id, are needed");
        return GW_ERR_INPUT;
    }
    struct sim *s = calloc(1, sizeof *s);
    if (!s) return GW_ERR_MEMORY;
    source_init(&s->base, config, "");
    s->by_http = strncmp(config->base_url, "http://", 7) == 0;
    s->start_us = -1;
    gw_err_t err = s->by_http ? GW_OK : open_file(s);
    if (err != GW_OK) {
        sim_destroy(s);
        return err;
    }
    *out = s;
    return GW_OK;
}

static const char *sim_instance(const void *source)
{
    return ((const struct sim *)source)->base.instance;
}

const struct gw_source_ops gw_source_sim = {.name = "sim",
                                            .lanes = 1,
                                            .create = sim_create,
                                            .destroy = sim_destroy,
                                            .next = sim_next,
                                            .hear = sim_hear,
                                            .instance = sim_instance};
