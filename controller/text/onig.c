#include "controller/text/onig.h"

#include <ctype.h>
#include <string.h>

/* White_Space of Unicode 15, as the inside of a class. */
#define SPACES                                                                                               \
    "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

struct rewrite {
    const char *p;
    size_t len, pos;
    bool in_class;
    struct gw_buf *out;
    struct gw_err_ctx *ctx;
};

static bool ahead(const struct rewrite *r, const char *what)
{
    size_t n = strlen(what);
    return r->len - r->pos >= n && memcmp(r->p + r->pos, what, n) == 0;
}

static void copy(struct rewrite *r, size_t n)
{
    gw_buf_put(r->out, r->p + r->pos, n);
    r->pos += n;
}

static gw_err_t refuse(const struct rewrite *r, const char *what)
{
    return gw_fail(r->ctx, GW_ERR_INPUT, "%s in a pattern is not supported (at byte %zu)", what, r->pos);
}

static gw_err_t rewrite_escape(struct rewrite *r)
{
    if (r->len - r->pos < 2) return refuse(r, "a backslash at the end");
    char c = r->p[r->pos + 1];
    if (c == 's') {
        gw_buf_puts(r->out, r->in_class ? SPACES : "[" SPACES "]");
        r->pos += 2;
        return GW_OK;
    }
    if (c == 'S' && !r->in_class) {
        gw_buf_puts(r->out, "[^" SPACES "]");
        r->pos += 2;
        return GW_OK;
    }
    bool plain = (c & 0x80) == 0 && !isalnum((unsigned char)c);
    bool same = strchr("pPdDrntS", c) || ahead(r, "\\x{");
    if (!plain && !same) {
        char what[] = "\\?";
        what[1] = (char)(c & 0x80 || !isprint((unsigned char)c) ? '?' : c);
        return refuse(r, what);
    }
    copy(r, 2);
    return GW_OK;
}

/* The opening of a group. */
static gw_err_t rewrite_group(struct rewrite *r)
{
    static const char *const known[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?i)"};
    if (ahead(r, "(*")) return refuse(r, "(*");
    if (!ahead(r, "(?")) {
        copy(r, 1);
        return GW_OK;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!ahead(r, known[i])) continue;
        copy(r, strlen(known[i]));
        return GW_OK;
    }
    return refuse(r, "this kind of (?...)");
}

/* A class begins: [, [^, and a ] that comes first is one of its characters, in both. */
static void enter_class(struct rewrite *r)
{
    r->in_class = true;
    copy(r, 1);
    if (ahead(r, "^")) copy(r, 1);
    if (ahead(r, "]")) copy(r, 1);
}

static gw_err_t rewrite_in_class(struct rewrite *r)
{
    if (ahead(r, "[")) return refuse(r, "a class in a class");
    if (ahead(r, "&&")) return refuse(r, "&& in a class");
    if (ahead(r, "]")) r->in_class = false;
    copy(r, 1);
    return GW_OK;
}

static gw_err_t rewrite_outside(struct rewrite *r)
{
    if (ahead(r, "(")) return rewrite_group(r);
    if (ahead(r, "["))
        enter_class(r);
    else
        copy(r, 1);
    return GW_OK;
}

gw_err_t gw_onig_to_pcre2(const char *pattern, size_t len, struct gw_buf *out, struct gw_err_ctx *ctx)
{
    struct rewrite r = {.p = pattern, .len = len, .out = out, .ctx = ctx};
    while (r.pos < r.len) {
        if (r.p[r.pos] == '\\')
            TRY(rewrite_escape(&r));
        else if (r.in_class)
            TRY(rewrite_in_class(&r));
        else
            TRY(rewrite_outside(&r));
    }
    return out->err == GW_OK ? GW_OK : gw_fail(ctx, out->err, "pattern too long");
}
