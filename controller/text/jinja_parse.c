#include "controller/text/jinja_parser.h"

#include <string.h>

/* ---- cursor ---- */

gw_err_t gw_jinja_node_new(struct gw_jinja_parser *p, enum gw_jinja_node_type type,
                           struct gw_jinja_node **out)
{
    struct gw_jinja_node *n = gw_arena_alloc(p->arena, sizeof *n);
    if (!n) return gw_fail(p->ctx, p->arena->err, "line %u: the template is too large", p->at->line);
    *n = (struct gw_jinja_node){.type = type, .line = p->at->line};
    *out = n;
    return GW_OK;
}

static bool token_is(const struct gw_jinja_parser *p, enum gw_jinja_token_type type, const char *text)
{
    return p->at->type == type && p->at->len == strlen(text) && memcmp(p->at->text, text, p->at->len) == 0;
}

bool gw_jinja_is_op(const struct gw_jinja_parser *p, const char *op)
{
    return token_is(p, GW_JINJA_TOK_OP, op);
}

bool gw_jinja_is_name(const struct gw_jinja_parser *p, const char *name)
{
    return token_is(p, GW_JINJA_TOK_NAME, name);
}

bool gw_jinja_accept_op(struct gw_jinja_parser *p, const char *op)
{
    bool yes = gw_jinja_is_op(p, op);
    p->at += yes;
    return yes;
}

bool gw_jinja_accept_name(struct gw_jinja_parser *p, const char *name)
{
    bool yes = gw_jinja_is_name(p, name);
    p->at += yes;
    return yes;
}

gw_err_t gw_jinja_unexpected(struct gw_jinja_parser *p)
{
    if (p->at->type == GW_JINJA_TOK_END)
        return gw_fail(p->ctx, GW_ERR_INPUT, "line %u: unexpected end of the template", p->at->line);
    int shown = (int)(p->at->len < 40 ? p->at->len : 40);
    return gw_fail(p->ctx, GW_ERR_INPUT, "line %u: unexpected '%.*s'", p->at->line, shown, p->at->text);
}

gw_err_t gw_jinja_expect_op(struct gw_jinja_parser *p, const char *op)
{
    return gw_jinja_accept_op(p, op) ? GW_OK : gw_jinja_unexpected(p);
}

gw_err_t gw_jinja_expect_name(struct gw_jinja_parser *p, struct gw_jinja_string *out)
{
    if (p->at->type != GW_JINJA_TOK_NAME) return gw_jinja_unexpected(p);
    *out = (struct gw_jinja_string){p->at->text, p->at->len};
    p->at++;
    return GW_OK;
}

gw_err_t gw_jinja_nest(struct gw_jinja_parser *p)
{
    if (p->depth >= GW_JINJA_NESTING_MAX)
        return gw_fail(p->ctx, GW_ERR_LIMIT, "line %u: nested deeper than %d levels", p->at->line,
                       GW_JINJA_NESTING_MAX);
    p->depth++;
    return GW_OK;
}

/* ---- statements ---- */

static gw_err_t expect_type(struct gw_jinja_parser *p, enum gw_jinja_token_type type)
{
    if (p->at->type != type) return gw_jinja_unexpected(p);
    p->at++;
    return GW_OK;
}

static gw_err_t parse_statements(struct gw_jinja_parser *p, const char *const *ends,
                                 struct gw_jinja_node **out);

/* The block's own "%}", then statements up to one of ends, whose name is then the current token. */
static gw_err_t parse_body(struct gw_jinja_parser *p, const char *const *ends, struct gw_jinja_node **out)
{
    TRY(expect_type(p, GW_JINJA_TOK_BLOCK_END));
    TRY(gw_jinja_nest(p));
    TRY(parse_statements(p, ends, out));
    p->depth--;
    return GW_OK;
}

static gw_err_t parse_if(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif", NULL};
    TRY(gw_jinja_node_new(p, GW_JINJA_N_IF, out));
    struct gw_jinja_node **tail = &(*out)->list;
    do {
        TRY(gw_jinja_node_new(p, GW_JINJA_N_BRANCH, tail));
        TRY(gw_jinja_parse_tuple(p, false, &(*tail)->a));
        TRY(parse_body(p, ends, &(*tail)->list));
        tail = &(*tail)->next;
    } while (gw_jinja_accept_name(p, "elif"));
    if (gw_jinja_accept_name(p, "else")) TRY(parse_body(p, last, &(*out)->c));
    p->at++; /* endif */
    return GW_OK;
}

/* name, or with_attr: name.attr (an ATTR over a NAME). */
static gw_err_t parse_target(struct gw_jinja_parser *p, bool with_attr, struct gw_jinja_node **out)
{
    struct gw_jinja_node *object;
    TRY(gw_jinja_node_new(p, GW_JINJA_N_TARGET, out));
    TRY(gw_jinja_expect_name(p, &(*out)->name));
    if (!with_attr || !gw_jinja_accept_op(p, ".")) return GW_OK;
    object = *out;
    object->type = GW_JINJA_N_NAME;
    TRY(gw_jinja_node_new(p, GW_JINJA_N_ATTR, out));
    (*out)->a = object;
    return gw_jinja_expect_name(p, &(*out)->name);
}

static gw_err_t parse_targets(struct gw_jinja_parser *p, bool with_attr, struct gw_jinja_node **out)
{
    bool bracket = gw_jinja_accept_op(p, "(");
    struct gw_jinja_node **tail = out;
    do {
        TRY(parse_target(p, with_attr, tail));
        tail = &(*tail)->next;
    } while (gw_jinja_accept_op(p, ",") && p->at->type == GW_JINJA_TOK_NAME && !gw_jinja_is_name(p, "in"));
    return bracket ? gw_jinja_expect_op(p, ")") : GW_OK;
}

static gw_err_t parse_for(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    TRY(gw_jinja_node_new(p, GW_JINJA_N_FOR, out));
    TRY(parse_targets(p, false, &(*out)->d));
    if (!gw_jinja_accept_name(p, "in")) return gw_jinja_unexpected(p);
    TRY(gw_jinja_parse_tuple(p, false, &(*out)->a));
    if (gw_jinja_accept_name(p, "if")) TRY(gw_jinja_parse_expr(p, &(*out)->b));
    p->loops++;
    TRY(parse_body(p, ends, &(*out)->list));
    p->loops--;
    if (gw_jinja_accept_name(p, "else")) TRY(parse_body(p, last, &(*out)->c));
    p->at++; /* endfor */
    return GW_OK;
}

/* {% set x %}text{% endset %}, {% set x | filter %}...: the filters' input is the variable "*", which no
 * template can name. */
static gw_err_t parse_set_block(struct gw_jinja_parser *p, struct gw_jinja_node *targets,
                                struct gw_jinja_node **out)
{
    static const char *const ends[] = {"endset", NULL};
    if (targets->next) return gw_jinja_unexpected(p);
    TRY(gw_jinja_node_new(p, GW_JINJA_N_SET_BLOCK, out));
    (*out)->d = targets;
    TRY(gw_jinja_node_new(p, GW_JINJA_N_NAME, &(*out)->a));
    (*out)->a->name = (struct gw_jinja_string){"*", 1};
    TRY(gw_jinja_parse_filters(p, &(*out)->a));
    TRY(parse_body(p, ends, &(*out)->list));
    p->at++; /* endset */
    return GW_OK;
}

static gw_err_t parse_set(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    struct gw_jinja_node *targets = NULL;
    TRY(parse_targets(p, true, &targets));
    if (!gw_jinja_accept_op(p, "=")) return parse_set_block(p, targets, out);
    TRY(gw_jinja_node_new(p, GW_JINJA_N_SET, out));
    (*out)->list = targets;
    return gw_jinja_parse_tuple(p, true, &(*out)->a);
}

static gw_err_t parse_params(struct gw_jinja_parser *p, struct gw_jinja_node **tail)
{
    TRY(gw_jinja_expect_op(p, "("));
    while (!gw_jinja_is_op(p, ")")) {
        TRY(gw_jinja_node_new(p, GW_JINJA_N_PARAM, tail));
        TRY(gw_jinja_expect_name(p, &(*tail)->name));
        if (gw_jinja_accept_op(p, "=")) TRY(gw_jinja_parse_expr(p, &(*tail)->a));
        tail = &(*tail)->next;
        if (!gw_jinja_accept_op(p, ",")) break;
    }
    return gw_jinja_expect_op(p, ")");
}

static gw_err_t parse_macro(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    static const char *const ends[] = {"endmacro", NULL};
    int loops = p->loops;
    TRY(gw_jinja_node_new(p, GW_JINJA_N_MACRO, out));
    TRY(gw_jinja_expect_name(p, &(*out)->name));
    TRY(parse_params(p, &(*out)->d));
    p->loops = 0;
    TRY(parse_body(p, ends, &(*out)->list));
    p->loops = loops;
    p->at++; /* endmacro */
    return GW_OK;
}

/* {% generation %}: marks the assistant's words for training; here it only is a scope. */
static gw_err_t parse_generation(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    static const char *const ends[] = {"endgeneration", NULL};
    TRY(gw_jinja_node_new(p, GW_JINJA_N_SCOPE, out));
    TRY(parse_body(p, ends, &(*out)->list));
    p->at++; /* endgeneration */
    return GW_OK;
}

static gw_err_t parse_jump(struct gw_jinja_parser *p, enum gw_jinja_node_type type,
                           struct gw_jinja_node **out)
{
    if (p->loops == 0)
        return gw_fail(p->ctx, GW_ERR_INPUT, "line %u: break or continue outside of a loop", p->at->line);
    return gw_jinja_node_new(p, type, out);
}

static gw_err_t parse_statement(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    if (gw_jinja_accept_name(p, "if")) return parse_if(p, out);
    if (gw_jinja_accept_name(p, "for")) return parse_for(p, out);
    if (gw_jinja_accept_name(p, "set")) return parse_set(p, out);
    if (gw_jinja_accept_name(p, "macro")) return parse_macro(p, out);
    if (gw_jinja_accept_name(p, "generation")) return parse_generation(p, out);
    if (gw_jinja_accept_name(p, "break")) return parse_jump(p, GW_JINJA_N_BREAK, out);
    if (gw_jinja_accept_name(p, "continue")) return parse_jump(p, GW_JINJA_N_CONTINUE, out);
    int shown = (int)(p->at->len < 40 ? p->at->len : 40);
    return gw_fail(p->ctx, GW_ERR_INPUT, "line %u: unknown tag '%.*s'", p->at->line, shown, p->at->text);
}

static gw_err_t parse_text(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    TRY(gw_jinja_node_new(p, GW_JINJA_N_TEXT, out));
    (*out)->value = gw_jinja_text(p->at->text, p->at->len);
    p->at++;
    return GW_OK;
}

static gw_err_t parse_output(struct gw_jinja_parser *p, struct gw_jinja_node **out)
{
    p->at++;
    TRY(gw_jinja_node_new(p, GW_JINJA_N_OUTPUT, out));
    TRY(gw_jinja_parse_tuple(p, true, &(*out)->a));
    return expect_type(p, GW_JINJA_TOK_VAR_END);
}

static bool is_one_of(const struct gw_jinja_parser *p, const char *const *names)
{
    for (; *names; names++)
        if (gw_jinja_is_name(p, *names)) return true;
    return false;
}

/* The last of ends is the one that closes the block. */
static gw_err_t fail_unclosed(struct gw_jinja_parser *p, const char *const *ends)
{
    while (ends[1]) ends++;
    return gw_fail(p->ctx, GW_ERR_INPUT, "line %u: the template ends where '%s' is missing", p->at->line,
                   *ends);
}

/* ends NULL: up to the template's end. */
static gw_err_t parse_statements(struct gw_jinja_parser *p, const char *const *ends,
                                 struct gw_jinja_node **out)
{
    for (;;) {
        if (p->at->type == GW_JINJA_TOK_END) return ends ? fail_unclosed(p, ends) : GW_OK;
        if (p->at->type == GW_JINJA_TOK_TEXT) {
            TRY(parse_text(p, out));
        } else if (p->at->type == GW_JINJA_TOK_VAR_BEGIN) {
            TRY(parse_output(p, out));
        } else {
            TRY(expect_type(p, GW_JINJA_TOK_BLOCK_BEGIN));
            if (ends && is_one_of(p, ends)) return GW_OK;
            TRY(parse_statement(p, out));
            TRY(expect_type(p, GW_JINJA_TOK_BLOCK_END));
        }
        out = &(*out)->next;
    }
}

gw_err_t gw_jinja_parse(const struct gw_jinja_tokens *tokens, struct gw_arena *arena,
                        struct gw_jinja_node **out, struct gw_err_ctx *ctx)
{
    struct gw_jinja_parser p = {.at = tokens->items, .arena = arena, .ctx = ctx};
    struct gw_jinja_node *first = NULL;
    TRY(parse_statements(&p, NULL, &first));
    *out = first;
    return GW_OK;
}
