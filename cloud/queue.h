/* The notice queue: what AWS says off the instance, through EventBridge and SQS, for all instances of a cluster.
 *
 *     message                       sink says     what is done with it
 *     ───────────────────────────   ───────────   ─────────────────────────────────────────────────────────────────
 *     a notice, a lifecycle         TAKEN         forgotten
 *                                   UNKNOWN       left: it comes again; forgotten when GW_QUEUE_KEEP_MS old (an
 *                                                 instance that never registers is none of ours)
 *     anything else, or odd         not asked     forgotten (odd ones: the first is logged, all are counted)
 *
 * Delivery is at least once and in any order: the sink must be idempotent. A message is forgotten only after the sink
 * has it, so a controller that dies in between hears it again. One question is always open (a long poll).
 *
 * Owner: create/destroy; texts are borrowed. Destroy the calls first. Thread: the loop's. Units: microseconds on the
 * monotonic clock, milliseconds since 1970. Errors: GW_ERR_MEMORY. Source: own design; Amazon SQS Developer Guide. */
#ifndef GW_CLOUD_QUEUE_H
#define GW_CLOUD_QUEUE_H

#include "base/log.h"
#include "cloud/aws_event.h"
#include "cloud/calls.h"

#define GW_QUEUE_KEEP_MS ((int64_t)300000) /* the slowest worker is up by then */
#define GW_QUEUE_WAIT_S  20

enum gw_queue_verdict { GW_QUEUE_TAKEN, GW_QUEUE_UNKNOWN };

struct gw_queue_config {
    struct event_base *loop;
    struct gw_calls *calls;
    const char *url;
    const struct gw_log *log;
    /* deadline_us: 0 = the event does not say (rebalance; lifecycles: the hook's time-out is the group's). */
    enum gw_queue_verdict (*event)(void *arg, const struct gw_aws_event *event, int64_t deadline_us);
    void *arg;
};

struct gw_queue;

gw_err_t gw_queue_create(const struct gw_queue_config *config, struct gw_queue **out,
                         struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_queue_destroy(struct gw_queue *queue);

struct gw_queue_stats {
    uint64_t received, taken, unknown, other, odd;
};
void gw_queue_stats(const struct gw_queue *queue, struct gw_queue_stats *out);

#endif
