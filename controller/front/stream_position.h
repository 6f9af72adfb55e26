/* Positions: how far a client has read a stream that it may come back to, as the `id:` of each event says it.
 *
 *     id    = choice *( "," choice ) [ ",u" ]        a choice per index; u: the usage event, too
 *     choice = "-"            nothing of it
 *            | records [ "f" | "e" ]
 *     records: so many records' text (and logprobs) has come, with it the choice's first event (role, echoed prompt);
 *     f: and the text that was held back until the end; e: and its finish event.
 *
 * An event ends at a record, and what text so many records show is a function of them alone (choice.h): so a position
 * says exactly what is still to be sent, whatever process sends it, however it cuts events.
 *
 * Owner: the caller's arrays. Thread: any. Units: records. Errors: GW_ERR_INPUT: no position of such a stream.
 * Source: own design; HTML Living Standard, server-sent events (Last-Event-ID). */
#ifndef GW_CONTROLLER_STREAM_POSITION_H
#define GW_CONTROLLER_STREAM_POSITION_H

#include "base/buf.h"

struct gw_position {
    uint32_t records;
    bool begun, flushed, finished; /* finished implies flushed, flushed implies begun */
};

/* Appends the id's text. */
void gw_position_put(struct gw_buf *b, const struct gw_position *choices, uint32_t len, bool usage);

/* Reads the id of a stream of len choices; on error choices and *usage are undefined. */
gw_err_t gw_position_parse(const char *text, struct gw_position *choices, uint32_t len,
                           bool *usage) GW_MUST_USE;

#endif
