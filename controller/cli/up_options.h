/* The flags of `godwit up`.
 *
 * Owner: strings are argv's. Thread: main thread. Units: in the names. Errors: GW_ERR_INPUT with a text that says what to do;
 * on error *out is unchanged. Source: own design. */
#ifndef GW_CONTROLLER_CLI_UP_OPTIONS_H
#define GW_CONTROLLER_CLI_UP_OPTIONS_H

#include <stdint.h>

#include "base/err.h"

struct up_options {
    const char *model, *host, *state, *log_dir, *worker_connect, *isa, *api_keys, *layout, *kv_restore,
        *weights, *weights_from, *kv; /* format; source; format of KV pages */
    int64_t workers, port, admin_port, worker_port, threads, kv_tokens, memory_limit;
    double replace_after_s, term_grace_s;
    const char *device;                /* of each worker */
    const char *profile, *cuda_graphs; /* of each; NULL: its default */
    const char *store;
    bool redis;
    const char *cloud; /* "sim": groups of a played cloud, whose sizes the controller sets; "none" */
    bool sim;          /* it is "sim" */
    const char *zones;
    int64_t cloud_port, supply;
    double spot_usd_h, on_demand_usd_h;
};

/* *help: the text was printed. */
gw_err_t up_options_parse(int argc, char **argv, struct up_options *out, bool *help,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
