/* What the sources share: telling each thing once, odd answers, back-off, own id. */
#ifndef GW_CLOUD_SOURCE_INTERNAL_H
#define GW_CLOUD_SOURCE_INTERNAL_H

#include "base/clock.h"
#include "cloud/source.h"

#define SOURCE_URL_MAX  512
#define SOURCE_DOCS_MAX 8
/* A metadata service is on the same machine: it answers in milliseconds, or is in trouble. */
#define SOURCE_TIMEOUT_US (2 * GW_US_PER_S)

struct source_base {
    struct gw_source_config config;
    char base_url[SOURCE_URL_MAX / 2];
    char instance[GW_CLOUD_INSTANCE_MAX];
    struct gw_rng rng;
    uint64_t odd[SOURCE_DOCS_MAX]; /* per document: answers that the vendor does not document */
    unsigned failures;             /* in a row */
};

/* One thing that may be announced: what the sink was told of it. */
struct source_slot {
    bool told;
    int absent; /* good answers in a row without it */
    int64_t deadline_us;
};

void source_init(struct source_base *b, const struct gw_source_config *config, const char *default_url);

/* The document says that it will happen at deadline_us (0: REBALANCE). */
void source_present(struct source_base *b, struct source_slot *slot, enum gw_cloud_notice_kind kind,
                    int64_t deadline_us, const struct gw_web_reply *reply);
/* A good answer says nothing of it. */
void source_absent(struct source_base *b, struct source_slot *slot, enum gw_cloud_notice_kind kind);

/* An answer that is not as documented; doc < SOURCE_DOCS_MAX, what: for the log. */
void source_odd(struct source_base *b, int doc, const char *what, const struct gw_web_reply *reply);

/* Did the service not answer, or ask to be left alone? (Bodies that are too long are answers, and odd.) */
bool source_failed(const struct gw_web_reply *reply);

/* When to try again after one more failure: first_us, doubled for each failure in a row, ± jitter; at least what
 * Retry-After asks for, at most GW_SOURCE_BACKOFF_MAX_US. */
int64_t source_backoff_us(struct source_base *b, int64_t first_us, const struct gw_web_reply *reply);
/* span_us ± 10%, so that instances that started together do not ask together. */
int64_t source_jitter_us(struct source_base *b, int64_t span_us);

/* Monotonic time of a wall-clock time, which may have passed. The service's own Date is believed where this machine's
 * clock is off by more than its resolution. */
int64_t source_deadline_us(struct gw_source_now now, const struct gw_web_reply *reply, int64_t unix_ms);

/* Takes the body, white space at the end off, as this instance's id: false unless it is one of printable characters
 * that fits. */
bool source_take_instance(struct source_base *b, const char *text, size_t len);

/* "<base_url><path>" into url[SOURCE_URL_MAX], and what all requests to metadata services have in common. */
void source_ask(const struct source_base *b, const char *path, char *url, struct gw_web_request *out);

/* Is the body (white space at the end ignored) exactly that text? */
bool source_body_is(const struct gw_web_reply *reply, const char *text);

#endif
