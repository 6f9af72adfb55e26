/* Jinja, parser: tokens become a syntax tree. jinja_parse.c has the statements, jinja_parse_expr.c the
 * expressions; both use the cursor below.
 *
 * Owner: nodes and unescaped texts live in the arena that the caller gives; names and plain texts point into
 * the source. Thread: any. Units: lines from 1. Errors: GW_ERR_INPUT ("line N: ..."), GW_ERR_LIMIT,
 * GW_ERR_MEMORY. Source: Jinja 3.1, parser.py. */
#ifndef GW_CONTROLLER_JINJA_PARSER_H
#define GW_CONTROLLER_JINJA_PARSER_H

#include "controller/text/arena.h"
#include "controller/text/jinja_ast.h"
#include "controller/text/jinja_lex.h"

#define GW_JINJA_NESTING_MAX 100 /* of statements, brackets and prefix operators, together */

struct gw_jinja_parser {
    const struct gw_jinja_token *at;
    struct gw_arena *arena;
    int depth, loops; /* for statements around, for break and continue */
    struct gw_err_ctx *ctx;
};

/* Parses all tokens; *out is the chain of statements (NULL for an empty template). */
gw_err_t gw_jinja_parse(const struct gw_jinja_tokens *tokens, struct gw_arena *arena,
                        struct gw_jinja_node **out, struct gw_err_ctx *ctx) GW_MUST_USE;

/* One expression; a tuple of them where commas follow. Without with_cond an "if" is left for the statement.
 */
gw_err_t gw_jinja_parse_expr(struct gw_jinja_parser *p, struct gw_jinja_node **out) GW_MUST_USE;
gw_err_t gw_jinja_parse_tuple(struct gw_jinja_parser *p, bool with_cond,
                              struct gw_jinja_node **out) GW_MUST_USE;
/* "| filter | filter": *chain is the input and becomes the outermost filter. */
gw_err_t gw_jinja_parse_filters(struct gw_jinja_parser *p, struct gw_jinja_node **chain) GW_MUST_USE;

gw_err_t gw_jinja_node_new(struct gw_jinja_parser *p, enum gw_jinja_node_type type,
                           struct gw_jinja_node **out) GW_MUST_USE;
/* Is the current token this operator or name? accept: then step over it. expect: else fail. */
bool gw_jinja_is_op(const struct gw_jinja_parser *p, const char *op);
bool gw_jinja_is_name(const struct gw_jinja_parser *p, const char *name);
bool gw_jinja_accept_op(struct gw_jinja_parser *p, const char *op);
bool gw_jinja_accept_name(struct gw_jinja_parser *p, const char *name);
gw_err_t gw_jinja_expect_op(struct gw_jinja_parser *p, const char *op) GW_MUST_USE;
gw_err_t gw_jinja_expect_name(struct gw_jinja_parser *p, struct gw_jinja_string *out) GW_MUST_USE;
gw_err_t gw_jinja_unexpected(struct gw_jinja_parser *p) GW_MUST_USE;
gw_err_t gw_jinja_nest(struct gw_jinja_parser *p) GW_MUST_USE;

#endif
