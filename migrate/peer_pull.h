/* Peer pull: the leader of a pipeline has a rank of it fetch blocks from those that hold them, into slots that the leader chose.
 *
 * A leader alone knows which tokens a slot stands for; each rank alone knows its own part of a block, and fetches that. So the
 * leader sends PULL to the page port of every rank (page_codec.h has the bytes), and waits for what became of each block. The
 * rank tries its own pool, the holders, its store, as long as the budget lasts.
 *
 *     leader's puller:  closed ─dial, shake─► open ─PULL─► waiting ─PULLED─► open      (open: kept for GW_PULL_KEEP_S)
 *                         ▲                                  │ anything else, or budget + grace over
 *                         └──────────────────────────────────┘
 *
 *     lost or wrong                                what is done
 *     ──────────────────────────────────────────   ────────────────────────────────────────────────────────────
 *     nobody listens, no handshake within          GW_ERR_IO, GW_ERR_LIMIT; the rank has heard nothing
 *     GW_PULL_CONNECT_MS
 *     the kept connection has ended                noticed before it is used: a new one
 *     PULL is lost with its connection             GW_ERR_IO. Not sent again: the rank may have it, and two of them would
 *                                                  write to the same slots
 *     PULL is late, or cut                         the rank closes: GW_ERR_IO here
 *     the leader's term or generation is over      PULLED(stale), nothing is written: GW_ERR_INPUT
 *     another model; a rank that takes no PULL     PULLED(foreign), PULLED(refused): the same
 *     PULL that is wrong in itself                 the rank closes, counts
 *     the leader vanishes                          the rank fetches to the end of its budget; its answer goes nowhere
 *     PULLED is lost, or does not come             GW_ERR_IO, GW_ERR_LIMIT after budget_ms + GW_PULL_GRACE_MS
 *     PULLED of another pull (late, repeated),     GW_ERR_PROTO, the connection ends; after every error it does, so that
 *     of another fence, model or length            no answer of one pull can be taken for that of the next
 *
 * After GW_ERR_IO, GW_ERR_LIMIT and GW_ERR_PROTO the rank may still be writing to those slots, for budget_ms at most after it
 * heard: whoever gave them out must not use them before the generation ends or that time is over.
 *
 * Owner: gw_puller_destroy closes. Thread: one per puller; gw_puller_cancel from any. Units: milliseconds, indices of slots.
 * Errors: as above; GW_ERR_INPUT for a pull over the limits, GW_ERR_MEMORY. Source: own design; DESIGN part 6. */
#ifndef GW_MIGRATE_PEER_PULL_H
#define GW_MIGRATE_PEER_PULL_H

#include "migrate/peer_fetch.h"

#define GW_PULL_NAMES_MAX  4096   /* 64 k tokens; longer sequences take several */
#define GW_PULL_BUDGET_MAX 600000 /* ms: more is no budget but a mistake */
#define GW_PULL_GRACE_MS   2000   /* for both ways and a rank that is short of cores */
#define GW_PULL_CONNECT_MS 1000   /* of it: then the budget ends before the leader's patience */
#define GW_PULL_KEEP_S     30 /* half of what the server waits for the next frame: no race between the two */

struct gw_pull {
    struct gw_page_fence fence;        /* of the leader's pipeline */
    uint32_t names_len;                /* 1..GW_PULL_NAMES_MAX */
    const struct gw_block_name *names; /* all different */
    const uint32_t *slots;             /* [names_len], all different; the rank checks that it has them */
    uint32_t holders_len;              /* 0..GW_FETCH_SOURCES_MAX; none: own pool and store */
    const struct gw_fetch_source *holders;
    /* The rank writes nothing before it has computed the pipeline's steps up to this one: they may still use these slots. */
    uint64_t after_step;
    uint32_t budget_ms; /* 0..GW_PULL_BUDGET_MAX */
    bool background;    /* nobody waits for it: it gives way to those who compute */
};

/* What became of a block: one byte each. */
enum gw_pull_from {
    GW_PULL_LOST,  /* it is not here; its slot holds anything */
    GW_PULL_HAD,   /* it was in that slot */
    GW_PULL_PEER,  /* it came from a holder */
    GW_PULL_STORE, /* from a store */
    GW_PULL_FROMS
};

struct gw_puller_config {
    const char *address; /* gw_peer_server_address of the rank; copied */
    uint32_t rank;       /* of it, as the handshake says it */
    const void *key;     /* the cluster key; copied */
    size_t key_len;
    const struct gw_tls *tls; /* borrowed; NULL: plaintext everywhere */
    struct gw_page_model model;
    bool try_unix; /* it may be on this host */
    const struct gw_log *log;
};

struct gw_puller;

gw_err_t gw_puller_create(const struct gw_puller_config *config, struct gw_puller **out,
                          struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_puller_destroy(struct gw_puller *puller);

/* Sends the pull and waits for what comes of it: from[names_len]; on error all of it is GW_PULL_LOST. */
gw_err_t gw_puller_run(struct gw_puller *puller, const struct gw_pull *pull, uint8_t *from,
                       struct gw_err_ctx *ctx) GW_MUST_USE;

/* Ends the run that is under way, and all later ones, with GW_ERR_IO. */
void gw_puller_cancel(struct gw_puller *puller);

#endif
