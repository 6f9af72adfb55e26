/* Jinja, syntax tree: what the parser makes of a template and the evaluator walks.
 *
 * One struct serves all nodes; the table below says which fields a type uses. Lists are chained by `next`.
 *
 *     type      a          b           c       list                    name      value   flag
 *     TEXT                                                                       text
 *     OUTPUT    expr
 *     IF                               else    BRANCH: a test, list
 *     FOR       iterable   filter      else    body                                      (targets in d)
 *     SET       value                          targets: TARGET, ATTR
 *     SET_BLOCK filter                         body  (target in d)
 *     MACRO                                    body  (params in d: PARAM name, a default)  name
 *     SCOPE                                    body
 *     BREAK, CONTINUE
 *     CONST                                                                      value
 *     NAME                                                             name
 *     LIST, TUPLE, DICT                        items (dict: key, value, key ...)
 *     NOT, NEG, POS   a
 *     AND, OR, BINARY a    b                                           name = operator
 *     CONCAT                                   parts
 *     COMPARE   first                          OPERAND: a, name = operator
 *     COND      test       then        else or NULL
 *     ATTR      object                                                 name
 *     ITEM      object     key
 *     SLICE     object     start       stop    (step in d), each may be NULL
 *     FILTER    input or NULL                  ARG: a, name ("" = by position)     filter
 *     TEST      input                          ARG                               test    flag: negated
 *     CALL      callee                         ARG
 *
 * Owner: the template's arena. Thread: immutable once parsed. Units: none. Errors: none. Source: own design.
 */
#ifndef GW_CONTROLLER_JINJA_AST_H
#define GW_CONTROLLER_JINJA_AST_H

#include "controller/text/jinja_value.h"

struct gw_jinja_filter;
struct gw_jinja_test;

enum gw_jinja_node_type {
    GW_JINJA_N_TEXT,
    GW_JINJA_N_OUTPUT,
    GW_JINJA_N_IF,
    GW_JINJA_N_BRANCH,
    GW_JINJA_N_FOR,
    GW_JINJA_N_SET,
    GW_JINJA_N_SET_BLOCK,
    GW_JINJA_N_MACRO,
    GW_JINJA_N_PARAM,
    GW_JINJA_N_SCOPE,
    GW_JINJA_N_BREAK,
    GW_JINJA_N_CONTINUE,
    GW_JINJA_N_TARGET,
    GW_JINJA_N_CONST,
    GW_JINJA_N_NAME,
    GW_JINJA_N_LIST,
    GW_JINJA_N_TUPLE,
    GW_JINJA_N_DICT,
    GW_JINJA_N_NOT,
    GW_JINJA_N_NEG,
    GW_JINJA_N_POS,
    GW_JINJA_N_AND,
    GW_JINJA_N_OR,
    GW_JINJA_N_BINARY,
    GW_JINJA_N_CONCAT,
    GW_JINJA_N_COMPARE,
    GW_JINJA_N_OPERAND,
    GW_JINJA_N_COND,
    GW_JINJA_N_ATTR,
    GW_JINJA_N_ITEM,
    GW_JINJA_N_SLICE,
    GW_JINJA_N_FILTER,
    GW_JINJA_N_TEST,
    GW_JINJA_N_CALL,
    GW_JINJA_N_ARG,
};

struct gw_jinja_node {
    enum gw_jinja_node_type type;
    uint32_t line;
    bool flag;
    struct gw_jinja_node *a, *b, *c, *d;
    struct gw_jinja_node *list, *next;
    struct gw_jinja_string name;
    union {
        struct gw_jinja_value value;
        const struct gw_jinja_filter *filter;
        const struct gw_jinja_test *test;
    };
};

#endif
