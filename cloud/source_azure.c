/* Azure: scheduled events of the instance metadata service.
 *
 *     instance/compute       → vmId (this instance's id), name (what events call it)
 *     scheduledevents        → events; those that name this instance become notices
 *     StartRequests (POST)   → once drained: Azure need not wait for NotBefore. Only for events that name nobody else.
 *
 *     EventType          notice         EventStatus
 *     ────────────────   ────────────   ────────────────────────────────────────────────────────────────
 *     Preempt            preempt        Scheduled: deadline = NotBefore; gone from the list = cancelled
 *     Terminate          scale-in       Started: it happens now; NotBefore is empty; gone = done
 *     Reboot, Redeploy   maintenance
 *     Freeze             none           (a pause of seconds)
 *
 * The service is switched on by the first question, whose answer may take two minutes.
 *
 * Source: Azure documents, "Scheduled Events for Linux VMs" (api-version 2020-07-01), "Instance Metadata Service". */
#include "cloud/source_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "cloud/times.h"

#define DEFAULT_URL      "http://169.254.169.254"
#define ID_PATH          "/metadata/instance/compute?api-version=2021-02-01&format=json"
#define EVENTS_PATH      "/metadata/scheduledevents?api-version=2020-07-01"
#define POLL_US          (GW_US_PER_S)
#define RETRY_US         (500 * GW_US_PER_MS)
#define FIRST_TIMEOUT_US (150 * GW_US_PER_S)
#define EVENTS_MAX       16 /* that name this instance, at once */
#define EVENT_ID_MAX     64
#define NAME_MAX_BYTES   128

enum doc { DOC_ID, DOC_EVENTS, DOC_START };

struct tracked {
    char id[EVENT_ID_MAX]; /* "": a free entry */
    enum gw_cloud_notice_kind kind;
    int64_t deadline_us;
    int absent;                /* good documents in a row without it */
    bool started, alone, seen; /* alone: no other instance is named; seen: in the document at hand */
    bool acknowledged;
};

struct azure {
    struct source_base base;
    char name[NAME_MAX_BYTES];
    enum doc asked;
    bool awake, drained; /* awake: scheduledevents has answered before */
    int64_t due_us;
    char url[SOURCE_URL_MAX], start_body[EVENT_ID_MAX + 64];
    struct tracked events[EVENTS_MAX];
    struct source_slot slots[GW_CLOUD_NOTICE_KINDS]; /* of each kind: its earliest event */
};

/* What one event of the document says. */
struct event {
    const char *id, *type, *status, *not_before;
    bool ours, alone, started;
    int64_t at_ms; /* 0: now */
};

/* ---- what is asked ------------------------------------------------------------------------------------- */

static struct tracked *to_start(struct azure *z)
{
    for (size_t i = 0; z->drained && i < EVENTS_MAX; i++) {
        struct tracked *t = &z->events[i];
        bool ends_us = t->kind == GW_CLOUD_PREEMPT || t->kind == GW_CLOUD_SCALE_IN;
        if (t->id[0] && ends_us && t->alone && !t->started && !t->acknowledged) return t;
    }
    return NULL;
}

static void ask_start(struct azure *z, const struct tracked *t, struct gw_web_request *out)
{
    z->asked = DOC_START;
    source_ask(&z->base, EVENTS_PATH, z->url, out);
    snprintf(z->start_body, sizeof z->start_body, "{\"StartRequests\":[{\"EventId\":\"%s\"}]}", t->id);
    out->method = "POST";
    out->body = z->start_body;
    out->body_len = strlen(z->start_body);
    out->headers[1] = "Content-Type: application/json";
}

static int64_t azure_next(void *source, int lane, struct gw_source_now now, struct gw_web_request *out)
{
    struct azure *z = source;
    struct tracked *start = to_start(z);
    (void)lane;
    (void)now;
    if (start) {
        ask_start(z, start, out);
    } else {
        z->asked = z->name[0] ? DOC_EVENTS : DOC_ID;
        source_ask(&z->base, z->asked == DOC_ID ? ID_PATH : EVENTS_PATH, z->url, out);
        if (z->asked == DOC_EVENTS && !z->awake) out->timeout_us = FIRST_TIMEOUT_US;
    }
    out->headers[0] = "Metadata: true";
    return z->due_us;
}

/* ---- events -------------------------------------------------------------------------------------------- */

/* *ours: the list names this instance; *alone: and nobody else. False: it is not a list of names. */
static bool read_resources(const struct azure *z, const cJSON *list, struct event *e)
{
    const cJSON *item;
    if (!cJSON_IsArray(list)) return false;
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item)) return false;
        e->ours |= strcasecmp(item->valuestring, z->name) == 0;
    }
    e->alone = e->ours && cJSON_GetArraySize(list) == 1;
    return true;
}

static bool id_ok(const char *id)
{
    size_t len = strlen(id);
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)id[i]) && id[i] != '-') return false;
    return len > 0 && len < EVENT_ID_MAX;
}

static bool read_strings(const cJSON *item, struct event *e)
{
    e->not_before = "";
    return gw_json_string(item, "EventId", &e->id, NULL) == GW_OK && e->id && id_ok(e->id) &&
           gw_json_string(item, "EventType", &e->type, NULL) == GW_OK && e->type &&
           gw_json_string(item, "EventStatus", &e->status, NULL) == GW_OK && e->status &&
           gw_json_string(item, "NotBefore", &e->not_before, NULL) == GW_OK;
}

static bool read_event(const struct azure *z, const cJSON *item, struct event *e)
{
    *e = (struct event){0};
    if (!read_strings(item, e)) return false;
    e->started = strcmp(e->status, "Started") == 0;
    if (!e->started && strcmp(e->status, "Scheduled") != 0) return false;
    bool timed = e->not_before[0] != '\0';
    if (timed && gw_time_parse_http(e->not_before, &e->at_ms) != GW_OK) return false;
    if (!timed && !e->started) return false;
    return read_resources(z, cJSON_GetObjectItemCaseSensitive(item, "Resources"), e);
}

/* GW_CLOUD_NOTICE_KINDS: nothing that ends the instance; -1: not a type that is documented. */
static int kind_of(const char *type)
{
    if (strcmp(type, "Preempt") == 0) return GW_CLOUD_PREEMPT;
    if (strcmp(type, "Terminate") == 0) return GW_CLOUD_SCALE_IN;
    if (strcmp(type, "Reboot") == 0 || strcmp(type, "Redeploy") == 0) return GW_CLOUD_MAINTENANCE;
    return strcmp(type, "Freeze") == 0 ? GW_CLOUD_NOTICE_KINDS : -1;
}

static struct tracked *track(struct azure *z, const struct event *e, int64_t now_us)
{
    struct tracked *free_entry = NULL;
    for (size_t i = 0; i < EVENTS_MAX; i++) {
        struct tracked *t = &z->events[i];
        if (strcmp(t->id, e->id) == 0) return t;
        if (!t->id[0] && !free_entry) free_entry = t;
    }
    if (!free_entry) return NULL;
    *free_entry = (struct tracked){.deadline_us = now_us};
    snprintf(free_entry->id, sizeof free_entry->id, "%s", e->id);
    return free_entry;
}

static void take_event(struct azure *z, struct gw_source_now now, const struct gw_web_reply *reply,
                       const struct event *e)
{
    int kind = kind_of(e->type);
    if (!e->ours || kind == GW_CLOUD_NOTICE_KINDS) return;
    struct tracked *t = track(z, e, now.mono_us);
    if (!t) return; /* sixteen others are there: the instance is doomed enough */
    t->kind = (enum gw_cloud_notice_kind)kind;
    t->alone = e->alone;
    t->started = e->started;
    t->seen = true;
    t->absent = 0;
    if (e->at_ms) t->deadline_us = source_deadline_us(now, reply, e->at_ms);
}

/* What has left the list: done if it had started, else cancelled once it has been away for long enough. */
static void drop_unseen(struct azure *z, bool cancelled[GW_CLOUD_NOTICE_KINDS])
{
    for (size_t i = 0; i < EVENTS_MAX; i++) {
        struct tracked *t = &z->events[i];
        if (!t->id[0] || t->seen || (!t->started && ++t->absent < GW_SOURCE_ABSENT_MIN)) continue;
        cancelled[t->kind] |= !t->started;
        *t = (struct tracked){0};
    }
}

static const struct tracked *earliest(const struct azure *z, enum gw_cloud_notice_kind kind)
{
    const struct tracked *first = NULL;
    for (size_t i = 0; i < EVENTS_MAX; i++) {
        const struct tracked *t = &z->events[i];
        if (t->id[0] && t->kind == kind && (!first || t->deadline_us < first->deadline_us)) first = t;
    }
    return first;
}

static void tell(struct azure *z, const struct gw_web_reply *reply,
                 const bool cancelled[GW_CLOUD_NOTICE_KINDS])
{
    for (int k = 0; k < GW_CLOUD_NOTICE_KINDS; k++) {
        enum gw_cloud_notice_kind kind = (enum gw_cloud_notice_kind)k;
        const struct tracked *t = earliest(z, kind);
        if (t) {
            source_present(&z->base, &z->slots[k], kind, t->deadline_us, reply);
        } else if (cancelled[k]) {
            z->slots[k].absent = GW_SOURCE_ABSENT_MIN; /* the event's own count has reached it */
            source_absent(&z->base, &z->slots[k], kind);
        }
    }
}

/* {"DocumentIncarnation": 1, "Events": [{"EventId", "EventType", "Resources", "EventStatus", "NotBefore", …}]}
 * An event that cannot be read, another instance's perhaps, hides no other; but it may be one that was told before:
 * then none counts as gone. */
static bool read_events(struct azure *z, struct gw_source_now now, const struct gw_web_reply *reply,
                        const cJSON *tree)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, "Events"), *item;
    bool all = true, cancelled[GW_CLOUD_NOTICE_KINDS] = {false};
    if (!cJSON_IsArray(list)) return false;
    for (size_t i = 0; i < EVENTS_MAX; i++) z->events[i].seen = false;
    cJSON_ArrayForEach(item, list)
    {
        struct event e;
        if (read_event(z, item, &e) && kind_of(e.type) >= 0)
            take_event(z, now, reply, &e);
        else
            all = false;
    }
    if (all) drop_unseen(z, cancelled);
    tell(z, reply, cancelled);
    return all;
}

/* {"vmId": "02aab8a4-…", "name": "examplevmname", …} */
static bool read_id(struct azure *z, const cJSON *tree)
{
    const char *id = NULL, *name = NULL;
    if (gw_json_string(tree, "vmId", &id, NULL) != GW_OK || !id) return false;
    if (gw_json_string(tree, "name", &name, NULL) != GW_OK || !name) return false;
    if (!name[0] || strlen(name) >= sizeof z->name) return false;
    if (!z->base.config.instance && !source_take_instance(&z->base, id, strlen(id))) return false;
    snprintf(z->name, sizeof z->name, "%s", name);
    return true;
}

/* ---- what is heard ------------------------------------------------------------------------------------- */

static bool read_json(struct azure *z, struct gw_source_now now, const struct gw_web_reply *reply)
{
    cJSON *tree = NULL;
    if (reply->err != GW_OK || reply->status != 200) return false;
    if (gw_json_parse(reply->body, reply->body_len, GW_SOURCE_BODY_MAX, &tree, NULL) != GW_OK) return false;
    bool ok = z->asked == DOC_ID ? read_id(z, tree) : read_events(z, now, reply, tree);
    cJSON_Delete(tree);
    return ok;
}

static void hear_start(struct azure *z, const struct gw_web_reply *reply)
{
    struct tracked *t = to_start(z);
    if (reply->status != 200) source_odd(&z->base, DOC_START, "StartRequests", reply);
    if (t) t->acknowledged = true; /* once: the deadline comes by itself if this was refused */
}

static void azure_hear(void *source, int lane, struct gw_source_now now, const struct gw_web_reply *reply)
{
    struct azure *z = source;
    (void)lane;
    if (source_failed(reply)) {
        z->due_us = now.mono_us + source_backoff_us(&z->base, RETRY_US, reply);
        return;
    }
    enum doc asked = z->asked;
    bool ok = true;
    if (asked == DOC_START)
        hear_start(z, reply);
    else
        ok = read_json(z, now, reply);
    if (!ok) source_odd(&z->base, asked, asked == DOC_ID ? ID_PATH : EVENTS_PATH, reply);
    z->base.failures = 0;
    z->awake |= asked == DOC_EVENTS;
    z->due_us = now.mono_us + (ok && asked == DOC_ID ? 0 : source_jitter_us(&z->base, POLL_US));
}

static void azure_drained(void *source)
{
    struct azure *z = source;
    z->drained = true;
    if (to_start(z)) z->due_us = 0;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static gw_err_t azure_create(const struct gw_source_config *config, void **out)
{
    struct azure *z = calloc(1, sizeof *z);
    if (!z) return GW_ERR_MEMORY;
    source_init(&z->base, config, DEFAULT_URL);
    *out = z;
    return GW_OK;
}

/* Its events are known by name: before that is known, nothing can be said. */
static const char *azure_instance(const void *source)
{
    const struct azure *z = source;
    return z->name[0] ? z->base.instance : "";
}

const struct gw_source_ops gw_source_azure = {.name = "azure",
                                              .lanes = 1,
                                              .create = azure_create,
                                              .destroy = free,
                                              .next = azure_next,
                                              .hear = azure_hear,
                                              .instance = azure_instance,
                                              .drained = azure_drained};
