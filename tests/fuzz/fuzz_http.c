/* controller/front/http_parser: any bytes become requests or a refusal, never more, and the same in one piece
 * as in pieces. The first byte of the input chooses the pieces. */
#include <assert.h>
#include <string.h>

#include "controller/front/http_parser.h"
#include "tests/fuzz/fuzz.h"

#define REQUESTS_MAX 64

/* What came of the input, as far as it may not depend on pieces. */
struct outcome {
    int requests, status;
    size_t used, body_bytes;
    uint64_t text; /* a mix of paths, headers and bodies */
};

static void mix(struct outcome *o, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) o->text = (o->text ^ (uint8_t)bytes[i]) * 1099511628211u;
}

static void note_request(struct outcome *o, const struct gw_http_limits *limits,
                         const struct gw_http_request *r)
{
    assert(r->path[0] == '/' || strcmp(r->path, "*") == 0);
    assert(r->headers_len <= GW_HTTP_HEADERS_MAX && r->body.len <= limits->body_bytes);
    mix(o, r->path, strlen(r->path));
    mix(o, r->query, strlen(r->query));
    for (int i = 0; i < r->headers_len; i++) {
        assert(!strpbrk(r->headers[i].value, "\r\n") && !strpbrk(r->headers[i].name, "\r\n: "));
        mix(o, r->headers[i].name, strlen(r->headers[i].name));
        mix(o, r->headers[i].value, strlen(r->headers[i].value));
    }
    if (r->body.len) mix(o, (const char *)r->body.data, r->body.len);
    o->body_bytes += r->body.len;
    o->requests++;
}

static struct outcome run(const uint8_t *bytes, size_t len, size_t piece)
{
    const struct gw_http_limits limits = {.head_bytes = 2048, .target_bytes = 256, .body_bytes = 512};
    struct outcome o = {0};
    struct gw_http_parser *p;
    const char *why;
    if (gw_http_parser_create(&limits, &p) != GW_OK) return o;
    while (o.used < len && o.requests < REQUESTS_MAX && o.status == 0) {
        size_t n = len - o.used < piece ? len - o.used : piece, used = 0;
        enum gw_http_state state = gw_http_parser_feed(p, bytes + o.used, n, &used);
        assert(used <= n && (used > 0 || state == GW_HTTP_STATE_FAILED));
        o.used += used;
        if (state == GW_HTTP_STATE_FAILED) o.status = gw_http_parser_failure(p, &why);
        if (state != GW_HTTP_STATE_COMPLETE) continue;
        note_request(&o, &limits, gw_http_parser_request(p));
        gw_http_parser_next(p);
    }
    gw_http_parser_destroy(p);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len < 1) return 0;
    struct outcome whole = run(bytes + 1, len - 1, len), cut = run(bytes + 1, len - 1, 1 + bytes[0] % 17);
    assert(whole.requests == cut.requests && whole.status == cut.status && whole.text == cut.text);
    assert(whole.body_bytes == cut.body_bytes);
    /* A failing piece is used to its end or to the byte that is wrong: only good input has one right length.
     */
    assert(whole.status != 0 || whole.used == cut.used);
    return 0;
}
