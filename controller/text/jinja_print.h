/* Jinja, printing: values as text, as Python's str, repr and json.dumps write them.
 *
 * Owner: text goes to the caller's buffer. Thread: one run, one thread. Units: bytes.
 * Errors: GW_ERR_INPUT (what JSON cannot hold), GW_ERR_LIMIT (steps, depth); the buffer's own stays in it.
 * Source: Python 3 (repr of float and str, json). */
#ifndef GW_CONTROLLER_JINJA_PRINT_H
#define GW_CONTROLLER_JINJA_PRINT_H

#include "controller/text/jinja_run.h"

#define GW_JINJA_INDENT_MAX 32 /* spaces per level of tojson(indent=...) */

/* str(v): texts as they are, undefined as nothing. */
gw_err_t gw_jinja_print(struct gw_jinja_run *run, const struct gw_jinja_value *v,
                        struct gw_buf *out) GW_MUST_USE;

struct gw_jinja_json_style {
    int indent; /* spaces per level; -1 = all on one line */
    bool ascii, sort_keys;
    struct gw_jinja_string item_separator, key_separator;
};

gw_err_t gw_jinja_print_json(struct gw_jinja_run *run, const struct gw_jinja_value *v,
                             const struct gw_jinja_json_style *style, struct gw_buf *out) GW_MUST_USE;

/* repr of a float: the shortest digits that give it back. Shared by str and JSON. */
void gw_jinja_print_float(double f, struct gw_buf *out);

#endif
