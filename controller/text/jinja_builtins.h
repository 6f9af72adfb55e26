/* Jinja, builtins: the filters, tests, methods and functions that templates may use, as const tables.
 *
 *     {{ x | trim }}  filter      {{ x is defined }}  test      {{ x.strip() }}  method      {{ range(3) }}
 * function
 *
 * Filters and methods have one form: input, arguments, result. The tables are the whole sandbox: nothing else
 * can be called.
 *
 * Owner: static. Thread: any. Units: as Python's. Errors: GW_ERR_INPUT for wrong arguments, GW_ERR_LIMIT.
 * Source: Jinja 3.1 (filters.py, tests.py), Python's str, and transformers' chat template utilities. */
#ifndef GW_CONTROLLER_JINJA_BUILTINS_H
#define GW_CONTROLLER_JINJA_BUILTINS_H

#include "controller/text/jinja_run.h"

typedef gw_err_t (*gw_jinja_apply_fn)(struct gw_jinja_run *run, const struct gw_jinja_value *in,
                                      const struct gw_jinja_args *args, struct gw_jinja_value *out);

struct gw_jinja_filter {
    const char *name;
    gw_jinja_apply_fn apply;
};

struct gw_jinja_method {
    const char *name;
    gw_jinja_apply_fn apply;
};

struct gw_jinja_test {
    const char *name;
    gw_err_t (*check)(struct gw_jinja_run *run, const struct gw_jinja_value *in,
                      const struct gw_jinja_args *args, bool *out);
};

/* NULL if there is none of that name. */
const struct gw_jinja_filter *gw_jinja_filter_find(struct gw_jinja_string name);
const struct gw_jinja_test *gw_jinja_test_find(struct gw_jinja_string name);
const struct gw_jinja_method *gw_jinja_method_find(enum gw_jinja_kind kind, struct gw_jinja_string name);
const struct gw_jinja_function *gw_jinja_function_find(struct gw_jinja_string name);

/* The filters that work on lists; gw_jinja_filter_find looks through them too. Ends with a NULL name. */
extern const struct gw_jinja_filter gw_jinja_list_filters[];

/* Both in jinja_methods.c: filters and methods of one name share their work. */
gw_err_t gw_jinja_change_case(struct gw_jinja_run *run, struct gw_jinja_string s, int to,
                              struct gw_jinja_value *out) GW_MUST_USE;
gw_err_t gw_jinja_replace(struct gw_jinja_run *run, struct gw_jinja_string s,
                          const struct gw_jinja_args *args, struct gw_jinja_value *out) GW_MUST_USE;
gw_err_t gw_jinja_strip(struct gw_jinja_run *run, struct gw_jinja_string s, const struct gw_jinja_args *args,
                        int sides, struct gw_jinja_value *out) GW_MUST_USE;

#endif
