/* Host: what a worker's pipelines, one after another, stand on: all that lives as long as the process.
 *
 * Owner: main_worker.c makes and frees the parts; others borrow. Thread: as each part says. Units: as named. Errors:
 * none. Source: own design. */
#ifndef GW_WORKER_HOST_H
#define GW_WORKER_HOST_H

#include "base/log.h"
#include "worker/cell_load.h"
#include "worker/cell_source.h"
#include "worker/checkpoint.h"
#include "worker/fetcher.h"
#include "worker/mesh.h"
#include "worker/traffic.h"

/* Where missing cells are loaded from: as is predicted to be faster, never from peers, from peers wherever they have them. */
enum gw_weights_from { GW_WEIGHTS_AUTO, GW_WEIGHTS_DISK, GW_WEIGHTS_PEERS };

struct gw_host {
    const struct gw_model *model;
    const struct gw_ops *ops;
    struct gw_device *device;
    struct gw_cell_store *store;
    struct gw_cell_loader *loader;
    struct gw_cell_giver *giver; /* of the store */
    enum gw_weights_from weights_from;
    struct gw_mesh *mesh;
    struct gw_traffic *traffic;
    struct gw_shelf *shelf;
    struct gw_fetcher *fetcher;
    struct gw_peer_server *pages;     /* NULL: nobody can fetch from here */
    struct gw_stores *stores;         /* NULL: pages are kept nowhere else */
    struct gw_checkpoint *checkpoint; /* the same */
    struct gw_page_model page_model;
    uint64_t memory_bytes; /* that weights and KV pages may use */
    uint32_t kv_tokens; /* capacity of a page pool; 0: what memory_bytes leaves, GW_HOST_CONTEXTS at most */
    uint32_t max_batch_tokens, max_sequences;
    uint8_t machine[GW_MACHINE_BYTES];
    uint64_t step_target_us; /* of a step with rows of prompts (worker/step_pace.h); 0: none */
    int64_t step_timeout_us; /* a rank that says nothing for so long within a step is gone */
    bool poison;             /* unused page bytes are NaN */
    bool always_fetch; /* pages of moved requests, even where computing them is predicted to be faster */
    bool never_fetch;
    const void *key; /* cluster key */
    size_t key_len;
    const struct gw_tls *tls; /* NULL: plaintext everywhere */
    uint8_t fingerprint[GW_FINGERPRINT_BYTES];
    const struct gw_log *log;
};

#define GW_HOST_CONTEXTS 32 /* sequences of full length that a pool holds by default */

#endif
