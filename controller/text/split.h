/* Split: cuts text into words by a regular expression, each match and each gap between matches being a word.
 *
 * The pattern is one that was written for Oniguruma, which `tokenizers` uses, and runs on PCRE2 (UTF and UCP,
 * JIT where there is one). What the two read differently is rewritten (\s, \S) or refused (\w, \b, nested
 * classes, patterns that match nothing at all ...), so that an accepted pattern cuts as the reference does.
 *
 * Owner: create/destroy; a matcher is init/fini, one per thread, for any number of patterns.
 * Thread: gw_split is immutable. Units: bytes. Errors: GW_ERR_INPUT (pattern), GW_ERR_LIMIT (a match took
 * more steps, depth or memory than the named maxima), GW_ERR_MEMORY. Source: pcre2api(3), Oniguruma's doc/RE.
 */
#ifndef GW_CONTROLLER_SPLIT_H
#define GW_CONTROLLER_SPLIT_H

#include "base/err.h"

#define GW_SPLIT_PATTERN_MAX (16u << 10) /* bytes; released ones have under 1 KB */

struct gw_split;

gw_err_t gw_split_create(const char *pattern, size_t len, struct gw_split **out,
                         struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_split_destroy(struct gw_split *s);

struct gw_matcher {
    void *data, *context, *stack; /* PCRE2's */
};

/* For texts of at most max_len bytes: the step limit grows with the text, linearly. */
gw_err_t gw_matcher_init(struct gw_matcher *m, size_t max_len) GW_MUST_USE;
void gw_matcher_fini(struct gw_matcher *m);

/* Walks over one text: {.text = ..., .len = ...}, then gw_split_next until there is nothing left. */
struct gw_split_walk {
    const char *text; /* well-formed UTF-8 */
    size_t len;
    size_t pos;                    /* where the next word begins */
    size_t match_start, match_end; /* the match found last; it may lie ahead, behind a gap */
};

/* Next word, [*start, *start + *len) of the text, never empty; *len = 0 at the end. */
gw_err_t gw_split_next(const struct gw_split *s, struct gw_matcher *m, struct gw_split_walk *walk,
                       const char **word, size_t *len, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
