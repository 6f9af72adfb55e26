/* Table: what a journal's changes come to, the entries that are live with their pieces in order.
 *
 * Owner: create/destroy; pieces are copied. Thread: one at a time. Units: bytes.
 * Errors: GW_ERR_MEMORY; GW_ERR_LIMIT beyond GW_JOURNAL_LIVE_MAX. Source: own design. */
#ifndef GW_CONTROLLER_JOURNAL_TABLE_H
#define GW_CONTROLLER_JOURNAL_TABLE_H

#include "controller/journal_segment.h"

#define GW_JOURNAL_LIVE_MAX ((size_t)8 << 30) /* of all live entries: what a start can hold in memory */

struct gw_journal_table;

struct gw_journal_table *gw_journal_table_create(void); /* NULL: out of memory */
void gw_journal_table_destroy(struct gw_journal_table *table);

/* Applies one change; arg is the table (struct gw_segment_reader). The end of what is not there is none. */
gw_err_t gw_journal_table_change(void *arg, const struct gw_change *change) GW_MUST_USE;

size_t gw_journal_table_len(const struct gw_journal_table *table);
size_t gw_journal_table_bytes(const struct gw_journal_table *table);

/* Calls each for each entry, the oldest first, until it fails. pieces: each behind its u32 length (gw_read_bytes). */
gw_err_t gw_journal_table_each(const struct gw_journal_table *table,
                               gw_err_t (*each)(void *arg, uint64_t entry, const void *pieces, size_t len),
                               void *arg) GW_MUST_USE;

#endif
