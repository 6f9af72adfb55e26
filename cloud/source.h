/* Notice sources: what to ask a cloud's metadata service, when, and what its answers mean for this instance.
 *
 * A source is sans-I/O: it fills in requests and hears replies; the watch (watch.h) carries them, tests do so with
 * replies of their own in virtual time. A source has one or more lanes, each with at most one request in flight:
 *
 *     next(lane) → due time, request            hear(lane, reply) → notices out of the sink
 *
 *     source   lanes   what is asked                                              how often
 *     ──────   ─────   ─────────────────────────────────────────────────────────  ─────────────────────────────
 *     aws      1       IMDSv2 token, instance-action, target-lifecycle-state,     2 s with jitter, one document
 *                      rebalance, scheduled maintenance                           after the other
 *     gcp      2       preempted · maintenance-event                              long polls of 8 s
 *     azure    1       scheduledevents (and StartRequests, once drained)          1 s
 *     sim      1       notices of a simulated cloud                               long polls of 8 s
 *
 * All learn the instance's own id first. What a source has said it does not say again, unless the deadline moves by
 * GW_SOURCE_MOVED_US or the notice is gone from GW_SOURCE_ABSENT_MIN good answers in a row (then: cancel). An answer
 * that is not what the vendor documents never becomes a notice, nor the end of one; each kind of document's first one
 * is logged with its first bytes, all are counted. After failures a source backs off, doubling up to
 * GW_SOURCE_BACKOFF_MAX_US.
 *
 * Owner: create/destroy; requests point into the source until the lane's next `next`. Thread: one.
 * Units: microseconds on the monotonic clock; milliseconds since 1970 for what clouds write.
 * Errors: GW_ERR_MEMORY at creation; replies cannot fail. Source: the vendors' documents, named in each file. */
#ifndef GW_CLOUD_SOURCE_H
#define GW_CLOUD_SOURCE_H

#include "base/log.h"
#include "base/rng.h"
#include "cloud/web.h"
#include "cloud/notice.h"

#define GW_SOURCE_LANES_MAX      2
#define GW_SOURCE_BODY_MAX       (64u << 10)
#define GW_SOURCE_MOVED_US       ((int64_t)1500000) /* clouds write whole seconds, Date headers too */
#define GW_SOURCE_ABSENT_MIN     3 /* one 404 between two 200s was seen on overloaded metadata services */
#define GW_SOURCE_BACKOFF_MAX_US ((int64_t)8000000) /* a quarter of the shortest notice */

struct gw_source_sink {
    void (*notice)(void *arg, const struct gw_cloud_notice *notice);
    void *arg;
};

struct gw_source_config {
    const char *base_url;  /* of the metadata service; NULL: the cloud's own */
    const char *instance;  /* the instance's id; NULL: ask for it */
    int64_t gcp_notice_us; /* how long the group's preemptionNoticeDuration is; 0: 30 s */
    int64_t hook_us;       /* AWS: how long the group's terminate hook waits; 0: 90 s */
    uint64_t seed;         /* of the jitter */
    const struct gw_log *log;
    struct gw_source_sink sink;
};

struct gw_source_now {
    int64_t mono_us, unix_ms;
};

struct gw_source_ops {
    const char *name;
    int lanes;
    gw_err_t (*create)(const struct gw_source_config *config, void **out);
    void (*destroy)(void *source);
    /* Only while nothing of that lane is in flight. INT64_MAX: it waits for another lane. Request with a url of NULL:
     * nothing to fetch, hear is called with a NULL reply when it is due. */
    int64_t (*next)(void *source, int lane, struct gw_source_now now, struct gw_web_request *out);
    void (*hear)(void *source, int lane, struct gw_source_now now, const struct gw_web_reply *reply);
    /* This instance's id; "" while it is not known. */
    const char *(*instance)(const void *source);
    /* Nothing runs here any more: the cloud may take the instance before its deadline. NULL: no cloud is told. */
    void (*drained)(void *source);
};

extern const struct gw_source_ops gw_source_aws, gw_source_gcp, gw_source_azure, gw_source_sim;

/* The table of that name, NULL for another. */
const struct gw_source_ops *gw_source_find(const char *name);

#endif
