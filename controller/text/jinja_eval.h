/* Jinja, evaluation: expressions to values (jinja_eval.c, jinja_ops.c, jinja_access.c), statements to text
 * (jinja_exec.c).
 *
 * Owner: values live in the run. Thread: one run, one thread. Units: none.
 * Errors: GW_ERR_INPUT ("line N: ..." as Jinja and Python put it), GW_ERR_LIMIT, GW_ERR_MEMORY.
 * Source: Jinja 3.1. */
#ifndef GW_CONTROLLER_JINJA_EVAL_H
#define GW_CONTROLLER_JINJA_EVAL_H

#include "controller/text/jinja_run.h"

gw_err_t gw_jinja_eval(struct gw_jinja_run *run, const struct gw_jinja_node *node,
                       struct gw_jinja_value *out) GW_MUST_USE;

/* Runs a chain of statements; stops early when run->signal is set. */
gw_err_t gw_jinja_exec(struct gw_jinja_run *run, const struct gw_jinja_node *first) GW_MUST_USE;
/* Runs it in the current scope and collects its text. */
gw_err_t gw_jinja_capture(struct gw_jinja_run *run, const struct gw_jinja_node *first,
                          struct gw_jinja_value *out) GW_MUST_USE;
gw_err_t gw_jinja_call_macro(struct gw_jinja_run *run, const struct gw_jinja_macro *macro,
                             const struct gw_jinja_args *args, struct gw_jinja_value *out) GW_MUST_USE;

/* a op b for + - * / // % **. */
gw_err_t gw_jinja_binary(struct gw_jinja_run *run, struct gw_jinja_string op, const struct gw_jinja_value *a,
                         const struct gw_jinja_value *b, struct gw_jinja_value *out) GW_MUST_USE;
gw_err_t gw_jinja_negate(struct gw_jinja_run *run, const struct gw_jinja_value *a,
                         struct gw_jinja_value *out) GW_MUST_USE;

/* object.name, object[key], object[start:stop:step]; start, stop, step are NULL or none where not given. */
gw_err_t gw_jinja_attribute(struct gw_jinja_run *run, const struct gw_jinja_value *object,
                            struct gw_jinja_string name, struct gw_jinja_value *out) GW_MUST_USE;
gw_err_t gw_jinja_item(struct gw_jinja_run *run, const struct gw_jinja_value *object,
                       const struct gw_jinja_value *key, struct gw_jinja_value *out) GW_MUST_USE;
gw_err_t gw_jinja_slice(struct gw_jinja_run *run, const struct gw_jinja_value *object,
                        const struct gw_jinja_value *const bounds[3], struct gw_jinja_value *out) GW_MUST_USE;

#endif
