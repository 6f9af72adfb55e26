/* Onig: rewrites a regular expression from Oniguruma's reading to PCRE2's, or refuses it.
 *
 *     \s        the 25 characters with White_Space (PCRE2 would add U+180E)
 *     \S        their complement; inside a class it stays as it is, which differs for U+180E alone
 *     others    \p{..} \P{..} \d \D \r \n \t \x{..} and escaped punctuation mean the same in both
 *     refused   all other escapes (\w, \b, \h, \K ...), classes in classes, && in a class, (? with anything
 *               but : = ! <= <! > and the flag i, (*verbs
 *
 * Owner: the caller's buffer. Thread: safe. Units: bytes. Errors: GW_ERR_INPUT (text says what and where),
 * the buffer's own. Source: Oniguruma 6.9 doc/RE, pcre2pattern(3). */
#ifndef GW_CONTROLLER_ONIG_H
#define GW_CONTROLLER_ONIG_H

#include "base/buf.h"

gw_err_t gw_onig_to_pcre2(const char *pattern, size_t len, struct gw_buf *out,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
