/* Capacity: what is asked of a cloud about groups of instances, and what it answers.
 *
 * A provider is two pure functions: one writes the HTTP request of a question, one reads the answer. Credentials,
 * signatures, retries, pages and deadlines are the calls' (calls.h), the same for all providers:
 *
 *     gw_calls_start(ask) ─► provider->write ─► HTTP ─► provider->read ─► done(answer)
 *
 *     question             what it means                                        aws    gcp    azure   sim
 *     ──────────────────   ──────────────────────────────────────────────────   ────   ────   ─────   ────
 *     DESCRIBE_GROUP       sizes and instances of a group                       yes    yes    yes     yes
 *     DESCRIBE_INSTANCE    one instance                                         yes    -      -       -
 *     SET_DESIRED          absolute; raised only after the group was re-read    yes    yes    yes     yes
 *     DELETE_INSTANCE      this one, and the group's size with it               yes    yes    yes     yes
 *     COMPLETE_LIFECYCLE   the instance may go now; done if nobody waits        yes    -      -       -
 *     SPOT_PRICES          what spot instances of these types cost, by zone     yes    -      yes     yes
 *     RECEIVE, FORGET      messages of the notice queue                         yes    -      -       -
 *
 * Instances are named by the cloud's id, never by a name that the next one may get again.
 *
 * Owner: texts of a question are borrowed until write has returned; an answer owns its arrays (gw_cloud_answer_fini).
 * Thread: any; read may run on a pool's thread. Units: USD per hour.
 * Errors: read gives a verdict, and GW_ERR_CLOUD with a text that names the call. Source: own design. */
#ifndef GW_CLOUD_CLOUD_H
#define GW_CLOUD_CLOUD_H

#include "base/buf.h"
#include "cloud/web.h"
#include "cloud/notice.h"

#define GW_CLOUD_NAME_MAX      256   /* of groups, hooks, zones, types; NUL included */
#define GW_CLOUD_TOKEN_MAX     2048  /* of lifecycle actions, pages, receipts */
#define GW_CLOUD_INSTANCES_MAX 20000 /* of one group */
#define GW_CLOUD_PRICES_MAX    4096
#define GW_CLOUD_MESSAGES_MAX  10
#define GW_CLOUD_TYPES_MAX     16
#define GW_CLOUD_MESSAGE_BYTES (64u << 10)
#define GW_CLOUD_BODY_MAX      (32u << 20) /* 20,000 instances at 1 KiB each, and room */

enum gw_cloud_question {
    GW_CLOUD_DESCRIBE_GROUP,
    GW_CLOUD_DESCRIBE_INSTANCE,
    GW_CLOUD_SET_DESIRED,
    GW_CLOUD_DELETE_INSTANCE,
    GW_CLOUD_COMPLETE_LIFECYCLE,
    GW_CLOUD_SPOT_PRICES,
    GW_CLOUD_RECEIVE,
    GW_CLOUD_FORGET,
    GW_CLOUD_QUESTIONS,
};

struct gw_cloud_ask {
    enum gw_cloud_question question;
    const char *group, *hook;
    const char *instance, *handle;         /* as describe gave them */
    const char *token;                     /* COMPLETE_LIFECYCLE: NULL = by instance; FORGET: the receipt */
    const char *queue;                     /* URL; RECEIVE, FORGET */
    const char *types[GW_CLOUD_TYPES_MAX]; /* SPOT_PRICES; NULL ends */
    uint32_t desired;
    uint32_t wait_s; /* RECEIVE: how long the cloud may wait for a first message */
};

enum gw_cloud_state { GW_CLOUD_PENDING, GW_CLOUD_RUNNING, GW_CLOUD_ENDING };

struct gw_cloud_instance {
    char id[GW_CLOUD_INSTANCE_MAX], type[64], zone[64];
    char handle[GW_CLOUD_NAME_MAX]; /* what DELETE_INSTANCE is asked with beside the id; "": nothing */
    enum gw_cloud_state state;
    bool spot, protected_; /* protected_: from the cloud's own scale-in */
};

struct gw_cloud_price {
    char type[64], zone[64];
    double usd_h;
};

struct gw_cloud_message {
    char *body;    /* body_len bytes and a NUL */
    char *receipt; /* FORGET's token */
    size_t body_len;
};

struct gw_cloud_answer {
    /* DESCRIBE_GROUP */
    uint32_t min, max, desired;
    struct gw_cloud_instance *instances; /* [instances_len]; DESCRIBE_INSTANCE: one, or none */
    size_t instances_len, instances_cap;
    struct gw_cloud_price *prices; /* [prices_len]; of each type and zone the newest */
    size_t prices_len, prices_cap;
    struct gw_cloud_message messages[GW_CLOUD_MESSAGES_MAX];
    size_t messages_len;
    char next[GW_CLOUD_TOKEN_MAX]; /* the next page's; "": that was all */
};

void gw_cloud_answer_fini(struct gw_cloud_answer *answer);

struct gw_cloud_credentials {
    char access_key[160], secret_key[160], session_token[4096]; /* session_token: "" = none */
};

/* Where calls go. */
struct gw_cloud_place {
    const char *region;
    const char *endpoint; /* "http://127.0.0.1:5000" for all services; NULL: the cloud's own */
};

/* A request with its memory. */
struct gw_cloud_http {
    char url[4096 + 512], sigv4[96], target[96], session_header[4096 + 32];
    struct gw_buf body;
    struct gw_web_request request; /* points into this */
};

enum gw_cloud_verdict {
    GW_CLOUD_OK,
    GW_CLOUD_AGAIN,   /* later: throttled, busy, another change is under way */
    GW_CLOUD_EXPIRED, /* with new credentials */
    GW_CLOUD_NO,
};

struct gw_cloud_provider {
    const char *name;
    /* page: of the answer before, "" at first. GW_ERR_INPUT: the question lacks something; GW_ERR_NOT_FOUND: this
     * provider has no such question. */
    gw_err_t (*write)(const struct gw_cloud_place *place, const struct gw_cloud_ask *ask, const char *page,
                      const struct gw_cloud_credentials *credentials, struct gw_cloud_http *out,
                      struct gw_err_ctx *ctx);
    /* Adds to *answer; answer->next says whether there is more. The text is set unless OK. */
    enum gw_cloud_verdict (*read)(const struct gw_cloud_ask *ask, int status, const char *body,
                                  size_t body_len, struct gw_cloud_answer *answer, struct gw_err_ctx *ctx);
};

extern const struct gw_cloud_provider gw_provider_aws, gw_provider_gcp, gw_provider_azure, gw_provider_sim;

/* "DescribeAutoScalingGroups"-like names are the providers'; this is ours: "describe group", for messages. */
const char *gw_cloud_question_name(enum gw_cloud_question question);

void gw_cloud_http_init(struct gw_cloud_http *http);
void gw_cloud_http_fini(struct gw_cloud_http *http);

#endif
