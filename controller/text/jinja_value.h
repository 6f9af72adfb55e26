/* Jinja, values: what expressions of a template compute with, after Python's types.
 *
 * Values are small and passed by copy. What they point to lives in the run's arena, in the template, or in
 * the caller's JSON until the run ends; nothing is changed after it was made, except namespaces.
 *
 * Owner: nothing to free. Thread: one run, one thread. Units: bytes, code points where said.
 * Errors: GW_ERR_INPUT for what Python would raise, GW_ERR_LIMIT. Source: Jinja 3.1, Python 3. */
#ifndef GW_CONTROLLER_JINJA_VALUE_H
#define GW_CONTROLLER_JINJA_VALUE_H

#include <cjson/cJSON.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct gw_jinja_run;
struct gw_jinja_node;
struct gw_jinja_scope;
struct gw_jinja_args;
struct gw_jinja_method;

enum gw_jinja_kind {
    GW_JINJA_UNDEFINED,
    GW_JINJA_NONE,
    GW_JINJA_BOOL,
    GW_JINJA_INT,
    GW_JINJA_FLOAT,
    GW_JINJA_STRING,
    GW_JINJA_LIST, /* tuples too */
    GW_JINJA_DICT,
    GW_JINJA_NAMESPACE,
    GW_JINJA_LOOP,     /* the variable of that name inside a for */
    GW_JINJA_FUNCTION, /* namespace, range ... */
    GW_JINJA_METHOD,   /* "text".strip: a function with its first argument */
    GW_JINJA_MACRO,
};

struct gw_jinja_string {
    const char *bytes; /* UTF-8 */
    size_t len;
};

struct gw_jinja_value {
    enum gw_jinja_kind kind;
    union {
        bool truth;
        int64_t integer;
        double real;
        struct gw_jinja_string string;
        struct gw_jinja_list *list;
        struct gw_jinja_dict *dict; /* DICT and NAMESPACE */
        const struct gw_jinja_loop *loop;
        const struct gw_jinja_function *function;
        const struct gw_jinja_bound *bound;
        const struct gw_jinja_macro *macro;
        const struct gw_jinja_missing *missing; /* UNDEFINED: what was looked for; NULL = unknown */
    };
};

struct gw_jinja_list {
    struct gw_jinja_value *items;
    size_t len, cap;
    bool tuple;
    bool lazy; /* map, select: a generator in Python, which is true and has no length, whatever it gives */
};

struct gw_jinja_pair {
    struct gw_jinja_value key, value;
};

/* In order of insertion. A key may be there twice when it came from JSON; the last one counts. */
struct gw_jinja_dict {
    struct gw_jinja_pair *pairs;
    size_t len, cap;
};

struct gw_jinja_loop {
    const struct gw_jinja_list *items;
    size_t index; /* from 0 */
};

struct gw_jinja_function {
    const char *name;
    gw_err_t (*call)(struct gw_jinja_run *run, const struct gw_jinja_args *args, struct gw_jinja_value *out);
};

struct gw_jinja_bound {
    const struct gw_jinja_method *method;
    struct gw_jinja_value self;
};

struct gw_jinja_macro {
    const struct gw_jinja_node *node;
    struct gw_jinja_scope *scope; /* where it was defined */
};

struct gw_jinja_missing {
    bool of_value; /* an attribute or item of a value of kind owner; else a variable */
    enum gw_jinja_kind owner;
    struct gw_jinja_value key;
};

struct gw_jinja_value gw_jinja_none(void);
struct gw_jinja_value gw_jinja_bool(bool truth);
struct gw_jinja_value gw_jinja_int(int64_t i);
struct gw_jinja_value gw_jinja_float(double f);
struct gw_jinja_value gw_jinja_text(const char *bytes, size_t len);

/* Empty containers; items are appended before anyone else sees them. */
gw_err_t gw_jinja_list_new(struct gw_jinja_run *run, size_t room, bool tuple,
                           struct gw_jinja_value *out) GW_MUST_USE;
gw_err_t gw_jinja_list_put(struct gw_jinja_run *run, struct gw_jinja_list *list,
                           struct gw_jinja_value item) GW_MUST_USE;
gw_err_t gw_jinja_dict_new(struct gw_jinja_run *run, struct gw_jinja_value *out) GW_MUST_USE;
/* Sets a key, or overwrites its value. */
gw_err_t gw_jinja_dict_set(struct gw_jinja_run *run, struct gw_jinja_dict *dict, struct gw_jinja_value key,
                           struct gw_jinja_value value) GW_MUST_USE;
/* *out = the value, or NULL. */
gw_err_t gw_jinja_dict_get(struct gw_jinja_run *run, const struct gw_jinja_dict *dict,
                           struct gw_jinja_value key, const struct gw_jinja_value **out) GW_MUST_USE;

/* Undefined, with what it was for its error message. */
gw_err_t gw_jinja_undefined_name(struct gw_jinja_run *run, struct gw_jinja_string name,
                                 struct gw_jinja_value *out) GW_MUST_USE;
gw_err_t gw_jinja_undefined_of(struct gw_jinja_run *run, enum gw_jinja_kind owner, struct gw_jinja_value key,
                               struct gw_jinja_value *out) GW_MUST_USE;
/* Fails with "'x' is undefined" and the like. */
gw_err_t gw_jinja_fail_undefined(struct gw_jinja_run *run, const struct gw_jinja_value *v) GW_MUST_USE;

/* A tree of JSON as values that borrow its strings. Numbers without a fraction become integers. */
gw_err_t gw_jinja_from_json(struct gw_jinja_run *run, const cJSON *json,
                            struct gw_jinja_value *out) GW_MUST_USE;

bool gw_jinja_truth(const struct gw_jinja_value *v);
bool gw_jinja_is_number(const struct gw_jinja_value *v); /* bools too, as in Python */
double gw_jinja_as_double(const struct gw_jinja_value *number);
bool gw_jinja_text_is(const struct gw_jinja_value *v, const char *text);
/* "str", "list", "NoneType" ... */
const char *gw_jinja_type_name(enum gw_jinja_kind kind);

/* a == b. */
gw_err_t gw_jinja_equal(struct gw_jinja_run *run, const struct gw_jinja_value *a,
                        const struct gw_jinja_value *b, bool *out) GW_MUST_USE;
/* *out < 0, 0, > 0; fails for kinds that have no order. */
gw_err_t gw_jinja_compare(struct gw_jinja_run *run, const struct gw_jinja_value *a,
                          const struct gw_jinja_value *b, int *out) GW_MUST_USE;
/* item in container. */
gw_err_t gw_jinja_contains(struct gw_jinja_run *run, const struct gw_jinja_value *container,
                           const struct gw_jinja_value *item, bool *out) GW_MUST_USE;
/* What a for loop walks over: list itself, characters of text, keys of a dict, nothing of undefined. */
gw_err_t gw_jinja_iterate(struct gw_jinja_run *run, const struct gw_jinja_value *v,
                          struct gw_jinja_list **out) GW_MUST_USE;

#endif
