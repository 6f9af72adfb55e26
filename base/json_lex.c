#include "base/json_lex.h"

#include <string.h>

struct lex {
    const char *text;
    size_t len, at;
    struct gw_err_ctx *ctx;
};

static gw_err_t wrong(const struct lex *l, const char *what)
{
    return gw_fail(l->ctx, GW_ERR_INPUT, "not valid JSON at byte %zu: %s", l->at, what);
}

static char peek(const struct lex *l)
{
    return l->at < l->len ? l->text[l->at] : '\0';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_value(char c)
{
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool skip_digits(struct lex *l)
{
    size_t first = l->at;
    while (is_digit(peek(l))) l->at++;
    return l->at > first;
}

/* -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)? */
static gw_err_t number(struct lex *l)
{
    if (peek(l) == '-') l->at++;
    if (peek(l) == '0')
        l->at++;
    else if (!skip_digits(l))
        return wrong(l, "a number without digits");
    if (is_digit(peek(l))) return wrong(l, "a number with a leading zero");
    if (peek(l) == '.') {
        l->at++;
        if (!skip_digits(l)) return wrong(l, "a number without digits behind its point");
    }
    if (peek(l) != 'e' && peek(l) != 'E') return GW_OK;
    l->at++;
    if (peek(l) == '+' || peek(l) == '-') l->at++;
    return skip_digits(l) ? GW_OK : wrong(l, "a number without digits in its exponent");
}

/* Behind a backslash. Pairs of surrogates are cJSON's to check. */
static gw_err_t escape(struct lex *l)
{
    int value = 0;
    char c = peek(l);
    if (c == '\0' || !strchr("\"\\/bfnrtu", c)) return wrong(l, "an unknown escape");
    l->at++;
    if (c != 'u') return GW_OK;
    for (int i = 0; i < 4; i++, l->at++) {
        int digit = hex_value(peek(l));
        if (digit < 0) return wrong(l, "an escape without four hexadecimal digits");
        value = value * 16 + digit;
    }
    return value != 0 ? GW_OK : wrong(l, "a string holds \\u0000, which is not accepted");
}

/* Behind the opening quote. */
static gw_err_t string(struct lex *l)
{
    while (l->at < l->len) {
        unsigned char c = (unsigned char)l->text[l->at];
        if (c < 0x20) return wrong(l, "a control byte inside a string");
        l->at++;
        if (c == '"') return GW_OK;
        if (c == '\\') TRY(escape(l));
    }
    return wrong(l, "a string without its end");
}

gw_err_t gw_json_lex_check(const char *text, size_t len, int depth_max, struct gw_err_ctx *ctx)
{
    struct lex l = {.text = text, .len = len, .ctx = ctx};
    int depth = 0;
    while (l.at < len) {
        char c = text[l.at];
        if (c == '-' || is_digit(c)) {
            TRY(number(&l));
            continue;
        }
        if ((unsigned char)c >= 0x80) return wrong(&l, "bytes outside of strings");
        if ((c == '{' || c == '[') && ++depth > depth_max)
            return gw_fail(ctx, GW_ERR_INPUT, "JSON is nested deeper than %d levels", depth_max);
        if (c == '}' || c == ']') depth--;
        l.at++;
        if (c == '"') TRY(string(&l));
    }
    return GW_OK;
}
