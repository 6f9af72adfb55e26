/* AWS events: what a message of the notice queue says.
 *
 *     form                          told by                                        becomes
 *     ───────────────────────────   ────────────────────────────────────────────   ─────────────────────────────────────
 *     EventBridge                   "EC2 Spot Instance Interruption Warning"       preempt, 2 minutes after its time
 *                                   "EC2 Instance Rebalance Recommendation"        rebalance
 *                                   "EC2 Instance-terminate Lifecycle Action"      scale-in, a lifecycle to be completed
 *     from the Auto Scaling group   LifecycleTransition …EC2_INSTANCE_TERMINATING  scale-in, the same
 *                                   Event autoscaling:TEST_NOTIFICATION            nothing
 *     SNS                           .Message holds one of these                    what that says
 *
 * Everything else is GW_AWS_EVENT_OTHER: to be forgotten, or the queue would fill. The names of things are taken from
 * their fields, never from ARNs.
 *
 * Owner: plain data. Thread: safe. Units: milliseconds since 1970. Errors: GW_ERR_PROTO for what is not JSON, or lacks
 * a field that the vendor documents. Source: EC2 User Guide "Spot Instance interruption notices"; Auto Scaling User
 * Guide "EventBridge event reference", "Amazon SNS / SQS lifecycle notifications". */
#ifndef GW_CLOUD_AWS_EVENT_H
#define GW_CLOUD_AWS_EVENT_H

#include "cloud/cloud.h"

enum gw_aws_event_type { GW_AWS_EVENT_OTHER, GW_AWS_EVENT_NOTICE, GW_AWS_EVENT_LIFECYCLE };

struct gw_aws_event {
    enum gw_aws_event_type type;
    enum gw_cloud_notice_kind kind;
    char instance[GW_CLOUD_INSTANCE_MAX];
    int64_t time_unix_ms, ends_unix_ms; /* of the event; of the instance, 0 = it does not say */
    /* LIFECYCLE: what COMPLETE_LIFECYCLE asks for */
    char group[GW_CLOUD_NAME_MAX], hook[GW_CLOUD_NAME_MAX], token[64];
};

gw_err_t gw_aws_event_read(const char *body, size_t len, struct gw_aws_event *out,
                           struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
