/* Methods of texts, mappings and the loop variable: "x".strip(), d.items(), loop.cycle(). */
#include "controller/text/jinja_builtins.h"

#include <string.h>

#include "controller/text/utext.h"

#define STRIP_SET_MAX                                                                                        \
    256 /* bytes of the characters to strip: each character of a text is compared with all */

/* A text argument that must be there. */
static gw_err_t need_text(struct gw_jinja_run *run, const struct gw_jinja_args *args, size_t pos,
                          const char *name, struct gw_jinja_string *out)
{
    const struct gw_jinja_value *v = gw_jinja_arg(args, pos, name);
    if (v && v->kind == GW_JINJA_UNDEFINED) return gw_jinja_fail_undefined(run, v);
    if (!v || v->kind != GW_JINJA_STRING) return gw_jinja_fail(run, GW_ERR_INPUT, "'%s' must be text", name);
    *out = v->string;
    return GW_OK;
}

/* ---- shared with filters ---- */

gw_err_t gw_jinja_change_case(struct gw_jinja_run *run, struct gw_jinja_string s, int to,
                              struct gw_jinja_value *out)
{
    struct gw_buf text;
    TRY(gw_jinja_step_chars(run, s.len));
    gw_buf_init(&text, GW_JINJA_MEMORY_MAX);
    gw_utext_put_case(&text, s.bytes, s.len, (enum gw_utext_case)to);
    gw_err_t err = gw_jinja_from_buf(run, &text, out);
    gw_buf_fini(&text);
    return err;
}

gw_err_t gw_jinja_strip(struct gw_jinja_run *run, struct gw_jinja_string s, const struct gw_jinja_args *args,
                        int sides, struct gw_jinja_value *out)
{
    struct gw_jinja_string set = {NULL, 0};
    TRY(gw_jinja_arg_text(run, args, 0, "chars", &set));
    if (set.len > STRIP_SET_MAX)
        return gw_jinja_fail(run, GW_ERR_LIMIT, "more than %d bytes of characters to strip", STRIP_SET_MAX);
    TRY(gw_jinja_step_bytes(run, s.len * (1 + set.len / 8)));
    gw_utext_strip(&s.bytes, &s.len, set.bytes, set.len, (enum gw_utext_sides)sides);
    *out = gw_jinja_text(s.bytes, s.len);
    return GW_OK;
}

static gw_err_t put_replaced(struct gw_jinja_run *run, struct gw_buf *text, struct gw_jinja_string s,
                             struct gw_jinja_string old, struct gw_jinja_string fresh, int64_t count)
{
    while (count != 0) {
        const char *at = s.len ? gw_utext_find(s.bytes, s.len, old.bytes, old.len) : NULL;
        if (!at) break;
        TRY(gw_jinja_step(run, 1));
        gw_buf_put(text, s.bytes, (size_t)(at - s.bytes));
        gw_buf_put(text, fresh.bytes, fresh.len);
        s.len -= (size_t)(at - s.bytes) + old.len;
        s.bytes = at + old.len;
        count -= count > 0;
    }
    gw_buf_put(text, s.bytes, s.len);
    return GW_OK;
}

gw_err_t gw_jinja_replace(struct gw_jinja_run *run, struct gw_jinja_string s,
                          const struct gw_jinja_args *args, struct gw_jinja_value *out)
{
    struct gw_jinja_string old = {NULL, 0}, fresh = {NULL, 0};
    struct gw_buf text;
    int64_t count = -1;
    TRY(need_text(run, args, 0, "old", &old));
    TRY(need_text(run, args, 1, "new", &fresh));
    TRY(gw_jinja_arg_int(run, args, 2, "count", &count));
    if (old.len == 0) return gw_jinja_fail(run, GW_ERR_INPUT, "replacing an empty text is not supported");
    TRY(gw_jinja_step_bytes(run, s.len));
    gw_buf_init(&text, GW_JINJA_MEMORY_MAX);
    gw_err_t err = put_replaced(run, &text, s, old, fresh, count);
    if (err == GW_OK) err = gw_jinja_from_buf(run, &text, out);
    gw_buf_fini(&text);
    return err;
}

/* ---- texts ---- */

#define METHOD(name)                                                                                         \
    static gw_err_t name(struct gw_jinja_run *run, const struct gw_jinja_value *in,                          \
                         const struct gw_jinja_args *args, struct gw_jinja_value *out)

METHOD(text_strip)
{
    return gw_jinja_strip(run, in->string, args, GW_UTEXT_BOTH, out);
}

METHOD(text_lstrip)
{
    return gw_jinja_strip(run, in->string, args, GW_UTEXT_LEFT, out);
}

METHOD(text_rstrip)
{
    return gw_jinja_strip(run, in->string, args, GW_UTEXT_RIGHT, out);
}

METHOD(text_upper)
{
    (void)args;
    return gw_jinja_change_case(run, in->string, GW_UTEXT_UPPER, out);
}

METHOD(text_lower)
{
    (void)args;
    return gw_jinja_change_case(run, in->string, GW_UTEXT_LOWER, out);
}

METHOD(text_title)
{
    (void)args;
    return gw_jinja_change_case(run, in->string, GW_UTEXT_TITLE, out);
}

METHOD(text_capitalize)
{
    (void)args;
    return gw_jinja_change_case(run, in->string, GW_UTEXT_CAPITALIZE, out);
}

METHOD(text_replace)
{
    return gw_jinja_replace(run, in->string, args, out);
}

static bool has_end(struct gw_jinja_string s, struct gw_jinja_string part, bool front)
{
    if (part.len > s.len) return false;
    return part.len == 0 || memcmp(front ? s.bytes : s.bytes + s.len - part.len, part.bytes, part.len) == 0;
}

/* One text, or any of a tuple. */
static gw_err_t check_end(struct gw_jinja_run *run, struct gw_jinja_string s,
                          const struct gw_jinja_args *args, bool front, struct gw_jinja_value *out)
{
    const struct gw_jinja_value *v = gw_jinja_arg(args, 0, "prefix");
    struct gw_jinja_list one = {.len = 1};
    const struct gw_jinja_list *parts = v && v->kind == GW_JINJA_LIST ? v->list : &one;
    struct gw_jinja_value item = v ? *v : gw_jinja_none();
    bool yes = false;
    one.items = &item;
    for (size_t i = 0; i < parts->len && !yes; i++) {
        const struct gw_jinja_value *part = &parts->items[i];
        if (part->kind == GW_JINJA_UNDEFINED) return gw_jinja_fail_undefined(run, part);
        if (part->kind != GW_JINJA_STRING)
            return gw_jinja_fail(run, GW_ERR_INPUT, "%s first arg must be str or a tuple of str, not %s",
                                 front ? "startswith" : "endswith", gw_jinja_type_name(part->kind));
        TRY(gw_jinja_step(run, 1 + part->string.len / GW_JINJA_BYTES_STEP));
        yes = has_end(s, part->string, front);
    }
    *out = gw_jinja_bool(yes);
    return GW_OK;
}

METHOD(text_startswith)
{
    return check_end(run, in->string, args, true, out);
}

METHOD(text_endswith)
{
    return check_end(run, in->string, args, false, out);
}

METHOD(text_find)
{
    struct gw_jinja_string part = {NULL, 0};
    TRY(need_text(run, args, 0, "sub", &part));
    TRY(gw_jinja_step_bytes(run, in->string.len));
    const char *at =
        part.len ? gw_utext_find(in->string.bytes, in->string.len, part.bytes, part.len) : in->string.bytes;
    *out = gw_jinja_int(at ? (int64_t)gw_utext_count(in->string.bytes, (size_t)(at - in->string.bytes)) : -1);
    return GW_OK;
}

METHOD(text_join)
{
    const struct gw_jinja_value *v = gw_jinja_arg(args, 0, "iterable");
    struct gw_jinja_list *items;
    struct gw_jinja_value none = gw_jinja_none();
    TRY(gw_jinja_iterate(run, v ? v : &none, &items));
    *out = gw_jinja_text("", 0);
    for (size_t i = 0; i < items->len; i++) {
        if (items->items[i].kind != GW_JINJA_STRING)
            return gw_jinja_fail(run, GW_ERR_INPUT, "sequence item %zu: expected str instance, %s found", i,
                                 gw_jinja_type_name(items->items[i].kind));
        if (i > 0) TRY(gw_jinja_append(run, out->string, in->string, out));
        TRY(gw_jinja_append(run, out->string, items->items[i].string, out));
    }
    return GW_OK;
}

/* ---- split ---- */

/* By white space: runs of it count once, none at the ends. */
static gw_err_t split_spaces(struct gw_jinja_run *run, struct gw_jinja_string s, int64_t count,
                             struct gw_jinja_list *list)
{
    int32_t c;
    for (;;) {
        gw_utext_strip(&s.bytes, &s.len, NULL, 0, GW_UTEXT_LEFT);
        if (s.len == 0) return GW_OK;
        size_t end = 0, n = 0;
        for (; end < s.len && count != 0; end += n) {
            n = gw_utext_next(s.bytes + end, s.len - end, &c);
            if (gw_utext_is_space(c)) break;
        }
        if (count == 0) end = s.len; /* the rest, with its blanks */
        TRY(gw_jinja_list_put(run, list, gw_jinja_text(s.bytes, end)));
        s.bytes += end;
        s.len -= end;
        count -= count > 0;
    }
}

static gw_err_t split_at(struct gw_jinja_run *run, struct gw_jinja_string s, struct gw_jinja_string by,
                         int64_t count, struct gw_jinja_list *list)
{
    for (; count != 0; count -= count > 0) {
        const char *at = s.len ? gw_utext_find(s.bytes, s.len, by.bytes, by.len) : NULL;
        if (!at) break;
        TRY(gw_jinja_list_put(run, list, gw_jinja_text(s.bytes, (size_t)(at - s.bytes))));
        s.len -= (size_t)(at - s.bytes) + by.len;
        s.bytes = at + by.len;
    }
    return gw_jinja_list_put(run, list, gw_jinja_text(s.bytes, s.len));
}

METHOD(text_split)
{
    struct gw_jinja_string by = {NULL, 0};
    int64_t count = -1;
    TRY(gw_jinja_arg_text(run, args, 0, "sep", &by));
    TRY(gw_jinja_arg_int(run, args, 1, "maxsplit", &count));
    TRY(gw_jinja_step_chars(run, in->string.len));
    TRY(gw_jinja_list_new(run, 0, false, out));
    if (!by.bytes) return split_spaces(run, in->string, count, out->list);
    if (by.len == 0) return gw_jinja_fail(run, GW_ERR_INPUT, "empty separator");
    return split_at(run, in->string, by, count, out->list);
}

static const char *find_last(struct gw_jinja_string s, struct gw_jinja_string part)
{
    for (size_t at = s.len >= part.len ? s.len - part.len + 1 : 0; at-- > 0;)
        if (memcmp(s.bytes + at, part.bytes, part.len) == 0) return s.bytes + at;
    return NULL;
}

/* From the right, at a separator: the pieces come last first and are turned round. */
METHOD(text_rsplit)
{
    struct gw_jinja_string by = {NULL, 0}, s = in->string;
    int64_t count = -1;
    TRY(need_text(run, args, 0, "sep", &by));
    TRY(gw_jinja_arg_int(run, args, 1, "maxsplit", &count));
    if (by.len == 0) return gw_jinja_fail(run, GW_ERR_INPUT, "empty separator");
    TRY(gw_jinja_step(run, 1 + s.len / GW_JINJA_BYTES_STEP * (1 + by.len)));
    TRY(gw_jinja_list_new(run, 0, false, out));
    for (; count != 0; count -= count > 0) {
        const char *at = find_last(s, by);
        if (!at) break;
        size_t front = (size_t)(at - s.bytes);
        TRY(gw_jinja_list_put(run, out->list, gw_jinja_text(at + by.len, s.len - front - by.len)));
        s.len = front;
    }
    TRY(gw_jinja_list_put(run, out->list, gw_jinja_text(s.bytes, s.len)));
    struct gw_jinja_value *items = out->list->items;
    for (size_t i = 0, j = out->list->len - 1; i < j; i++, j--) {
        struct gw_jinja_value swap = items[i];
        items[i] = items[j];
        items[j] = swap;
    }
    return GW_OK;
}

/* ---- mappings and loop ---- */

METHOD(dict_items)
{
    (void)args;
    TRY(gw_jinja_list_new(run, in->dict->len, false, out));
    for (size_t i = 0; i < in->dict->len; i++) {
        struct gw_jinja_value pair;
        TRY(gw_jinja_list_new(run, 2, true, &pair));
        TRY(gw_jinja_list_put(run, pair.list, in->dict->pairs[i].key));
        TRY(gw_jinja_list_put(run, pair.list, in->dict->pairs[i].value));
        TRY(gw_jinja_list_put(run, out->list, pair));
    }
    return GW_OK;
}

METHOD(dict_keys)
{
    (void)args;
    TRY(gw_jinja_list_new(run, in->dict->len, false, out));
    for (size_t i = 0; i < in->dict->len; i++) TRY(gw_jinja_list_put(run, out->list, in->dict->pairs[i].key));
    return GW_OK;
}

METHOD(dict_values)
{
    (void)args;
    TRY(gw_jinja_list_new(run, in->dict->len, false, out));
    for (size_t i = 0; i < in->dict->len; i++)
        TRY(gw_jinja_list_put(run, out->list, in->dict->pairs[i].value));
    return GW_OK;
}

METHOD(dict_get)
{
    const struct gw_jinja_value *key = gw_jinja_arg(args, 0, "key"), *found = NULL;
    const struct gw_jinja_value *otherwise = gw_jinja_arg(args, 1, "default");
    if (!key) return gw_jinja_fail(run, GW_ERR_INPUT, "get expected at least 1 argument, got 0");
    TRY(gw_jinja_dict_get(run, in->dict, *key, &found));
    *out = found ? *found : otherwise ? *otherwise : gw_jinja_none();
    return GW_OK;
}

METHOD(loop_cycle)
{
    if (args->by_pos_len == 0) return gw_jinja_fail(run, GW_ERR_INPUT, "no items for cycling given");
    *out = args->by_pos[in->loop->index % args->by_pos_len];
    return GW_OK;
}

static const struct gw_jinja_method text_methods[] = {
    {"strip", text_strip},
    {"lstrip", text_lstrip},
    {"rstrip", text_rstrip},
    {"split", text_split},
    {"rsplit", text_rsplit},
    {"startswith", text_startswith},
    {"endswith", text_endswith},
    {"upper", text_upper},
    {"lower", text_lower},
    {"title", text_title},
    {"capitalize", text_capitalize},
    {"replace", text_replace},
    {"find", text_find},
    {"join", text_join},
    {0},
};

static const struct gw_jinja_method dict_methods[] = {
    {"items", dict_items}, {"keys", dict_keys}, {"values", dict_values}, {"get", dict_get}, {0},
};

static const struct gw_jinja_method loop_methods[] = {{"cycle", loop_cycle}, {0}};

const struct gw_jinja_method *gw_jinja_method_find(enum gw_jinja_kind kind, struct gw_jinja_string name)
{
    const struct gw_jinja_method *m = kind == GW_JINJA_STRING ? text_methods
                                      : kind == GW_JINJA_DICT ? dict_methods
                                      : kind == GW_JINJA_LOOP ? loop_methods
                                                              : NULL;
    for (; m && m->name; m++)
        if (strlen(m->name) == name.len && memcmp(m->name, name.bytes, name.len) == 0) return m;
    return NULL;
}
