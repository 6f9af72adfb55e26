/* The records of one choice of a stream that clients may come back to, kept so that any position can be gone on from.
 *
 * Owner: caller memory holds the struct, the log owns its arrays. Thread: one. Units: records.
 * Errors: GW_ERR_MEMORY (the log is unchanged), GW_ERR_PROTO: the records do not follow on. Source: own design. */
#ifndef GW_CONTROLLER_STREAM_LOG_H
#define GW_CONTROLLER_STREAM_LOG_H

#include "migrate/request.h"

struct gw_stream_log {
    uint32_t *ids;
    float *logprobs;
    struct gw_top *top; /* [cap][top_n], NULL if top_n is 0 */
    uint32_t len, cap, top_n;
    enum gw_finish finish; /* the core has ended the branch behind the last record */
};

void gw_stream_log_fini(struct gw_stream_log *log);

/* Appends what of tokens lies behind the log's end; records that it has are skipped. */
gw_err_t gw_stream_log_append(struct gw_stream_log *log, const struct gw_tokens *tokens) GW_MUST_USE;

/* A view of records [first, end); valid until the log grows. */
struct gw_tokens gw_stream_log_view(const struct gw_stream_log *log, uint32_t first, uint32_t end);

/* Bytes held. */
size_t gw_stream_log_bytes(const struct gw_stream_log *log);

#endif
