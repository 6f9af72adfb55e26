/* A notice: what a cloud says about the future of one instance.
 *
 * PREEMPT, MAINTENANCE and SCALE_IN doom the instance at deadline_us. REBALANCE dooms nobody: the cloud recommends
 * having a replacement. CANCEL takes back what was said before of kind `of`.
 *
 * Owner: plain data. Thread: any. Units: microseconds on the monotonic clock. Errors: none. Source: own design. */
#ifndef GW_CLOUD_NOTICE_H
#define GW_CLOUD_NOTICE_H

#include <stdbool.h>
#include <stdint.h>

#define GW_CLOUD_INSTANCE_MAX 128 /* bytes of an instance's id, NUL included */
#define GW_CLOUD_RAW_MAX      200 /* bytes of the cloud's own words that are kept for the log */

enum gw_cloud_notice_kind {
    GW_CLOUD_PREEMPT,
    GW_CLOUD_MAINTENANCE,
    GW_CLOUD_SCALE_IN,
    GW_CLOUD_REBALANCE,
    GW_CLOUD_NOTICE_KINDS,
};

struct gw_cloud_notice {
    char instance[GW_CLOUD_INSTANCE_MAX]; /* the cloud's numeric or opaque id, never a name */
    enum gw_cloud_notice_kind kind;
    bool cancel;
    int64_t deadline_us; /* 0 with cancel and REBALANCE */
    char raw[GW_CLOUD_RAW_MAX + 1];
};

/* "preempt", "maintenance", "scale-in", "rebalance": the names that the controller's admin listener knows. */
const char *gw_cloud_notice_name(enum gw_cloud_notice_kind kind);

#endif
