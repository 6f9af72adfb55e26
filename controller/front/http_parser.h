/* HTTP/1.1 requests: bytes in, one whole request at a time out.
 *
 * Sans-I/O and incremental: the connection feeds what has arrived, in pieces of any size; the parser takes
 * what belongs to the current request and leaves the rest (a pipelined request) untouched until
 * gw_http_parser_next. The outcome does not depend on how the bytes were cut.
 *
 *     HEAD ──blank line──► BODY ──last byte──► COMPLETE ──next──► HEAD
 *       └───────────────────┴──anything wrong──► FAILED (status to answer with, then close)
 *
 * It is strict where leniency lets a request be smuggled past another parser (RFC 9112 part 11.2): any second
 * Content-Length, Content-Length beside Transfer-Encoding, bare CR or LF, folded lines, blanks before a
 * colon, signs or blanks in numbers, control bytes: 400. Never allocates by a number that the peer sent.
 *
 * Owner: the parser owns the request; pointers in it are valid until gw_http_parser_next or _destroy.
 * Thread: one. Units: bytes. Errors: FAILED with an HTTP status and a constant text. Source: RFC 9110, RFC
 * 9112. */
#ifndef GW_CONTROLLER_HTTP_PARSER_H
#define GW_CONTROLLER_HTTP_PARSER_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define GW_HTTP_HEADERS_MAX 100

struct gw_http_limits {
    size_t head_bytes;   /* request line, headers, and trailers: beyond it 431 */
    size_t target_bytes; /* beyond it 414 */
    size_t body_bytes;   /* beyond it 413 */
};

enum gw_http_method {
    GW_HTTP_GET = 1,
    GW_HTTP_HEAD,
    GW_HTTP_POST,
    GW_HTTP_PUT,
    GW_HTTP_DELETE,
    GW_HTTP_OPTIONS,
    GW_HTTP_PATCH,
    GW_HTTP_CONNECT,
    GW_HTTP_TRACE,
};

struct gw_http_header {
    const char *name; /* lower case */
    const char *value;
};

struct gw_http_request {
    enum gw_http_method method;
    int minor;         /* of HTTP/1.x: 0 or 1 */
    const char *path;  /* begins with '/'; percent signs as they came */
    const char *query; /* behind '?', "" if none */
    struct gw_http_header headers[GW_HTTP_HEADERS_MAX];
    int headers_len;
    bool keep_alive;      /* the client would send another request on this connection */
    bool expect_continue; /* it waits for 100 Continue before the body */
    struct gw_buf body;
};

enum gw_http_state {
    GW_HTTP_STATE_HEAD,     /* the head is not whole yet */
    GW_HTTP_STATE_BODY,     /* the head is known, body bytes are missing */
    GW_HTTP_STATE_COMPLETE, /* the request is whole */
    GW_HTTP_STATE_FAILED,
};

struct gw_http_parser;

gw_err_t gw_http_parser_create(const struct gw_http_limits *limits, struct gw_http_parser **out) GW_MUST_USE;
void gw_http_parser_destroy(struct gw_http_parser *p);

/* Takes bytes of the current request; *used says how many. It stops once at the end of the head (so that the
 * caller can look at it before a body is read) and at the end of the request: call again while *used < len
 * and the state is HEAD or BODY. */
enum gw_http_state gw_http_parser_feed(struct gw_http_parser *p, const void *bytes, size_t len, size_t *used);

enum gw_http_state gw_http_parser_state(const struct gw_http_parser *p);

/* Has any byte of the current request arrived? */
bool gw_http_parser_started(const struct gw_http_parser *p);

/* From BODY on; the body is whole in COMPLETE. The body may be moved out (leave an empty one). */
struct gw_http_request *gw_http_parser_request(struct gw_http_parser *p);

/* In FAILED: the status to answer with; *text says why. */
int gw_http_parser_failure(const struct gw_http_parser *p, const char **text);

/* Forgets the request and begins with the next one. */
void gw_http_parser_next(struct gw_http_parser *p);

/* The first header of that (lower-case) name, or NULL. */
const char *gw_http_request_header(const struct gw_http_request *r, const char *name);

/* "GET" etc. */
const char *gw_http_method_name(enum gw_http_method method);

#endif
