/* Options of godwit-worker: flags, their defaults, and what must hold between them.
 *
 * Owner: strings live until exit. Thread: start-up. Units: last word of the name. Errors: GW_ERR_INPUT with a
 * text that says what to do. Source: own design. */
#ifndef GW_WORKER_OPTIONS_H
#define GW_WORKER_OPTIONS_H

#include "base/log.h"
#include "kernels/op.h"
#include "migrate/wire.h"
#include "worker/host.h"
#include "worker/link.h"
#include "worker/stores.h"

struct gw_worker_options {
    const char *model, *controller, *cluster_key_file, *profile, *isa_name, *log_level_name;
    const char *worker_id, *instance_id, *zone, *data_listen, *sums, *kv_restore, *weights,
        *weights_from_name, *kv, *cuda_graphs;
    int64_t threads, numa_node, kv_tokens, memory_limit_bytes, max_batch_tokens, max_sequences;
    double term_grace_s, step_timeout_s, step_target_ms;
    const char *device;
    const char *store, *store_password_file, *redis_ca_file, *redis_tls_name;
    int64_t store_memory_bytes; /* -1: a part of memory_limit_bytes */
    double checkpoint_share, checkpoint_bytes_s, checkpoint_max_usd_h, egress_usd_gb;
    double checkpoint_far_bytes_s; /* what the last two say; 0: no limit */
    bool pin, insecure_plaintext, digest;
    /* what these say, parsed */
    int cuda;          /* ordinal of --device cuda:N; -1: cpu */
    bool fast, graphs; /* --profile fast of a GPU; --cuda-graphs on */
    enum gw_isa isa;
    enum gw_log_level log_level;
    struct gw_link_endpoint controllers[GW_LINK_CONTROLLERS_MAX];
    int controllers_len;
    char data_host[64]; /* numeric; empty: the address by which the controller is reached */
    uint16_t data_port;
    bool shared_memory;                                       /* sums may go through it */
    char redis[GW_STORES_REDIS_MAX][GW_STORES_ADDRESS_BYTES]; /* as in store_redis.h */
    uint32_t redis_len;
    bool always_fetch, never_fetch; /* --kv-restore fetch, recompute */
    enum gw_weight_format weight_format;
    enum gw_kv_format kv_format;
    enum gw_weights_from weights_from;
    char worker_name[GW_WIRE_NAME_MAX + 1], instance_name[GW_WIRE_NAME_MAX + 1];
};

/* *help: the text was printed, nothing else is set. On error *out is unchanged. */
gw_err_t gw_worker_options_parse(int argc, char **argv, struct gw_worker_options *out, bool *help,
                                 struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
