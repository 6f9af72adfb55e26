/* Filters on lists: first, join, sort, map, selectattr ... */
#include "controller/text/jinja_builtins.h"

#include <string.h>

#include "controller/text/jinja_eval.h"
#include "controller/text/jinja_print.h"
#include "controller/text/utext.h"

#define INDEX_DIGITS_MAX 9 /* of an index in an attribute's path */

#define FILTER(name)                                                                                         \
    static gw_err_t name(struct gw_jinja_run *run, const struct gw_jinja_value *in,                          \
                         const struct gw_jinja_args *args, struct gw_jinja_value *out)

static gw_err_t at_end(struct gw_jinja_run *run, const struct gw_jinja_value *in, bool front,
                       struct gw_jinja_value *out)
{
    struct gw_jinja_list *items;
    TRY(gw_jinja_iterate(run, in, &items));
    if (items->len > 0)
        *out = items->items[front ? 0 : items->len - 1];
    else
        TRY(gw_jinja_undefined_of(run, in->kind, gw_jinja_int(front ? 0 : -1), out));
    return GW_OK;
}

FILTER(filter_first)
{
    (void)args;
    return at_end(run, in, true, out);
}

FILTER(filter_last)
{
    (void)args;
    return at_end(run, in, false, out);
}

FILTER(filter_list)
{
    (void)args;
    struct gw_jinja_list *items;
    TRY(gw_jinja_iterate(run, in, &items));
    TRY(gw_jinja_list_new(run, 0, false, out));
    *out->list = *items;
    out->list->tuple = out->list->lazy = false;
    out->list->cap = items->len;
    return GW_OK;
}

FILTER(filter_items)
{
    if (in->kind == GW_JINJA_UNDEFINED) return gw_jinja_list_new(run, 0, false, out);
    if (in->kind != GW_JINJA_DICT)
        return gw_jinja_fail(run, GW_ERR_INPUT, "Can only get item pairs from a mapping.");
    return gw_jinja_method_find(GW_JINJA_DICT, (struct gw_jinja_string){"items", 5})
        ->apply(run, in, args, out);
}

FILTER(filter_reverse)
{
    (void)args;
    struct gw_jinja_value step = gw_jinja_int(-1), kept;
    const struct gw_jinja_value *bounds[3] = {NULL, NULL, &step};
    struct gw_jinja_list *items;
    if (in->kind == GW_JINJA_STRING) return gw_jinja_slice(run, in, bounds, out);
    TRY(gw_jinja_iterate(run, in, &items));
    kept = (struct gw_jinja_value){.kind = GW_JINJA_LIST, .list = items};
    return gw_jinja_slice(run, &kept, bounds, out);
}

/* A part of an attribute's path: a name, or a number, which is an index. */
static struct gw_jinja_value path_key(const char *part, size_t len)
{
    int64_t index = 0;
    for (size_t i = 0; i < len; i++) {
        if (part[i] < '0' || part[i] > '9' || i >= INDEX_DIGITS_MAX) return gw_jinja_text(part, len);
        index = index * 10 + (part[i] - '0');
    }
    return len > 0 ? gw_jinja_int(index) : gw_jinja_text(part, len);
}

/* item.a.b for "a.b". */
static gw_err_t follow(struct gw_jinja_run *run, const struct gw_jinja_value *item,
                       struct gw_jinja_string path, struct gw_jinja_value *out)
{
    struct gw_jinja_value at = *item;
    while (path.len > 0) {
        const char *dot = memchr(path.bytes, '.', path.len);
        size_t len = dot ? (size_t)(dot - path.bytes) : path.len;
        struct gw_jinja_value key = path_key(path.bytes, len), next;
        TRY(gw_jinja_step(run, 1));
        TRY(gw_jinja_item(run, &at, &key, &next));
        at = next;
        path.bytes += len + (dot != NULL);
        path.len -= len + (dot != NULL);
    }
    *out = at;
    return GW_OK;
}

FILTER(filter_join)
{
    struct gw_jinja_string by = {"", 0}, attribute = {NULL, 0};
    struct gw_jinja_list *items;
    struct gw_buf text;
    gw_err_t err = GW_OK;
    TRY(gw_jinja_arg_text(run, args, 0, "d", &by));
    TRY(gw_jinja_arg_text(run, args, 1, "attribute", &attribute));
    TRY(gw_jinja_iterate(run, in, &items));
    gw_buf_init(&text, GW_JINJA_MEMORY_MAX);
    for (size_t i = 0; i < items->len; i++) {
        struct gw_jinja_value item = items->items[i];
        if (attribute.bytes) TRY_GOTO(follow(run, &items->items[i], attribute, &item), out);
        if (i > 0) gw_buf_put(&text, by.bytes, by.len);
        TRY_GOTO(gw_jinja_step(run, 1 + by.len / GW_JINJA_BYTES_STEP), out);
        TRY_GOTO(gw_jinja_print(run, &item, &text), out);
    }
    err = gw_jinja_from_buf(run, &text, out);
out:
    gw_buf_fini(&text);
    return err;
}

/* ---- sort ---- */

/* What an item is sorted by: its attribute, in lower case unless case counts. */
static gw_err_t sort_key(struct gw_jinja_run *run, const struct gw_jinja_value *item,
                         struct gw_jinja_string attribute, bool case_sensitive, struct gw_jinja_value *key)
{
    *key = *item;
    if (attribute.bytes) TRY(follow(run, item, attribute, key));
    if (case_sensitive || key->kind != GW_JINJA_STRING) return GW_OK;
    return gw_jinja_change_case(run, key->string, GW_UTEXT_LOWER, key);
}

/* Merges two sorted halves of pairs (key, item); stable. */
static gw_err_t merge(struct gw_jinja_run *run, const struct gw_jinja_pair *from, struct gw_jinja_pair *to,
                      size_t mid, size_t len, bool reverse)
{
    size_t i = 0, j = mid;
    for (size_t k = 0; k < len; k++) {
        int order = 0;
        if (i < mid && j < len) TRY(gw_jinja_compare(run, &from[i].key, &from[j].key, &order));
        bool left = j >= len || (i < mid && (reverse ? order >= 0 : order <= 0));
        to[k] = left ? from[i++] : from[j++];
    }
    return GW_OK;
}

static gw_err_t sort_pairs(struct gw_jinja_run *run, struct gw_jinja_pair *pairs, size_t len, bool reverse)
{
    void *memory;
    TRY(gw_jinja_alloc(run, len * sizeof *pairs, &memory));
    struct gw_jinja_pair *tmp = memory;
    for (size_t width = 1; width < len; width *= 2) {
        for (size_t lo = 0; lo < len; lo += 2 * width) {
            size_t part = len - lo < 2 * width ? len - lo : 2 * width;
            TRY(merge(run, pairs + lo, tmp + lo, width < part ? width : part, part, reverse));
        }
        memcpy(pairs, tmp, len * sizeof *pairs);
    }
    return GW_OK;
}

FILTER(filter_sort)
{
    const struct gw_jinja_value *reverse = gw_jinja_arg(args, 0, "reverse");
    const struct gw_jinja_value *exact = gw_jinja_arg(args, 1, "case_sensitive");
    struct gw_jinja_string attribute = {NULL, 0};
    struct gw_jinja_list *items;
    void *memory;
    TRY(gw_jinja_arg_text(run, args, 2, "attribute", &attribute));
    TRY(gw_jinja_iterate(run, in, &items));
    TRY(gw_jinja_alloc(run, items->len * sizeof(struct gw_jinja_pair), &memory));
    struct gw_jinja_pair *pairs = memory;
    for (size_t i = 0; i < items->len; i++) {
        pairs[i].value = items->items[i];
        TRY(sort_key(run, &items->items[i], attribute, exact && gw_jinja_truth(exact), &pairs[i].key));
    }
    TRY(sort_pairs(run, pairs, items->len, reverse && gw_jinja_truth(reverse)));
    TRY(gw_jinja_list_new(run, items->len, false, out));
    for (size_t i = 0; i < items->len; i++) TRY(gw_jinja_list_put(run, out->list, pairs[i].value));
    return GW_OK;
}

/* dictsort(case_sensitive=false, by="key", reverse=false): pairs of a mapping, sorted. */
FILTER(filter_dictsort)
{
    const struct gw_jinja_value *exact = gw_jinja_arg(args, 0, "case_sensitive");
    const struct gw_jinja_value *by = gw_jinja_arg(args, 1, "by");
    const struct gw_jinja_value *reverse = gw_jinja_arg(args, 2, "reverse");
    struct gw_jinja_args sorting = {.by_pos_len = 3};
    struct gw_jinja_value pairs;
    TRY(filter_items(run, in, args, &pairs));
    sorting.by_pos[0] = gw_jinja_bool(reverse && gw_jinja_truth(reverse));
    sorting.by_pos[1] = gw_jinja_bool(exact && gw_jinja_truth(exact));
    sorting.by_pos[2] = gw_jinja_text(by && gw_jinja_text_is(by, "value") ? "1" : "0", 1);
    return filter_sort(run, &pairs, &sorting, out);
}

/* ---- map, select ---- */

/* The arguments behind the first n. */
static void drop_args(const struct gw_jinja_args *args, size_t n, struct gw_jinja_args *rest)
{
    rest->by_pos_len = rest->by_name_len = 0;
    for (size_t i = n; i < args->by_pos_len; i++) rest->by_pos[rest->by_pos_len++] = args->by_pos[i];
    for (size_t i = 0; i < args->by_name_len; i++) rest->by_name[rest->by_name_len++] = args->by_name[i];
}

static gw_err_t map_attribute(struct gw_jinja_run *run, const struct gw_jinja_list *items,
                              const struct gw_jinja_args *args, struct gw_jinja_value *out)
{
    struct gw_jinja_string path = {"", 0};
    const struct gw_jinja_value *otherwise = gw_jinja_arg(args, GW_JINJA_ARGS_MAX, "default");
    TRY(gw_jinja_arg_text(run, args, GW_JINJA_ARGS_MAX, "attribute", &path));
    for (size_t i = 0; i < items->len; i++) {
        struct gw_jinja_value v;
        TRY(follow(run, &items->items[i], path, &v));
        if (v.kind == GW_JINJA_UNDEFINED && otherwise) v = *otherwise;
        TRY(gw_jinja_list_put(run, out->list, v));
    }
    return GW_OK;
}

/* map(attribute="a") or map("filter", arguments of it). */
FILTER(filter_map)
{
    struct gw_jinja_list *items;
    struct gw_jinja_args rest;
    TRY(gw_jinja_iterate(run, in, &items));
    TRY(gw_jinja_list_new(run, 0, false, out));
    out->list->lazy = true;
    if (args->by_pos_len == 0 && gw_jinja_arg(args, 0, "attribute"))
        return map_attribute(run, items, args, out);
    const struct gw_jinja_filter *filter = NULL;
    if (args->by_pos_len > 0 && args->by_pos[0].kind == GW_JINJA_STRING)
        filter = gw_jinja_filter_find(args->by_pos[0].string);
    if (!filter) return gw_jinja_fail(run, GW_ERR_INPUT, "map requires a filter that exists, or attribute");
    drop_args(args, 1, &rest);
    TRY(gw_jinja_enter(run)); /* map("map", ...) */
    gw_err_t err = GW_OK;
    for (size_t i = 0; i < items->len && err == GW_OK; i++) {
        struct gw_jinja_value v;
        err = filter->apply(run, &items->items[i], &rest, &v);
        if (err == GW_OK) err = gw_jinja_list_put(run, out->list, v);
    }
    gw_jinja_leave(run);
    return err;
}

/* How items are chosen: by a test (or their truth) on themselves or on an attribute. */
struct choice {
    struct gw_jinja_string attribute; /* bytes NULL: the item itself */
    const struct gw_jinja_test *test; /* NULL: truth */
    struct gw_jinja_args args;
    bool keep; /* those that pass, or those that fail */
};

static gw_err_t choose(struct gw_jinja_run *run, const struct choice *c, const struct gw_jinja_value *item,
                       bool *out)
{
    struct gw_jinja_value v = *item;
    if (c->attribute.bytes) TRY(follow(run, item, c->attribute, &v));
    if (!c->test) {
        *out = gw_jinja_truth(&v);
        return GW_OK;
    }
    *out = false;
    return c->test->check(run, &v, &c->args, out);
}

static gw_err_t select_items(struct gw_jinja_run *run, const struct gw_jinja_value *in,
                             const struct gw_jinja_args *args, bool by_attribute, bool keep,
                             struct gw_jinja_value *out)
{
    struct choice c = {.keep = keep};
    struct gw_jinja_list *items;
    size_t used = 0;
    if (by_attribute) {
        TRY(gw_jinja_arg_text(run, args, used++, "attr", &c.attribute));
        if (!c.attribute.bytes)
            return gw_jinja_fail(run, GW_ERR_INPUT, "Missing parameter for attribute name");
    }
    if (args->by_pos_len > used) {
        if (args->by_pos[used].kind == GW_JINJA_STRING)
            c.test = gw_jinja_test_find(args->by_pos[used].string);
        if (!c.test) return gw_jinja_fail(run, GW_ERR_INPUT, "no test of that name");
        used++;
    }
    drop_args(args, used, &c.args);
    TRY(gw_jinja_iterate(run, in, &items));
    TRY(gw_jinja_list_new(run, 0, false, out));
    out->list->lazy = true;
    for (size_t i = 0; i < items->len; i++) {
        bool yes = false;
        TRY(gw_jinja_step(run, 1));
        TRY(choose(run, &c, &items->items[i], &yes));
        if (yes == c.keep) TRY(gw_jinja_list_put(run, out->list, items->items[i]));
    }
    return GW_OK;
}

FILTER(filter_select)
{
    return select_items(run, in, args, false, true, out);
}

FILTER(filter_reject)
{
    return select_items(run, in, args, false, false, out);
}

FILTER(filter_selectattr)
{
    return select_items(run, in, args, true, true, out);
}

FILTER(filter_rejectattr)
{
    return select_items(run, in, args, true, false, out);
}

const struct gw_jinja_filter gw_jinja_list_filters[] = {
    {"first", filter_first},
    {"last", filter_last},
    {"list", filter_list},
    {"items", filter_items},
    {"reverse", filter_reverse},
    {"join", filter_join},
    {"sort", filter_sort},
    {"dictsort", filter_dictsort},
    {"map", filter_map},
    {"select", filter_select},
    {"reject", filter_reject},
    {"selectattr", filter_selectattr},
    {"rejectattr", filter_rejectattr},
    {0},
};
