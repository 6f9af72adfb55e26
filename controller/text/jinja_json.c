/* Values as JSON, byte for byte as Python's json.dumps writes them. */
#include "controller/text/jinja_print.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/text/utext.h"

struct writer {
    struct gw_jinja_run *run;
    const struct gw_jinja_json_style *style;
    struct gw_buf *out;
    int level;
};

static gw_err_t put_value(struct writer *w, const struct gw_jinja_value *v);

static void put_escaped(struct writer *w, int32_t c, const char *bytes, size_t len)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    const char *known = c > 0 && c < 0x80 ? strchr(from, (char)c) : NULL;
    if (known)
        gw_buf_printf(w->out, "\\%c", to[known - from]);
    else if (c < 0x20 || (w->style->ascii && c >= 0x7F && c < 0x10000 && c != 0x7F))
        gw_buf_printf(w->out, "\\u%04x", (unsigned)c);
    else if (w->style->ascii && c >= 0x10000)
        gw_buf_printf(w->out, "\\u%04x\\u%04x", 0xD800u + ((unsigned)(c - 0x10000) >> 10),
                      0xDC00u + ((unsigned)(c - 0x10000) & 0x3FF));
    else
        gw_buf_put(w->out, bytes, len);
}

static gw_err_t put_text(struct writer *w, struct gw_jinja_string s)
{
    int32_t c;
    gw_buf_u8(w->out, '"');
    for (size_t at = 0, n; at < s.len; at += n) {
        n = gw_utext_next(s.bytes + at, s.len - at, &c);
        put_escaped(w, c, s.bytes + at, n);
    }
    gw_buf_u8(w->out, '"');
    return gw_jinja_step_chars(w->run, s.len);
}

static void put_float(struct writer *w, double f)
{
    if (isnan(f) || isinf(f))
        gw_buf_puts(w->out, isnan(f) ? "NaN" : f > 0 ? "Infinity" : "-Infinity");
    else
        gw_jinja_print_float(f, w->out);
}

static void put_newline(struct writer *w)
{
    if (w->style->indent < 0) return;
    gw_buf_u8(w->out, '\n');
    for (int i = 0; i < w->level * w->style->indent; i++) gw_buf_u8(w->out, ' ');
}

static void put_separator(struct writer *w, size_t index)
{
    if (index > 0) gw_buf_put(w->out, w->style->item_separator.bytes, w->style->item_separator.len);
    put_newline(w);
}

static gw_err_t put_list(struct writer *w, const struct gw_jinja_list *list)
{
    gw_buf_u8(w->out, '[');
    w->level++;
    for (size_t i = 0; i < list->len; i++) {
        put_separator(w, i);
        TRY(put_value(w, &list->items[i]));
    }
    w->level--;
    if (list->len > 0) put_newline(w);
    gw_buf_u8(w->out, ']');
    return GW_OK;
}

/* Keys that are no text become one, as json.dumps has it. */
static gw_err_t put_key(struct writer *w, const struct gw_jinja_value *key)
{
    if (key->kind == GW_JINJA_STRING) return put_text(w, key->string);
    if (!gw_jinja_is_number(key) && key->kind != GW_JINJA_NONE)
        return gw_jinja_fail(w->run, GW_ERR_INPUT, "keys must be str, int, float, bool or None, not %s",
                             gw_jinja_type_name(key->kind));
    gw_buf_u8(w->out, '"');
    TRY(put_value(w, key));
    gw_buf_u8(w->out, '"');
    return GW_OK;
}

static int by_key(const void *a, const void *b)
{
    const struct gw_jinja_pair *const *x = a, *const *y = b;
    struct gw_jinja_string s = (*x)->key.string, t = (*y)->key.string;
    int order = memcmp(s.bytes, t.bytes, s.len < t.len ? s.len : t.len);
    return order ? order : (s.len > t.len) - (s.len < t.len);
}

/* The pairs in the order in which they are written. */
static gw_err_t ordered(struct writer *w, const struct gw_jinja_dict *dict, const struct gw_jinja_pair ***out)
{
    void *pairs;
    TRY(gw_jinja_alloc(w->run, dict->len * sizeof **out, &pairs));
    *out = pairs;
    for (size_t i = 0; i < dict->len; i++) {
        (*out)[i] = &dict->pairs[i];
        if (w->style->sort_keys && dict->pairs[i].key.kind != GW_JINJA_STRING)
            return gw_jinja_fail(w->run, GW_ERR_INPUT, "only text keys can be sorted");
    }
    if (w->style->sort_keys) qsort(*out, dict->len, sizeof **out, by_key);
    return GW_OK;
}

static gw_err_t put_dict(struct writer *w, const struct gw_jinja_dict *dict)
{
    const struct gw_jinja_pair **pairs;
    TRY(ordered(w, dict, &pairs));
    gw_buf_u8(w->out, '{');
    w->level++;
    for (size_t i = 0; i < dict->len; i++) {
        put_separator(w, i);
        TRY(put_key(w, &pairs[i]->key));
        gw_buf_put(w->out, w->style->key_separator.bytes, w->style->key_separator.len);
        TRY(put_value(w, &pairs[i]->value));
    }
    w->level--;
    if (dict->len > 0) put_newline(w);
    gw_buf_u8(w->out, '}');
    return GW_OK;
}

static gw_err_t put_of_kind(struct writer *w, const struct gw_jinja_value *v)
{
    switch (v->kind) {
    case GW_JINJA_NONE: gw_buf_puts(w->out, "null"); return GW_OK;
    case GW_JINJA_BOOL: gw_buf_puts(w->out, v->truth ? "true" : "false"); return GW_OK;
    case GW_JINJA_INT: gw_buf_printf(w->out, "%lld", (long long)v->integer); return GW_OK;
    case GW_JINJA_FLOAT: put_float(w, v->real); return GW_OK;
    case GW_JINJA_STRING: return put_text(w, v->string);
    case GW_JINJA_LIST: return put_list(w, v->list);
    case GW_JINJA_DICT: return put_dict(w, v->dict);
    default:
        return gw_jinja_fail(w->run, GW_ERR_INPUT, "Object of type %s is not JSON serializable",
                             gw_jinja_type_name(v->kind));
    }
}

static gw_err_t put_value(struct writer *w, const struct gw_jinja_value *v)
{
    TRY(gw_jinja_step(w->run, 1));
    if (w->out->err != GW_OK) return gw_jinja_fail(w->run, w->out->err, "a text of the template is too long");
    TRY(gw_jinja_enter(w->run));
    gw_err_t err = put_of_kind(w, v);
    gw_jinja_leave(w->run);
    return err;
}

gw_err_t gw_jinja_print_json(struct gw_jinja_run *run, const struct gw_jinja_value *v,
                             const struct gw_jinja_json_style *style, struct gw_buf *out)
{
    struct writer w = {.run = run, .style = style, .out = out};
    return put_value(&w, v);
}
