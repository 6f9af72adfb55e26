#include "controller/text/jinja_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

gw_err_t gw_jinja_fail(struct gw_jinja_run *run, gw_err_t code, const char *fmt, ...)
{
    char text[GW_ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return gw_fail(run->ctx, code, "line %u: %s", run->line, text);
}

gw_err_t gw_jinja_step(struct gw_jinja_run *run, size_t steps)
{
    if (steps > GW_JINJA_STEPS_MAX - run->steps)
        return gw_jinja_fail(run, GW_ERR_LIMIT, "the template takes more than %zu steps", GW_JINJA_STEPS_MAX);
    run->steps += steps;
    return GW_OK;
}

gw_err_t gw_jinja_step_bytes(struct gw_jinja_run *run, size_t bytes)
{
    return gw_jinja_step(run, bytes / GW_JINJA_BYTES_STEP);
}

gw_err_t gw_jinja_step_chars(struct gw_jinja_run *run, size_t bytes)
{
    return gw_jinja_step(run, bytes / GW_JINJA_CHARS_STEP);
}

gw_err_t gw_jinja_enter(struct gw_jinja_run *run)
{
    if (run->depth >= GW_JINJA_DEPTH_MAX)
        return gw_jinja_fail(run, GW_ERR_LIMIT, "the template nests deeper than %d levels",
                             GW_JINJA_DEPTH_MAX);
    run->depth++;
    return GW_OK;
}

void gw_jinja_leave(struct gw_jinja_run *run)
{
    run->depth--;
}

static gw_err_t fail_arena(struct gw_jinja_run *run)
{
    if (run->arena.err == GW_ERR_LIMIT)
        return gw_jinja_fail(run, GW_ERR_LIMIT, "the template takes more than %zu bytes of memory",
                             GW_JINJA_MEMORY_MAX);
    return gw_jinja_fail(run, GW_ERR_MEMORY, "out of memory");
}

gw_err_t gw_jinja_alloc(struct gw_jinja_run *run, size_t size, void **out)
{
    *out = gw_arena_alloc(&run->arena, size);
    return *out ? GW_OK : fail_arena(run);
}

gw_err_t gw_jinja_from_buf(struct gw_jinja_run *run, const struct gw_buf *b, struct gw_jinja_value *out)
{
    void *copy;
    if (b->err != GW_OK) return gw_jinja_fail(run, b->err, "a text of the template is too long");
    TRY(gw_jinja_step_bytes(run, b->len));
    TRY(gw_jinja_alloc(run, b->len, &copy));
    if (b->len) memcpy(copy, b->data, b->len);
    *out = gw_jinja_text(copy, b->len);
    return GW_OK;
}

gw_err_t gw_jinja_append(struct gw_jinja_run *run, struct gw_jinja_string left, struct gw_jinja_string right,
                         struct gw_jinja_value *out)
{
    TRY(gw_jinja_step_bytes(run, left.len + right.len));
    char *both = gw_arena_extend(&run->arena, left.bytes, left.len, right.len);
    if (!both) return fail_arena(run);
    if (right.len) memcpy(both + left.len, right.bytes, right.len);
    *out = gw_jinja_text(both, left.len + right.len);
    return GW_OK;
}

static bool same(struct gw_jinja_string a, struct gw_jinja_string b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.bytes, b.bytes, a.len) == 0);
}

static struct gw_jinja_var *find_in(const struct gw_jinja_scope *scope, struct gw_jinja_string name,
                                    size_t *seen)
{
    for (struct gw_jinja_var *v = scope->vars; v; v = v->next) {
        ++*seen;
        if (same(v->name, name)) return v;
    }
    return NULL;
}

gw_err_t gw_jinja_lookup(struct gw_jinja_run *run, struct gw_jinja_string name,
                         const struct gw_jinja_value **out)
{
    size_t seen = 0;
    *out = NULL;
    for (const struct gw_jinja_scope *s = run->scope; s && !*out; s = s->parent) {
        const struct gw_jinja_var *v = find_in(s, name, &seen);
        if (v && v->set) *out = &v->value;
        seen++;
    }
    return gw_jinja_step(run, seen / 16);
}

gw_err_t gw_jinja_assign(struct gw_jinja_run *run, struct gw_jinja_string name, struct gw_jinja_value value)
{
    size_t seen = 0;
    struct gw_jinja_var *v = find_in(run->scope, name, &seen);
    TRY(gw_jinja_step(run, seen / 16));
    if (!v) {
        void *fresh;
        TRY(gw_jinja_alloc(run, sizeof *v, &fresh));
        v = fresh;
        *v = (struct gw_jinja_var){.name = name, .next = run->scope->vars};
        run->scope->vars = v;
    }
    v->value = value;
    v->set = true;
    return GW_OK;
}

void gw_jinja_clear_scope(struct gw_jinja_scope *scope)
{
    for (struct gw_jinja_var *v = scope->vars; v; v = v->next) v->set = false;
}

gw_err_t gw_jinja_push_scope(struct gw_jinja_run *run, struct gw_jinja_scope *parent,
                             struct gw_jinja_scope **old)
{
    void *fresh;
    TRY(gw_jinja_alloc(run, sizeof(struct gw_jinja_scope), &fresh));
    struct gw_jinja_scope *scope = fresh;
    *scope = (struct gw_jinja_scope){.parent = parent};
    *old = run->scope;
    run->scope = scope;
    return GW_OK;
}

const struct gw_jinja_value *gw_jinja_arg(const struct gw_jinja_args *args, size_t pos, const char *name)
{
    if (pos < args->by_pos_len) return &args->by_pos[pos];
    struct gw_jinja_string wanted = {name, strlen(name)};
    for (size_t i = 0; i < args->by_name_len; i++)
        if (same(args->by_name[i].name, wanted)) return &args->by_name[i].value;
    return NULL;
}

gw_err_t gw_jinja_arg_int(struct gw_jinja_run *run, const struct gw_jinja_args *args, size_t pos,
                          const char *name, int64_t *out)
{
    const struct gw_jinja_value *v = gw_jinja_arg(args, pos, name);
    if (!v) return GW_OK;
    if (v->kind == GW_JINJA_BOOL)
        *out = v->truth;
    else if (v->kind == GW_JINJA_INT)
        *out = v->integer;
    else
        return gw_jinja_fail(run, GW_ERR_INPUT, "'%s' must be an integer, not %s", name,
                             gw_jinja_type_name(v->kind));
    return GW_OK;
}

gw_err_t gw_jinja_arg_text(struct gw_jinja_run *run, const struct gw_jinja_args *args, size_t pos,
                           const char *name, struct gw_jinja_string *out)
{
    const struct gw_jinja_value *v = gw_jinja_arg(args, pos, name);
    if (!v || v->kind == GW_JINJA_NONE) return GW_OK;
    if (v->kind != GW_JINJA_STRING)
        return gw_jinja_fail(run, GW_ERR_INPUT, "'%s' must be text, not %s", name,
                             gw_jinja_type_name(v->kind));
    *out = v->string;
    return GW_OK;
}
