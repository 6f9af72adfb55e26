#include "controller/front/http_parser.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Longest length that is read as a number: 18 digits fit an int64; longer ones are too large anyway. */
#define LENGTH_DIGITS_MAX 18
#define CHUNK_DIGITS_MAX  15

enum part {
    PART_REQUEST_LINE,
    PART_HEADERS,
    PART_FIXED,
    PART_CHUNK_SIZE,
    PART_CHUNK_DATA,
    PART_CHUNK_END,
    PART_TRAILERS
};

/* Lines of the head stay in `head` (NULs are written over their ends), so that the request can point into it
 * once it is whole; lines between chunks go through `side`, one at a time. */
struct gw_http_parser {
    struct gw_http_limits limits;
    enum gw_http_state state;
    enum part part;
    int status; /* of FAILED */
    const char *text;
    struct gw_buf head, side;
    size_t line;       /* where in head the current line begins */
    size_t side_bytes; /* of chunk extensions and trailers so far */
    bool blank_seen;   /* one empty line before the request line is forgiven (RFC 9112, 2.2) */
    size_t target;     /* offsets in head */
    size_t names[GW_HTTP_HEADERS_MAX], values[GW_HTTP_HEADERS_MAX];
    uint64_t body_left; /* of the body (fixed) or of the chunk */
    struct gw_http_request request;
};

static const struct {
    const char *name;
    enum gw_http_method method;
} methods[] = {
    {"GET", GW_HTTP_GET},     {"HEAD", GW_HTTP_HEAD},       {"POST", GW_HTTP_POST},
    {"PUT", GW_HTTP_PUT},     {"DELETE", GW_HTTP_DELETE},   {"OPTIONS", GW_HTTP_OPTIONS},
    {"PATCH", GW_HTTP_PATCH}, {"CONNECT", GW_HTTP_CONNECT}, {"TRACE", GW_HTTP_TRACE},
};
#define METHODS_LEN (sizeof methods / sizeof methods[0])

const char *gw_http_method_name(enum gw_http_method method)
{
    for (size_t i = 0; i < METHODS_LEN; i++)
        if (methods[i].method == method) return methods[i].name;
    return "?";
}

gw_err_t gw_http_parser_create(const struct gw_http_limits *limits, struct gw_http_parser **out)
{
    struct gw_http_parser *p = calloc(1, sizeof *p);
    if (!p) return GW_ERR_MEMORY;
    p->limits = *limits;
    gw_buf_init(&p->head, limits->head_bytes);
    gw_buf_init(&p->side, limits->head_bytes);
    gw_buf_init(&p->request.body, limits->body_bytes);
    *out = p;
    return GW_OK;
}

void gw_http_parser_destroy(struct gw_http_parser *p)
{
    if (!p) return;
    gw_buf_fini(&p->head);
    gw_buf_fini(&p->side);
    gw_buf_fini(&p->request.body);
    free(p);
}

enum gw_http_state gw_http_parser_state(const struct gw_http_parser *p)
{
    return p->state;
}

bool gw_http_parser_started(const struct gw_http_parser *p)
{
    return p->head.len > 0 || p->state != GW_HTTP_STATE_HEAD;
}

struct gw_http_request *gw_http_parser_request(struct gw_http_parser *p)
{
    return &p->request;
}

int gw_http_parser_failure(const struct gw_http_parser *p, const char **text)
{
    *text = p->text;
    return p->status;
}

void gw_http_parser_next(struct gw_http_parser *p)
{
    /* An idle connection keeps no memory of its last request. */
    gw_buf_fini(&p->head);
    gw_buf_fini(&p->side);
    gw_buf_fini(&p->request.body);
    p->request = (struct gw_http_request){.body.max = p->limits.body_bytes};
    p->state = GW_HTTP_STATE_HEAD;
    p->part = PART_REQUEST_LINE;
    p->line = p->side_bytes = 0;
    p->body_left = 0;
    p->blank_seen = false;
}

const char *gw_http_request_header(const struct gw_http_request *r, const char *name)
{
    for (int i = 0; i < r->headers_len; i++)
        if (strcmp(r->headers[i].name, name) == 0) return r->headers[i].value;
    return NULL;
}

static bool fail(struct gw_http_parser *p, int status, const char *text)
{
    p->state = GW_HTTP_STATE_FAILED;
    p->status = status;
    p->text = text;
    return false;
}

static bool is_token_char(unsigned char c)
{
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')) return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Strict decimal: digits only. More than LENGTH_DIGITS_MAX digits saturate (the caller's limit is far below).
 */
static bool parse_decimal(const char *s, uint64_t *out)
{
    uint64_t v = 0;
    size_t len = strlen(s);
    if (len == 0) return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(s[i])) return false;
        if (i < LENGTH_DIGITS_MAX) v = v * 10 + (uint64_t)(s[i] - '0');
    }
    *out = len > LENGTH_DIGITS_MAX ? UINT64_MAX : v;
    return true;
}

/* ---- lines --------------------------------------------------------------------------------------------- */

/* No control byte but HTAB, and the CR of a line's end, is ever legal in a line. Looked at as bytes come, so
 * that binary rubbish is refused before a newline happens to be in it. A CR in last place may be the line's
 * end: the byte behind it tells. */
static bool line_bytes_ok(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        bool ok = (c >= 0x20 && c != 0x7f) || c == '\t' || (c == '\r' && i + 1 == len);
        if (!ok) return false;
    }
    return true;
}

/* Appends to b up to and with the line's LF. True once the line that begins at b[start] is whole: then its CR
 * LF has become NULs. More than `room` bytes: `over` is the status. The first wrong byte decides, however
 * bytes are cut. */
static bool take_line(struct gw_http_parser *p, struct gw_buf *b, size_t start, size_t room, int over,
                      const char *bytes, size_t len, size_t *used)
{
    size_t seen = len < room ? len : room;
    const char *lf = memchr(bytes, '\n', seen);
    size_t n = lf ? (size_t)(lf - bytes) + 1 : seen;
    bool had_cr = b->len > start && b->data[b->len - 1] == '\r';
    *used = n;
    if (had_cr && n > 0 && bytes[0] != '\n') return fail(p, 400, "a carriage return inside a line");
    size_t text = lf ? n - 1 : n;
    if (!line_bytes_ok(bytes, text)) return fail(p, 400, "a control byte inside a line");
    if (!lf && seen < len) return fail(p, over, "the request line or the header fields are too large");
    gw_buf_put(b, bytes, n);
    if (b->err != GW_OK) return fail(p, 503, "out of memory");
    if (!lf) return false;
    if (b->len - start < 2 || b->data[b->len - 2] != '\r') return fail(p, 400, "a line ends without CR LF");
    b->data[b->len - 2] = b->data[b->len - 1] = '\0';
    return true;
}

/* ---- the request line ---------------------------------------------------------------------------------- */

static bool parse_method(struct gw_http_parser *p, const char *name)
{
    if (!*name) return fail(p, 400, "malformed request line");
    for (const char *c = name; *c; c++)
        if (!is_token_char((unsigned char)*c)) return fail(p, 400, "malformed method");
    for (size_t i = 0; i < METHODS_LEN; i++)
        if (strcmp(methods[i].name, name) == 0) {
            p->request.method = methods[i].method;
            return true;
        }
    return fail(p, 501, "unknown method");
}

static bool parse_version(struct gw_http_parser *p, const char *version)
{
    if (strncmp(version, "HTTP/", 5) != 0 || !is_digit(version[5]) || version[6] != '.' ||
        !is_digit(version[7]) || version[8])
        return fail(p, 400, "malformed HTTP version");
    if (version[5] != '1') return fail(p, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    p->request.minor = version[7] == '0' ? 0 : 1; /* a higher minor version speaks 1.1 to us */
    return true;
}

static bool check_target(struct gw_http_parser *p, const char *target)
{
    if (strlen(target) > p->limits.target_bytes) return fail(p, 414, "request target is too long");
    for (const char *c = target; *c; c++)
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f || *c == '#')
            return fail(p, 400, "malformed request target");
    bool absolute = strncasecmp(target, "http://", 7) == 0 || strncasecmp(target, "https://", 8) == 0;
    bool asterisk = strcmp(target, "*") == 0 && p->request.method == GW_HTTP_OPTIONS;
    if (target[0] != '/' && !absolute && !asterisk) return fail(p, 400, "malformed request target");
    return true;
}

static bool parse_request_line(struct gw_http_parser *p)
{
    char *line = (char *)p->head.data;
    char *sp1 = strchr(line, ' ');
    char *sp2 = sp1 ? strchr(sp1 + 1, ' ') : NULL;
    if (!sp2) return fail(p, 400, "malformed request line");
    *sp1 = *sp2 = '\0';
    p->target = (size_t)(sp1 + 1 - line);
    return parse_method(p, line) && parse_version(p, sp2 + 1) && check_target(p, sp1 + 1);
}

/* Points path and query into the target, which is in one of the forms that check_target passed. */
static void split_target(struct gw_http_parser *p)
{
    char *target = (char *)p->head.data + p->target;
    char *query = strchr(target, '?');
    if (query) *query++ = '\0';
    char *path = target;
    if (target[0] != '/') {
        char *authority = strstr(target, "://");
        path = authority ? strchr(authority + 3, '/') : target;
    }
    p->request.path = path ? path : "/";
    p->request.query = query ? query : "";
}

/* ---- headers ------------------------------------------------------------------------------------------- */

static void lower(char *s)
{
    for (; *s; s++)
        if (*s >= 'A' && *s <= 'Z') *s = (char)(*s - 'A' + 'a');
}

/* "Name: value" at line; blanks around the value are cut off. Trailers pass through here too, and are
 * dropped. */
static bool parse_header(struct gw_http_parser *p, char *line, char **name, char **value)
{
    if (*line == ' ' || *line == '\t') return fail(p, 400, "a folded header line");
    char *colon = strchr(line, ':');
    if (!colon || colon == line) return fail(p, 400, "malformed header");
    *colon = '\0';
    for (const char *c = line; *c; c++)
        if (!is_token_char((unsigned char)*c)) return fail(p, 400, "malformed header name");
    lower(line);
    char *v = colon + 1 + strspn(colon + 1, " \t");
    size_t len = strlen(v);
    while (len > 0 && strchr(" \t", v[len - 1])) len--;
    v[len] = '\0';
    *name = line;
    *value = v;
    return true;
}

static bool add_header(struct gw_http_parser *p)
{
    char *line = (char *)p->head.data + p->line, *name, *value;
    int i = p->request.headers_len;
    if (i == GW_HTTP_HEADERS_MAX) return fail(p, 431, "too many headers");
    if (!parse_header(p, line, &name, &value)) return false;
    p->names[i] = (size_t)(name - (char *)p->head.data);
    p->values[i] = (size_t)(value - (char *)p->head.data);
    p->request.headers_len++;
    return true;
}

static int count_headers(const struct gw_http_request *r, const char *name)
{
    int n = 0;
    for (int i = 0; i < r->headers_len; i++) n += strcmp(r->headers[i].name, name) == 0;
    return n;
}

static bool check_host(struct gw_http_parser *p)
{
    int n = count_headers(&p->request, "host");
    if (n > 1) return fail(p, 400, "more than one Host header");
    if (n == 0 && p->request.minor >= 1) return fail(p, 400, "no Host header");
    const char *host = gw_http_request_header(&p->request, "host");
    if (host && strpbrk(host, " \t,/@?")) return fail(p, 400, "malformed Host header");
    return true;
}

/* Is the (lower-case) word an element of any of the comma lists in headers of that name? */
static bool has_list_word(const struct gw_http_request *r, const char *name, const char *word)
{
    size_t len = strlen(word);
    for (int i = 0; i < r->headers_len; i++) {
        if (strcmp(r->headers[i].name, name) != 0) continue;
        for (const char *s = r->headers[i].value; *s;) {
            s += strspn(s, " \t,");
            size_t n = strcspn(s, " \t,");
            if (n == len && strncasecmp(s, word, n) == 0) return true;
            s += n;
        }
    }
    return false;
}

static bool begin_chunked(struct gw_http_parser *p)
{
    const char *coding = gw_http_request_header(&p->request, "transfer-encoding");
    if (count_headers(&p->request, "transfer-encoding") > 1)
        return fail(p, 400, "more than one Transfer-Encoding header");
    if (p->request.minor == 0) return fail(p, 400, "Transfer-Encoding in an HTTP/1.0 request");
    if (strcasecmp(coding, "chunked") != 0) return fail(p, 501, "unknown transfer coding");
    p->part = PART_CHUNK_SIZE;
    return true;
}

static bool begin_fixed(struct gw_http_parser *p)
{
    uint64_t length = 0;
    if (!parse_decimal(gw_http_request_header(&p->request, "content-length"), &length))
        return fail(p, 400, "malformed Content-Length");
    if (length > p->limits.body_bytes) return fail(p, 413, "request body is too large");
    p->body_left = length;
    p->part = PART_FIXED;
    return true;
}

/* How long is the body (RFC 9112, 6.3)? Everything that two parsers could read differently is refused. */
static bool begin_body(struct gw_http_parser *p)
{
    int lengths = count_headers(&p->request, "content-length");
    bool chunked = count_headers(&p->request, "transfer-encoding") > 0;
    if (lengths > 1) return fail(p, 400, "more than one Content-Length header");
    if (lengths > 0 && chunked) return fail(p, 400, "Content-Length together with Transfer-Encoding");
    if (chunked) return begin_chunked(p);
    if (lengths > 0) return begin_fixed(p);
    p->part = PART_FIXED;
    return true;
}

static bool check_expect(struct gw_http_parser *p)
{
    const char *expect = gw_http_request_header(&p->request, "expect");
    if (!expect || p->request.minor == 0) return true;
    if (strcasecmp(expect, "100-continue") != 0) return fail(p, 417, "unknown expectation");
    p->request.expect_continue = true;
    return true;
}

static bool finish_head(struct gw_http_parser *p)
{
    struct gw_http_request *r = &p->request;
    for (int i = 0; i < r->headers_len; i++) {
        r->headers[i].name = (char *)p->head.data + p->names[i];
        r->headers[i].value = (char *)p->head.data + p->values[i];
    }
    split_target(p);
    if (!check_host(p) || !begin_body(p) || !check_expect(p)) return false;
    bool keep = has_list_word(r, "connection", "keep-alive"), close = has_list_word(r, "connection", "close");
    r->keep_alive = !close && (r->minor >= 1 || keep);
    bool empty = p->part == PART_FIXED && p->body_left == 0;
    p->state = empty ? GW_HTTP_STATE_COMPLETE : GW_HTTP_STATE_BODY;
    return true;
}

/* One whole line of the head is at head[line]; false on failure. */
static bool end_head_line(struct gw_http_parser *p)
{
    bool empty = p->head.data[p->line] == '\0';
    bool ok;
    if (p->part == PART_REQUEST_LINE && empty) {
        if (p->blank_seen) return fail(p, 400, "malformed request line");
        p->blank_seen = true;
        gw_buf_reset(&p->head);
        return true;
    }
    if (p->part == PART_REQUEST_LINE) {
        ok = parse_request_line(p);
        p->part = PART_HEADERS;
    } else {
        ok = empty ? finish_head(p) : add_header(p);
    }
    p->line = p->head.len;
    return ok;
}

/* A target that never ends (414) is told apart from headers that never end (431). */
static void feed_head(struct gw_http_parser *p, const char *bytes, size_t len, size_t *used)
{
    size_t line_max = p->limits.target_bytes + sizeof "OPTIONS  HTTP/1.1\r\n";
    bool first = p->part == PART_REQUEST_LINE && line_max < p->limits.head_bytes;
    size_t room = (first ? line_max : p->limits.head_bytes) - p->head.len;
    if (take_line(p, &p->head, p->line, room, first ? 414 : 431, bytes, len, used)) end_head_line(p);
}

/* ---- the body ------------------------------------------------------------------------------------------ */

static int hex_digit(char c)
{
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* "1a" or "1a;extension": digits first, nothing before or between. */
static bool parse_chunk_size(struct gw_http_parser *p, const char *line)
{
    uint64_t size = 0;
    size_t digits = 0;
    for (; hex_digit(line[digits]) >= 0; digits++) {
        if (digits == CHUNK_DIGITS_MAX) return fail(p, 413, "request body is too large");
        size = size * 16 + (uint64_t)hex_digit(line[digits]);
    }
    if (digits == 0 || (line[digits] && line[digits] != ';')) return fail(p, 400, "malformed chunk size");
    p->side_bytes += strlen(line + digits);
    if (p->side_bytes > p->limits.head_bytes) return fail(p, 431, "chunk extensions are too large");
    if (size > p->limits.body_bytes - p->request.body.len) return fail(p, 413, "request body is too large");
    p->body_left = size;
    p->part = size > 0 ? PART_CHUNK_DATA : PART_TRAILERS;
    return true;
}

static bool end_trailer(struct gw_http_parser *p, char *line)
{
    char *name, *value;
    if (!*line) {
        p->state = GW_HTTP_STATE_COMPLETE;
        return true;
    }
    p->side_bytes += p->side.len;
    if (p->side_bytes > p->limits.head_bytes) return fail(p, 431, "trailers are too large");
    return parse_header(p, line, &name, &value);
}

static void feed_side_line(struct gw_http_parser *p, const char *bytes, size_t len, size_t *used)
{
    size_t room = p->limits.head_bytes - p->side.len;
    if (!take_line(p, &p->side, 0, room, 431, bytes, len, used)) return;
    char *line = (char *)p->side.data;
    if (p->part == PART_CHUNK_SIZE)
        parse_chunk_size(p, line);
    else if (p->part == PART_TRAILERS)
        end_trailer(p, line);
    else if (*line)
        fail(p, 400, "a chunk is longer than its size");
    else
        p->part = PART_CHUNK_SIZE;
    gw_buf_reset(&p->side);
}

static void feed_data(struct gw_http_parser *p, const char *bytes, size_t len, size_t *used)
{
    size_t n = len < p->body_left ? len : (size_t)p->body_left;
    gw_buf_put(&p->request.body, bytes, n);
    *used = n;
    p->body_left -= n;
    if (p->request.body.err != GW_OK)
        fail(p, p->request.body.err == GW_ERR_LIMIT ? 413 : 503, "request body is too large");
    else if (p->body_left == 0 && p->part == PART_CHUNK_DATA)
        p->part = PART_CHUNK_END;
    else if (p->body_left == 0)
        p->state = GW_HTTP_STATE_COMPLETE;
}

static void feed_some(struct gw_http_parser *p, const char *bytes, size_t len, size_t *used)
{
    switch (p->part) {
    case PART_REQUEST_LINE:
    case PART_HEADERS: feed_head(p, bytes, len, used); return;
    case PART_FIXED:
    case PART_CHUNK_DATA: feed_data(p, bytes, len, used); return;
    case PART_CHUNK_SIZE:
    case PART_CHUNK_END:
    case PART_TRAILERS: feed_side_line(p, bytes, len, used); return;
    }
}

enum gw_http_state gw_http_parser_feed(struct gw_http_parser *p, const void *bytes, size_t len, size_t *used)
{
    const char *s = bytes;
    enum gw_http_state before = p->state;
    *used = 0;
    while (*used < len && p->state == before && before <= GW_HTTP_STATE_BODY) {
        size_t n = 0;
        feed_some(p, s + *used, len - *used, &n);
        *used += n;
    }
    return p->state;
}
