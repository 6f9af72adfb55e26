#include "controller/text/jinja_parser.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "controller/text/jinja_builtins.h"

#define NUMBER_MAX 64 /* characters of a number */

static gw_err_t parse_unary(struct gw_jinja_parser *p, bool with_filters, struct gw_jinja_node **out);

static gw_err_t binary_new(struct gw_jinja_parser *p, enum gw_jinja_node_type type,
                           struct gw_jinja_node **left)
{
    struct gw_jinja_node *n;
    TRY(gw_jinja_node_new(p, type, &n));
    n->a = *left;
    *left = n;
    return GW_OK;
}

/* ---- literals ---- */

static int hex_digits(const char *s, const char *end, int count, int32_t *c)
{
    *c = 0;
    for (int i = 0; i < count; i++) {
        if (s + i >= end) return 0;
        const char *digits = "0123456789abcdef", *d = s[i] ? strchr(digits, s[i] | 32) : NULL;
        if (!d || (s[i] >= 'A' && s[i] <= 'Z' && s[i] > 'F')) return 0;
        *c = *c << 4 | (int32_t)(d - digits);
    }
    return count;
}

/* \xHH, \uHHHH, \UHHHHHHHH → a code point in UTF-8. Returns the characters behind the backslash, 0 if wrong.
 */
static int unescape_hex(const char *s, const char *end, char **out)
{
    int32_t c;
    int count = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : 8;
    if (hex_digits(s + 1, end, count, &c) == 0 || !utf8proc_codepoint_valid(c)) return 0;
    utf8proc_ssize_t n = utf8proc_encode_char(c, (utf8proc_uint8_t *)*out);
    *out += n;
    return 1 + count;
}

/* One escape behind a backslash at s; 0 for octal and named ones, which no template needs. As in Python, an
 * unknown one stays as it is, with its backslash. */
static int unescape_one(const char *s, const char *end, char **out)
{
    static const char from[] = "ntr\\'\"abfv", to[] = "\n\t\r\\'\"\a\b\f\v";
    const char *known = *s ? strchr(from, *s) : NULL;
    if (known) {
        *(*out)++ = to[known - from];
        return 1;
    }
    if (*s == 'x' || *s == 'u' || *s == 'U') return unescape_hex(s, end, out);
    if (*s == 'N' || (*s >= '0' && *s <= '7')) return 0;
    if (*s == '\n') return 1; /* the line goes on */
    *(*out)++ = '\\';
    *(*out)++ = *s;
    return 1;
}

/* Appends one string literal's text to the node's. It never grows: an escape is at least as long as what it
 * stands for. */
static gw_err_t append_string(struct gw_jinja_parser *p, struct gw_jinja_node *n)
{
    const char *s = p->at->text, *end = s + p->at->len;
    size_t old = n->value.string.len;
    char *text = gw_arena_alloc(p->arena, old + p->at->len + 1);
    if (!text) return gw_fail(p->ctx, p->arena->err, "line %u: the template is too large", p->at->line);
    if (old) memcpy(text, n->value.string.bytes, old);
    char *out = text + old;
    while (s < end) {
        if (*s != '\\') {
            *out++ = *s++;
            continue;
        }
        int used = unescape_one(s + 1, end, &out);
        if (used == 0)
            return gw_fail(p->ctx, GW_ERR_INPUT, "line %u: a wrong escape in a string", p->at->line);
        s += 1 + used;
    }
    n->value = gw_jinja_text(text, (size_t)(out - text));
    p->at++;
    return GW_OK;
}

/* Adjacent strings are one. */
static gw_err_t parse_string(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    TRY(gw_jinja_node_new(p, GW_JINJA_N_CONST, out));
    (*out)->value = gw_jinja_text("", 0);
    while (p->at->type == GW_JINJA_TOK_STRING) TRY(append_string(p, *out));
    return GW_OK;
}

static gw_err_t parse_number(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    char digits[NUMBER_MAX + 1];
    size_t n = 0;
    if (p->at->len > NUMBER_MAX) return gw_jinja_unexpected(p);
    for (size_t i = 0; i < p->at->len; i++)
        if (p->at->text[i] != '_') digits[n++] = p->at->text[i];
    digits[n] = '\0';
    TRY(gw_jinja_node_new(p, GW_JINJA_N_CONST, out));
    errno = 0;
    (*out)->value = p->at->type == GW_JINJA_TOK_INT ? gw_jinja_int(strtoll(digits, NULL, 10))
                                                    : gw_jinja_float(strtod(digits, NULL));
    if (errno == ERANGE && p->at->type == GW_JINJA_TOK_INT) return gw_jinja_unexpected(p);
    p->at++;
    return GW_OK;
}

static gw_err_t parse_const(struct gw_jinja_parser *p, struct gw_jinja_value value,
                            struct gw_jinja_node **out)
{
    TRY(gw_jinja_node_new(p, GW_JINJA_N_CONST, out));
    (*out)->value = value;
    p->at++;
    return GW_OK;
}

static gw_err_t parse_name(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    static const char *const reserved[] = {"and", "or", "not", "is", "in", "if", "else", "elif"};
    if (gw_jinja_is_name(p, "true") || gw_jinja_is_name(p, "True"))
        return parse_const(p, gw_jinja_bool(true), out);
    if (gw_jinja_is_name(p, "false") || gw_jinja_is_name(p, "False"))
        return parse_const(p, gw_jinja_bool(false), out);
    if (gw_jinja_is_name(p, "none") || gw_jinja_is_name(p, "None"))
        return parse_const(p, gw_jinja_none(), out);
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (gw_jinja_is_name(p, reserved[i])) return gw_jinja_unexpected(p);
    TRY(gw_jinja_node_new(p, GW_JINJA_N_NAME, out));
    return gw_jinja_expect_name(p, &(*out)->name);
}

static gw_err_t parse_list(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    TRY(gw_jinja_node_new(p, GW_JINJA_N_LIST, out));
    struct gw_jinja_node **tail = &(*out)->list;
    p->at++;
    while (!gw_jinja_is_op(p, "]")) {
        TRY(gw_jinja_parse_expr(p, tail));
        tail = &(*tail)->next;
        if (!gw_jinja_accept_op(p, ",")) break;
    }
    return gw_jinja_expect_op(p, "]");
}

static gw_err_t parse_dict(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    TRY(gw_jinja_node_new(p, GW_JINJA_N_DICT, out));
    struct gw_jinja_node **tail = &(*out)->list;
    p->at++;
    while (!gw_jinja_is_op(p, "}")) {
        TRY(gw_jinja_parse_expr(p, tail));
        TRY(gw_jinja_expect_op(p, ":"));
        tail = &(*tail)->next;
        TRY(gw_jinja_parse_expr(p, tail));
        tail = &(*tail)->next;
        if (!gw_jinja_accept_op(p, ",")) break;
    }
    return gw_jinja_expect_op(p, "}");
}

/* ( ... ): an expression, or a tuple if there is a comma or nothing. */
static gw_err_t parse_brackets(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    p->at++;
    if (gw_jinja_is_op(p, ")"))
        TRY(gw_jinja_node_new(p, GW_JINJA_N_TUPLE, out));
    else
        TRY(gw_jinja_parse_tuple(p, true, out));
    return gw_jinja_expect_op(p, ")");
}

static gw_err_t parse_primary(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    gw_err_t err;
    TRY(gw_jinja_nest(p));
    if (p->at->type == GW_JINJA_TOK_NAME)
        err = parse_name(p, out);
    else if (p->at->type == GW_JINJA_TOK_STRING)
        err = parse_string(p, out);
    else if (p->at->type == GW_JINJA_TOK_INT || p->at->type == GW_JINJA_TOK_FLOAT)
        err = parse_number(p, out);
    else if (gw_jinja_is_op(p, "("))
        err = parse_brackets(p, out);
    else if (gw_jinja_is_op(p, "["))
        err = parse_list(p, out);
    else if (gw_jinja_is_op(p, "{"))
        err = parse_dict(p, out);
    else
        err = gw_jinja_unexpected(p);
    p->depth--;
    return err;
}

/* ---- postfix ---- */

static gw_err_t parse_arg(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    TRY(gw_jinja_node_new(p, GW_JINJA_N_ARG, out));
    bool named = p->at->type == GW_JINJA_TOK_NAME && p->at[1].type == GW_JINJA_TOK_OP && p->at[1].len == 1 &&
                 p->at[1].text[0] == '=';
    if (named) {
        TRY(gw_jinja_expect_name(p, &(*out)->name));
        p->at++;
    }
    return gw_jinja_parse_expr(p, &(*out)->a);
}

/* "(" is the current token. */
static gw_err_t parse_args(struct gw_jinja_parser *p, struct gw_jinja_node **tail)
{
    p->at++;
    while (!gw_jinja_is_op(p, ")")) {
        TRY(parse_arg(p, tail));
        tail = &(*tail)->next;
        if (!gw_jinja_accept_op(p, ",")) break;
    }
    return gw_jinja_expect_op(p, ")");
}

static gw_err_t parse_call(struct gw_jinja_parser *p, struct gw_jinja_node **node)
{
    TRY(binary_new(p, GW_JINJA_N_CALL, node));
    return parse_args(p, &(*node)->list);
}

static gw_err_t parse_dot(struct gw_jinja_parser *p, struct gw_jinja_node **node)
{
    p->at++;
    bool number = p->at->type == GW_JINJA_TOK_INT;
    TRY(binary_new(p, number ? GW_JINJA_N_ITEM : GW_JINJA_N_ATTR, node));
    return number ? parse_number(p, &(*node)->b) : gw_jinja_expect_name(p, &(*node)->name);
}

/* What a slice has between colons, if anything. */
static gw_err_t parse_slice_part(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    return gw_jinja_is_op(p, ":") || gw_jinja_is_op(p, "]") ? GW_OK : gw_jinja_parse_expr(p, out);
}

static gw_err_t parse_subscript(struct gw_jinja_parser *p, struct gw_jinja_node **node)
{
    p->at++;
    TRY(binary_new(p, GW_JINJA_N_ITEM, node));
    struct gw_jinja_node *n = *node;
    TRY(parse_slice_part(p, &n->b));
    if (gw_jinja_accept_op(p, ":")) {
        n->type = GW_JINJA_N_SLICE;
        TRY(parse_slice_part(p, &n->c));
        if (gw_jinja_accept_op(p, ":")) TRY(parse_slice_part(p, &n->d));
    }
    if (n->type == GW_JINJA_N_ITEM && !n->b) return gw_jinja_unexpected(p);
    return gw_jinja_expect_op(p, "]");
}

static gw_err_t parse_postfix(struct gw_jinja_parser *p, struct gw_jinja_node **node)
{
    for (;;) {
        if (gw_jinja_is_op(p, "."))
            TRY(parse_dot(p, node));
        else if (gw_jinja_is_op(p, "["))
            TRY(parse_subscript(p, node));
        else if (gw_jinja_is_op(p, "("))
            TRY(parse_call(p, node));
        else
            return GW_OK;
    }
}

/* "|" is the current token. */
static gw_err_t parse_filter(struct gw_jinja_parser *p, struct gw_jinja_node **node)
{
    struct gw_jinja_string name;
    p->at++;
    TRY(binary_new(p, GW_JINJA_N_FILTER, node));
    TRY(gw_jinja_expect_name(p, &name));
    (*node)->filter = gw_jinja_filter_find(name);
    if (!(*node)->filter)
        return gw_fail(p->ctx, GW_ERR_INPUT, "line %u: no filter named '%.*s'", p->at->line,
                       (int)(name.len < 40 ? name.len : 40), name.bytes);
    return gw_jinja_is_op(p, "(") ? parse_args(p, &(*node)->list) : GW_OK;
}

gw_err_t gw_jinja_parse_filters(struct gw_jinja_parser *p, struct gw_jinja_node **chain)
{
    while (gw_jinja_is_op(p, "|")) TRY(parse_filter(p, chain));
    return GW_OK;
}

/* Does an argument without brackets follow a test's name, as in "is divisibleby 3"? */
static bool bare_argument_follows(const struct gw_jinja_parser *p)
{
    if (p->at->type == GW_JINJA_TOK_NAME)
        return !gw_jinja_is_name(p, "else") && !gw_jinja_is_name(p, "or") && !gw_jinja_is_name(p, "and") &&
               !gw_jinja_is_name(p, "is") && !gw_jinja_is_name(p, "if");
    return p->at->type == GW_JINJA_TOK_STRING || p->at->type == GW_JINJA_TOK_INT ||
           p->at->type == GW_JINJA_TOK_FLOAT || gw_jinja_is_op(p, "[") || gw_jinja_is_op(p, "{");
}

/* "is" is the current token. */
static gw_err_t parse_test(struct gw_jinja_parser *p, struct gw_jinja_node **node)
{
    struct gw_jinja_string name;
    p->at++;
    TRY(binary_new(p, GW_JINJA_N_TEST, node));
    struct gw_jinja_node *n = *node;
    n->flag = gw_jinja_accept_name(p, "not");
    TRY(gw_jinja_expect_name(p, &name));
    n->test = gw_jinja_test_find(name);
    if (!n->test)
        return gw_fail(p->ctx, GW_ERR_INPUT, "line %u: no test named '%.*s'", p->at->line,
                       (int)(name.len < 40 ? name.len : 40), name.bytes);
    if (gw_jinja_is_op(p, "(")) return parse_args(p, &n->list);
    if (!bare_argument_follows(p)) return GW_OK;
    TRY(gw_jinja_node_new(p, GW_JINJA_N_ARG, &n->list));
    TRY(parse_primary(p, &n->list->a));
    return parse_postfix(p, &n->list->a);
}

/* Filters and tests bind more tightly than any operator in two places. */
static gw_err_t parse_filters_and_tests(struct gw_jinja_parser *p, struct gw_jinja_node **node)
{
    for (;;) {
        if (gw_jinja_is_op(p, "|"))
            TRY(parse_filter(p, node));
        else if (gw_jinja_is_name(p, "is"))
            TRY(parse_test(p, node));
        else if (gw_jinja_is_op(p, "("))
            TRY(parse_call(p, node));
        else
            return GW_OK;
    }
}

/* ---- operators, tightest first ---- */

static gw_err_t parse_sign(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    TRY(gw_jinja_node_new(p, gw_jinja_is_op(p, "-") ? GW_JINJA_N_NEG : GW_JINJA_N_POS, out));
    p->at++;
    TRY(gw_jinja_nest(p));
    TRY(parse_unary(p, false, &(*out)->a));
    p->depth--;
    return GW_OK;
}

static gw_err_t parse_unary(struct gw_jinja_parser *p, bool with_filters, struct gw_jinja_node **out)
{
    if (gw_jinja_is_op(p, "-") || gw_jinja_is_op(p, "+"))
        TRY(parse_sign(p, out));
    else
        TRY(parse_primary(p, out));
    TRY(parse_postfix(p, out));
    return with_filters ? parse_filters_and_tests(p, out) : GW_OK;
}

typedef gw_err_t (*parse_fn)(struct gw_jinja_parser *p, struct gw_jinja_node **out);

static bool is_any(const struct gw_jinja_parser *p, const char *const *ops)
{
    for (; *ops; ops++)
        if (gw_jinja_is_op(p, *ops)) return true;
    return false;
}

/* operand (op operand)*, from left to right. */
static gw_err_t parse_binary(struct gw_jinja_parser *p, const char *const *ops, parse_fn operand,
                             struct gw_jinja_node **out)
{
    TRY(operand(p, out));
    while (is_any(p, ops)) {
        TRY(binary_new(p, GW_JINJA_N_BINARY, out));
        (*out)->name = (struct gw_jinja_string){p->at->text, p->at->len};
        p->at++;
        TRY(operand(p, &(*out)->b));
    }
    return GW_OK;
}

static gw_err_t parse_operand(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    return parse_unary(p, true, out);
}

static gw_err_t parse_power(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    static const char *const ops[] = {"**", NULL};
    return parse_binary(p, ops, parse_operand, out);
}

static gw_err_t parse_product(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    static const char *const ops[] = {"*", "/", "//", "%", NULL};
    return parse_binary(p, ops, parse_power, out);
}

static gw_err_t parse_concat(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    struct gw_jinja_node *first;
    TRY(parse_product(p, &first));
    *out = first;
    if (!gw_jinja_is_op(p, "~")) return GW_OK;
    TRY(gw_jinja_node_new(p, GW_JINJA_N_CONCAT, out));
    (*out)->list = first;
    for (struct gw_jinja_node *tail = first; gw_jinja_accept_op(p, "~"); tail = tail->next)
        TRY(parse_product(p, &tail->next));
    return GW_OK;
}

static gw_err_t parse_sum(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    static const char *const ops[] = {"+", "-", NULL};
    return parse_binary(p, ops, parse_concat, out);
}

/* A comparison operator at the cursor; "in" and "not in" are such. Steps over it. */
static bool accept_comparison(struct gw_jinja_parser *p, struct gw_jinja_string *op)
{
    static const char *const ops[] = {"==", "!=", "<", "<=", ">", ">=", NULL};
    if (is_any(p, ops)) {
        *op = (struct gw_jinja_string){p->at->text, p->at->len};
        p->at++;
        return true;
    }
    if (gw_jinja_accept_name(p, "in")) {
        *op = (struct gw_jinja_string){"in", 2};
        return true;
    }
    bool not_in = gw_jinja_is_name(p, "not") && p->at[1].type == GW_JINJA_TOK_NAME && p->at[1].len == 2 &&
                  memcmp(p->at[1].text, "in", 2) == 0;
    if (!not_in) return false;
    p->at += 2;
    *op = (struct gw_jinja_string){"not in", 6};
    return true;
}

static gw_err_t parse_compare(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    struct gw_jinja_string op;
    TRY(parse_sum(p, out));
    struct gw_jinja_node **tail = NULL;
    while (accept_comparison(p, &op)) {
        if (!tail) {
            TRY(binary_new(p, GW_JINJA_N_COMPARE, out));
            tail = &(*out)->list;
        }
        TRY(gw_jinja_node_new(p, GW_JINJA_N_OPERAND, tail));
        (*tail)->name = op;
        TRY(parse_sum(p, &(*tail)->a));
        tail = &(*tail)->next;
    }
    return GW_OK;
}

static gw_err_t parse_not(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    if (!gw_jinja_is_name(p, "not")) return parse_compare(p, out);
    TRY(gw_jinja_node_new(p, GW_JINJA_N_NOT, out));
    p->at++;
    TRY(gw_jinja_nest(p));
    TRY(parse_not(p, &(*out)->a));
    p->depth--;
    return GW_OK;
}

static gw_err_t parse_and(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    TRY(parse_not(p, out));
    while (gw_jinja_accept_name(p, "and")) {
        TRY(binary_new(p, GW_JINJA_N_AND, out));
        TRY(parse_not(p, &(*out)->b));
    }
    return GW_OK;
}

static gw_err_t parse_or(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    TRY(parse_and(p, out));
    while (gw_jinja_accept_name(p, "or")) {
        TRY(binary_new(p, GW_JINJA_N_OR, out));
        TRY(parse_and(p, &(*out)->b));
    }
    return GW_OK;
}

/* then if test else otherwise; without else it is undefined. */
gw_err_t gw_jinja_parse_expr(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    TRY(gw_jinja_nest(p));
    TRY(parse_or(p, out));
    while (gw_jinja_accept_name(p, "if")) {
        struct gw_jinja_node *cond;
        TRY(gw_jinja_node_new(p, GW_JINJA_N_COND, &cond));
        cond->b = *out;
        TRY(parse_or(p, &cond->a));
        if (gw_jinja_accept_name(p, "else")) TRY(gw_jinja_parse_expr(p, &cond->c));
        *out = cond;
    }
    p->depth--;
    return GW_OK;
}

/* Does a tuple end here, behind a comma? */
static bool tuple_ends(const struct gw_jinja_parser *p)
{
    return p->at->type == GW_JINJA_TOK_BLOCK_END || p->at->type == GW_JINJA_TOK_VAR_END ||
           gw_jinja_is_op(p, ")");
}

gw_err_t gw_jinja_parse_tuple(struct gw_jinja_parser *p, bool with_cond, struct gw_jinja_node **out)
{
    parse_fn item = with_cond ? gw_jinja_parse_expr : parse_or;
    struct gw_jinja_node *first;
    TRY(item(p, &first));
    *out = first;
    if (!gw_jinja_is_op(p, ",")) return GW_OK;
    TRY(gw_jinja_node_new(p, GW_JINJA_N_TUPLE, out));
    (*out)->list = first;
    for (struct gw_jinja_node *tail = first; gw_jinja_accept_op(p, ",") && !tuple_ends(p); tail = tail->next)
        TRY(item(p, &tail->next));
    return GW_OK;
}
