/* Web: one HTTP request, one reply, on the event loop: what metadata services, cloud APIs and the controller are
 * asked through.
 *
 * A request has an absolute time-out (name lookup, connecting and reading together), a bound on its body, and never
 * follows a redirect: a metadata service has none, and an API's would be signed for another host. Requests marked
 * `direct` go past any proxy of the environment (link-local addresses, loopback).
 *
 * Sources and API calls see the table gw_web, so that tests give them replies of their own; gw_web_client is the
 * table over libcurl's multi interface.
 *
 * Contract: if start fails, done never fires. If it succeeds, done fires exactly once, later (never from inside
 * start), on time-outs, cancels and gw_web_client_destroy too. The reply lives as long as done runs.
 *
 * Owner: start copies all that the request points to. Thread: the loop's. Units: microseconds, bytes, milliseconds
 * since 1970 for dates. Errors: GW_ERR_LIMIT (too many at once), GW_ERR_MEMORY.
 * Source: own design over libcurl's multi_socket API. */
#ifndef GW_CLOUD_WEB_H
#define GW_CLOUD_WEB_H

#include <event2/event.h>
#include <stdint.h>

#include "base/err.h"

#define GW_WEB_HEADERS_MAX 16
#define GW_WEB_FLIGHTS_MAX 256 /* requests at once per client */
#define GW_WEB_ETAG_MAX    128

struct gw_web_request {
    const char *method; /* "GET", "PUT", "POST", "PATCH", "DELETE" */
    const char *url;
    const char *headers[GW_WEB_HEADERS_MAX]; /* "Name: value"; NULL ends */
    const char *body;                        /* NULL: none */
    size_t body_len;
    int64_t timeout_us;
    size_t body_max; /* of the reply; more is GW_ERR_LIMIT */
    bool direct;     /* never through a proxy */
    /* Signed by libcurl when sigv4 ("aws:amz:REGION:SERVICE") is set. */
    const char *sigv4, *access_key, *secret_key;
};

struct gw_web_reply {
    gw_err_t err; /* GW_OK: status and body are there, whatever the status says */
    const char *why;
    bool cancelled; /* by cancel or gw_web_client_destroy: nobody waits for what this says */
    int status;
    const char
        *body; /* body_len bytes and a NUL; "" when there is none; with GW_ERR_LIMIT: its first bytes */
    size_t body_len;
    char etag[GW_WEB_ETAG_MAX]; /* "" when there is none, or a longer one */
    int64_t date_unix_ms;       /* of the Date header; 0: none, or not a date */
    int retry_after_s;          /* 0: none */
    bool google;                /* Metadata-Flavor: Google */
    char **taken;               /* gw_web_take_body's; NULL: the body is copied */
};

struct gw_web_flight; /* a request in flight */
typedef void (*gw_web_done)(void *arg, const struct gw_web_reply *reply);

/* Inside done: the body becomes the caller's (free); megabytes need no copy. NULL: no memory. The reply's body is gone
 * then. */
char *gw_web_take_body(const struct gw_web_reply *reply);

struct gw_web {
    gw_err_t (*start)(void *arg, const struct gw_web_request *request, gw_web_done done, void *done_arg,
                      struct gw_web_flight **out);
    /* done follows, with GW_ERR_IO. Not to be called from inside that done. */
    void (*cancel)(void *arg, struct gw_web_flight *fetch);
    void *arg;
};

struct gw_web_client;

gw_err_t gw_web_client_create(struct event_base *loop, struct gw_web_client **out,
                              struct gw_err_ctx *ctx) GW_MUST_USE;
/* Ends what is in flight, done included. */
void gw_web_client_destroy(struct gw_web_client *client);
struct gw_web gw_web_client_table(struct gw_web_client *client);

#endif
