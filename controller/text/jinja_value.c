#include "controller/text/jinja_value.h"

#include <math.h>
#include <string.h>

#include "controller/text/jinja_run.h"
#include "controller/text/utext.h"

#define ITEMS_FIRST 8
#define INT_EXACT   9007199254740992.0 /* 2^53: JSON integers up to here are exact in a double */
#define KEY_SHOWN   64                 /* bytes of a name in an error message */

struct gw_jinja_value gw_jinja_none(void)
{
    return (struct gw_jinja_value){.kind = GW_JINJA_NONE};
}

struct gw_jinja_value gw_jinja_bool(bool truth)
{
    return (struct gw_jinja_value){.kind = GW_JINJA_BOOL, .truth = truth};
}

struct gw_jinja_value gw_jinja_int(int64_t i)
{
    return (struct gw_jinja_value){.kind = GW_JINJA_INT, .integer = i};
}

struct gw_jinja_value gw_jinja_float(double f)
{
    return (struct gw_jinja_value){.kind = GW_JINJA_FLOAT, .real = f};
}

struct gw_jinja_value gw_jinja_text(const char *bytes, size_t len)
{
    return (struct gw_jinja_value){.kind = GW_JINJA_STRING, .string = {bytes, len}};
}

/* ---- containers ---- */

/* Makes room for one more of size bytes in an array of the run; old ones are copied. */
static gw_err_t grow(struct gw_jinja_run *run, void **items, size_t len, size_t *cap, size_t size)
{
    if (len < *cap) return GW_OK;
    size_t wider = *cap ? *cap * 2 : ITEMS_FIRST;
    void *fresh;
    TRY(gw_jinja_alloc(run, wider * size, &fresh));
    if (len) memcpy(fresh, *items, len * size);
    *items = fresh;
    *cap = wider;
    return GW_OK;
}

gw_err_t gw_jinja_list_new(struct gw_jinja_run *run, size_t room, bool tuple, struct gw_jinja_value *out)
{
    void *list, *items = NULL;
    if (room > GW_JINJA_MEMORY_MAX / sizeof(struct gw_jinja_value)) room = GW_JINJA_MEMORY_MAX;
    TRY(gw_jinja_alloc(run, sizeof(struct gw_jinja_list), &list));
    if (room) TRY(gw_jinja_alloc(run, room * sizeof(struct gw_jinja_value), &items));
    *out = (struct gw_jinja_value){.kind = GW_JINJA_LIST, .list = list};
    *out->list = (struct gw_jinja_list){.items = items, .cap = room, .tuple = tuple};
    return GW_OK;
}

gw_err_t gw_jinja_list_put(struct gw_jinja_run *run, struct gw_jinja_list *list, struct gw_jinja_value item)
{
    void *items = list->items;
    TRY(gw_jinja_step(run, 1));
    TRY(grow(run, &items, list->len, &list->cap, sizeof item));
    list->items = items;
    list->items[list->len++] = item;
    return GW_OK;
}

gw_err_t gw_jinja_dict_new(struct gw_jinja_run *run, struct gw_jinja_value *out)
{
    void *dict;
    TRY(gw_jinja_alloc(run, sizeof(struct gw_jinja_dict), &dict));
    *out = (struct gw_jinja_value){.kind = GW_JINJA_DICT, .dict = dict};
    *out->dict = (struct gw_jinja_dict){0};
    return GW_OK;
}

/* Index of the key's last pair; len if it is not there. */
static gw_err_t find_key(struct gw_jinja_run *run, const struct gw_jinja_dict *dict,
                         const struct gw_jinja_value *key, size_t *index)
{
    for (size_t i = dict->len; i-- > 0;) {
        bool equal = false;
        TRY(gw_jinja_equal(run, &dict->pairs[i].key, key, &equal));
        if (!equal) continue;
        *index = i;
        return GW_OK;
    }
    *index = dict->len;
    return GW_OK;
}

static gw_err_t dict_put(struct gw_jinja_run *run, struct gw_jinja_dict *dict, struct gw_jinja_value key,
                         struct gw_jinja_value value)
{
    void *pairs = dict->pairs;
    TRY(grow(run, &pairs, dict->len, &dict->cap, sizeof *dict->pairs));
    dict->pairs = pairs;
    dict->pairs[dict->len++] = (struct gw_jinja_pair){key, value};
    return GW_OK;
}

gw_err_t gw_jinja_dict_set(struct gw_jinja_run *run, struct gw_jinja_dict *dict, struct gw_jinja_value key,
                           struct gw_jinja_value value)
{
    size_t at;
    TRY(find_key(run, dict, &key, &at));
    if (at == dict->len) return dict_put(run, dict, key, value);
    dict->pairs[at].value = value;
    return GW_OK;
}

gw_err_t gw_jinja_dict_get(struct gw_jinja_run *run, const struct gw_jinja_dict *dict,
                           struct gw_jinja_value key, const struct gw_jinja_value **out)
{
    size_t at;
    TRY(find_key(run, dict, &key, &at));
    *out = at < dict->len ? &dict->pairs[at].value : NULL;
    return GW_OK;
}

/* ---- undefined ---- */

static gw_err_t make_undefined(struct gw_jinja_run *run, struct gw_jinja_missing missing,
                               struct gw_jinja_value *out)
{
    void *copy;
    TRY(gw_jinja_alloc(run, sizeof missing, &copy));
    memcpy(copy, &missing, sizeof missing);
    *out = (struct gw_jinja_value){.kind = GW_JINJA_UNDEFINED, .missing = copy};
    return GW_OK;
}

gw_err_t gw_jinja_undefined_name(struct gw_jinja_run *run, struct gw_jinja_string name,
                                 struct gw_jinja_value *out)
{
    struct gw_jinja_missing missing = {.key = gw_jinja_text(name.bytes, name.len)};
    return make_undefined(run, missing, out);
}

gw_err_t gw_jinja_undefined_of(struct gw_jinja_run *run, enum gw_jinja_kind owner, struct gw_jinja_value key,
                               struct gw_jinja_value *out)
{
    struct gw_jinja_missing missing = {.of_value = true, .owner = owner, .key = key};
    return make_undefined(run, missing, out);
}

gw_err_t gw_jinja_fail_undefined(struct gw_jinja_run *run, const struct gw_jinja_value *v)
{
    const struct gw_jinja_missing *m = v->missing;
    if (!m) return gw_jinja_fail(run, GW_ERR_INPUT, "a value is undefined");
    const char *owner = m->owner == GW_JINJA_NONE ? "None" : gw_jinja_type_name(m->owner);
    const char *object = m->owner == GW_JINJA_NONE ? "" : " object";
    if (m->key.kind == GW_JINJA_INT)
        return gw_jinja_fail(run, GW_ERR_INPUT, "%s%s has no element %lld", owner, object,
                             (long long)m->key.integer);
    if (m->key.kind != GW_JINJA_STRING)
        return gw_jinja_fail(run, GW_ERR_INPUT, "%s%s has no such element", owner, object);
    int shown = (int)(m->key.string.len < KEY_SHOWN ? m->key.string.len : KEY_SHOWN);
    if (!m->of_value)
        return gw_jinja_fail(run, GW_ERR_INPUT, "'%.*s' is undefined", shown, m->key.string.bytes);
    return gw_jinja_fail(run, GW_ERR_INPUT, "'%s%s' has no attribute '%.*s'", owner, object, shown,
                         m->key.string.bytes);
}

/* ---- from JSON ---- */

static gw_err_t list_from_json(struct gw_jinja_run *run, const cJSON *json, struct gw_jinja_value *out)
{
    const cJSON *item;
    TRY(gw_jinja_list_new(run, 0, false, out));
    cJSON_ArrayForEach(item, json)
    {
        struct gw_jinja_value v;
        TRY(gw_jinja_from_json(run, item, &v));
        TRY(gw_jinja_list_put(run, out->list, v));
    }
    return GW_OK;
}

static gw_err_t dict_from_json(struct gw_jinja_run *run, const cJSON *json, struct gw_jinja_value *out)
{
    const cJSON *item;
    TRY(gw_jinja_dict_new(run, out));
    cJSON_ArrayForEach(item, json)
    {
        struct gw_jinja_value v;
        TRY(gw_jinja_from_json(run, item, &v));
        TRY(dict_put(run, out->dict, gw_jinja_text(item->string, strlen(item->string)), v));
    }
    return GW_OK;
}

static struct gw_jinja_value number_from_json(double v)
{
    return v == floor(v) && fabs(v) <= INT_EXACT ? gw_jinja_int((int64_t)v) : gw_jinja_float(v);
}

gw_err_t gw_jinja_from_json(struct gw_jinja_run *run, const cJSON *json, struct gw_jinja_value *out)
{
    gw_err_t err = GW_OK;
    TRY(gw_jinja_enter(run));
    if (cJSON_IsString(json))
        *out = gw_jinja_text(json->valuestring, strlen(json->valuestring));
    else if (cJSON_IsNumber(json))
        *out = number_from_json(json->valuedouble);
    else if (cJSON_IsBool(json))
        *out = gw_jinja_bool(cJSON_IsTrue(json));
    else if (cJSON_IsArray(json))
        err = list_from_json(run, json, out);
    else if (cJSON_IsObject(json))
        err = dict_from_json(run, json, out);
    else
        *out = gw_jinja_none();
    gw_jinja_leave(run);
    return err;
}

/* ---- questions ---- */

bool gw_jinja_truth(const struct gw_jinja_value *v)
{
    switch (v->kind) {
    case GW_JINJA_UNDEFINED:
    case GW_JINJA_NONE: return false;
    case GW_JINJA_BOOL: return v->truth;
    case GW_JINJA_INT: return v->integer != 0;
    case GW_JINJA_FLOAT: return v->real != 0;
    case GW_JINJA_STRING: return v->string.len > 0;
    case GW_JINJA_LIST: return v->list->len > 0 || v->list->lazy;
    case GW_JINJA_DICT: return v->dict->len > 0;
    default: return true;
    }
}

bool gw_jinja_is_number(const struct gw_jinja_value *v)
{
    return v->kind == GW_JINJA_BOOL || v->kind == GW_JINJA_INT || v->kind == GW_JINJA_FLOAT;
}

double gw_jinja_as_double(const struct gw_jinja_value *number)
{
    if (number->kind == GW_JINJA_FLOAT) return number->real;
    return number->kind == GW_JINJA_INT ? (double)number->integer : (double)number->truth;
}

bool gw_jinja_text_is(const struct gw_jinja_value *v, const char *text)
{
    size_t len = strlen(text);
    return v->kind == GW_JINJA_STRING && v->string.len == len && memcmp(v->string.bytes, text, len) == 0;
}

const char *gw_jinja_type_name(enum gw_jinja_kind kind)
{
    static const char *const names[] = {"Undefined", "NoneType", "bool", "int",       "float",
                                        "str",       "list",     "dict", "Namespace", "LoopContext",
                                        "function",  "method",   "Macro"};
    return names[kind];
}

static int sign_of(double d)
{
    return (d > 0) - (d < 0);
}

static int compare_numbers(const struct gw_jinja_value *a, const struct gw_jinja_value *b)
{
    if (a->kind == GW_JINJA_INT && b->kind == GW_JINJA_INT)
        return (a->integer > b->integer) - (a->integer < b->integer);
    return sign_of(gw_jinja_as_double(a) - gw_jinja_as_double(b));
}

/* UTF-8 sorts as its code points do. */
static int compare_texts(struct gw_jinja_string a, struct gw_jinja_string b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter ? memcmp(a.bytes, b.bytes, shorter) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static gw_err_t equal_lists(struct gw_jinja_run *run, const struct gw_jinja_list *a,
                            const struct gw_jinja_list *b, bool *out)
{
    *out = a->len == b->len && a->tuple == b->tuple;
    for (size_t i = 0; *out && i < a->len; i++) TRY(gw_jinja_equal(run, &a->items[i], &b->items[i], out));
    return GW_OK;
}

static gw_err_t equal_dicts(struct gw_jinja_run *run, const struct gw_jinja_dict *a,
                            const struct gw_jinja_dict *b, bool *out)
{
    *out = a->len == b->len;
    for (size_t i = 0; *out && i < a->len; i++) {
        const struct gw_jinja_value *other;
        TRY(gw_jinja_dict_get(run, b, a->pairs[i].key, &other));
        *out = other != NULL;
        if (other) TRY(gw_jinja_equal(run, &a->pairs[i].value, other, out));
    }
    return GW_OK;
}

static gw_err_t equal_same_kind(struct gw_jinja_run *run, const struct gw_jinja_value *a,
                                const struct gw_jinja_value *b, bool *out)
{
    switch (a->kind) {
    case GW_JINJA_UNDEFINED:
    case GW_JINJA_NONE: *out = true; return GW_OK;
    case GW_JINJA_STRING:
        *out = a->string.len == b->string.len && compare_texts(a->string, b->string) == 0;
        return gw_jinja_step_bytes(run, a->string.len == b->string.len ? a->string.len : 0);
    case GW_JINJA_LIST: return equal_lists(run, a->list, b->list, out);
    case GW_JINJA_DICT: return equal_dicts(run, a->dict, b->dict, out);
    default: *out = a->list == b->list; return GW_OK; /* the same thing? */
    }
}

gw_err_t gw_jinja_equal(struct gw_jinja_run *run, const struct gw_jinja_value *a,
                        const struct gw_jinja_value *b, bool *out)
{
    TRY(gw_jinja_step(run, 1));
    if (gw_jinja_is_number(a) && gw_jinja_is_number(b)) {
        *out = compare_numbers(a, b) == 0;
        return GW_OK;
    }
    *out = false;
    if (a->kind != b->kind) return GW_OK;
    TRY(gw_jinja_enter(run));
    gw_err_t err = equal_same_kind(run, a, b, out);
    gw_jinja_leave(run);
    return err;
}

static gw_err_t compare_lists(struct gw_jinja_run *run, const struct gw_jinja_list *a,
                              const struct gw_jinja_list *b, int *out)
{
    for (size_t i = 0; i < a->len && i < b->len; i++) {
        bool equal = false;
        TRY(gw_jinja_equal(run, &a->items[i], &b->items[i], &equal));
        if (!equal) return gw_jinja_compare(run, &a->items[i], &b->items[i], out);
    }
    *out = (a->len > b->len) - (a->len < b->len);
    return GW_OK;
}

gw_err_t gw_jinja_compare(struct gw_jinja_run *run, const struct gw_jinja_value *a,
                          const struct gw_jinja_value *b, int *out)
{
    TRY(gw_jinja_step(run, 1));
    if (gw_jinja_is_number(a) && gw_jinja_is_number(b)) {
        *out = compare_numbers(a, b);
        return GW_OK;
    }
    if (a->kind == GW_JINJA_STRING && b->kind == GW_JINJA_STRING) {
        *out = compare_texts(a->string, b->string);
        return gw_jinja_step_bytes(run, a->string.len < b->string.len ? a->string.len : b->string.len);
    }
    if (a->kind == GW_JINJA_UNDEFINED) return gw_jinja_fail_undefined(run, a);
    if (b->kind == GW_JINJA_UNDEFINED) return gw_jinja_fail_undefined(run, b);
    if (a->kind != GW_JINJA_LIST || b->kind != GW_JINJA_LIST)
        return gw_jinja_fail(run, GW_ERR_INPUT, "'%s' and '%s' have no order", gw_jinja_type_name(a->kind),
                             gw_jinja_type_name(b->kind));
    TRY(gw_jinja_enter(run));
    gw_err_t err = compare_lists(run, a->list, b->list, out);
    gw_jinja_leave(run);
    return err;
}

static gw_err_t contains_text(struct gw_jinja_run *run, struct gw_jinja_string text,
                              const struct gw_jinja_value *item, bool *out)
{
    if (item->kind == GW_JINJA_UNDEFINED) return gw_jinja_fail_undefined(run, item);
    if (item->kind != GW_JINJA_STRING)
        return gw_jinja_fail(run, GW_ERR_INPUT, "'in <string>' requires string as left operand, not %s",
                             gw_jinja_type_name(item->kind));
    TRY(gw_jinja_step_bytes(run, text.len));
    *out = item->string.len == 0 || gw_utext_find(text.bytes, text.len, item->string.bytes, item->string.len);
    return GW_OK;
}

gw_err_t gw_jinja_contains(struct gw_jinja_run *run, const struct gw_jinja_value *container,
                           const struct gw_jinja_value *item, bool *out)
{
    *out = false;
    if (container->kind == GW_JINJA_STRING) return contains_text(run, container->string, item, out);
    if (container->kind == GW_JINJA_DICT) {
        const struct gw_jinja_value *found;
        TRY(gw_jinja_dict_get(run, container->dict, *item, &found));
        *out = found != NULL;
        return GW_OK;
    }
    struct gw_jinja_list *list;
    TRY(gw_jinja_iterate(run, container, &list));
    for (size_t i = 0; i < list->len && !*out; i++) TRY(gw_jinja_equal(run, &list->items[i], item, out));
    return GW_OK;
}

static gw_err_t split_characters(struct gw_jinja_run *run, struct gw_jinja_string s,
                                 struct gw_jinja_list *list)
{
    int32_t c;
    for (size_t at = 0, n; at < s.len; at += n) {
        n = gw_utext_next(s.bytes + at, s.len - at, &c);
        TRY(gw_jinja_list_put(run, list, gw_jinja_text(s.bytes + at, n)));
    }
    return GW_OK;
}

gw_err_t gw_jinja_iterate(struct gw_jinja_run *run, const struct gw_jinja_value *v,
                          struct gw_jinja_list **out)
{
    struct gw_jinja_value made;
    if (v->kind == GW_JINJA_LIST) {
        *out = v->list;
        return GW_OK;
    }
    if (v->kind != GW_JINJA_UNDEFINED && v->kind != GW_JINJA_STRING && v->kind != GW_JINJA_DICT)
        return gw_jinja_fail(run, GW_ERR_INPUT, "'%s' object is not iterable", gw_jinja_type_name(v->kind));
    TRY(gw_jinja_list_new(run, 0, false, &made));
    *out = made.list;
    if (v->kind == GW_JINJA_STRING) return split_characters(run, v->string, made.list);
    if (v->kind == GW_JINJA_UNDEFINED) return GW_OK;
    for (size_t i = 0; i < v->dict->len; i++) TRY(gw_jinja_list_put(run, made.list, v->dict->pairs[i].key));
    return GW_OK;
}
