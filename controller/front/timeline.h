/* Timeline: what happened to the fleet, as server-sent events for everyone who watches.
 *
 *     id: 17
 *     data: {"id":17,"time_ms":1795209243123,"kind":"worker_lost","worker":"w3",…}
 *
 * The last GW_TIMELINE_KEPT events are kept for late joiners; a watcher that names the last one it saw
 * (Last-Event-ID) gets those behind it.
 *
 * Owner: create/destroy; watchers are held connections. Thread: the loop's. Units: unix milliseconds.
 * Errors: an event for which memory is lacking is dropped. Source: HTML Living Standard 9.2 (event streams).
 */
#ifndef GW_CONTROLLER_TIMELINE_H
#define GW_CONTROLLER_TIMELINE_H

#include "controller/core/core.h"
#include "controller/front/http_conn.h"

#define GW_TIMELINE_KEPT     256
#define GW_TIMELINE_WATCHERS 64

struct gw_timeline;

gw_err_t gw_timeline_create(struct gw_timeline **out) GW_MUST_USE;
/* Connections that still watch must be gone (their servers destroyed). */
void gw_timeline_destroy(struct gw_timeline *t);

void gw_timeline_add(struct gw_timeline *t, const struct gw_note *note, int64_t time_ms);

/* Answers conn with the stream: what is kept behind event `after` (0 = all), then what comes. GW_ERR_LIMIT:
 * too many watchers, nothing was answered. */
gw_err_t gw_timeline_watch(struct gw_timeline *t, struct gw_http_conn *conn, uint64_t after,
                           int64_t ping_us) GW_MUST_USE;

#endif
