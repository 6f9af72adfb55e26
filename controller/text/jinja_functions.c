/* Functions that every template can call by name. */
#include "controller/text/jinja_builtins.h"

#include <string.h>
#include <time.h>

#include "controller/text/jinja_print.h"

#define DATE_FORMAT_MAX 64  /* bytes of a format */
#define DATE_TEXT_MAX   512 /* and of what it becomes; more gives nothing */

#define FUNCTION(name)                                                                                       \
    static gw_err_t name(struct gw_jinja_run *run, const struct gw_jinja_args *args,                         \
                         struct gw_jinja_value *out)

/* namespace(a=1, ...): the only thing that a template can change. */
FUNCTION(call_namespace)
{
    if (args->by_pos_len > 0) return gw_jinja_fail(run, GW_ERR_INPUT, "namespace takes named arguments only");
    TRY(gw_jinja_dict_new(run, out));
    out->kind = GW_JINJA_NAMESPACE;
    for (size_t i = 0; i < args->by_name_len; i++) {
        struct gw_jinja_string name = args->by_name[i].name;
        TRY(gw_jinja_dict_set(run, out->dict, gw_jinja_text(name.bytes, name.len), args->by_name[i].value));
    }
    return GW_OK;
}

/* range([start,] stop[, step]). */
FUNCTION(call_range)
{
    int64_t start = 0, stop = 0, step = 1;
    if (args->by_pos_len < 1 || args->by_pos_len > 3)
        return gw_jinja_fail(run, GW_ERR_INPUT, "range expected 1 to 3 arguments, got %zu", args->by_pos_len);
    bool both = args->by_pos_len > 1;
    if (both) TRY(gw_jinja_arg_int(run, args, 0, "start", &start));
    TRY(gw_jinja_arg_int(run, args, both, "stop", &stop));
    TRY(gw_jinja_arg_int(run, args, 2, "step", &step));
    if (step == 0) return gw_jinja_fail(run, GW_ERR_INPUT, "range() arg 3 must not be zero");
    TRY(gw_jinja_list_new(run, 0, false, out));
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        if (out->list->len == GW_JINJA_RANGE_MAX)
            return gw_jinja_fail(run, GW_ERR_LIMIT, "Range too big. Ranges larger than %d are blocked.",
                                 GW_JINJA_RANGE_MAX);
        TRY(gw_jinja_list_put(run, out->list, gw_jinja_int(i)));
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    return GW_OK;
}

/* raise_exception("why"): the template's own refusal of the conversation. */
FUNCTION(call_raise)
{
    struct gw_buf text;
    (void)out;
    gw_buf_init(&text, GW_ERR_TEXT_MAX);
    const struct gw_jinja_value *why = gw_jinja_arg(args, 0, "message");
    gw_err_t err = why ? gw_jinja_print(run, why, &text) : GW_OK;
    if (err == GW_OK) {
        bool known = text.err == GW_OK && text.len > 0;
        err = gw_jinja_fail(run, GW_ERR_INPUT, "%s",
                            known ? gw_buf_cstr(&text) : "the template raised an exception");
    }
    gw_buf_fini(&text);
    return err;
}

/* "20 Nov 2026" → a date with its day of the week and of the year; false for any other text. */
static bool read_date(const char *text, struct tm *date)
{
    memset(date, 0, sizeof *date);
    const char *end = strptime(text, "%d %b %Y", date);
    return end && *end == '\0' && timegm(date) != -1;
}

/* strftime_now(format): the date that the caller gave, written as the format says; a template cannot read a
 * clock. A text that is not of the usual form is given as it is, and where there is none, the name is not
 * defined. */
FUNCTION(call_strftime_now)
{
    struct gw_jinja_string format = {"", 0};
    char pattern[DATE_FORMAT_MAX + 1], text[DATE_TEXT_MAX];
    struct tm date;
    if (!run->today) return gw_jinja_fail(run, GW_ERR_INPUT, "'strftime_now' is undefined");
    TRY(gw_jinja_arg_text(run, args, 0, "format", &format));
    if (format.len > DATE_FORMAT_MAX)
        return gw_jinja_fail(run, GW_ERR_LIMIT, "a date format of more than %d bytes", DATE_FORMAT_MAX);
    memcpy(pattern, format.bytes, format.len);
    pattern[format.len] = '\0';
    *out = gw_jinja_text(run->today, strlen(run->today));
    if (!read_date(run->today, &date)) return GW_OK;
    struct gw_buf b;
    gw_buf_init(&b, sizeof text);
    gw_buf_put(&b, text, strftime(text, sizeof text, pattern, &date));
    gw_err_t err = gw_jinja_from_buf(run, &b, out);
    gw_buf_fini(&b);
    return err;
}

static const struct gw_jinja_function functions[] = {
    {"namespace", call_namespace},
    {"range", call_range},
    {"raise_exception", call_raise},
    {"strftime_now", call_strftime_now},
};

const struct gw_jinja_function *gw_jinja_function_find(struct gw_jinja_string name)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strlen(functions[i].name) == name.len && memcmp(functions[i].name, name.bytes, name.len) == 0)
            return &functions[i];
    return NULL;
}
