/* Heads of HTTP responses: the bytes from the status line to the blank line.
 *
 * Owner: borrows. Thread: any. Units: bytes. Errors: GW_ERR_MEMORY. Source: RFC 9110, RFC 9112. */
#ifndef GW_CONTROLLER_HTTP_HEAD_H
#define GW_CONTROLLER_HTTP_HEAD_H

#include <event2/buffer.h>
#include <time.h>

#include "controller/front/http_parser.h"

/* Every response begins with these bytes, whatever its status. */
#define GW_HTTP_VERSION_BYTES "HTTP/1.1 "

enum gw_http_framing {
    GW_HTTP_LENGTH,  /* Content-Length */
    GW_HTTP_CHUNKED, /* Transfer-Encoding: chunked */
    GW_HTTP_CLOSE,   /* the body ends with the connection (HTTP/1.0) */
};

struct gw_http_head {
    int status;
    const char *content_type; /* NULL = none */
    const char *request_id;
    enum gw_http_framing framing;
    size_t length;          /* for GW_HTTP_LENGTH */
    const char *connection; /* "close", "keep-alive", or NULL = say nothing */
    time_t date;
    const struct gw_http_header *headers; /* further ones */
    int headers_len;
};

/* Appends the head to out. */
gw_err_t gw_http_head_put(struct evbuffer *out, const struct gw_http_head *head) GW_MUST_USE;

/* "Not Found" etc.; "Unknown" for numbers that are not used here. */
const char *gw_http_status_text(int status);

#endif
