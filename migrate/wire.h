/* The control plane's messages between controller and workers: what each means, and their bytes.
 *
 * A worker dials the controller's worker port. All messages travel in base/frame.h frames, whose head carries
 * (term, pipeline, generation): the fences.
 *
 *     controller                                   worker
 *     ── CHALLENGE(nonce) ─────────────────────────►          who are you?
 *     ◄──────────── HELLO(mac, nonce', who, model) ──
 *     ── WELCOME(mac', pipeline, term, generation) ─►          or REFUSE(why), then close
 *     ◄──────── RESYNC(requests) ──                            that ran here when the last session ended: their KV is here still
 *     ── ASSIGN(pipeline, generation, ranks) ───────►          be this rank of it: load cells, find the others
 *     ◄──────────────── READY or BROKEN(why) ──
 *     ── START ─────────────────────────────────────►          it serves from now on (what served before, ends)
 *     ── WARM(request so far, holders) ─────────────►          to the leader of a READY or serving one: fetch its pages
 *     ◄──────────────────────────── WARMED ──                  they are here, or will not be
 *     ── SUBMIT · CANCEL · CUTOVER ─────────────────►          to the leader (rank 0) only
 *     ◄── TOKENS · REJECT · HANDOFF · ORIGIN ──                from the leader only
 *     ── RELEASE ───────────────────────────────────►          leave that pipeline; cells stay until the next ASSIGN
 *     ── STORES(who keeps pages for others) ────────►          from WELCOME on, and whenever that changes
 *     ── ZONES(where which workers are) ────────────►          the same: all first, then those that came since
 *     ◄──── HEARTBEAT · NOTICE · BROKEN · GOODBYE ──
 *     ── PING · GOODBYE ────────────────────────────►
 *
 * Messages about a pipeline carry its number and generation in the frame's head; the others carry zeros. Protocol 1
 * has no ASSIGN … RELEASE: such a worker holds the whole model and is the pipeline of one rank that WELCOME's head
 * names, serving from then on. Protocol 3 adds WARM, WARMED, ORIGIN and STORES, and fields at the end of HELLO, ASSIGN, SUBMIT and
 * HEARTBEAT: a sender leaves those out that its peer does not know (empty address, no holders, zeros), and a reader takes
 * a payload that ends before them for one without. Protocol 4 adds to the ends of ASSIGN and HEARTBEAT in the same way.
 * Protocol 5 adds ZONES, and to the end of HEARTBEAT. Protocol 6 adds RESYNC.
 *
 * mac = HMAC-SHA-256(cluster key, nonce ‖ HELLO payload behind the mac); mac' = HMAC(cluster key,
 * nonce' ‖ "welcome"). Before WELCOME nothing but CHALLENGE/HELLO/REFUSE is legal.
 *
 * Lost messages: TCP loses a suffix only, by losing the connection; then the controller treats the worker as
 * gone (every request that it held is submitted elsewhere, from its log) and the worker forgets all requests
 * when it registers again (RESYNC names them, so that they may come back to their pages). So no message needs a
 * retry. State table: controller/core/core.h.
 *
 * Owner: gw_msg_decode's result owns its arrays until gw_msg_fini. Thread: plain data.
 * Units: in the field names. Errors: GW_ERR_PROTO for bytes that no honest peer sends; nothing is allocated
 * by a count before the bytes for it are there. Every decoded message satisfies the limits of request.h.
 * Compatibility: GW_WIRE_PROTO is raised by any change; N and N-1 interoperate. Source: own design. */
#ifndef GW_MIGRATE_WIRE_H
#define GW_MIGRATE_WIRE_H

#include "base/buf.h"
#include "base/frame.h"
#include "migrate/grid.h"
#include "migrate/request.h"

#define GW_WIRE_PROTO_MIN 1
#define GW_WIRE_PROTO     6

#define GW_WIRE_NAME_MAX     64  /* bytes of worker, instance, build, profile names, without NUL */
#define GW_WIRE_TEXT_MAX     256 /* bytes of a reason */
#define GW_WIRE_NONCE_BYTES  16
#define GW_WIRE_MAC_BYTES    32
#define GW_FINGERPRINT_BYTES 16
#define GW_DIGEST_BYTES      32
#define GW_WIRE_CUTOVER_MAX  4096 /* requests in one CUTOVER */
#define GW_WIRE_RESYNC_MAX   4096 /* requests in one RESYNC; the others are not told */
#define GW_WIRE_RANKS_MAX    64   /* of one pipeline */
#define GW_MACHINE_BYTES     16
#define GW_WIRE_HOLDERS_MAX  63  /* of one request's pages: GW_FETCH_SOURCES_MAX */
#define GW_WIRE_SOURCES_MAX  8   /* of one rank's weights: more make no link faster */
#define GW_WIRE_STORES_MAX   64  /* of larger fleets some keep pages, and all know which */
#define GW_WIRE_ZONES_MAX    256 /* in one message; there may be several */

enum gw_msg_type {
    GW_MSG_CHALLENGE = 1, /* C→W */
    GW_MSG_HELLO,         /* W→C */
    GW_MSG_WELCOME,       /* C→W */
    GW_MSG_REFUSE,        /* C→W */
    GW_MSG_SUBMIT,        /* C→W run this from this log on */
    GW_MSG_CANCEL,        /* C→W forget it, a WARM too (idempotent; unknown requests are ignored) */
    GW_MSG_TOKENS,        /* W→C records; count 0 = "a step with this request has begun" */
    GW_MSG_REJECT,        /* W→C this request cannot run here, nor will it on an equal worker */
    GW_MSG_HEARTBEAT,     /* W→C from the I/O thread, with step progress */
    GW_MSG_PING,          /* C→W the controller lives */
    GW_MSG_NOTICE,        /* W→C this instance will go (or will not, after all) */
    GW_MSG_CUTOVER,       /* C→W stop scheduling these, then HANDOFF each */
    GW_MSG_HANDOFF,       /* W→C the last TOKENS of this request have been sent */
    GW_MSG_GOODBYE,       /* both: closing on purpose, with a reason */
    GW_MSG_ASSIGN,        /* C→W be this rank of that pipeline, once it starts */
    GW_MSG_READY,         /* W→C its cells are loaded and all its ranks have found each other */
    GW_MSG_START,         /* C→W serve */
    GW_MSG_RELEASE,       /* C→W leave the pipeline (idempotent; unknown ones are ignored) */
    GW_MSG_BROKEN,        /* W→C the pipeline cannot be formed, or a step of it failed: it is dead */
    GW_MSG_WARM, /* C→W a request that runs elsewhere will come here: fetch its sealed pages, run nothing */
    GW_MSG_WARMED, /* W→C what could be fetched of it is here */
    GW_MSG_ORIGIN, /* W→C where the KV of a request that begins came from */
    GW_MSG_STORES, /* C→W the workers that keep pages for others, all of them anew */
    GW_MSG_ZONES,  /* C→W in which zones workers are that came since the last one */
    GW_MSG_RESYNC, /* W→C requests that ran here when its last session ended, at its controller or another one */
};

struct gw_msg_challenge {
    uint16_t proto_min, proto_max;
    uint8_t nonce[GW_WIRE_NONCE_BYTES];
};

struct gw_msg_hello {
    uint8_t mac[GW_WIRE_MAC_BYTES];
    uint16_t proto; /* chosen from the challenge's range */
    uint8_t nonce[GW_WIRE_NONCE_BYTES];
    char worker[GW_WIRE_NAME_MAX + 1];   /* stable across reconnects, unique in the cluster */
    char instance[GW_WIRE_NAME_MAX + 1]; /* the cloud's id; workers of one instance share it */
    char build[GW_WIRE_NAME_MAX + 1];
    char profile[GW_WIRE_NAME_MAX + 1]; /* numerics profile */
    uint8_t digest[GW_DIGEST_BYTES];    /* of that profile on this machine */
    uint8_t fingerprint[GW_FINGERPRINT_BYTES];
    uint64_t max_term; /* highest term this worker has served; it refuses lower ones */
    uint32_t pid;
    uint32_t vocab, context; /* of the model */
    uint32_t kv_tokens;      /* protocol 1: capacity of the page pool; later: 0, READY says it */
    uint32_t max_sequences;  /* branches in one step at most */
    /* From protocol 2 on: */
    char data[GW_WIRE_NAME_MAX + 1];   /* "address:port", numeric, where other ranks connect */
    char device[GW_WIRE_NAME_MAX + 1]; /* its kind: equal names are taken to be equally fast */
    char zone[GW_WIRE_NAME_MAX + 1];
    uint8_t machine[GW_MACHINE_BYTES]; /* equal: the same machine, shared memory may work */
    uint64_t memory_bytes;             /* that weights and KV may use */
    uint64_t bytes_s, flop_s;          /* probed: memory bandwidth, FLOP rate in the profile */
    struct gw_cell_rect holds;         /* cells that it has now */
    /* From protocol 3 on: */
    char pages[GW_WIRE_NAME_MAX +
               1];        /* "address:port", numeric, where its KV pages are served; "" = nowhere */
    uint64_t store_bytes; /* of others' pages that it keeps there; 0 = none */
};

struct gw_msg_welcome {
    uint8_t mac[GW_WIRE_MAC_BYTES];
    uint32_t heartbeat_ms;          /* send one so often */
    uint32_t controller_timeout_ms; /* no frame from the controller for so long = it is lost */
};

enum gw_refuse_code {
    GW_REFUSE_AUTH = 1,  /* wrong mac */
    GW_REFUSE_PROTO,     /* no common protocol */
    GW_REFUSE_MODEL,     /* other fingerprint */
    GW_REFUSE_DIGEST,    /* unknown profile or wrong digest */
    GW_REFUSE_TERM,      /* this controller's term is too low for you */
    GW_REFUSE_DUPLICATE, /* that worker name is connected and alive */
    GW_REFUSE_LIMIT,     /* too many workers */
};

struct gw_msg_refuse {
    uint16_t code;
    char text[GW_WIRE_TEXT_MAX + 1];
};

struct gw_branch_log {
    uint32_t len;  /* records that are committed */
    bool done;     /* finished: do not generate (it still counts as branch number) */
    uint32_t *ids; /* [len] */
};

/* A rank that may hold pages of a request: of a pipeline that it ran on, or that had its prefix. */
struct gw_page_holder {
    char pages[GW_WIRE_NAME_MAX + 1]; /* HELLO's */
    struct gw_cell_rect cells;        /* that it held in that pipeline */
};

/* WARM too: attempt is then the one that runs elsewhere. */
struct gw_msg_submit {
    uint32_t attempt;
    struct gw_request request;
    struct gw_branch_log *logs; /* [request.n] */
    /* From protocol 3 on: */
    uint32_t holders_len;
    struct gw_page_holder *holders; /* [holders_len] */
};

struct gw_msg_warmed {
    uint64_t request;
    uint32_t attempt;
    uint32_t tokens; /* positions from 0 on, of its longest branch, whose pages all ranks have now */
};

/* Of the positions that its branches need KV for at their admission: total = cached + moved + stored + what is computed
 * here. Sent once, when its first step begins. */
struct gw_msg_origin {
    uint64_t request;
    uint32_t attempt;
    uint32_t total_tokens;
    uint32_t cached_tokens; /* in this pipeline's prefix cache before */
    uint32_t moved_tokens;  /* fetched from holders for it */
    uint32_t stored_tokens; /* fetched from a store for it */
};

/* A worker that keeps pages for others. */
struct gw_store_host {
    char address[GW_WIRE_NAME_MAX + 1]; /* HELLO's pages */
    char instance[GW_WIRE_NAME_MAX + 1];
};

struct gw_msg_stores {
    uint32_t len;
    struct gw_store_host *hosts; /* [len], no address twice */
};

/* An address at which a worker is dialed (HELLO's data or pages), and the zone that it is in. */
struct gw_worker_zone {
    char address[GW_WIRE_NAME_MAX + 1];
    char zone[GW_WIRE_NAME_MAX + 1]; /* HELLO's; "" is one, too */
};

struct gw_msg_zones {
    uint32_t len;
    struct gw_worker_zone *workers; /* [len]; the later one of an address counts */
};

/* What workers' bytes to and from each other are for (worker/traffic.h). */
enum gw_traffic_kind {
    GW_TRAFFIC_STEPS,
    GW_TRAFFIC_PAGES,
    GW_TRAFFIC_STORES,
    GW_TRAFFIC_WEIGHTS,
    GW_TRAFFIC_KINDS,
};

struct gw_traffic_bytes {
    uint64_t near[GW_TRAFFIC_KINDS], far[GW_TRAFFIC_KINDS]; /* within a zone; between two */
};

struct gw_msg_resync {
    uint32_t count;
    uint64_t *requests; /* [count] */
};

#define GW_BRANCH_ALL UINT32_MAX

struct gw_msg_cancel {
    uint64_t request;
    uint32_t attempt;
    uint32_t branch; /* GW_BRANCH_ALL: the whole request */
};

struct gw_msg_tokens {
    uint64_t request;
    uint32_t attempt;
    uint32_t branch;
    struct gw_tokens tokens;
};

struct gw_msg_reject {
    uint64_t request;
    uint32_t attempt;
    uint16_t code; /* gw_err_t */
    char text[GW_WIRE_TEXT_MAX + 1];
};

struct gw_msg_heartbeat {
    uint64_t steps;   /* since the worker started */
    uint64_t step_us; /* duration of the last whole step */
    uint32_t running; /* branches being decoded or prefilled */
    uint32_t waiting; /* branches accepted, not scheduled */
    uint32_t kv_used_tokens, kv_total_tokens;
    uint64_t prefix_hit_tokens, prefix_query_tokens; /* since start */
    uint64_t preemptions;
    /* From protocol 3 on: the batch that step_us is of. 0 rows: not known */
    uint32_t step_rows, step_sequences;
    uint64_t step_kv_tokens; /* positions that its attention read, over all rows */
    /* From protocol 3 on, of a worker that has offered pages to stores: blocks, since the start */
    uint64_t kv_offered, kv_stored; /* stored: put there, or found there */
    uint64_t kv_stored_bytes, kv_forged_pages;
    /* From protocol 4 on: weights loaded in this session */
    uint64_t weight_disk_bytes, weight_peer_bytes;
    /* From protocol 5 on, in this session */
    struct gw_traffic_bytes traffic;
};

struct gw_msg_ping {
    uint64_t sequence;
};

enum gw_notice_kind {
    GW_NOTICE_PREEMPT = 1,
    GW_NOTICE_REBALANCE,
    GW_NOTICE_MAINTENANCE,
    GW_NOTICE_SCALE_IN,
    GW_NOTICE_CANCEL
};

struct gw_msg_notice {
    uint8_t kind;
    uint32_t deadline_ms; /* from now; 0 with GW_NOTICE_CANCEL */
};

struct gw_cutover_item {
    uint64_t request;
    uint32_t attempt;
};

struct gw_msg_cutover {
    uint32_t count;
    struct gw_cutover_item *items; /* [count] */
};

struct gw_msg_handoff {
    uint64_t request;
    uint32_t attempt;
    uint32_t n;
    uint32_t *log_len; /* [n] records sent per branch */
};

struct gw_msg_goodbye {
    char text[GW_WIRE_TEXT_MAX + 1];
};

struct gw_assign_rank {
    char worker[GW_WIRE_NAME_MAX + 1], data[GW_WIRE_NAME_MAX + 1];
    uint8_t machine[GW_MACHINE_BYTES];
    uint16_t stage;
    struct gw_cell_rect cells;
    char pages[GW_WIRE_NAME_MAX + 1]; /* from protocol 3 on: HELLO's; "" = it speaks protocol 2 */
};

/* A worker that may have cells: their weights can be had where its pages are. */
struct gw_cell_holder {
    char pages[GW_WIRE_NAME_MAX + 1]; /* HELLO's */
    struct gw_cell_rect cells;
};

/* Ranks are sorted by stage, then by first share; rank 0 leads. */
struct gw_msg_assign {
    uint64_t epoch;
    uint32_t self, ranks_len;
    struct gw_assign_rank *ranks; /* [ranks_len] */
    /* From protocol 4 on: */
    uint32_t sources_len;
    struct gw_cell_holder *sources; /* [sources_len], of cells that rank self shall have; the nearest first */
};

struct gw_msg_ready {
    uint32_t kv_tokens;     /* capacity of the pipeline's page pool: its smallest rank's */
    uint32_t context;       /* longest sequence it can serve */
    uint32_t max_sequences; /* branches in one step at most */
    uint64_t loaded_bytes;  /* weights that were loaded for it; the others were here */
    bool after_start;       /* no room beside what serves: the missing cells are loaded after START */
};

#define GW_RANK_NONE UINT32_MAX

struct gw_msg_broken {
    uint32_t rank; /* that seems to be at fault; GW_RANK_NONE = not known */
    uint16_t code; /* gw_err_t */
    char text[GW_WIRE_TEXT_MAX + 1];
};

struct gw_msg {
    enum gw_msg_type type;
    uint64_t term; /* from and to the frame's head */
    uint32_t pipeline;
    uint64_t generation;
    union {
        struct gw_msg_challenge challenge;
        struct gw_msg_hello hello;
        struct gw_msg_welcome welcome;
        struct gw_msg_refuse refuse;
        struct gw_msg_submit submit;
        struct gw_msg_cancel cancel;
        struct gw_msg_tokens tokens;
        struct gw_msg_reject reject;
        struct gw_msg_heartbeat heartbeat;
        struct gw_msg_ping ping;
        struct gw_msg_notice notice;
        struct gw_msg_cutover cutover;
        struct gw_msg_handoff handoff;
        struct gw_msg_goodbye goodbye;
        struct gw_msg_assign assign;
        struct gw_msg_ready ready;
        struct gw_msg_broken broken;
        struct gw_msg_submit warm;
        struct gw_msg_warmed warmed;
        struct gw_msg_origin origin;
        struct gw_msg_stores stores;
        struct gw_msg_zones zones;
        struct gw_msg_resync resync;
    };
};

/* "TOKENS" etc.; "?" for numbers that are no type. */
const char *gw_msg_name(unsigned type);

/* Appends the payload's bytes to b (its sticky error tells). Byte tables: wire.c, beside each encoder. */
void gw_msg_encode(const struct gw_msg *msg, struct gw_buf *b);

/* Encodes msg as one whole frame onto out. */
gw_err_t gw_msg_put(const struct gw_msg *msg, struct evbuffer *out) GW_MUST_USE;

/* Decodes a frame. On error nothing is held; else gw_msg_fini frees what msg owns. */
gw_err_t gw_msg_decode(const struct gw_frame *frame, struct gw_msg *msg, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_msg_fini(struct gw_msg *msg);

/* The bytes that HELLO's mac covers behind the nonce: its payload without the mac. And both macs. */
void gw_hello_mac(const void *key, size_t key_len, const uint8_t nonce[GW_WIRE_NONCE_BYTES],
                  const struct gw_msg_hello *hello, uint8_t mac[GW_WIRE_MAC_BYTES]);
void gw_welcome_mac(const void *key, size_t key_len, const uint8_t nonce[GW_WIRE_NONCE_BYTES],
                    uint8_t mac[GW_WIRE_MAC_BYTES]);

#endif
