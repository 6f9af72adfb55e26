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
        *weights, *weights_from; /* format; source */
    int64_t workers, port, admin_port, worker_port, threads, kv_tokens, memory_limit;
    double replace_after_s, term_grace_s;
    const char *store;
    bool redis;
};

/* *help: the text was printed. */
gw_err_t up_options_parse(int argc, char **argv, struct up_options *out, bool *help,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
