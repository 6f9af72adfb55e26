/* An intent, as the journal keeps it: a write to a cloud that was about to be made. It is stored before the call, and its
 * entry ends when the call has; so a start finds those whose end nobody knows.
 *
 *     byte  size
 *        0     1  type 67 ("C"; the front's pieces are types 1 and 2)
 *        1     1  version 1
 *        2     1  group     0 spot, 1 on demand
 *        3     8  term      of the controller that meant it
 *       11     4  desired   the size to be set; 0 with an instance
 *       15   4+i  instance  to be deleted; empty: a size is to be set
 *
 * Integers little-endian. Owner: plain data. Thread: any. Units: instances.
 * Errors: GW_ERR_PROTO for bytes that no writer of ours makes. Source: own design. */
#ifndef GW_CONTROLLER_CAPACITY_INTENT_H
#define GW_CONTROLLER_CAPACITY_INTENT_H

#include "base/buf.h"
#include "cloud/capacity.h"

/* Appends the piece (the buffer's sticky error tells). */
void gw_capacity_intent_put(struct gw_buf *b, const struct gw_capacity_action *intent);

/* Is this a piece of ours? */
bool gw_capacity_intent_is(const void *piece, size_t len);
gw_err_t gw_capacity_intent_get(const void *piece, size_t len, struct gw_capacity_action *out) GW_MUST_USE;

#endif
