/* controller/front/http_parser: what is a request, what is refused with which status, and that neither
 * depends on how the bytes are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "controller/front/http_parser.h"

#define HEAD_MAX   1024
#define TARGET_MAX 100
#define BODY_MAX   200

static struct gw_http_parser *new_parser(void)
{
    const struct gw_http_limits limits = {
        .head_bytes = HEAD_MAX, .target_bytes = TARGET_MAX, .body_bytes = BODY_MAX};
    struct gw_http_parser *p = NULL;
    assert_int_equal(gw_http_parser_create(&limits, &p), GW_OK);
    return p;
}

/* Feeds bytes in pieces of at most `piece`; returns how many were used. */
static size_t feed(struct gw_http_parser *p, const char *bytes, size_t len, size_t piece)
{
    size_t at = 0;
    while (at < len && gw_http_parser_state(p) < GW_HTTP_STATE_COMPLETE) {
        size_t n = len - at < piece ? len - at : piece, used = 0;
        char *copy = malloc(n); /* of its own, so that reading past it is seen */
        assert_non_null(copy);
        memcpy(copy, bytes + at, n);
        enum gw_http_state now = gw_http_parser_feed(p, copy, n, &used);
        assert_true(used <= n && (used > 0 || now == GW_HTTP_STATE_FAILED));
        free(copy);
        at += used;
    }
    return at;
}

static struct gw_http_parser *parse(const char *bytes, size_t len, size_t piece)
{
    struct gw_http_parser *p = new_parser();
    feed(p, bytes, len, piece);
    return p;
}

static const size_t pieces[] = {1, 2, 3, 7, 1000000};
#define PIECES_LEN (sizeof pieces / sizeof pieces[0])

static void refused_bytes(int status, const char *bytes, size_t len)
{
    for (size_t i = 0; i < PIECES_LEN; i++) {
        const char *why = NULL;
        struct gw_http_parser *p = parse(bytes, len, pieces[i]);
        if (gw_http_parser_state(p) != GW_HTTP_STATE_FAILED || gw_http_parser_failure(p, &why) != status)
            fail_msg("pieces of %zu, wanted %d: state %d, %s\n%s", pieces[i], status, gw_http_parser_state(p),
                     why ? why : "-", bytes);
        assert_true(strlen(why) > 0);
        gw_http_parser_destroy(p);
    }
}

static void refused(int status, const char *request)
{
    refused_bytes(status, request, strlen(request));
}

/* "GET / HTTP/1.1", Host, and these header lines. */
static void header_refused(int status, const char *lines)
{
    char request[2048];
    snprintf(request, sizeof request, "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n", lines);
    refused(status, request);
}

static struct gw_http_parser *accepted(const char *request, size_t piece)
{
    struct gw_http_parser *p = parse(request, strlen(request), piece);
    const char *why = "";
    if (gw_http_parser_state(p) != GW_HTTP_STATE_COMPLETE) {
        if (gw_http_parser_state(p) == GW_HTTP_STATE_FAILED) gw_http_parser_failure(p, &why);
        fail_msg("pieces of %zu: state %d %s\n%s", piece, gw_http_parser_state(p), why, request);
    }
    return p;
}

static void body_is(const char *request, const char *body)
{
    for (size_t i = 0; i < PIECES_LEN; i++) {
        struct gw_http_parser *p = accepted(request, pieces[i]);
        const struct gw_buf *b = &gw_http_parser_request(p)->body;
        assert_int_equal(b->len, strlen(body));
        if (b->len) assert_memory_equal(b->data, body, b->len);
        gw_http_parser_destroy(p);
    }
}

/* ---- what is good -------------------------------------------------------------------------------------- */

static void test_feed_get_in_any_pieces_gives_its_parts(void **state)
{
    (void)state;
    for (size_t i = 0; i < PIECES_LEN; i++) {
        struct gw_http_parser *p =
            accepted("GET /v1/models?x=1&y HTTP/1.1\r\nHost: a:80\r\nX-Thing: \t two words \t\r\n"
                     "empty:\r\n\r\n",
                     pieces[i]);
        const struct gw_http_request *r = gw_http_parser_request(p);
        assert_int_equal(r->method, GW_HTTP_GET);
        assert_int_equal(r->minor, 1);
        assert_string_equal(r->path, "/v1/models");
        assert_string_equal(r->query, "x=1&y");
        assert_int_equal(r->headers_len, 3);
        assert_string_equal(gw_http_request_header(r, "host"), "a:80");
        assert_string_equal(gw_http_request_header(r, "x-thing"), "two words");
        assert_string_equal(gw_http_request_header(r, "empty"), "");
        assert_null(gw_http_request_header(r, "absent"));
        assert_true(r->keep_alive);
        assert_false(r->expect_continue);
        gw_http_parser_destroy(p);
    }
}

static void test_feed_content_length_gives_the_body(void **state)
{
    (void)state;
    body_is("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "hello");
    body_is("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0005\r\n\r\nhello", "hello");
    body_is("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "");
}

static void test_feed_chunks_give_the_body(void **state)
{
    (void)state;
    body_is("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
            "hello world");
    body_is("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
            "00a;name=value\r\n0123456789\r\n0;last\r\nTrailer: x\r\n\r\n",
            "0123456789");
}

static void test_feed_pipelined_requests_are_given_one_by_one(void **state)
{
    (void)state;
    const char *two =
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nonePOST /b HTTP/1.1\r\nHost: a\r\n"
        "Transfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\nGET /c";
    for (size_t i = 0; i < PIECES_LEN; i++) {
        struct gw_http_parser *p = new_parser();
        size_t at = feed(p, two, strlen(two), pieces[i]);
        assert_string_equal(gw_http_parser_request(p)->path, "/a");
        assert_memory_equal(gw_http_parser_request(p)->body.data, "one", 3);
        gw_http_parser_next(p);
        assert_false(gw_http_parser_started(p));
        at += feed(p, two + at, strlen(two) - at, pieces[i]);
        assert_int_equal(gw_http_parser_state(p), GW_HTTP_STATE_COMPLETE);
        assert_string_equal(gw_http_parser_request(p)->path, "/b");
        assert_memory_equal(gw_http_parser_request(p)->body.data, "two", 3);
        assert_string_equal(two + at, "GET /c");
        gw_http_parser_destroy(p);
    }
}

static void test_feed_stops_at_the_end_of_the_head(void **state)
{
    (void)state;
    const char *request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nok";
    struct gw_http_parser *p = new_parser();
    size_t used;
    assert_int_equal(gw_http_parser_feed(p, request, strlen(request), &used), GW_HTTP_STATE_BODY);
    assert_int_equal(used, strlen(request) - 2);
    assert_true(gw_http_parser_request(p)->expect_continue);
    gw_http_parser_destroy(p);
}

static void keeps(const char *request, bool keep_alive)
{
    struct gw_http_parser *p = accepted(request, 1000);
    assert_int_equal(gw_http_parser_request(p)->keep_alive, keep_alive);
    gw_http_parser_destroy(p);
}

static void test_feed_connection_header_decides_keep_alive(void **state)
{
    (void)state;
    keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true);
    keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false);
    keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", false);
    keeps("GET / HTTP/1.0\r\n\r\n", false);
    keeps("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true);
    keeps("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false);
}

static void test_feed_absolute_target_is_tolerated(void **state)
{
    (void)state;
    struct gw_http_parser *p = accepted("GET http://a.b:80/x?q HTTP/1.1\r\nHost: a\r\n\r\n", 3);
    assert_string_equal(gw_http_parser_request(p)->path, "/x");
    assert_string_equal(gw_http_parser_request(p)->query, "q");
    gw_http_parser_destroy(p);
    p = accepted("GET http://a.b?q HTTP/1.1\r\nHost: a\r\n\r\n", 3);
    assert_string_equal(gw_http_parser_request(p)->path, "/");
    assert_string_equal(gw_http_parser_request(p)->query, "q");
    gw_http_parser_destroy(p);
}

static void test_feed_one_blank_line_before_a_request_is_forgiven(void **state)
{
    (void)state;
    for (size_t i = 0; i < PIECES_LEN; i++)
        gw_http_parser_destroy(accepted("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", pieces[i]));
    refused(400, "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

static void test_feed_higher_minor_version_is_spoken_to_as_1_1(void **state)
{
    (void)state;
    struct gw_http_parser *p = accepted("GET / HTTP/1.7\r\nHost: a\r\n\r\n", 5);
    assert_int_equal(gw_http_parser_request(p)->minor, 1);
    gw_http_parser_destroy(p);
}

/* ---- the request line ---------------------------------------------------------------------------------- */

static void test_feed_malformed_request_line_is_400(void **state)
{
    (void)state;
    refused(400, "GET /\r\nHost: a\r\n\r\n");
    refused(400, "GET\r\n");
    refused(400, " GET / HTTP/1.1\r\n");
    refused(400, "GET  / HTTP/1.1\r\n");
    refused(400, "GET / HTTP/1.1 \r\n");
    refused(400, "GET / x HTTP/1.1\r\n");
    refused(400, "GET\t/\tHTTP/1.1\r\n");
    refused(400, "GET / http/1.1\r\n");
    refused(400, "GET / HTTP/11\r\n");
    refused(400, "G(T / HTTP/1.1\r\n");
}

static void test_feed_unknown_method_is_501(void **state)
{
    (void)state;
    refused(501, "BREW / HTTP/1.1\r\nHost: a\r\n\r\n");
    refused(501, "get / HTTP/1.1\r\nHost: a\r\n\r\n");
}

static void test_feed_other_http_versions_are_505(void **state)
{
    (void)state;
    refused(505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n");
    refused(505, "GET / HTTP/0.9\r\n\r\n");
}

static void test_feed_malformed_target_is_400(void **state)
{
    (void)state;
    refused(400, "GET models HTTP/1.1\r\nHost: a\r\n\r\n");
    refused(400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n");
    refused(400, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n");
    refused(400, "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n");
    refused(400, "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n");
}

static void long_target(char *out, size_t size, size_t target)
{
    memset(out, 'a', size);
    memcpy(out, "GET /", 5);
    snprintf(out + 4 + target, size - 4 - target, " HTTP/1.1\r\nHost: a\r\n\r\n");
}

static void test_feed_target_beyond_its_limit_is_414(void **state)
{
    (void)state;
    char request[1024];
    long_target(request, sizeof request, TARGET_MAX);
    gw_http_parser_destroy(accepted(request, 10));
    long_target(request, sizeof request, TARGET_MAX + 1);
    refused(414, request);
    long_target(request, sizeof request, 600);
    refused(414, request);
    memset(request, 'a', sizeof request); /* and it need not end for that */
    memcpy(request, "GET /", 5);
    refused_bytes(414, request, 200);
}

/* ---- headers ------------------------------------------------------------------------------------------- */

static void test_feed_missing_host_in_1_1_is_400(void **state)
{
    (void)state;
    refused(400, "GET / HTTP/1.1\r\n\r\n");
    gw_http_parser_destroy(accepted("GET / HTTP/1.0\r\n\r\n", 4));
}

static void test_feed_two_hosts_or_a_malformed_one_is_400(void **state)
{
    (void)state;
    header_refused(400, "Host: a\r\n");
    refused(400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n");
}

static void test_feed_second_content_length_is_400_even_if_equal(void **state)
{
    (void)state;
    header_refused(400, "Content-Length: 2\r\nContent-Length: 3\r\n");
    header_refused(400, "Content-Length: 2\r\nContent-Length: 2\r\n");
    header_refused(400, "Content-Length: 2\r\nCONTENT-LENGTH: 2\r\n");
    header_refused(400, "Content-Length: 2, 2\r\n");
}

static void test_feed_content_length_with_transfer_encoding_is_400(void **state)
{
    (void)state;
    header_refused(400, "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n");
    header_refused(400, "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n");
}

static void test_feed_malformed_content_length_is_400(void **state)
{
    (void)state;
    header_refused(400, "Content-Length: +2\r\n");
    header_refused(400, "Content-Length: -2\r\n");
    header_refused(400, "Content-Length: 2 2\r\n");
    header_refused(400, "Content-Length: 0x2\r\n");
    header_refused(400, "Content-Length: 2.0\r\n");
    header_refused(400, "Content-Length:\r\n");
    header_refused(400, "Content-Length: two\r\n");
}

static void test_feed_content_length_beyond_the_limit_is_413(void **state)
{
    (void)state;
    header_refused(413, "Content-Length: 201\r\n");
    header_refused(413, "Content-Length: 99999999999999999999999999\r\n");
    header_refused(413, "Content-Length: 18446744073709551616\r\n");
}

static void test_feed_unknown_transfer_coding_is_501(void **state)
{
    (void)state;
    header_refused(501, "Transfer-Encoding: gzip\r\n");
    header_refused(501, "Transfer-Encoding: gzip, chunked\r\n");
    header_refused(501, "Transfer-Encoding: chunked, chunked\r\n");
    header_refused(501, "Transfer-Encoding: \"chunked\"\r\n");
    header_refused(501, "Transfer-Encoding:\r\n");
}

static void test_feed_second_transfer_encoding_is_400(void **state)
{
    (void)state;
    header_refused(400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n");
}

static void test_feed_chunked_in_1_0_is_400(void **state)
{
    (void)state;
    refused(400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
}

static void test_feed_bare_lf_is_400(void **state)
{
    (void)state;
    refused(400, "GET / HTTP/1.1\nHost: a\r\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: a\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: a\r\n\n");
    refused(400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n");
}

static void test_feed_bare_cr_is_400(void **state)
{
    (void)state;
    refused(400, "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n");
    refused(400, "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n");
}

static void test_feed_folded_header_is_400(void **state)
{
    (void)state;
    header_refused(400, "X-A: one\r\n two\r\n");
    header_refused(400, "X-A: one\r\n\ttwo\r\n");
    refused(400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n");
}

static void test_feed_malformed_header_name_is_400(void **state)
{
    (void)state;
    header_refused(400, "Content-Length : 2\r\n");
    header_refused(400, "X A: 2\r\n");
    header_refused(400, ": 2\r\n");
    header_refused(400, "no colon\r\n");
    header_refused(400, "X\xc3\xa9: 2\r\n");
    header_refused(400, "X(: 2\r\n");
}

static void test_feed_nul_byte_in_the_head_is_400(void **state)
{
    (void)state;
    static const char in_value[] = "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n";
    static const char in_target[] = "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n";
    refused_bytes(400, in_value, sizeof in_value - 1);
    refused_bytes(400, in_target, sizeof in_target - 1);
}

static void test_feed_control_bytes_in_the_head_are_400(void **state)
{
    (void)state;
    char line[] = "X: a?b\r\n";
    for (int c = 1; c < 0x20; c++) {
        if (c == '\t' || c == '\n' || c == '\r') continue;
        line[4] = (char)c;
        header_refused(400, line);
    }
    line[4] = 0x7f;
    header_refused(400, line);
}

static void test_feed_binary_rubbish_is_refused_before_a_line_ends(void **state)
{
    (void)state;
    refused_bytes(400, "\x16\x03\x01\x02", 4); /* a TLS client hello */
}

static void many_headers(char *out, size_t size, int count)
{
    size_t at = (size_t)snprintf(out, size, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 1; i < count; i++) at += (size_t)snprintf(out + at, size - at, "a:\r\n");
    snprintf(out + at, size - at, "\r\n");
}

static void test_feed_too_many_headers_is_431(void **state)
{
    (void)state;
    char request[1024];
    many_headers(request, sizeof request, GW_HTTP_HEADERS_MAX);
    gw_http_parser_destroy(accepted(request, 11));
    many_headers(request, sizeof request, GW_HTTP_HEADERS_MAX + 1);
    refused(431, request);
}

static void test_feed_head_beyond_its_limit_is_431(void **state)
{
    (void)state;
    char request[4 * HEAD_MAX];
    int n = snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    memset(request + n, 'x', sizeof request - (size_t)n);
    refused_bytes(431, request, sizeof request);
    refused_bytes(431, request, HEAD_MAX + 1);
    struct gw_http_parser *p = parse(request, HEAD_MAX, 100);
    assert_int_equal(gw_http_parser_state(p), GW_HTTP_STATE_HEAD);
    gw_http_parser_destroy(p);
}

static void test_feed_unknown_expectation_is_417(void **state)
{
    (void)state;
    header_refused(417, "Expect: a-pony\r\n");
}

/* ---- chunks -------------------------------------------------------------------------------------------- */

static void chunks_refused(int status, const char *chunks)
{
    char request[4096];
    snprintf(request, sizeof request, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%s",
             chunks);
    refused(status, request);
}

static void test_feed_malformed_chunk_size_is_400(void **state)
{
    (void)state;
    chunks_refused(400, "\r\n");
    chunks_refused(400, "x\r\n");
    chunks_refused(400, "+2\r\nok\r\n0\r\n\r\n");
    chunks_refused(400, "-2\r\nok\r\n0\r\n\r\n");
    chunks_refused(400, " 2\r\nok\r\n0\r\n\r\n");
    chunks_refused(400, "2 \r\nok\r\n0\r\n\r\n");
    chunks_refused(400, "0x2\r\nok\r\n0\r\n\r\n");
    chunks_refused(400, "2 ;x\r\nok\r\n0\r\n\r\n");
    chunks_refused(400, ";x\r\n");
}

static void test_feed_chunk_data_not_followed_by_crlf_is_400(void **state)
{
    (void)state;
    chunks_refused(400, "2\r\nokay\r\n0\r\n\r\n");
    chunks_refused(400, "2\r\nok0\r\n\r\n");
    chunks_refused(400, "2\r\nok\n0\r\n\r\n");
}

static void test_feed_chunks_beyond_the_body_limit_are_413(void **state)
{
    (void)state;
    chunks_refused(413, "c9\r\n");
    chunks_refused(413, "2\r\nok\r\nc7\r\n");
    chunks_refused(413, "ffffffffffffffff\r\n");
    chunks_refused(413, "10000000000000000000000000\r\n");
}

static void test_feed_chunk_extensions_and_trailers_are_bounded(void **state)
{
    (void)state;
    char chunks[3500];
    size_t at = 0;
    for (int i = 0; i < 30; i++)
        at += (size_t)snprintf(chunks + at, sizeof chunks - at, "1;%040d\r\nx\r\n", i);
    chunks_refused(431, chunks);
    at = (size_t)snprintf(chunks, sizeof chunks, "0\r\n");
    for (int i = 0; i < 60; i++) at += (size_t)snprintf(chunks + at, sizeof chunks - at, "T: %030d\r\n", i);
    chunks_refused(431, chunks);
    chunks_refused(400, "0\r\nT : x\r\n\r\n");
}

/* ---- any cut ------------------------------------------------------------------------------------------- */

/* Requests that fail in different places, cut in two at every byte: always the same outcome as in one piece.
 */
static void test_feed_every_cut_gives_the_same_outcome(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "POST /v1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbodyGET",
        "POST /v1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;e\r\nabc\r\n0\r\nT: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
    };
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        size_t len = strlen(requests[i]);
        struct gw_http_parser *whole = parse(requests[i], len, len);
        for (size_t cut = 1; cut < len; cut++) {
            struct gw_http_parser *p = new_parser();
            if (feed(p, requests[i], cut, cut) == cut) feed(p, requests[i] + cut, len - cut, len);
            const char *why = NULL;
            assert_int_equal(gw_http_parser_state(p), gw_http_parser_state(whole));
            if (gw_http_parser_state(p) == GW_HTTP_STATE_FAILED)
                assert_int_equal(gw_http_parser_failure(p, &why), gw_http_parser_failure(whole, &why));
            gw_http_parser_destroy(p);
        }
        gw_http_parser_destroy(whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_feed_get_in_any_pieces_gives_its_parts),
        cmocka_unit_test(test_feed_content_length_gives_the_body),
        cmocka_unit_test(test_feed_chunks_give_the_body),
        cmocka_unit_test(test_feed_pipelined_requests_are_given_one_by_one),
        cmocka_unit_test(test_feed_stops_at_the_end_of_the_head),
        cmocka_unit_test(test_feed_connection_header_decides_keep_alive),
        cmocka_unit_test(test_feed_absolute_target_is_tolerated),
        cmocka_unit_test(test_feed_one_blank_line_before_a_request_is_forgiven),
        cmocka_unit_test(test_feed_higher_minor_version_is_spoken_to_as_1_1),
        cmocka_unit_test(test_feed_malformed_request_line_is_400),
        cmocka_unit_test(test_feed_unknown_method_is_501),
        cmocka_unit_test(test_feed_other_http_versions_are_505),
        cmocka_unit_test(test_feed_malformed_target_is_400),
        cmocka_unit_test(test_feed_target_beyond_its_limit_is_414),
        cmocka_unit_test(test_feed_missing_host_in_1_1_is_400),
        cmocka_unit_test(test_feed_two_hosts_or_a_malformed_one_is_400),
        cmocka_unit_test(test_feed_second_content_length_is_400_even_if_equal),
        cmocka_unit_test(test_feed_content_length_with_transfer_encoding_is_400),
        cmocka_unit_test(test_feed_malformed_content_length_is_400),
        cmocka_unit_test(test_feed_content_length_beyond_the_limit_is_413),
        cmocka_unit_test(test_feed_unknown_transfer_coding_is_501),
        cmocka_unit_test(test_feed_second_transfer_encoding_is_400),
        cmocka_unit_test(test_feed_chunked_in_1_0_is_400),
        cmocka_unit_test(test_feed_bare_lf_is_400),
        cmocka_unit_test(test_feed_bare_cr_is_400),
        cmocka_unit_test(test_feed_folded_header_is_400),
        cmocka_unit_test(test_feed_malformed_header_name_is_400),
        cmocka_unit_test(test_feed_nul_byte_in_the_head_is_400),
        cmocka_unit_test(test_feed_control_bytes_in_the_head_are_400),
        cmocka_unit_test(test_feed_binary_rubbish_is_refused_before_a_line_ends),
        cmocka_unit_test(test_feed_too_many_headers_is_431),
        cmocka_unit_test(test_feed_head_beyond_its_limit_is_431),
        cmocka_unit_test(test_feed_unknown_expectation_is_417),
        cmocka_unit_test(test_feed_malformed_chunk_size_is_400),
        cmocka_unit_test(test_feed_chunk_data_not_followed_by_crlf_is_400),
        cmocka_unit_test(test_feed_chunks_beyond_the_body_limit_are_413),
        cmocka_unit_test(test_feed_chunk_extensions_and_trailers_are_bounded),
        cmocka_unit_test(test_feed_every_cut_gives_the_same_outcome),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
