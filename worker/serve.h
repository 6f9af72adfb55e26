/* clang-format off */
/* Serve: the worker's main loop, between the link (what the controller wants) and its pipelines (what is computed).
 *
 *     each turn:  take what the link has → one step, whose records are sent as they are decided → progress
 *
 * There are at most two pipelines: one that serves and one that is being prepared. Both are named by (pipeline,
 * generation) in the head of every message; what names neither is stale and dropped.
 *
 *     state      event                               next      what is done
 *     ────────   ─────────────────────────────────   ───────   ─────────────────────────────────────────────────────
 *     any        link up, link lost                  same      both pipelines are left; cells stay
 *     any        ASSIGN                              same      what was prepared is dropped, this one is prepared
 *     any        prepared · preparing failed         same      READY · BROKEN, dropped
 *     any        START of the prepared one           same      what served is left, this one serves
 *     any        START of another                    same      BROKEN: the controller thinks it is here
 *     any        RELEASE of either                   same      left; waits for other ranks end at once
 *     any        a step fails                        same      BROKEN, left
 *     any        the device fails                    ended     BROKEN, GOODBYE
 *     serving    SUBMIT · CANCEL · CUTOVER           same      engine; REJECT, or HANDOFF of each request named
 *     serving    link refused for good               ended     the refusal's exit status
 *     serving    SIGTERM, a controller is there      leaving   NOTICE(preempt, grace)
 *     serving    SIGTERM, none is there              ended     0
 *     leaving    SUBMIT that crossed the NOTICE      same      runs: CUTOVER will name it
 *     leaving    nothing to do for LINGER_MS, or     ended     GOODBYE, 0
 *                the deadline, or link lost, or
 *                the controller's GOODBYE
 *     any        SIGINT, second SIGTERM              ended     0, at once
 *
 * Nothing to do: in no pipeline, or in one of its own without a request.
 * A session of protocol 1 is the pipeline of one rank that its WELCOME names: prepared and started at once.
 *
 * Lost messages: as in worker/link.h; whatever is lost is lost with its session, and the session's pipelines with it.
 *
 * Owner: borrows host, link and signals. Thread: the engine's; gw_serve_arrived and gw_serve_released: the link's.
 * Units: milliseconds. Errors: none; the result is the exit status. Source: own design; DESIGN part 6. */
/* clang-format on */
#ifndef GW_WORKER_SERVE_H
#define GW_WORKER_SERVE_H

#include "worker/host.h"
#include "worker/link.h"
#include "worker/stop_signals.h"

#define GW_SERVE_LINGER_MS 300 /* a SUBMIT that crossed our NOTICE has arrived by then */

enum gw_serve_status {
    GW_SERVE_ENDED = 0,
    GW_SERVE_REFUSED_AUTH = 10,
    GW_SERVE_REFUSED_PROTO,
    GW_SERVE_REFUSED_MODEL,
    GW_SERVE_REFUSED_DIGEST,
    GW_SERVE_NO_DEVICE = 20, /* main_worker.c's: what --device names cannot be used */
    GW_SERVE_DEVICE_FAILED,  /* and stays so: this process is good for nothing more */
};

struct gw_serve_config {
    const struct gw_host *host;
    const struct gw_stop_signals *signals;
    double term_grace_s;
};

struct gw_serve;

gw_err_t gw_serve_create(const struct gw_serve_config *config, struct gw_serve **out) GW_MUST_USE;
void gw_serve_destroy(struct gw_serve *s);

/* What the link must be created with (struct gw_link_config). */
void gw_serve_arrived(void *serve);
void gw_serve_released(void *serve, uint64_t generation);

/* Runs until the end; returns the exit status. */
enum gw_serve_status gw_serve_run(struct gw_serve *s, struct gw_link *link);

#endif
