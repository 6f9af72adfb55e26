/* Journal: entries that outlive the process. An entry is a few pieces of bytes, appended one after another, until it
 * ends; a start gets those back that had not ended.
 *
 *     front ── append, end ──► batch ──(own thread)──► backend: a file, or Redis
 *            ◄── durable ───────────────────────────────┘
 *
 * Changes are collected while the last batch is on its way, and go out together: at once if someone waits for one to be
 * durable, else after batch_us. The event loop never waits. What a batch that failed held is lost: those who waited are
 * told; pieces that nobody waited for leave a hole in their entry, and whoever reads it must stop there.
 *
 * Only one process may hold a journal: a file by a lock, Redis by a lease. Each opening raises the term, durably, before
 * it returns. When the lease is lost (or may be), `lost` is called and nothing is written any more.
 *
 * Owner: open/close. Thread: the loop's; backends run on a thread of the journal's. Units: bytes, microseconds.
 * Errors: GW_ERR_LIMIT from open: another process holds it (try again later); GW_ERR_INPUT: what is there cannot be
 * used, the text says what to do; GW_ERR_IO, GW_ERR_MEMORY. Source: own design; DESIGN part 6. */
#ifndef GW_CONTROLLER_JOURNAL_H
#define GW_CONTROLLER_JOURNAL_H

#include <event2/event.h>

#include "base/log.h"
#include "controller/journal_table.h"

#define GW_JOURNAL_PIECE_MAX ((size_t)128 << 20) /* 256 prompts of one request, their ids and echoed text */
#define GW_JOURNAL_PENDING_MAX                                                                               \
    ((size_t)192 << 20)                          /* collected while a batch is on its way; more is refused */
#define GW_JOURNAL_BATCH_US (50 * (int64_t)1000) /* what a crash loses at most of lazily written pieces */

struct gw_journal;

struct gw_journal_config {
    const char *where; /* a directory; redis://…, rediss://… */
    const void *key;   /* the cluster key; used, not kept */
    size_t key_len;
    uint64_t term_min;                          /* the new term is at least this */
    const char *password_file;                  /* Redis; NULL = none */
    const char *owner;                          /* Redis: who we are, for people */
    int64_t lease_us;                           /* Redis; 0 = 10 s */
    bool insecure_plaintext;                    /* Redis off loopback without TLS */
    const char *redis_ca_file, *redis_tls_name; /* of a rediss:// one: base/tls_verify.h */
    size_t compact_bytes; /* file: a segment is rewritten when it has so many; 0 = 64 MiB */
    const struct gw_log *log;
    /* The journal is not ours any more; called once, from the loop. NULL: never of interest. */
    void (*lost)(void *arg, const char *why);
    void *arg;
};

/* A backend. All but open runs on the journal's thread, one call at a time. */
struct gw_journal_ops {
    const char *name;
    /* Takes hold of what config->where names, fills loaded, and makes the new term durable. */
    gw_err_t (*open)(const struct gw_journal_config *config, struct gw_journal_table *loaded, uint64_t *term,
                     void **state, struct gw_err_ctx *ctx);
    /* Durable when it returns OK. *fenced: it failed because the journal is another's. */
    gw_err_t (*write)(void *state, const void *batch, size_t len, bool *fenced, struct gw_err_ctx *ctx);
    /* Called when keep_us have passed since the last write or keep; keep_us 0: never. */
    gw_err_t (*keep)(void *state, bool *fenced, struct gw_err_ctx *ctx);
    int64_t (*keep_us)(const void *state);
    void (*close)(void *state);
};

gw_err_t gw_journal_open(struct event_base *loop, const struct gw_journal_ops *ops,
                         const struct gw_journal_config *config, struct gw_journal **out,
                         struct gw_err_ctx *ctx) GW_MUST_USE;
/* Writes what is left, waits for it, and tells those who waited. NULL is fine. */
void gw_journal_close(struct gw_journal *journal);

uint64_t gw_journal_term(const struct gw_journal *journal);

/* Is it ours for sure, as far as can be known without asking? Not when it is lost, nor when nothing has renewed the lease for as
 * long as it lasts: another controller may have it then, and this one was frozen. */
bool gw_journal_held(const struct gw_journal *journal);

/* The entries that were live at the opening, the oldest first; once, then they are forgotten. Pieces as in
 * journal_table.h. each may append and end. */
gw_err_t gw_journal_replay(struct gw_journal *journal,
                           gw_err_t (*each)(void *arg, uint64_t entry, const void *pieces, size_t len),
                           void *arg) GW_MUST_USE;

/* Appends a piece (copied); the first one begins the entry, whose id the caller has made up (not 0, never used before).
 * durable, if not NULL, is called once, from the loop, with GW_OK or why not; never from inside this call. GW_ERR_LIMIT
 * (too much is pending, or the piece is too long), GW_ERR_IO (the journal is lost): nothing was appended, durable is not
 * called. */
gw_err_t gw_journal_append(struct gw_journal *journal, uint64_t entry, const void *piece, size_t len,
                           void (*durable)(void *arg, gw_err_t err), void *arg) GW_MUST_USE;
/* The entry is over. Written lazily. Unknown entries are ignored. */
void gw_journal_end(struct gw_journal *journal, uint64_t entry);

struct gw_journal_stats {
    uint64_t batches, bytes;         /* durable */
    uint64_t failures;               /* batches that are not */
    uint64_t refused;                /* appends */
    uint64_t write_us, write_us_max; /* from the hand-over of a batch to its end */
    bool failing;                    /* the last batch is not durable */
};
void gw_journal_stats(const struct gw_journal *journal, struct gw_journal_stats *out);

#endif
