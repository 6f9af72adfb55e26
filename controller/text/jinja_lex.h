/* Jinja, tokens: cuts a template's source into text and the tokens of its {{ }} and {% %}.
 *
 * White space around tags is settled here: "-" strips it, "+" keeps it, and otherwise trim_blocks drops the
 * newline behind a block or comment, lstrip_blocks the blanks between a line's start and one. Line ends
 * become
 * "\n", and one at the very end is dropped. Comments and {% raw %} are gone afterwards.
 *
 * Owner: tokens point into the source, which the caller keeps. gw_jinja_tokens_fini frees the array.
 * Thread: any. Units: bytes, lines from 1. Errors: GW_ERR_INPUT with the line, GW_ERR_LIMIT, GW_ERR_MEMORY.
 * Source: Jinja 3.1, lexer.py. */
#ifndef GW_CONTROLLER_JINJA_LEX_H
#define GW_CONTROLLER_JINJA_LEX_H

#include <stdint.h>

#include "base/err.h"

#define GW_JINJA_SOURCE_MAX ((size_t)1 << 20) /* bytes; released templates have under 20 KB */
#define GW_JINJA_TOKENS_MAX ((size_t)1 << 18)

enum gw_jinja_token_type {
    GW_JINJA_TOK_TEXT,
    GW_JINJA_TOK_BLOCK_BEGIN,
    GW_JINJA_TOK_BLOCK_END,
    GW_JINJA_TOK_VAR_BEGIN,
    GW_JINJA_TOK_VAR_END,
    GW_JINJA_TOK_NAME,
    GW_JINJA_TOK_STRING, /* between the quotes, escapes still in it */
    GW_JINJA_TOK_INT,
    GW_JINJA_TOK_FLOAT,
    GW_JINJA_TOK_OP,
    GW_JINJA_TOK_END,
};

struct gw_jinja_token {
    enum gw_jinja_token_type type;
    uint32_t line;
    const char *text;
    size_t len;
};

struct gw_jinja_tokens {
    struct gw_jinja_token *items; /* the last is GW_JINJA_TOK_END */
    size_t len, cap;
};

/* Rewrites source in place with plain line ends; returns its new length. */
size_t gw_jinja_normalize(char *source, size_t len);

/* source is normalized, and UTF-8. On error nothing is held. */
gw_err_t gw_jinja_lex(const char *source, size_t len, struct gw_jinja_tokens *out,
                      struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_jinja_tokens_fini(struct gw_jinja_tokens *t);

#endif
