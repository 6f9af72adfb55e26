/* The log of one branch: the records that are committed, the only truth about what was generated.
 *
 * Invariants: len <= cap; positions below len never change; done logs never grow.
 * Owner: caller memory holds the struct, the log owns its arrays. Thread: one. Units: records.
 * Errors: GW_ERR_MEMORY (the log is unchanged). Source: own design; DESIGN part 1. */
#ifndef GW_CONTROLLER_CORE_LOG_H
#define GW_CONTROLLER_CORE_LOG_H

#include "migrate/request.h"

struct core_log {
    uint32_t *ids;
    float *logprobs;
    struct gw_top *top; /* [cap][top_n], NULL if top_n is 0 */
    uint32_t len, cap;
    bool done;
};

void core_log_fini(struct core_log *log);

/* Room for `extra` more records of top_n pairs each; never more than max in all. */
gw_err_t core_log_reserve(struct core_log *log, uint32_t extra, uint32_t top_n, uint32_t max) GW_MUST_USE;

/* Appends record i of t. Room must have been reserved. */
void core_log_append(struct core_log *log, const struct gw_tokens *t, uint32_t i);

/* Do the first `count` ids of t equal what the log holds from t->first on? (They lie below len.) */
bool core_log_equals(const struct core_log *log, const struct gw_tokens *t, uint32_t count);

/* A view of count records from first on; valid until the log grows. */
struct gw_tokens core_log_view(const struct core_log *log, uint32_t first, uint32_t count, uint32_t top_n);

#endif
