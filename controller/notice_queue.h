/* The notice queue's way to the core: what AWS says off the instances (cloud/queue.h) becomes notices.
 *
 *     event                             what is done                                             the message
 *     ───────────────────────────────   ──────────────────────────────────────────────────────   ─────────────────────
 *     of an instance without a worker   nothing: it may not have registered yet                  stays, comes again
 *     spot warning                      notice, unless it is doomed as early already             goes
 *     rebalance                         notice: it is advised to leave                           goes
 *     terminate lifecycle               notice with the hook's deadline; the lifecycle is        goes
 *                                       completed once the instance is drained, or is gone
 *     the same, of one that is waited   nothing                                                  goes
 *      for already
 *
 * godwit-watch on the instance says the same, often earlier and with the better deadline: a later one from here does not
 * move it. A lifecycle that is not completed (too many, no answer) ends by its own time-out.
 *
 * Owner: create/destroy; texts are borrowed. Destroy it after the calls. Thread: the loop's. Units: microseconds.
 * Errors: GW_ERR_MEMORY. Source: own design. */
#ifndef GW_CONTROLLER_NOTICE_QUEUE_H
#define GW_CONTROLLER_NOTICE_QUEUE_H

#include "base/clock.h"
#include "cloud/queue.h"
#include "controller/capacity_view.h"
#include "controller/core/core.h"

#define GW_NOTICE_LIFECYCLES_MAX 256 /* instances that wait for their hooks at once: a storm of them */

struct gw_notice_queue;

struct gw_notice_queue_config {
    struct event_base *loop;
    struct gw_calls *calls;
    const char *url;
    int64_t hook_us; /* how long the groups' terminate hook waits */
    const struct gw_core *core;
    const struct gw_log *log;
    struct gw_clock clock; /* the core's, and the machine's monotonic one */
    void (*post)(void *arg, const struct gw_event *event);
    void *arg;
};

gw_err_t gw_notice_queue_create(const struct gw_notice_queue_config *config, struct gw_notice_queue **out,
                                struct gw_err_ctx *ctx) GW_MUST_USE;
/* Posts and completes nothing any more. */
void gw_notice_queue_stop(struct gw_notice_queue *queue);
void gw_notice_queue_destroy(struct gw_notice_queue *queue);

void gw_notice_queue_view(const struct gw_notice_queue *queue, struct gw_notice_queue_view *out);

#endif
