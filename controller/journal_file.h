/* The journal in a local directory.
 *
 *     DIR/lock                        flock(2)ed while a process holds the journal
 *     DIR/segment-<16 hex digits>     journal_segment.h; the one with the highest number counts
 *     DIR/segment-….new               being written; without meaning until it is renamed
 *
 * Files are of mode 0600, the directory, if it is made here, 0700. Each opening, and each segment that has grown beyond
 * compact_bytes (and twice what was live when it began), makes a new segment of what is live: written under the .new
 * name, fdatasync, rename, fsync of the directory, then the old one is removed. So at every moment one whole segment is
 * there, whenever the process or the machine ends.
 *
 *     fault                            what follows
 *     ------------------------------   -----------------------------------------------------------------------------
 *     killed anywhere                  the last batch may be torn: dropped at the next opening, nobody was told of it
 *     killed while a segment is made   the old one counts, or (after the rename) the new one; leftovers are removed
 *     disk full, write error           the batch is not durable; the segment is cut back to the last whole frame
 *     cutting back fails, too          the next batch begins a new segment from what is whole
 *     a damaged segment                no start: the text names the file, the byte, and what to do
 *     held by another process          GW_ERR_LIMIT from open
 *
 * Owner: journal.h. Thread: journal.h. Units: bytes. Errors: journal.h. Source: own design. */
#ifndef GW_CONTROLLER_JOURNAL_FILE_H
#define GW_CONTROLLER_JOURNAL_FILE_H

#include "controller/journal.h"

#define GW_JOURNAL_COMPACT_BYTES ((size_t)64 << 20) /* half a second of reading and writing again */

extern const struct gw_journal_ops gw_journal_file;

#endif
