#include "controller/text/jinja_eval.h"

#include <string.h>

#include "controller/text/jinja_builtins.h"
#include "controller/text/jinja_print.h"

static bool op_is(struct gw_jinja_string op, const char *text)
{
    return op.len == strlen(text) && memcmp(op.bytes, text, op.len) == 0;
}

/* A name that is no variable may be a function; else it is undefined, which is no error yet. */
static gw_err_t eval_name(struct gw_jinja_run *run, const struct gw_jinja_node *n, struct gw_jinja_value *out)
{
    const struct gw_jinja_value *found;
    TRY(gw_jinja_lookup(run, n->name, &found));
    if (found) {
        *out = *found;
        return GW_OK;
    }
    const struct gw_jinja_function *f = gw_jinja_function_find(n->name);
    /* Without a date there is no clock to ask, and "is defined" must say so. */
    bool hidden = f && strcmp(f->name, "strftime_now") == 0 && !run->today;
    if (!f || hidden) return gw_jinja_undefined_name(run, n->name, out);
    *out = (struct gw_jinja_value){.kind = GW_JINJA_FUNCTION, .function = f};
    return GW_OK;
}

static gw_err_t eval_list(struct gw_jinja_run *run, const struct gw_jinja_node *n, struct gw_jinja_value *out)
{
    struct gw_jinja_value item;
    TRY(gw_jinja_list_new(run, 0, n->type == GW_JINJA_N_TUPLE, out));
    for (const struct gw_jinja_node *i = n->list; i; i = i->next) {
        TRY(gw_jinja_eval(run, i, &item));
        TRY(gw_jinja_list_put(run, out->list, item));
    }
    return GW_OK;
}

static gw_err_t eval_dict(struct gw_jinja_run *run, const struct gw_jinja_node *n, struct gw_jinja_value *out)
{
    struct gw_jinja_value key, value;
    TRY(gw_jinja_dict_new(run, out));
    for (const struct gw_jinja_node *i = n->list; i; i = i->next->next) {
        TRY(gw_jinja_eval(run, i, &key));
        TRY(gw_jinja_eval(run, i->next, &value));
        TRY(gw_jinja_dict_set(run, out->dict, key, value));
    }
    return GW_OK;
}

static gw_err_t eval_not(struct gw_jinja_run *run, const struct gw_jinja_node *n, struct gw_jinja_value *out)
{
    struct gw_jinja_value v;
    TRY(gw_jinja_eval(run, n->a, &v));
    *out = gw_jinja_bool(!gw_jinja_truth(&v));
    return GW_OK;
}

static gw_err_t eval_sign(struct gw_jinja_run *run, const struct gw_jinja_node *n, struct gw_jinja_value *out)
{
    struct gw_jinja_value v;
    TRY(gw_jinja_eval(run, n->a, &v));
    if (n->type == GW_JINJA_N_NEG) return gw_jinja_negate(run, &v, out);
    TRY(gw_jinja_negate(run, &v, out)); /* for its type errors */
    *out = v;
    return GW_OK;
}

/* and, or: the deciding operand itself is the value. */
static gw_err_t eval_logic(struct gw_jinja_run *run, const struct gw_jinja_node *n,
                           struct gw_jinja_value *out)
{
    TRY(gw_jinja_eval(run, n->a, out));
    bool decided = gw_jinja_truth(out) == (n->type == GW_JINJA_N_OR);
    return decided ? GW_OK : gw_jinja_eval(run, n->b, out);
}

static gw_err_t eval_binary(struct gw_jinja_run *run, const struct gw_jinja_node *n,
                            struct gw_jinja_value *out)
{
    struct gw_jinja_value a, b;
    TRY(gw_jinja_eval(run, n->a, &a));
    TRY(gw_jinja_eval(run, n->b, &b));
    return gw_jinja_binary(run, n->name, &a, &b, out);
}

static gw_err_t eval_concat(struct gw_jinja_run *run, const struct gw_jinja_node *n,
                            struct gw_jinja_value *out)
{
    struct gw_buf text;
    struct gw_jinja_value part;
    gw_err_t err = GW_OK;
    gw_buf_init(&text, GW_JINJA_MEMORY_MAX);
    for (const struct gw_jinja_node *i = n->list; i; i = i->next) {
        TRY_GOTO(gw_jinja_eval(run, i, &part), out);
        TRY_GOTO(gw_jinja_print(run, &part, &text), out);
    }
    err = gw_jinja_from_buf(run, &text, out);
out:
    gw_buf_fini(&text);
    return err;
}

static gw_err_t compare_by(struct gw_jinja_run *run, struct gw_jinja_string op,
                           const struct gw_jinja_value *a, const struct gw_jinja_value *b, bool *out)
{
    int order = 0;
    bool negated = op_is(op, "!=") || op_is(op, "not in");
    if (op_is(op, "==") || op_is(op, "!="))
        TRY(gw_jinja_equal(run, a, b, out));
    else if (op_is(op, "in") || op_is(op, "not in"))
        TRY(gw_jinja_contains(run, b, a, out));
    else
        TRY(gw_jinja_compare(run, a, b, &order));
    if (op_is(op, "<")) *out = order < 0;
    if (op_is(op, "<=")) *out = order <= 0;
    if (op_is(op, ">")) *out = order > 0;
    if (op_is(op, ">=")) *out = order >= 0;
    *out ^= negated;
    return GW_OK;
}

/* a < b < c: each pair must hold; stops at the first that does not. */
static gw_err_t eval_compare(struct gw_jinja_run *run, const struct gw_jinja_node *n,
                             struct gw_jinja_value *out)
{
    struct gw_jinja_value left, right;
    bool holds = true;
    TRY(gw_jinja_eval(run, n->a, &left));
    for (const struct gw_jinja_node *i = n->list; i && holds; i = i->next) {
        TRY(gw_jinja_eval(run, i->a, &right));
        TRY(compare_by(run, i->name, &left, &right, &holds));
        left = right;
    }
    *out = gw_jinja_bool(holds);
    return GW_OK;
}

static gw_err_t eval_cond(struct gw_jinja_run *run, const struct gw_jinja_node *n, struct gw_jinja_value *out)
{
    struct gw_jinja_value test;
    TRY(gw_jinja_eval(run, n->a, &test));
    if (gw_jinja_truth(&test)) return gw_jinja_eval(run, n->b, out);
    if (n->c) return gw_jinja_eval(run, n->c, out);
    *out = (struct gw_jinja_value){.kind = GW_JINJA_UNDEFINED};
    return GW_OK;
}

static gw_err_t eval_attr(struct gw_jinja_run *run, const struct gw_jinja_node *n, struct gw_jinja_value *out)
{
    struct gw_jinja_value object;
    TRY(gw_jinja_eval(run, n->a, &object));
    return gw_jinja_attribute(run, &object, n->name, out);
}

static gw_err_t eval_item(struct gw_jinja_run *run, const struct gw_jinja_node *n, struct gw_jinja_value *out)
{
    struct gw_jinja_value object, key;
    TRY(gw_jinja_eval(run, n->a, &object));
    TRY(gw_jinja_eval(run, n->b, &key));
    return gw_jinja_item(run, &object, &key, out);
}

static gw_err_t eval_slice(struct gw_jinja_run *run, const struct gw_jinja_node *n,
                           struct gw_jinja_value *out)
{
    struct gw_jinja_value object, values[3];
    const struct gw_jinja_node *nodes[3] = {n->b, n->c, n->d};
    const struct gw_jinja_value *bounds[3] = {NULL, NULL, NULL};
    TRY(gw_jinja_eval(run, n->a, &object));
    for (int i = 0; i < 3; i++) {
        if (!nodes[i]) continue;
        TRY(gw_jinja_eval(run, nodes[i], &values[i]));
        if (values[i].kind != GW_JINJA_NONE) bounds[i] = &values[i];
    }
    return gw_jinja_slice(run, &object, bounds, out);
}

static gw_err_t eval_args(struct gw_jinja_run *run, const struct gw_jinja_node *first,
                          struct gw_jinja_args *args)
{
    args->by_pos_len = args->by_name_len = 0;
    for (const struct gw_jinja_node *i = first; i; i = i->next) {
        struct gw_jinja_value v;
        if (args->by_pos_len == GW_JINJA_ARGS_MAX || args->by_name_len == GW_JINJA_ARGS_MAX)
            return gw_jinja_fail(run, GW_ERR_LIMIT, "more than %d arguments", GW_JINJA_ARGS_MAX);
        TRY(gw_jinja_eval(run, i->a, &v));
        if (i->name.len > 0)
            args->by_name[args->by_name_len++] = (struct gw_jinja_named_arg){i->name, v};
        else
            args->by_pos[args->by_pos_len++] = v;
    }
    return GW_OK;
}

static gw_err_t eval_filter(struct gw_jinja_run *run, const struct gw_jinja_node *n,
                            struct gw_jinja_value *out)
{
    struct gw_jinja_value in;
    struct gw_jinja_args args;
    TRY(gw_jinja_eval(run, n->a, &in));
    TRY(eval_args(run, n->list, &args));
    run->line = n->line;
    return n->filter->apply(run, &in, &args, out);
}

static gw_err_t eval_test(struct gw_jinja_run *run, const struct gw_jinja_node *n, struct gw_jinja_value *out)
{
    struct gw_jinja_value in;
    struct gw_jinja_args args;
    bool yes = false;
    TRY(gw_jinja_eval(run, n->a, &in));
    TRY(eval_args(run, n->list, &args));
    run->line = n->line;
    TRY(n->test->check(run, &in, &args, &yes));
    *out = gw_jinja_bool(yes != n->flag);
    return GW_OK;
}

static gw_err_t call_value(struct gw_jinja_run *run, const struct gw_jinja_value *callee,
                           const struct gw_jinja_args *args, struct gw_jinja_value *out)
{
    switch (callee->kind) {
    case GW_JINJA_FUNCTION: return callee->function->call(run, args, out);
    case GW_JINJA_METHOD: return callee->bound->method->apply(run, &callee->bound->self, args, out);
    case GW_JINJA_MACRO: return gw_jinja_call_macro(run, callee->macro, args, out);
    case GW_JINJA_UNDEFINED: return gw_jinja_fail_undefined(run, callee);
    default:
        return gw_jinja_fail(run, GW_ERR_INPUT, "'%s' object is not callable",
                             gw_jinja_type_name(callee->kind));
    }
}

static gw_err_t eval_call(struct gw_jinja_run *run, const struct gw_jinja_node *n, struct gw_jinja_value *out)
{
    struct gw_jinja_value callee;
    struct gw_jinja_args args;
    TRY(gw_jinja_eval(run, n->a, &callee));
    TRY(eval_args(run, n->list, &args));
    run->line = n->line;
    return call_value(run, &callee, &args, out);
}

static gw_err_t eval_node(struct gw_jinja_run *run, const struct gw_jinja_node *n, struct gw_jinja_value *out)
{
    switch (n->type) {
    case GW_JINJA_N_CONST: *out = n->value; return GW_OK;
    case GW_JINJA_N_NAME: return eval_name(run, n, out);
    case GW_JINJA_N_LIST:
    case GW_JINJA_N_TUPLE: return eval_list(run, n, out);
    case GW_JINJA_N_DICT: return eval_dict(run, n, out);
    case GW_JINJA_N_NOT: return eval_not(run, n, out);
    case GW_JINJA_N_NEG:
    case GW_JINJA_N_POS: return eval_sign(run, n, out);
    case GW_JINJA_N_AND:
    case GW_JINJA_N_OR: return eval_logic(run, n, out);
    case GW_JINJA_N_BINARY: return eval_binary(run, n, out);
    case GW_JINJA_N_CONCAT: return eval_concat(run, n, out);
    case GW_JINJA_N_COMPARE: return eval_compare(run, n, out);
    case GW_JINJA_N_COND: return eval_cond(run, n, out);
    case GW_JINJA_N_ATTR: return eval_attr(run, n, out);
    case GW_JINJA_N_ITEM: return eval_item(run, n, out);
    case GW_JINJA_N_SLICE: return eval_slice(run, n, out);
    case GW_JINJA_N_FILTER: return eval_filter(run, n, out);
    case GW_JINJA_N_TEST: return eval_test(run, n, out);
    case GW_JINJA_N_CALL: return eval_call(run, n, out);
    default: return gw_jinja_fail(run, GW_ERR_INTERNAL, "a statement where an expression was meant");
    }
}

gw_err_t gw_jinja_eval(struct gw_jinja_run *run, const struct gw_jinja_node *node, struct gw_jinja_value *out)
{
    run->line = node->line;
    TRY(gw_jinja_step(run, 1));
    TRY(gw_jinja_enter(run));
    gw_err_t err = eval_node(run, node, out);
    gw_jinja_leave(run);
    run->line = node->line;
    return err;
}
