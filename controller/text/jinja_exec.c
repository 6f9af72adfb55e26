#include "controller/text/jinja_eval.h"

#include <string.h>

#include "controller/text/jinja_print.h"

static gw_err_t write_text(struct gw_jinja_run *run, struct gw_jinja_string text)
{
    gw_buf_put(run->out, text.bytes, text.len);
    return gw_jinja_step_bytes(run, text.len);
}

static gw_err_t check_out(struct gw_jinja_run *run)
{
    if (run->out->err == GW_OK) return GW_OK;
    return gw_jinja_fail(run, run->out->err, "the text is longer than %zu bytes", GW_JINJA_OUTPUT_MAX);
}

static gw_err_t exec_output(struct gw_jinja_run *run, const struct gw_jinja_node *n)
{
    struct gw_jinja_value v;
    TRY(gw_jinja_eval(run, n->a, &v));
    return gw_jinja_print(run, &v, run->out);
}

static gw_err_t exec_if(struct gw_jinja_run *run, const struct gw_jinja_node *n)
{
    for (const struct gw_jinja_node *branch = n->list; branch; branch = branch->next) {
        struct gw_jinja_value test;
        TRY(gw_jinja_eval(run, branch->a, &test));
        if (gw_jinja_truth(&test)) return gw_jinja_exec(run, branch->list);
    }
    return gw_jinja_exec(run, n->c);
}

/* ---- assignment ---- */

static gw_err_t assign_attr(struct gw_jinja_run *run, const struct gw_jinja_node *target,
                            struct gw_jinja_value value)
{
    struct gw_jinja_value object;
    TRY(gw_jinja_eval(run, target->a, &object));
    if (object.kind == GW_JINJA_UNDEFINED) return gw_jinja_fail_undefined(run, &object);
    if (object.kind != GW_JINJA_NAMESPACE)
        return gw_jinja_fail(run, GW_ERR_INPUT, "cannot assign attribute on non-namespace object");
    return gw_jinja_dict_set(run, object.dict, gw_jinja_text(target->name.bytes, target->name.len), value);
}

static gw_err_t assign_one(struct gw_jinja_run *run, const struct gw_jinja_node *target,
                           struct gw_jinja_value value)
{
    if (target->type == GW_JINJA_N_ATTR) return assign_attr(run, target, value);
    return gw_jinja_assign(run, target->name, value);
}

/* One target takes the value, several take it apart. */
static gw_err_t assign(struct gw_jinja_run *run, const struct gw_jinja_node *targets,
                       struct gw_jinja_value value)
{
    if (!targets->next) return assign_one(run, targets, value);
    struct gw_jinja_list *items;
    TRY(gw_jinja_iterate(run, &value, &items));
    size_t i = 0;
    for (const struct gw_jinja_node *t = targets; t; t = t->next, i++) {
        if (i >= items->len)
            return gw_jinja_fail(run, GW_ERR_INPUT, "not enough values to unpack (got %zu)", items->len);
        TRY(assign_one(run, t, items->items[i]));
    }
    return i == items->len ? GW_OK
                           : gw_jinja_fail(run, GW_ERR_INPUT, "too many values to unpack (expected %zu)", i);
}

static gw_err_t exec_set(struct gw_jinja_run *run, const struct gw_jinja_node *n)
{
    struct gw_jinja_value v;
    TRY(gw_jinja_eval(run, n->a, &v));
    return assign(run, n->list, v);
}

gw_err_t gw_jinja_capture(struct gw_jinja_run *run, const struct gw_jinja_node *first,
                          struct gw_jinja_value *out)
{
    struct gw_buf text, *outer = run->out;
    gw_buf_init(&text, GW_JINJA_OUTPUT_MAX);
    run->out = &text;
    gw_err_t err = gw_jinja_exec(run, first);
    run->out = outer;
    if (err == GW_OK) err = gw_jinja_from_buf(run, &text, out);
    gw_buf_fini(&text);
    return err;
}

static gw_err_t capture_filtered(struct gw_jinja_run *run, const struct gw_jinja_node *n,
                                 struct gw_jinja_value *out)
{
    struct gw_jinja_value text;
    TRY(gw_jinja_capture(run, n->list, &text));
    TRY(gw_jinja_assign(run, (struct gw_jinja_string){"*", 1}, text)); /* what n->a begins with */
    return gw_jinja_eval(run, n->a, out);
}

static gw_err_t exec_set_block(struct gw_jinja_run *run, const struct gw_jinja_node *n)
{
    struct gw_jinja_scope *outer;
    struct gw_jinja_value v;
    TRY(gw_jinja_push_scope(run, run->scope, &outer));
    gw_err_t err = capture_filtered(run, n, &v);
    run->scope = outer;
    return err == GW_OK ? assign_one(run, n->d, v) : err;
}

/* ---- loops ---- */

/* One round in the loop's scope. */
static gw_err_t exec_round(struct gw_jinja_run *run, const struct gw_jinja_node *n,
                           const struct gw_jinja_loop *loop)
{
    struct gw_jinja_value variable = {.kind = GW_JINJA_LOOP, .loop = loop};
    gw_jinja_clear_scope(run->scope);
    TRY(gw_jinja_step(run, 1));
    TRY(assign(run, n->d, loop->items->items[loop->index]));
    TRY(gw_jinja_assign(run, (struct gw_jinja_string){"loop", 4}, variable));
    return gw_jinja_exec(run, n->list);
}

/* The rounds share one scope and one loop variable, as they do in Jinja: where they outlive their round, they
 * show the last one. */
static gw_err_t exec_rounds(struct gw_jinja_run *run, const struct gw_jinja_node *n,
                            const struct gw_jinja_list *items)
{
    struct gw_jinja_scope *outer;
    gw_err_t err = GW_OK;
    void *memory;
    TRY(gw_jinja_alloc(run, sizeof(struct gw_jinja_loop), &memory));
    struct gw_jinja_loop *loop = memory;
    *loop = (struct gw_jinja_loop){.items = items};
    TRY(gw_jinja_push_scope(run, run->scope, &outer));
    for (; err == GW_OK && loop->index < items->len; loop->index++) {
        err = exec_round(run, n, loop);
        enum gw_jinja_signal signal = run->signal;
        run->signal = GW_JINJA_GO_ON;
        if (signal == GW_JINJA_DO_BREAK) break;
    }
    run->scope = outer;
    return err;
}

/* for x in items if filter: which items stay. */
static gw_err_t passes(struct gw_jinja_run *run, const struct gw_jinja_node *n, struct gw_jinja_value item,
                       bool *out)
{
    struct gw_jinja_value test;
    gw_jinja_clear_scope(run->scope);
    TRY(gw_jinja_step(run, 1));
    TRY(assign(run, n->d, item));
    TRY(gw_jinja_eval(run, n->b, &test));
    *out = gw_jinja_truth(&test);
    return GW_OK;
}

static gw_err_t filter_items(struct gw_jinja_run *run, const struct gw_jinja_node *n,
                             struct gw_jinja_list **items)
{
    struct gw_jinja_value kept;
    struct gw_jinja_scope *outer;
    gw_err_t err = GW_OK;
    TRY(gw_jinja_list_new(run, 0, false, &kept));
    TRY(gw_jinja_push_scope(run, run->scope, &outer));
    for (size_t i = 0; err == GW_OK && i < (*items)->len; i++) {
        bool stays = false;
        err = passes(run, n, (*items)->items[i], &stays);
        if (err == GW_OK && stays) err = gw_jinja_list_put(run, kept.list, (*items)->items[i]);
    }
    run->scope = outer;
    *items = kept.list;
    return err;
}

static gw_err_t exec_scope(struct gw_jinja_run *run, const struct gw_jinja_node *first)
{
    struct gw_jinja_scope *outer;
    TRY(gw_jinja_push_scope(run, run->scope, &outer));
    gw_err_t err = gw_jinja_exec(run, first);
    run->scope = outer;
    return err;
}

static gw_err_t exec_for(struct gw_jinja_run *run, const struct gw_jinja_node *n)
{
    struct gw_jinja_value over;
    struct gw_jinja_list *items;
    TRY(gw_jinja_eval(run, n->a, &over));
    TRY(gw_jinja_iterate(run, &over, &items));
    if (n->b) TRY(filter_items(run, n, &items));
    if (items->len == 0) return exec_scope(run, n->c);
    return exec_rounds(run, n, items);
}

/* ---- macros ---- */

static gw_err_t exec_macro(struct gw_jinja_run *run, const struct gw_jinja_node *n)
{
    void *memory;
    TRY(gw_jinja_alloc(run, sizeof(struct gw_jinja_macro), &memory));
    struct gw_jinja_macro *macro = memory;
    *macro = (struct gw_jinja_macro){.node = n, .scope = run->scope};
    return gw_jinja_assign(run, n->name, (struct gw_jinja_value){.kind = GW_JINJA_MACRO, .macro = macro});
}

static const struct gw_jinja_value *named_arg(const struct gw_jinja_args *args, struct gw_jinja_string name)
{
    for (size_t i = 0; i < args->by_name_len; i++) {
        struct gw_jinja_string other = args->by_name[i].name;
        if (other.len == name.len && memcmp(other.bytes, name.bytes, name.len) == 0)
            return &args->by_name[i].value;
    }
    return NULL;
}

/* Each parameter: by position, by name, its default, else undefined. */
static gw_err_t bind_params(struct gw_jinja_run *run, const struct gw_jinja_node *macro,
                            const struct gw_jinja_args *args)
{
    size_t index = 0, named = 0;
    for (const struct gw_jinja_node *p = macro->d; p; p = p->next, index++) {
        struct gw_jinja_value v;
        const struct gw_jinja_value *given =
            index < args->by_pos_len ? &args->by_pos[index] : named_arg(args, p->name);
        named += given && index >= args->by_pos_len;
        if (given)
            v = *given;
        else if (p->a)
            TRY(gw_jinja_eval(run, p->a, &v));
        else
            TRY(gw_jinja_undefined_name(run, p->name, &v));
        TRY(gw_jinja_assign(run, p->name, v));
    }
    if (args->by_pos_len <= index && named == args->by_name_len) return GW_OK;
    return gw_jinja_fail(run, GW_ERR_INPUT, "macro '%.*s' takes %zu arguments and none of other names",
                         (int)(macro->name.len < 40 ? macro->name.len : 40), macro->name.bytes, index);
}

gw_err_t gw_jinja_call_macro(struct gw_jinja_run *run, const struct gw_jinja_macro *macro,
                             const struct gw_jinja_args *args, struct gw_jinja_value *out)
{
    struct gw_jinja_scope *outer;
    TRY(gw_jinja_push_scope(run, macro->scope, &outer));
    gw_err_t err = bind_params(run, macro->node, args);
    if (err == GW_OK) err = gw_jinja_capture(run, macro->node->list, out);
    run->scope = outer;
    return err;
}

/* ---- statements ---- */

static gw_err_t exec_node(struct gw_jinja_run *run, const struct gw_jinja_node *n)
{
    switch (n->type) {
    case GW_JINJA_N_TEXT: return write_text(run, n->value.string);
    case GW_JINJA_N_OUTPUT: return exec_output(run, n);
    case GW_JINJA_N_IF: return exec_if(run, n);
    case GW_JINJA_N_FOR: return exec_for(run, n);
    case GW_JINJA_N_SET: return exec_set(run, n);
    case GW_JINJA_N_SET_BLOCK: return exec_set_block(run, n);
    case GW_JINJA_N_MACRO: return exec_macro(run, n);
    case GW_JINJA_N_SCOPE: return exec_scope(run, n->list);
    case GW_JINJA_N_BREAK: run->signal = GW_JINJA_DO_BREAK; return GW_OK;
    case GW_JINJA_N_CONTINUE: run->signal = GW_JINJA_DO_CONTINUE; return GW_OK;
    default: return gw_jinja_fail(run, GW_ERR_INTERNAL, "an expression where a statement was meant");
    }
}

gw_err_t gw_jinja_exec(struct gw_jinja_run *run, const struct gw_jinja_node *first)
{
    for (const struct gw_jinja_node *n = first; n && run->signal == GW_JINJA_GO_ON; n = n->next) {
        run->line = n->line;
        TRY(gw_jinja_step(run, 1));
        TRY(gw_jinja_enter(run));
        gw_err_t err = exec_node(run, n);
        gw_jinja_leave(run);
        TRY(err);
        TRY(check_out(run));
    }
    return GW_OK;
}
