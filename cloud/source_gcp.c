/* GCP: the metadata server, two long polls.
 *
 *     lane 0   instance/id, then instance/preempted           FALSE | TRUE
 *     lane 1   instance/maintenance-event                     NONE | MIGRATE_ON_HOST_MAINTENANCE
 *                                                             | TERMINATE_ON_HOST_MAINTENANCE
 *
 * The first answer comes at once and has an ETag; with it, `wait_for_change` is answered when the value differs or
 * after timeout_sec with the old one. A server that answers old values at once is asked each second.
 *
 * TRUE is followed by the ACPI signal, and 30 s (or the group's preemptionNoticeDuration) later by the end; MARGIN_US of
 * that are taken off for the way here. A value that was there before this program was gives no idea of what is left: the
 * deadline is now. Live migration stops an instance for less than a second: it is no notice.
 *
 * Source: Compute Engine documents, "Preemptible VM instances: detecting preemption", "Query VM metadata: wait for
 * change", "Monitor and plan for a host maintenance event" (GPUs: 60 minutes ahead). */
#include "cloud/source_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_URL     "http://metadata.google.internal"
#define WAIT_S          8 /* a poll that hangs must not cost more than a third of the 30 s */
#define WAIT_LIMIT_US   ((WAIT_S + 2) * GW_US_PER_S)
#define RETRY_US        (500 * GW_US_PER_MS)
#define SLOWEST_POLL_US GW_US_PER_S
#define NOTICE_US       (30 * GW_US_PER_S)
#define MARGIN_US       (2 * GW_US_PER_S)
#define MAINTENANCE_US  (3600 * GW_US_PER_S)

enum doc { DOC_PREEMPTED, DOC_MAINTENANCE, DOC_ID };

static const char *const paths[] = {"/computeMetadata/v1/instance/preempted",
                                    "/computeMetadata/v1/instance/maintenance-event",
                                    "/computeMetadata/v1/instance/id"};

struct lane {
    int64_t due_us, asked_us;
    char etag[GW_WEB_ETAG_MAX]; /* "": the value is not known yet */
    char url[SOURCE_URL_MAX];
    struct source_slot slot;
};

struct gcp {
    struct source_base base;
    struct lane lanes[2];
};

/* ---- what is asked ------------------------------------------------------------------------------------- */

static bool asks_id(const struct gcp *g)
{
    return g->base.instance[0] == '\0';
}

static int64_t gcp_next(void *source, int lane, struct gw_source_now now, struct gw_web_request *out)
{
    struct gcp *g = source;
    struct lane *l = &g->lanes[lane];
    char path[SOURCE_URL_MAX / 2];
    if (asks_id(g) && lane != DOC_PREEMPTED) return INT64_MAX;
    snprintf(path, sizeof path, "%s", paths[asks_id(g) ? DOC_ID : (enum doc)lane]);
    if (l->etag[0])
        snprintf(path, sizeof path, "%s?wait_for_change=true&timeout_sec=%d&last_etag=%s", paths[lane],
                 WAIT_S, l->etag);
    source_ask(&g->base, path, l->url, out);
    out->headers[0] = "Metadata-Flavor: Google";
    if (l->etag[0]) out->timeout_us = WAIT_LIMIT_US;
    l->asked_us = now.mono_us;
    return l->due_us;
}

/* ---- what is heard ------------------------------------------------------------------------------------- */

static bool etag_ok(const char *etag)
{
    size_t len = strlen(etag);
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)etag[i]) && etag[i] != '-' && etag[i] != '_') return false;
    return len > 0;
}

static int64_t preempted_at_us(const struct gcp *g, const struct lane *l, int64_t now_us)
{
    int64_t notice_us = g->base.config.gcp_notice_us ? g->base.config.gcp_notice_us : NOTICE_US;
    if (l->slot.told) return l->slot.deadline_us;
    return l->etag[0] ? now_us + notice_us - MARGIN_US : now_us;
}

static bool read_preempted(struct gcp *g, struct lane *l, int64_t now_us, const struct gw_web_reply *reply)
{
    bool yes = source_body_is(reply, "TRUE");
    if (yes)
        source_present(&g->base, &l->slot, GW_CLOUD_PREEMPT, preempted_at_us(g, l, now_us), reply);
    else if (source_body_is(reply, "FALSE"))
        source_absent(&g->base, &l->slot, GW_CLOUD_PREEMPT);
    else
        return false;
    return true;
}

static int64_t maintenance_at_us(const struct lane *l, int64_t now_us)
{
    if (l->slot.told) return l->slot.deadline_us;
    return l->etag[0] ? now_us + MAINTENANCE_US : now_us;
}

static bool read_maintenance(struct gcp *g, struct lane *l, int64_t now_us, const struct gw_web_reply *reply)
{
    if (source_body_is(reply, "TERMINATE_ON_HOST_MAINTENANCE"))
        source_present(&g->base, &l->slot, GW_CLOUD_MAINTENANCE, maintenance_at_us(l, now_us), reply);
    else if (source_body_is(reply, "NONE") || source_body_is(reply, "MIGRATE_ON_HOST_MAINTENANCE"))
        source_absent(&g->base, &l->slot, GW_CLOUD_MAINTENANCE);
    else
        return false;
    return true;
}

static bool read_value(struct gcp *g, int lane, int64_t now_us, const struct gw_web_reply *reply)
{
    struct lane *l = &g->lanes[lane];
    if (reply->err != GW_OK || reply->status != 200 || !reply->google) return false;
    return lane == DOC_PREEMPTED ? read_preempted(g, l, now_us, reply)
                                 : read_maintenance(g, l, now_us, reply);
}

static void fail(struct gcp *g, struct lane *l, int64_t now_us, const struct gw_web_reply *reply)
{
    l->due_us = now_us + source_backoff_us(&g->base, RETRY_US, reply);
}

static void hear_id(struct gcp *g, struct lane *l, int64_t now_us, const struct gw_web_reply *reply)
{
    bool ok = reply->err == GW_OK && reply->status == 200 && reply->google &&
              source_take_instance(&g->base, reply->body, reply->body_len);
    if (!ok) {
        source_odd(&g->base, DOC_ID, paths[DOC_ID], reply);
        fail(g, l, now_us, reply);
        return;
    }
    g->base.failures = 0;
    l->due_us = g->lanes[DOC_MAINTENANCE].due_us = now_us;
}

/* Waits only for what differs from what was said last. A notice that has gone is looked at anew until it counts as
 * cancelled. */
static void take_etag(struct gcp *g, int lane, int64_t now_us, const struct gw_web_reply *reply)
{
    struct lane *l = &g->lanes[lane];
    bool old = strcmp(l->etag, reply->etag) == 0, doubtful = l->slot.told && l->slot.absent > 0;
    snprintf(l->etag, sizeof l->etag, "%s", etag_ok(reply->etag) && !doubtful ? reply->etag : "");
    bool at_once = l->etag[0] && !old;
    l->due_us = at_once ? now_us : l->asked_us + SLOWEST_POLL_US;
}

static void gcp_hear(void *source, int lane, struct gw_source_now now, const struct gw_web_reply *reply)
{
    struct gcp *g = source;
    struct lane *l = &g->lanes[lane];
    if (source_failed(reply)) {
        fail(g, l, now.mono_us, reply);
    } else if (asks_id(g)) {
        hear_id(g, l, now.mono_us, reply);
    } else if (read_value(g, lane, now.mono_us, reply)) {
        g->base.failures = 0;
        take_etag(g, lane, now.mono_us, reply);
    } else {
        source_odd(&g->base, lane, paths[lane], reply);
        l->etag[0] = '\0';
        l->due_us = now.mono_us + source_jitter_us(&g->base, SLOWEST_POLL_US);
    }
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static gw_err_t gcp_create(const struct gw_source_config *config, void **out)
{
    struct gcp *g = calloc(1, sizeof *g);
    if (!g) return GW_ERR_MEMORY;
    source_init(&g->base, config, DEFAULT_URL);
    *out = g;
    return GW_OK;
}

static const char *gcp_instance(const void *source)
{
    return ((const struct gcp *)source)->base.instance;
}

const struct gw_source_ops gw_source_gcp = {.name = "gcp",
                                            .lanes = 2,
                                            .create = gcp_create,
                                            .destroy = free,
                                            .next = gcp_next,
                                            .hear = gcp_hear,
                                            .instance = gcp_instance};
