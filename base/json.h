/* JSON that came from outside: cJSON behind bounds, with typed getters that say which field is wrong.
 *
 * gw_json_parse refuses what cJSON would let through: more than max_bytes or GW_JSON_DEPTH_MAX levels,
 * trailing bytes, NUL bytes (as \u0000 too: C strings would end there), numbers that are not finite, invalid
 * UTF-8, and what RFC 8259 does not allow (json_lex.h). Getters look up one field of an object: absent or null leaves *out at its default and
 * returns OK; a wrong type or range is GW_ERR_INPUT with the field's name in the text.
 *
 * Owner: the caller frees the tree with cJSON_Delete. Thread: one tree, one thread at a time.
 * Errors: GW_ERR_INPUT, GW_ERR_LIMIT, GW_ERR_MEMORY; on error *out is unchanged. Source: RFC 8259; own
 * design. */
#ifndef GW_BASE_JSON_H
#define GW_BASE_JSON_H

#include <cjson/cJSON.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define GW_JSON_DEPTH_MAX 64

gw_err_t gw_json_parse(const char *text, size_t len, size_t max_bytes, cJSON **out,
                       struct gw_err_ctx *ctx) GW_MUST_USE;

/* Reads a whole file of at most max_bytes and parses it. The text of errors names the file. */
gw_err_t gw_json_parse_file(const char *path, size_t max_bytes, cJSON **out,
                            struct gw_err_ctx *ctx) GW_MUST_USE;

/* Integer in [min, max]; 3.0 is accepted as 3, 3.5 is not. */
gw_err_t gw_json_int(const cJSON *obj, const char *field, int64_t min, int64_t max, int64_t *out,
                     struct gw_err_ctx *ctx) GW_MUST_USE;
gw_err_t gw_json_double(const cJSON *obj, const char *field, double min, double max, double *out,
                        struct gw_err_ctx *ctx) GW_MUST_USE;
gw_err_t gw_json_bool(const cJSON *obj, const char *field, bool *out, struct gw_err_ctx *ctx) GW_MUST_USE;
/* *out points into the tree. */
gw_err_t gw_json_string(const cJSON *obj, const char *field, const char **out,
                        struct gw_err_ctx *ctx) GW_MUST_USE;

/* Appends text as a JSON string with its quotes. Invalid UTF-8 becomes U+FFFD; control bytes are escaped. */
void gw_json_put_string(struct gw_buf *b, const char *text, size_t len);

#endif
