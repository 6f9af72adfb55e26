/* Filters on single values, and the table of all but those on lists. */
#include "controller/text/jinja_builtins.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "controller/text/jinja_eval.h"
#include "controller/text/jinja_print.h"
#include "controller/text/utext.h"

#define FILTER(name)                                                                                         \
    static gw_err_t name(struct gw_jinja_run *run, const struct gw_jinja_value *in,                          \
                         const struct gw_jinja_args *args, struct gw_jinja_value *out)

/* str(in). */
static gw_err_t as_text(struct gw_jinja_run *run, const struct gw_jinja_value *in, struct gw_jinja_value *out)
{
    struct gw_buf text;
    if (in->kind == GW_JINJA_STRING) {
        *out = *in;
        return GW_OK;
    }
    gw_buf_init(&text, GW_JINJA_MEMORY_MAX);
    gw_err_t err = gw_jinja_print(run, in, &text);
    if (err == GW_OK) err = gw_jinja_from_buf(run, &text, out);
    gw_buf_fini(&text);
    return err;
}

FILTER(filter_string)
{
    (void)args;
    return as_text(run, in, out);
}

FILTER(filter_trim)
{
    struct gw_jinja_value text;
    TRY(as_text(run, in, &text));
    return gw_jinja_strip(run, text.string, args, GW_UTEXT_BOTH, out);
}

FILTER(filter_upper)
{
    (void)args;
    struct gw_jinja_value text;
    TRY(as_text(run, in, &text));
    return gw_jinja_change_case(run, text.string, GW_UTEXT_UPPER, out);
}

FILTER(filter_lower)
{
    (void)args;
    struct gw_jinja_value text;
    TRY(as_text(run, in, &text));
    return gw_jinja_change_case(run, text.string, GW_UTEXT_LOWER, out);
}

FILTER(filter_capitalize)
{
    (void)args;
    struct gw_jinja_value text;
    TRY(as_text(run, in, &text));
    return gw_jinja_change_case(run, text.string, GW_UTEXT_CAPITALIZE, out);
}

static bool parts_words(int32_t c)
{
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || gw_utext_is_space(c);
}

/* Jinja's own rule, other than str.title's: words end at blanks, dashes and opening brackets only. */
static void put_titled(struct gw_buf *text, struct gw_jinja_string s)
{
    int32_t c;
    for (size_t at = 0; at < s.len;) {
        size_t first = gw_utext_next(s.bytes + at, s.len - at, &c), end = at + first;
        gw_utext_put_case(text, s.bytes + at, first, GW_UTEXT_UPPER);
        bool in_word = !parts_words(c);
        while (in_word && end < s.len) {
            size_t n = gw_utext_next(s.bytes + end, s.len - end, &c);
            if (parts_words(c)) break;
            end += n;
        }
        gw_utext_put_case(text, s.bytes + at + first, end - at - first, GW_UTEXT_LOWER);
        at = end;
    }
}

FILTER(filter_title)
{
    (void)args;
    struct gw_jinja_value text;
    struct gw_buf titled;
    TRY(as_text(run, in, &text));
    TRY(gw_jinja_step_chars(run, text.string.len));
    gw_buf_init(&titled, GW_JINJA_MEMORY_MAX);
    put_titled(&titled, text.string);
    gw_err_t err = gw_jinja_from_buf(run, &titled, out);
    gw_buf_fini(&titled);
    return err;
}

FILTER(filter_replace)
{
    struct gw_jinja_value text;
    TRY(as_text(run, in, &text));
    return gw_jinja_replace(run, text.string, args, out);
}

FILTER(filter_default)
{
    const struct gw_jinja_value *otherwise = gw_jinja_arg(args, 0, "default_value");
    const struct gw_jinja_value *boolean = gw_jinja_arg(args, 1, "boolean");
    bool missing =
        in->kind == GW_JINJA_UNDEFINED || (boolean && gw_jinja_truth(boolean) && !gw_jinja_truth(in));
    (void)run;
    *out = !missing ? *in : otherwise ? *otherwise : gw_jinja_text("", 0);
    return GW_OK;
}

FILTER(filter_length)
{
    (void)args;
    size_t n = 0;
    switch (in->kind) {
    case GW_JINJA_STRING:
        TRY(gw_jinja_step_chars(run, in->string.len));
        n = gw_utext_count(in->string.bytes, in->string.len);
        break;
    case GW_JINJA_LIST:
        if (in->list->lazy)
            return gw_jinja_fail(run, GW_ERR_INPUT, "object of type 'generator' has no len()");
        n = in->list->len;
        break;
    case GW_JINJA_DICT: n = in->dict->len; break;
    case GW_JINJA_UNDEFINED: break;
    default:
        return gw_jinja_fail(run, GW_ERR_INPUT, "object of type '%s' has no len()",
                             gw_jinja_type_name(in->kind));
    }
    *out = gw_jinja_int((int64_t)n);
    return GW_OK;
}

/* A text that is a number, and nothing else. */
static bool read_number(struct gw_jinja_string s, double *real, int64_t *integer, bool *is_integer)
{
    char digits[64], *end;
    gw_utext_strip(&s.bytes, &s.len, NULL, 0, GW_UTEXT_BOTH);
    if (s.len == 0 || s.len >= sizeof digits) return false;
    memcpy(digits, s.bytes, s.len);
    digits[s.len] = '\0';
    if (strspn(digits, "+-.0123456789eE") != s.len) return false; /* no hex, no inf, no NUL */
    errno = 0;
    *integer = strtoll(digits, &end, 10);
    *is_integer = *end == '\0' && errno == 0;
    *real = strtod(digits, &end);
    return *end == '\0';
}

static gw_err_t truncate(struct gw_jinja_run *run, double f, struct gw_jinja_value *out)
{
    if (!(f > -9.2e18 && f < 9.2e18))
        return gw_jinja_fail(run, GW_ERR_LIMIT, "an integer does not fit into 64 bits");
    *out = gw_jinja_int((int64_t)f);
    return GW_OK;
}

FILTER(filter_int)
{
    const struct gw_jinja_value *otherwise = gw_jinja_arg(args, 0, "default");
    double real = 0;
    int64_t integer = 0;
    bool is_integer = false;
    *out = otherwise ? *otherwise : gw_jinja_int(0);
    if (gw_jinja_arg(args, 1, "base"))
        return gw_jinja_fail(run, GW_ERR_INPUT, "int with a base is not supported");
    if (in->kind == GW_JINJA_FLOAT) return truncate(run, in->real, out);
    if (gw_jinja_is_number(in)) {
        *out = gw_jinja_int(in->kind == GW_JINJA_INT ? in->integer : in->truth);
        return GW_OK;
    }
    if (in->kind != GW_JINJA_STRING || !read_number(in->string, &real, &integer, &is_integer)) return GW_OK;
    if (!is_integer) return truncate(run, real, out);
    *out = gw_jinja_int(integer);
    return GW_OK;
}

FILTER(filter_float)
{
    const struct gw_jinja_value *otherwise = gw_jinja_arg(args, 0, "default");
    double real = 0;
    int64_t integer;
    bool is_integer;
    (void)run;
    *out = otherwise ? *otherwise : gw_jinja_float(0);
    if (gw_jinja_is_number(in)) *out = gw_jinja_float(gw_jinja_as_double(in));
    if (in->kind == GW_JINJA_STRING && read_number(in->string, &real, &integer, &is_integer))
        *out = gw_jinja_float(real);
    return GW_OK;
}

FILTER(filter_abs)
{
    (void)args;
    *out = *in;
    bool negative = gw_jinja_is_number(in) && gw_jinja_as_double(in) < 0;
    if (negative || !gw_jinja_is_number(in)) return gw_jinja_negate(run, in, out);
    if (in->kind == GW_JINJA_BOOL) *out = gw_jinja_int(in->truth);
    return GW_OK;
}

/* indent=... and separators=(item, key) */
static gw_err_t json_style(struct gw_jinja_run *run, const struct gw_jinja_args *args,
                           struct gw_jinja_json_style *style)
{
    const struct gw_jinja_value *ascii = gw_jinja_arg(args, 0, "ensure_ascii");
    const struct gw_jinja_value *indent = gw_jinja_arg(args, 1, "indent");
    const struct gw_jinja_value *separators = gw_jinja_arg(args, 2, "separators");
    const struct gw_jinja_value *sort = gw_jinja_arg(args, 3, "sort_keys");
    int64_t spaces = -1;
    style->ascii = ascii && gw_jinja_truth(ascii);
    style->sort_keys = sort && gw_jinja_truth(sort);
    if (indent && indent->kind != GW_JINJA_NONE) TRY(gw_jinja_arg_int(run, args, 1, "indent", &spaces));
    if (spaces > GW_JINJA_INDENT_MAX)
        return gw_jinja_fail(run, GW_ERR_LIMIT, "indent is more than %d", GW_JINJA_INDENT_MAX);
    bool on_one_line = !indent || indent->kind == GW_JINJA_NONE;
    style->indent = on_one_line ? -1 : spaces < 0 ? 0 : (int)spaces;
    style->item_separator =
        on_one_line ? (struct gw_jinja_string){", ", 2} : (struct gw_jinja_string){",", 1};
    style->key_separator = (struct gw_jinja_string){": ", 2};
    if (!separators || separators->kind == GW_JINJA_NONE) return GW_OK;
    const struct gw_jinja_list *pair = separators->kind == GW_JINJA_LIST ? separators->list : NULL;
    if (!pair || pair->len != 2 || pair->items[0].kind != GW_JINJA_STRING ||
        pair->items[1].kind != GW_JINJA_STRING)
        return gw_jinja_fail(run, GW_ERR_INPUT, "separators must be two texts");
    style->item_separator = pair->items[0].string;
    style->key_separator = pair->items[1].string;
    return GW_OK;
}

FILTER(filter_tojson)
{
    struct gw_jinja_json_style style;
    struct gw_buf text;
    TRY(json_style(run, args, &style));
    gw_buf_init(&text, GW_JINJA_OUTPUT_MAX);
    gw_err_t err = gw_jinja_print_json(run, in, &style, &text);
    if (err == GW_OK) err = gw_jinja_from_buf(run, &text, out);
    gw_buf_fini(&text);
    return err;
}

/* Nothing is escaped, so everything is safe. */
FILTER(filter_safe)
{
    (void)args;
    return as_text(run, in, out);
}

static const struct gw_jinja_filter filters[] = {
    {"trim", filter_trim},
    {"upper", filter_upper},
    {"lower", filter_lower},
    {"capitalize", filter_capitalize},
    {"title", filter_title},
    {"replace", filter_replace},
    {"string", filter_string},
    {"default", filter_default},
    {"d", filter_default},
    {"length", filter_length},
    {"count", filter_length},
    {"int", filter_int},
    {"float", filter_float},
    {"abs", filter_abs},
    {"tojson", filter_tojson},
    {"safe", filter_safe},
    {0},
};

static const struct gw_jinja_filter *find_in(const struct gw_jinja_filter *table, struct gw_jinja_string name)
{
    for (; table->name; table++)
        if (strlen(table->name) == name.len && memcmp(table->name, name.bytes, name.len) == 0) return table;
    return NULL;
}

const struct gw_jinja_filter *gw_jinja_filter_find(struct gw_jinja_string name)
{
    const struct gw_jinja_filter *f = find_in(filters, name);
    return f ? f : find_in(gw_jinja_list_filters, name);
}
