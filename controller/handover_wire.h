/* The hand-over's bytes: what a controller tells the one that takes its place, on a unix socket.
 *
 *     successor                                    predecessor
 *     ── "GWH1" ───────────────────────────────────►          give me what you have
 *     ◄────────── "GWH1", and as SCM_RIGHTS three ──          the API's, the admin's and the workers' listening sockets
 *     ◄── (PROFILE, SUBMIT with logs) for each request ──     go on with these: the predecessor has their clients
 *     ◄────────────────────────────────────── GO ──           the journal and the workers are yours
 *     ── TOKENS · FINISH · DONE · REJECT (failed) ──►          what its clients wait for
 *     ◄───────── CANCEL · STOP · (PROFILE, SUBMIT) ──          what its front asks of the core, as ever
 *
 * After the greeting all are frames of base/frame.h. SUBMIT, TOKENS, CANCEL, REJECT are migrate/wire.h's, attempt 1; the
 * others, with their payloads:
 *
 *     type   name      payload
 *     1001   PROFILE   the text, <= 64 bytes: of the records of the SUBMIT that follows; "" = it has none
 *     1002   GO        -
 *     1003   FINISH    request u64, branch u32, reason u8
 *     1004   DONE      request u64
 *     1005   STOP      request u64, branch u32, keep u32
 *
 * Both ends are the same user's processes on one machine (SO_PEERCRED is looked at); every byte is checked all the same.
 *
 * Owner: gw_handover_msg_fini frees what a decoded message holds. Thread: plain functions. Units: in the names.
 * Errors: GW_ERR_PROTO, GW_ERR_LIMIT, GW_ERR_MEMORY. Source: own design; DESIGN parts 3 and 6. */
#ifndef GW_CONTROLLER_HANDOVER_WIRE_H
#define GW_CONTROLLER_HANDOVER_WIRE_H

#include <event2/buffer.h>

#include "controller/core/core.h"

#define GW_HANDOVER_MAGIC "GWH1"
#define GW_HANDOVER_FDS   3 /* API, admin, workers */

enum gw_handover_type {
    GW_HANDOVER_PROFILE = 1001,
    GW_HANDOVER_GO,
    GW_HANDOVER_FINISH,
    GW_HANDOVER_DONE,
    GW_HANDOVER_STOP,
    GW_HANDOVER_WIRE, /* not on the wire: `wire` holds one of migrate/wire.h's */
};

struct gw_handover_msg {
    enum gw_handover_type type;
    uint64_t request;
    uint32_t branch, keep;
    enum gw_finish reason;
    char profile[GW_WIRE_NAME_MAX + 1];
    struct gw_msg wire;
};

/* Takes one message off the buffer; *ready says whether there was a whole one. */
gw_err_t gw_handover_get(struct evbuffer *in, struct gw_handover_msg *out, bool *ready,
                         struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_handover_msg_fini(struct gw_handover_msg *msg);

gw_err_t gw_handover_put(struct evbuffer *out, const struct gw_handover_msg *msg) GW_MUST_USE;
/* PROFILE and SUBMIT. */
gw_err_t gw_handover_put_request(struct evbuffer *out, const struct gw_request *request,
                                 const struct gw_core_restored *branches, const char *profile) GW_MUST_USE;

#endif
