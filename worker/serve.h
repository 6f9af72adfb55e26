/* Serve: the worker's main loop, between the link (what the controller wants) and the engine (what is
 * computed).
 *
 *     each turn:  take what the link has → one engine step, whose records are sent as they are decided →
 * progress
 *
 *     state      event                                next     what is done
 *     ────────   ──────────────────────────────────   ────── ────────────────────────────────────────────────
 *     serving    link up, link lost                   same     all requests are forgotten, sealed pages are
 * kept serving    SUBMIT · CANCEL · CUTOVER            same     engine; REJECT, or HANDOFF of each request
 * named serving    link refused for good                ended    the refusal's exit status serving SIGTERM, a
 * controller is there       leaving  NOTICE(preempt, grace) serving    SIGTERM, none is there ended    0
 *     leaving    SUBMIT that crossed the NOTICE       same     runs: CUTOVER will name it
 *     leaving    no request for GW_SERVE_LINGER_MS,   ended    GOODBYE, 0
 *                or the deadline, or link lost,
 *                or the controller's GOODBYE
 *     any        SIGINT, second SIGTERM               ended    0, at once
 *
 * Lost messages: as in worker/link.h; a NOTICE that is lost is lost with its session.
 *
 * Owner: borrows link, engine and signals. Thread: the engine's. Units: milliseconds. Errors: none; the
 * result is the exit status. Source: own design; DESIGN part 6. */
#ifndef GW_WORKER_SERVE_H
#define GW_WORKER_SERVE_H

#include "worker/engine.h"
#include "worker/link.h"
#include "worker/stop_signals.h"

#define GW_SERVE_LINGER_MS 300 /* a SUBMIT that crossed our NOTICE has arrived by then */

enum gw_serve_status {
    GW_SERVE_ENDED = 0,
    GW_SERVE_REFUSED_AUTH = 10,
    GW_SERVE_REFUSED_PROTO,
    GW_SERVE_REFUSED_MODEL,
    GW_SERVE_REFUSED_DIGEST,
};

struct gw_serve_config {
    const struct gw_stop_signals *signals;
    double term_grace_s;
    const struct gw_log *log;
};

struct gw_serve;

gw_err_t gw_serve_create(const struct gw_serve_config *config, struct gw_serve **out) GW_MUST_USE;
void gw_serve_destroy(struct gw_serve *s);

/* What the engine must be created with. */
struct gw_engine_sink gw_serve_sink(struct gw_serve *s);

/* Runs until the end; returns the exit status. */
enum gw_serve_status gw_serve_run(struct gw_serve *s, struct gw_engine *engine, struct gw_link *link);

#endif
