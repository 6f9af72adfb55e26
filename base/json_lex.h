/* The words of a JSON text, looked at before cJSON parses it.
 *
 * cJSON is lenient where RFC 8259 is not (raw control bytes in strings, `1.`, `01`, `\u12zz`, a byte order mark), it
 * recurses as deep as the text nests, and it hands out C strings, which a NUL would cut short. A text that passes here
 * and that cJSON accepts is JSON by the RFC, no deeper than the limit, without NULs.
 *
 * Owner: borrows. Thread: safe. Units: bytes. Errors: GW_ERR_INPUT; the text says where. Source: RFC 8259. */
#ifndef GW_BASE_JSON_LEX_H
#define GW_BASE_JSON_LEX_H

#include "base/err.h"

gw_err_t gw_json_lex_check(const char *text, size_t len, int depth_max, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
