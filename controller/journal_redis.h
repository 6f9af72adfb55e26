/* The journal in Redis, with the lease that says whose it is: for a standby on another machine.
 *
 *     P = "godwit:journal:1:" ‖ 16 hex digits that follow from the cluster key (clusters may share a server) ‖ ":"
 *
 *     key            type     what
 *     P lease        string   "<owner>/<random>/<term>" of the controller that holds it, expiring
 *     P term         string   the highest term given out
 *     P entries      zset     live entries by number, in the order in which they began
 *     P order        string   counts them
 *     P e:<entry>    list     its pieces, in parts of at most PART_BYTES: sealed (migrate/record_seal.h; its place is P and
 *                             the entry), opened: u8 1 = the piece goes on in the next part, else 0 ‖ bytes
 *
 * Every write is one script that first compares the lease: who does not hold it any more writes nothing, however late
 * its command arrives. It also renews it; without writes a third of it passes between two renewals.
 *
 *     event                                    what follows
 *     --------------------------------------   ----------------------------------------------------------------------
 *     opening, the lease is free or expired     taken, term + 1
 *     opening, it is of the same owner          taken: the process before this one has ended, its port was bound
 *     opening, it is another's                  GW_ERR_LIMIT: a standby asks again
 *     write or renewal, it has expired, and     renewed
 *      no higher term was given out
 *     write or renewal, it is another's         fenced: nothing is written any more, the program ends
 *     Redis cannot be reached, or says no       batches are not durable; nobody else can take the lease meanwhile, so
 *      (full, loading, read-only)                streams go on and none that must be durable begins
 *     frozen beyond the lease, then thawed      the first write or renewal says fenced
 *     closed                                    the lease is given back
 *
 * A server whose policy may evict keys is refused: it would throw streams, or the lease, away. How much of what was
 * acknowledged survives the end of Redis itself is for Redis to say (appendonly, appendfsync).
 *
 * Owner: journal.h. Thread: journal.h. Units: microseconds, bytes. Errors: journal.h. Source: own design; DESIGN part 9. */
#ifndef GW_CONTROLLER_JOURNAL_REDIS_H
#define GW_CONTROLLER_JOURNAL_REDIS_H

#include "controller/journal.h"

#define GW_JOURNAL_LEASE_US (10 * (int64_t)1000000) /* a busy machine may be late by seconds */

extern const struct gw_journal_ops gw_journal_redis;

#endif
