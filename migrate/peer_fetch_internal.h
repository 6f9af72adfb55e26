/* Peer fetch, inside: what the runner (peer_fetch.c) and its streams (fetch_stream.c) share.
 *
 * One lock guards what is below it, the items of the run included, and the streams' lines. A stream holds it but while it
 * reads and writes its socket, sleeps, or looks at bytes that came. */
#ifndef GW_MIGRATE_PEER_FETCH_INTERNAL_H
#define GW_MIGRATE_PEER_FETCH_INTERNAL_H

#include <pthread.h>

#include "migrate/fetch_items.h"
#include "migrate/peer_line.h"
#include "migrate/rate.h"

#define FETCH_SPAN_PAGES 64           /* read at once */
#define FETCH_SPAN_BYTES (256u << 10) /* and then summed up while they are in L2 */
#define FETCH_SKIP_BYTES (64u << 10)
#define FETCH_DRAIN_US   (50 * GW_US_PER_MS) /* for a DONE that is right behind its last page */
#define FETCH_FAST_US                                                                                        \
    (1500 * GW_US_PER_MS) /* for connecting with fast_fail: TCP repeats a lost SYN after 1 s */

/* An entry of a PAGES frame, and where it goes. */
struct fetch_entry {
    struct gw_page_entry page;
    uint32_t name, at; /* in the request, in the wanted rectangle */
    uint8_t *to;       /* NULL: skip */
};

struct fetch_stream {
    struct gw_peer_fetch *fetch;
    uint32_t source;
    struct peer_line line;
    pthread_t thread;
    bool started;

    /* the stream's own */
    int64_t patience_us; /* with one message */
    bool connecting;     /* the connection that broke was none yet */
    struct fetch_ask asks[GW_FETCH_ASKS_MAX];
    uint32_t next_request;
    struct gw_page_head head;
    uint8_t head_bytes[GW_PAGE_HEAD_BYTES];
    uint8_t table[GW_PAGE_TABLE_MAX];
    uint8_t skipped[FETCH_SKIP_BYTES];
    struct gw_page_entry raw[GW_PAGE_ENTRIES_MAX];
    struct fetch_entry entries[GW_PAGE_ENTRIES_MAX];
    uint32_t entries_len;
    struct gw_err_ctx ctx; /* why the connection ended */
};

struct gw_peer_fetch {
    /* constant after create */
    struct gw_peer_fetch_config config; /* with defaults; key, sources and plan are our copies */
    struct gw_shake_key key;
    struct fetch_stream **streams;
    uint32_t streams_len;
    int64_t deadline_us; /* constant in a run */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* monotonic clock: items, dead sources, cancelled */
    bool cancelled;
    bool failed; /* the run could not be started as a whole */
    struct fetch_items items;
    struct gw_fetch_result result;
    struct gw_rate rate;
    uint32_t fails[GW_GEOMETRY_SOURCES_MAX]; /* connections in a row that brought no page */
};

/* A stream's thread; arg: the struct fetch_stream. */
void *fetch_stream_main(void *arg);

/* Is there nothing left to do, or no time? Under the lock. */
bool fetch_is_over(const struct gw_peer_fetch *f);

#endif
