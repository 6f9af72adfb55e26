/* Attributes, items and slices of values. */
#include "controller/text/jinja_eval.h"

#include <string.h>

#include "controller/text/jinja_builtins.h"
#include "controller/text/utext.h"

static bool name_is(struct gw_jinja_string name, const char *text)
{
    return name.len == strlen(text) && memcmp(name.bytes, text, name.len) == 0;
}

/* loop.index and its kin. Depth counts recursive loops, which there are none of. */
static gw_err_t loop_attribute(struct gw_jinja_run *run, const struct gw_jinja_value *v,
                               struct gw_jinja_string name, struct gw_jinja_value *out)
{
    const struct gw_jinja_loop *l = v->loop;
    int64_t index = (int64_t)l->index, len = (int64_t)l->items->len;
    const struct {
        const char *name;
        struct gw_jinja_value value;
    } plain[] = {
        {"index", gw_jinja_int(index + 1)},
        {"index0", gw_jinja_int(index)},
        {"revindex", gw_jinja_int(len - index)},
        {"revindex0", gw_jinja_int(len - index - 1)},
        {"length", gw_jinja_int(len)},
        {"depth", gw_jinja_int(1)},
        {"depth0", gw_jinja_int(0)},
        {"first", gw_jinja_bool(index == 0)},
        {"last", gw_jinja_bool(index == len - 1)},
    };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (!name_is(name, plain[i].name)) continue;
        *out = plain[i].value;
        return GW_OK;
    }
    if (name_is(name, "previtem") && index > 0) {
        *out = l->items->items[index - 1];
        return GW_OK;
    }
    if (name_is(name, "nextitem") && index + 1 < len) {
        *out = l->items->items[index + 1];
        return GW_OK;
    }
    return gw_jinja_undefined_of(run, v->kind, gw_jinja_text(name.bytes, name.len), out);
}

static gw_err_t bind(struct gw_jinja_run *run, const struct gw_jinja_method *method,
                     const struct gw_jinja_value *self, struct gw_jinja_value *out)
{
    void *memory;
    TRY(gw_jinja_alloc(run, sizeof(struct gw_jinja_bound), &memory));
    struct gw_jinja_bound *bound = memory;
    *bound = (struct gw_jinja_bound){.method = method, .self = *self};
    *out = (struct gw_jinja_value){.kind = GW_JINJA_METHOD, .bound = bound};
    return GW_OK;
}

/* The key's value, else undefined. */
static gw_err_t dict_item(struct gw_jinja_run *run, const struct gw_jinja_value *v, struct gw_jinja_value key,
                          struct gw_jinja_value *out)
{
    const struct gw_jinja_value *found;
    TRY(gw_jinja_dict_get(run, v->dict, key, &found));
    if (!found) return gw_jinja_undefined_of(run, v->kind, key, out);
    *out = *found;
    return GW_OK;
}

/* x.name: methods come before keys, as getattr does in Jinja. */
gw_err_t gw_jinja_attribute(struct gw_jinja_run *run, const struct gw_jinja_value *object,
                            struct gw_jinja_string name, struct gw_jinja_value *out)
{
    struct gw_jinja_value key = gw_jinja_text(name.bytes, name.len), self = *object;
    if (object->kind == GW_JINJA_UNDEFINED) return gw_jinja_fail_undefined(run, object);
    if (object->kind == GW_JINJA_LOOP) {
        const struct gw_jinja_method *m = gw_jinja_method_find(object->kind, name);
        return m ? bind(run, m, &self, out) : loop_attribute(run, object, name, out);
    }
    const struct gw_jinja_method *method = gw_jinja_method_find(object->kind, name);
    if (method) return bind(run, method, &self, out);
    if (object->kind == GW_JINJA_DICT || object->kind == GW_JINJA_NAMESPACE)
        return dict_item(run, &self, key, out);
    return gw_jinja_undefined_of(run, object->kind, key, out);
}

/* Index from the front or, if negative, from the back; false if outside. */
static bool resolve_index(int64_t index, size_t len, size_t *out)
{
    if (index < 0) index += (int64_t)len;
    if (index < 0 || (uint64_t)index >= len) return false;
    *out = (size_t)index;
    return true;
}

static gw_err_t text_item(struct gw_jinja_run *run, const struct gw_jinja_value *v, int64_t index,
                          struct gw_jinja_value *out)
{
    struct gw_jinja_string s = v->string;
    size_t at;
    int32_t c;
    TRY(gw_jinja_step_chars(run, s.len));
    if (!resolve_index(index, gw_utext_count(s.bytes, s.len), &at))
        return gw_jinja_undefined_of(run, v->kind, gw_jinja_int(index), out);
    size_t from = gw_utext_offset(s.bytes, s.len, at);
    *out = gw_jinja_text(s.bytes + from, gw_utext_next(s.bytes + from, s.len - from, &c));
    return GW_OK;
}

static gw_err_t list_item(struct gw_jinja_run *run, const struct gw_jinja_value *v, int64_t index,
                          struct gw_jinja_value *out)
{
    size_t at;
    if (!resolve_index(index, v->list->len, &at))
        return gw_jinja_undefined_of(run, v->kind, gw_jinja_int(index), out);
    *out = v->list->items[at];
    return GW_OK;
}

/* x[key]: keys come before methods. */
gw_err_t gw_jinja_item(struct gw_jinja_run *run, const struct gw_jinja_value *object,
                       const struct gw_jinja_value *key, struct gw_jinja_value *out)
{
    struct gw_jinja_value self = *object;
    if (object->kind == GW_JINJA_UNDEFINED) return gw_jinja_fail_undefined(run, object);
    bool index = key->kind == GW_JINJA_INT || key->kind == GW_JINJA_BOOL;
    int64_t number = key->kind == GW_JINJA_INT ? key->integer : index ? key->truth : 0;
    if (index && object->kind == GW_JINJA_LIST) return list_item(run, &self, number, out);
    if (index && object->kind == GW_JINJA_STRING) return text_item(run, &self, number, out);
    if (object->kind == GW_JINJA_DICT) {
        TRY(dict_item(run, &self, *key, out));
        if (out->kind != GW_JINJA_UNDEFINED) return GW_OK;
    }
    if (key->kind == GW_JINJA_STRING) return gw_jinja_attribute(run, &self, key->string, out);
    return gw_jinja_undefined_of(run, object->kind, *key, out);
}

/* ---- slices ---- */

struct range {
    int64_t start, stop, step;
};

static gw_err_t slice_bound(struct gw_jinja_run *run, const struct gw_jinja_value *v, int64_t *out)
{
    if (v->kind == GW_JINJA_UNDEFINED) return gw_jinja_fail_undefined(run, v);
    if (v->kind != GW_JINJA_INT && v->kind != GW_JINJA_BOOL)
        return gw_jinja_fail(run, GW_ERR_INPUT, "slice indices must be integers");
    *out = v->kind == GW_JINJA_INT ? v->integer : v->truth;
    return GW_OK;
}

static int64_t clamp(int64_t v, int64_t lo, int64_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* Python's slice.indices. */
static gw_err_t resolve_slice(struct gw_jinja_run *run, const struct gw_jinja_value *const bounds[3],
                              int64_t len, struct range *r)
{
    r->step = 1;
    if (bounds[2]) TRY(slice_bound(run, bounds[2], &r->step));
    if (r->step == 0) return gw_jinja_fail(run, GW_ERR_INPUT, "slice step cannot be zero");
    r->step = clamp(r->step, -INT64_MAX, INT64_MAX);
    int64_t lo = r->step < 0 ? -1 : 0, hi = r->step < 0 ? len - 1 : len;
    int64_t *ends[2] = {&r->start, &r->stop};
    r->start = r->step < 0 ? hi : lo;
    r->stop = r->step < 0 ? lo : hi;
    for (int i = 0; i < 2; i++) {
        int64_t v = 0;
        if (!bounds[i]) continue;
        TRY(slice_bound(run, bounds[i], &v));
        if (v < 0) v = v < -len ? -len - 1 : v;
        *ends[i] = clamp(v < 0 ? v + len : v, lo, hi);
    }
    return GW_OK;
}

static bool in_range(const struct range *r, int64_t i)
{
    return r->step > 0 ? i < r->stop : i > r->stop;
}

/* The next index, or stop where adding would pass the end. */
static int64_t next_index(const struct range *r, int64_t i)
{
    int64_t next;
    return __builtin_add_overflow(i, r->step, &next) ? r->stop : next;
}

static gw_err_t slice_list(struct gw_jinja_run *run, const struct gw_jinja_list *list,
                           const struct gw_jinja_value *const bounds[3], struct gw_jinja_value *out)
{
    struct range r;
    TRY(resolve_slice(run, bounds, (int64_t)list->len, &r));
    TRY(gw_jinja_list_new(run, 0, list->tuple, out));
    if (r.step == 1) { /* lists never change: a part is a view */
        size_t len = r.stop > r.start ? (size_t)(r.stop - r.start) : 0;
        *out->list = (struct gw_jinja_list){
            .items = len ? list->items + r.start : NULL, .len = len, .cap = len, .tuple = list->tuple};
        return GW_OK;
    }
    for (int64_t i = r.start; in_range(&r, i); i = next_index(&r, i))
        TRY(gw_jinja_list_put(run, out->list, list->items[i]));
    return GW_OK;
}

/* With a step other than 1: characters one by one. */
static gw_err_t slice_steps(struct gw_jinja_run *run, const struct gw_jinja_value *v, const struct range *r,
                            struct gw_jinja_value *out)
{
    struct gw_jinja_list *characters;
    struct gw_buf text;
    TRY(gw_jinja_iterate(run, v, &characters));
    gw_buf_init(&text, GW_JINJA_MEMORY_MAX);
    for (int64_t i = r->start; in_range(r, i); i = next_index(r, i)) {
        struct gw_jinja_string c = characters->items[i].string;
        gw_buf_put(&text, c.bytes, c.len);
    }
    gw_err_t err = gw_jinja_from_buf(run, &text, out);
    gw_buf_fini(&text);
    return err;
}

static gw_err_t slice_text(struct gw_jinja_run *run, const struct gw_jinja_value *v,
                           const struct gw_jinja_value *const bounds[3], struct gw_jinja_value *out)
{
    struct gw_jinja_string s = v->string;
    struct range r;
    TRY(gw_jinja_step_chars(run, s.len));
    TRY(resolve_slice(run, bounds, (int64_t)gw_utext_count(s.bytes, s.len), &r));
    if (r.step != 1) return slice_steps(run, v, &r, out);
    if (r.stop < r.start) r.stop = r.start;
    size_t from = gw_utext_offset(s.bytes, s.len, (size_t)r.start);
    size_t len = gw_utext_offset(s.bytes + from, s.len - from, (size_t)(r.stop - r.start));
    *out = gw_jinja_text(s.bytes + from, len);
    return GW_OK;
}

gw_err_t gw_jinja_slice(struct gw_jinja_run *run, const struct gw_jinja_value *object,
                        const struct gw_jinja_value *const bounds[3], struct gw_jinja_value *out)
{
    if (object->kind == GW_JINJA_LIST) return slice_list(run, object->list, bounds, out);
    if (object->kind == GW_JINJA_STRING) return slice_text(run, object, bounds, out);
    if (object->kind == GW_JINJA_UNDEFINED) return gw_jinja_fail_undefined(run, object);
    return gw_jinja_undefined_of(run, object->kind, gw_jinja_none(), out);
}
