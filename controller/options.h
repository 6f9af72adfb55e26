/* The controller's flags and what may be wrong with them.
 *
 * Owner: strings live until exit. Thread: start-up. Units: in the names.
 * Errors: GW_ERR_INPUT with a text that says what to do. Source: own design; DESIGN parts 8 and 10. */
#ifndef GW_CONTROLLER_OPTIONS_H
#define GW_CONTROLLER_OPTIONS_H

#include <stdint.h>

#include "controller/capacity_options.h"
#include "migrate/kv_format.h"
#include "migrate/weight_format.h"

struct gw_endpoint {
    char host[64];
    uint16_t port;
};

struct gw_controller_options {
    const char *model, *model_name, *host, *admin_listen, *worker_listen, *cluster_key_file, *api_keys,
        *admin_token_file, *ready_file, *log_level, *layout, *journal, *journal_password_file, *handover,
        *redis_ca_file, *redis_tls_name, *weights, *kv;
    int64_t port, max_connections, max_body_bytes, max_queue, heartbeat_ms, heartbeat_timeout_ms,
        text_threads;
    double max_queue_wait_s, sse_ping_s, stop_grace_s, slo_ttft_s, slo_tpot_s, resume_grace_s, lease_s,
        warm_timeout_s;
    bool insecure_plaintext, standby;
    enum gw_weight_format weight_format;
    enum gw_kv_format kv_format;
    struct gw_endpoint admin, worker; /* parsed from admin_listen, worker_listen */
    struct gw_capacity_options capacity;
};

/* Defaults, then --config, then argv. *help: the text has been printed, exit 0. */
gw_err_t gw_controller_options_parse(int argc, char **argv, struct gw_controller_options *out, bool *help,
                                     struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
