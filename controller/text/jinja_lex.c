#include "controller/text/jinja_lex.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "controller/text/utext.h"

#define TOKENS_FIRST 256

struct lexer {
    const char *src;
    size_t len, pos;
    uint32_t line;
    bool line_starting; /* what was read last ended a line */
    struct gw_jinja_tokens *out;
    struct gw_err_ctx *ctx;
};

size_t gw_jinja_normalize(char *source, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (source[i] == '\r' && i + 1 < len && source[i + 1] == '\n') continue;
        source[n++] = source[i] == '\r' ? '\n' : source[i];
    }
    return n > 0 && source[n - 1] == '\n' ? n - 1 : n;
}

void gw_jinja_tokens_fini(struct gw_jinja_tokens *t)
{
    free(t->items);
    *t = (struct gw_jinja_tokens){0};
}

static gw_err_t put(struct lexer *l, enum gw_jinja_token_type type, const char *text, size_t len)
{
    struct gw_jinja_tokens *t = l->out;
    if (t->len == GW_JINJA_TOKENS_MAX)
        return gw_fail(l->ctx, GW_ERR_LIMIT, "line %u: the template is too long", l->line);
    if (t->len == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : TOKENS_FIRST;
        struct gw_jinja_token *items = realloc(t->items, cap * sizeof *items);
        if (!items) return gw_fail(l->ctx, GW_ERR_MEMORY, "out of memory");
        t->items = items;
        t->cap = cap;
    }
    t->items[t->len++] = (struct gw_jinja_token){.type = type, .line = l->line, .text = text, .len = len};
    return GW_OK;
}

static bool at_text(const struct lexer *l, size_t pos, const char *what)
{
    size_t n = strlen(what);
    return pos <= l->len && l->len - pos >= n && memcmp(l->src + pos, what, n) == 0;
}

/* Moves on, counting lines. */
static void advance(struct lexer *l, size_t to)
{
    if (to == l->pos) return;
    for (size_t i = l->pos; i < to; i++) l->line += l->src[i] == '\n';
    l->line_starting = l->src[to - 1] == '\n';
    l->pos = to;
}

/* The position behind the white space at pos. */
static size_t skip_space(const struct lexer *l, size_t pos)
{
    int32_t c;
    while (pos < l->len) {
        size_t n = gw_utext_next(l->src + pos, l->len - pos, &c);
        if (!gw_utext_is_space(c)) break;
        pos += n;
    }
    return pos;
}

static bool all_space(const char *text, size_t len)
{
    gw_utext_strip(&text, &len, NULL, 0, GW_UTEXT_LEFT);
    return len == 0;
}

/* Emits the text before a tag, stripped as the tag's sign and kind say. */
static gw_err_t put_text(struct lexer *l, size_t end, char sign, bool is_variable)
{
    const char *text = l->src + l->pos;
    size_t len = end - l->pos;
    if (sign == '-') {
        gw_utext_strip(&text, &len, NULL, 0, GW_UTEXT_RIGHT);
    } else if (sign != '+' && !is_variable) {
        const char *newline = memrchr(text, '\n', len);
        size_t start = newline ? (size_t)(newline - text) + 1 : 0;
        if ((newline || l->line_starting) && all_space(text + start, len - start)) len = start;
    }
    return len > 0 ? put(l, GW_JINJA_TOK_TEXT, text, len) : GW_OK;
}

/* The end of a tag at pos: "-%}" takes the white space behind it, "%}" one newline, "+%}" nothing. Returns
 * the position behind, 0 if no end is here. */
static size_t tag_end(const struct lexer *l, size_t pos, const char *mark, bool trims)
{
    if (at_text(l, pos, "-") && at_text(l, pos + 1, mark)) return skip_space(l, pos + 3);
    if (trims && at_text(l, pos, "+") && at_text(l, pos + 1, mark)) return pos + 3;
    if (!at_text(l, pos, mark)) return 0;
    return pos + 2 + (trims && at_text(l, pos + 2, "\n"));
}

static gw_err_t skip_comment(struct lexer *l, bool signed_)
{
    for (size_t at = l->pos + 2 + signed_; at + 1 < l->len; at++) {
        size_t behind = tag_end(l, at, "#}", true);
        if (behind == 0) continue;
        advance(l, behind);
        return GW_OK;
    }
    return gw_fail(l->ctx, GW_ERR_INPUT, "line %u: a comment does not end", l->line);
}

/* "{% name" at pos, with any sign: the position behind the name, else 0. *sign gets the sign. */
static size_t tag_named(const struct lexer *l, size_t pos, const char *name, char *sign)
{
    if (!at_text(l, pos, "{%")) return 0;
    *sign = pos + 2 < l->len ? l->src[pos + 2] : '\0';
    pos += 2 + (*sign == '-' || *sign == '+');
    pos = skip_space(l, pos);
    return at_text(l, pos, name) ? pos + strlen(name) : 0;
}

/* If {% raw %} is at pos: the position where the raw text begins, else 0. */
static size_t raw_begin(const struct lexer *l, size_t pos)
{
    char sign;
    size_t at = tag_named(l, pos, "raw", &sign);
    if (at == 0) return 0;
    at = skip_space(l, at);
    if (at_text(l, at, "-%}")) return skip_space(l, at + 3);
    return at_text(l, at, "%}") ? at + 2 : 0;
}

static gw_err_t lex_raw(struct lexer *l, size_t begin)
{
    advance(l, begin);
    for (size_t at = begin; at < l->len; at++) {
        char sign;
        size_t behind = l->src[at] == '{' ? tag_named(l, at, "endraw", &sign) : 0;
        if (behind > 0) behind = tag_end(l, skip_space(l, behind), "%}", true);
        if (behind == 0) continue;
        TRY(put_text(l, at, sign, false));
        advance(l, behind);
        return GW_OK;
    }
    return gw_fail(l->ctx, GW_ERR_INPUT, "line %u: {%% raw %%} does not end", l->line);
}

static gw_err_t lex_number(struct lexer *l)
{
    size_t at = l->pos;
    bool real = false, after_dot = l->pos > 0 && l->src[l->pos - 1] == '.';
    while (at < l->len && (isdigit((unsigned char)l->src[at]) || l->src[at] == '_')) at++;
    if (!after_dot && at + 1 < l->len && l->src[at] == '.' && isdigit((unsigned char)l->src[at + 1])) {
        real = true;
        at++;
        while (at < l->len && (isdigit((unsigned char)l->src[at]) || l->src[at] == '_')) at++;
    }
    size_t exp = at + 1;
    if (exp < l->len && (l->src[exp] == '+' || l->src[exp] == '-')) exp++;
    if (!after_dot && at < l->len && (l->src[at] | 32) == 'e' && exp < l->len &&
        isdigit((unsigned char)l->src[exp])) {
        real = true;
        for (at = exp; at < l->len && isdigit((unsigned char)l->src[at]);) at++;
    }
    TRY(put(l, real ? GW_JINJA_TOK_FLOAT : GW_JINJA_TOK_INT, l->src + l->pos, at - l->pos));
    advance(l, at);
    return GW_OK;
}

static gw_err_t lex_string(struct lexer *l)
{
    char quote = l->src[l->pos];
    for (size_t at = l->pos + 1; at < l->len; at++) {
        if (l->src[at] == '\\') {
            at++;
        } else if (l->src[at] == quote) {
            TRY(put(l, GW_JINJA_TOK_STRING, l->src + l->pos + 1, at - l->pos - 1));
            advance(l, at + 1);
            return GW_OK;
        }
    }
    return gw_fail(l->ctx, GW_ERR_INPUT, "line %u: a string does not end", l->line);
}

static gw_err_t lex_name(struct lexer *l)
{
    size_t at = l->pos;
    while (at < l->len && (isalnum((unsigned char)l->src[at]) || l->src[at] == '_')) at++;
    TRY(put(l, GW_JINJA_TOK_NAME, l->src + l->pos, at - l->pos));
    advance(l, at);
    return GW_OK;
}

static gw_err_t lex_operator(struct lexer *l, int *open_brackets)
{
    static const char *const known[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ","};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!at_text(l, l->pos, known[i])) continue;
        if (strchr("[({", known[i][0])) ++*open_brackets;
        if (strchr("])}", known[i][0]) && --*open_brackets < 0)
            return gw_fail(l->ctx, GW_ERR_INPUT, "line %u: unexpected '%s'", l->line, known[i]);
        size_t n = strlen(known[i]);
        TRY(put(l, GW_JINJA_TOK_OP, l->src + l->pos, n));
        advance(l, l->pos + n);
        return GW_OK;
    }
    char c = l->src[l->pos];
    return gw_fail(l->ctx, GW_ERR_INPUT, "line %u: unexpected character '%c'", l->line,
                   isprint((unsigned char)c) ? c : '?');
}

static gw_err_t lex_in_tag(struct lexer *l, int *open_brackets)
{
    char c = l->src[l->pos];
    if (isdigit((unsigned char)c)) return lex_number(l);
    if (isalpha((unsigned char)c) || c == '_') return lex_name(l);
    if (c == '"' || c == '\'') return lex_string(l);
    return lex_operator(l, open_brackets);
}

/* What is between "{%" or "{{" and its end. Inside brackets an end mark is none: {{ {'a': {}} }}. */
static gw_err_t lex_tag(struct lexer *l, bool is_variable, bool signed_)
{
    const char *mark = is_variable ? "}}" : "%}";
    int open_brackets = 0;
    TRY(put(l, is_variable ? GW_JINJA_TOK_VAR_BEGIN : GW_JINJA_TOK_BLOCK_BEGIN, l->src + l->pos, 2));
    advance(l, l->pos + 2 + signed_);
    for (;;) {
        advance(l, skip_space(l, l->pos));
        if (l->pos >= l->len) return gw_fail(l->ctx, GW_ERR_INPUT, "line %u: '%s' is missing", l->line, mark);
        size_t behind = open_brackets == 0 ? tag_end(l, l->pos, mark, !is_variable) : 0;
        if (behind == 0) {
            TRY(lex_in_tag(l, &open_brackets));
            continue;
        }
        TRY(put(l, is_variable ? GW_JINJA_TOK_VAR_END : GW_JINJA_TOK_BLOCK_END, l->src + l->pos, 2));
        advance(l, behind);
        return GW_OK;
    }
}

/* The position of the next {{, {% or {#; len if there is none. */
static size_t find_tag(const struct lexer *l)
{
    for (size_t at = l->pos; at + 1 < l->len; at++) {
        const char *brace = memchr(l->src + at, '{', l->len - 1 - at);
        if (!brace) break;
        at = (size_t)(brace - l->src);
        if (strchr("{%#", l->src[at + 1]) && l->src[at + 1]) return at;
    }
    return l->len;
}

static gw_err_t lex_next(struct lexer *l)
{
    size_t at = find_tag(l);
    if (at == l->len) {
        TRY(put(l, GW_JINJA_TOK_TEXT, l->src + l->pos, l->len - l->pos));
        advance(l, l->len);
        return GW_OK;
    }
    char kind = l->src[at + 1], sign = at + 2 < l->len ? l->src[at + 2] : '\0';
    bool signed_ = sign == '-' || sign == '+';
    size_t raw = raw_begin(l, at);
    TRY(put_text(l, at, sign, kind == '{'));
    advance(l, at);
    if (raw > 0) return lex_raw(l, raw);
    return kind == '#' ? skip_comment(l, signed_) : lex_tag(l, kind == '{', signed_);
}

gw_err_t gw_jinja_lex(const char *source, size_t len, struct gw_jinja_tokens *out, struct gw_err_ctx *ctx)
{
    struct gw_jinja_tokens tokens = {0};
    struct lexer l = {
        .src = source, .len = len, .line = 1, .line_starting = true, .out = &tokens, .ctx = ctx};
    gw_err_t err = GW_OK;
    while (err == GW_OK && l.pos < l.len) err = lex_next(&l);
    if (err == GW_OK) err = put(&l, GW_JINJA_TOK_END, source + len, 0);
    if (err != GW_OK) {
        gw_jinja_tokens_fini(&tokens);
        return err;
    }
    *out = tokens;
    return GW_OK;
}
