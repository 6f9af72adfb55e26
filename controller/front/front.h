/* Front: HTTP in, events for the core out; actions from the core in, answers out.
 *
 * All text lives here (chat template, tokenizer, detokenizer, stop strings): the core and the workers see
 * token ids. Two listeners: the API (OpenAI-compatible), and the admin one (workers, notices, timeline,
 * metrics); API keys never reach the second, and it never serves /v1.
 *
 *     api:    POST /v1/chat/completions /v1/completions /tokenize /detokenize
 *             GET /v1/streams/{id} /v1/models /v1/models/{id} /version /health /ready
 *     admin:  GET /admin/workers /admin/layout /admin/stats /admin/events /metrics /health
 *             POST /admin/notice /admin/layout
 *
 * The front speaks to the core only through events (posted by port->post) and actions (gw_front_on_action);
 * it may be entered again from inside post.
 *
 * Owner: create/destroy. Thread: the loop's; parsing, templates and tokenizing run on the pool, which must be
 * destroyed before the front (its jobs end here), and so must the journal. Units: microseconds, bytes. Errors: GW_ERR_IO (listening),
 * GW_ERR_INPUT (files). Source: own design; DESIGN parts 3, 8, 10. */
#ifndef GW_CONTROLLER_FRONT_H
#define GW_CONTROLLER_FRONT_H

#include "base/clock.h"
#include "base/log.h"
#include "base/pool.h"
#include "controller/capacity_view.h"
#include "controller/core/core.h"
#include "controller/front/metrics.h"
#include "controller/layout_view.h"
#include "controller/text/chat_template.h"
#include "controller/text/tokenizer.h"

struct gw_front;

/* The way to the core. */
struct gw_front_port {
    void (*post)(void *arg, const struct gw_event *event);
    void (*stats)(void *arg, struct gw_core_stats *out);
    size_t (*workers)(void *arg, struct gw_core_worker_view *out, size_t max); /* how many there are */
    bool (*pipeline)(void *arg, size_t index, struct gw_core_pipeline_view *out);
    uint64_t (*epoch)(void *arg);
    /* The layout service (controller/layout.h): what it shows, why a worker has no rank, forcing a layout. */
    void (*layout)(void *arg, struct gw_layout_view *out);
    const char *(*why)(void *arg, const char *worker);
    gw_err_t (*force)(void *arg, const char *layout, uint64_t *ticket, struct gw_err_ctx *ctx);
    uint64_t (*turned_away)(
        void *arg); /* dialers of the worker port (controller/worker_links.h); NULL: nobody counts */
    /* The cloud's groups and queue (controller/clouds.h); NULL: there are none. */
    void (*capacity)(void *arg, struct gw_capacity_view *out);
    void *arg;
};

struct gw_front_text {
    const struct gw_tokenizer *tokenizer;
    const struct gw_chat_template *chat; /* NULL: the model has none, chat answers 400 */
};

/* The journal (controller/journal.h) of streams that clients may come back to. */
struct gw_front_journal {
    gw_err_t (*append)(void *arg, uint64_t entry, const void *piece, size_t len,
                       void (*durable)(void *arg, gw_err_t err), void *durable_arg);
    void (*end)(void *arg, uint64_t entry);
    void (*stats)(void *arg, struct gw_metrics_journal *out); /* NULL: none are shown */
    void *arg;
};

struct gw_front_config {
    const char *host;         /* of the API; 127.0.0.1 */
    uint16_t port;            /* 0 = any free one; 8000 */
    const char *admin_host;   /* 127.0.0.1 */
    uint16_t admin_port;      /* 8001 */
    int socket, admin_socket; /* > 0: listening sockets to be used instead of hosts and ports */
    const char *model_name;
    const char *version;             /* shown by /version */
    uint32_t vocab, context;         /* of the model; vocab 0 = the tokenizer's */
    const char *api_keys_file;       /* NULL = everyone may */
    const char *admin_token_file;    /* NULL = everyone who reaches the listener may */
    double egress_usd_gb;            /* price of 10^9 bytes between zones; 0 */
    uint32_t max_connections;        /* 4096; more get 503 */
    size_t max_head_bytes;           /* 32 KiB */
    size_t max_target_bytes;         /* 8 KiB */
    size_t max_body_bytes;           /* 8 MiB */
    size_t max_bodies_bytes;         /* all that are held at once; 1 GiB */
    size_t max_queued_bytes;         /* to one slow reader; 4 MiB */
    int64_t head_timeout_us;         /* 10 s */
    int64_t body_timeout_us;         /* 60 s */
    int64_t idle_timeout_us;         /* 75 s */
    int64_t stall_timeout_us;        /* 60 s */
    int64_t sse_ping_us;             /* 15 s */
    int64_t resume_grace_us;         /* 60 s; a stream whose client opted in lives so long without it */
    struct gw_front_journal journal; /* append NULL: such streams do not outlive the process */
    uint8_t fingerprint[GW_FINGERPRINT_BYTES]; /* of the model: streams of another are not gone on with */
    struct gw_clock clock;                     /* the machine's */
};

/* The defaults above; names, files and the model's numbers stay zero. */
void gw_front_config_default(struct gw_front_config *config);

/* Listens from the return on. text, port, config and their strings are copied (but not what they point to
 * further: tokenizer, template, log outlive the front). */
gw_err_t gw_front_create(struct event_base *loop, struct gw_pool *pool, const struct gw_front_text *text,
                         const struct gw_front_config *config, const struct gw_front_port *port,
                         const struct gw_log *log, struct gw_front **out, struct gw_err_ctx *ctx) GW_MUST_USE;
/* Breaks what is still being answered; posts nothing any more. */
void gw_front_destroy(struct gw_front *front);

uint16_t gw_front_http_port(const struct gw_front *front);
uint16_t gw_front_admin_port(const struct gw_front *front);

/* Goes on with a stream that the journal kept: pieces, each behind its u32 length (journal_table.h). What can not be gone
 * on with (another model, unreadable) ends there; GW_ERR_MEMORY, GW_ERR_LIMIT: it stays, for a better start. Before the
 * first client. */
gw_err_t gw_front_restore(struct gw_front *front, uint64_t entry, const void *pieces, size_t len) GW_MUST_USE;

/* Takes one action of the core (ACCEPTED … NOTE; others are ignored). Never posts from inside this call. */
void gw_front_on_action(struct gw_front *front, const struct gw_action *action);

/* A plan for the layout of that ticket, or an earlier one, has become this epoch; 0: it could not be made. Answers those who
 * forced it. */
void gw_front_on_layout(struct gw_front *front, uint64_t ticket, uint64_t epoch);

/* The listening sockets; they stay the front's. */
int gw_front_socket(const struct gw_front *front);
int gw_front_admin_socket(const struct gw_front *front);

/* Another controller has these sockets and the journal now: as gw_front_stop, but the admin listener ends, too, and
 * streams that were journaled are left at once to the successor, to whom their clients come back. Posts CANCEL for those,
 * before it returns. A request that comes all the same, over a connection that was accepted before, is posted as ever; one
 * that opts in, and an admin's, are told to come again (503). */
void gw_front_release(struct gw_front *front, int64_t grace_us, void (*stopped)(void *arg), void *arg);

/* Graceful end: stops listening, lets requests finish for grace_us, fails the rest with 503, and calls
 * stopped once, from the loop, when nothing is left to send. The front may be destroyed then, but not inside
 * the call. */
void gw_front_stop(struct gw_front *front, int64_t grace_us, void (*stopped)(void *arg), void *arg);

#endif
