#include "controller/text/jinja_print.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "controller/text/utext.h"

static gw_err_t put_repr(struct gw_jinja_run *run, const struct gw_jinja_value *v, struct gw_buf *out);

/* Digits and exponent of the shortest decimal that reads back as f: "d.ddde-05" → digits "dddd", exp -5. */
static int shortest(double f, char digits[24], int *exp)
{
    char text[40];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, f);
        if (strtod(text, NULL) == f) break;
    }
    int n = 0;
    const char *p = text;
    for (; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    *exp = *p ? (int)strtol(p + 1, NULL, 10) : 0;
    while (n > 1 && digits[n - 1] == '0') n--;
    return n;
}

/* Python writes an exponent below 1e-4 and from 1e16 on. */
void gw_jinja_print_float(double f, struct gw_buf *out)
{
    char digits[24];
    int exp;
    if (isnan(f) || isinf(f)) {
        gw_buf_puts(out, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    if (signbit(f)) gw_buf_u8(out, '-');
    int n = shortest(fabs(f), digits, &exp);
    if (exp < -4 || exp >= 16) {
        gw_buf_u8(out, (uint8_t)digits[0]);
        if (n > 1) gw_buf_u8(out, '.');
        gw_buf_put(out, digits + 1, (size_t)n - 1);
        gw_buf_printf(out, "e%c%02d", exp < 0 ? '-' : '+', abs(exp));
        return;
    }
    if (exp < 0) gw_buf_puts(out, "0.");
    for (int i = -1; i > exp; i--) gw_buf_u8(out, '0');
    for (int i = 0; i < n || i <= exp; i++) {
        gw_buf_u8(out, i < n ? (uint8_t)digits[i] : '0');
        if (i == exp) gw_buf_u8(out, '.');
    }
    if (exp >= n - 1) gw_buf_u8(out, '0');
}

/* What Python's repr shows as it is. */
static bool printable(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    bool other = k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CS ||
                 k == UTF8PROC_CATEGORY_CO || k == UTF8PROC_CATEGORY_CN;
    bool blank =
        k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP || (k == UTF8PROC_CATEGORY_ZS && c != ' ');
    return !other && !blank;
}

static void put_repr_char(int32_t c, const char *bytes, size_t len, char quote, struct gw_buf *out)
{
    if (c == quote || c == '\\')
        gw_buf_printf(out, "\\%c", (char)c);
    else if (c == '\n' || c == '\r' || c == '\t')
        gw_buf_puts(out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
    else if (printable(c))
        gw_buf_put(out, bytes, len);
    else if (c < 0x100)
        gw_buf_printf(out, "\\x%02x", (unsigned)c);
    else
        gw_buf_printf(out, c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
}

static void put_repr_text(struct gw_jinja_string s, struct gw_buf *out)
{
    bool single = s.len && memchr(s.bytes, '\'', s.len), both = single && memchr(s.bytes, '"', s.len);
    char quote = single && !both ? '"' : '\'';
    int32_t c;
    gw_buf_u8(out, (uint8_t)quote);
    for (size_t at = 0, n; at < s.len; at += n) {
        n = gw_utext_next(s.bytes + at, s.len - at, &c);
        put_repr_char(c, s.bytes + at, n, quote, out);
    }
    gw_buf_u8(out, (uint8_t)quote);
}

static gw_err_t put_repr_list(struct gw_jinja_run *run, const struct gw_jinja_list *list, struct gw_buf *out)
{
    gw_buf_u8(out, list->tuple ? '(' : '[');
    for (size_t i = 0; i < list->len; i++) {
        if (i > 0) gw_buf_puts(out, ", ");
        TRY(put_repr(run, &list->items[i], out));
    }
    if (list->tuple && list->len == 1) gw_buf_u8(out, ',');
    gw_buf_u8(out, list->tuple ? ')' : ']');
    return GW_OK;
}

static gw_err_t put_repr_dict(struct gw_jinja_run *run, const struct gw_jinja_dict *dict, struct gw_buf *out)
{
    gw_buf_u8(out, '{');
    for (size_t i = 0; i < dict->len; i++) {
        if (i > 0) gw_buf_puts(out, ", ");
        TRY(put_repr(run, &dict->pairs[i].key, out));
        gw_buf_puts(out, ": ");
        TRY(put_repr(run, &dict->pairs[i].value, out));
    }
    gw_buf_u8(out, '}');
    return GW_OK;
}

static gw_err_t put_repr_of_kind(struct gw_jinja_run *run, const struct gw_jinja_value *v, struct gw_buf *out)
{
    switch (v->kind) {
    case GW_JINJA_STRING: put_repr_text(v->string, out); return gw_jinja_step_chars(run, v->string.len);
    case GW_JINJA_LIST: return put_repr_list(run, v->list, out);
    case GW_JINJA_DICT: return put_repr_dict(run, v->dict, out);
    case GW_JINJA_NONE: gw_buf_puts(out, "None"); return GW_OK;
    case GW_JINJA_BOOL: gw_buf_puts(out, v->truth ? "True" : "False"); return GW_OK;
    case GW_JINJA_INT: gw_buf_printf(out, "%lld", (long long)v->integer); return GW_OK;
    case GW_JINJA_FLOAT: gw_jinja_print_float(v->real, out); return GW_OK;
    case GW_JINJA_UNDEFINED: gw_buf_puts(out, "Undefined"); return GW_OK;
    default: gw_buf_printf(out, "<%s>", gw_jinja_type_name(v->kind)); return GW_OK;
    }
}

static gw_err_t put_repr(struct gw_jinja_run *run, const struct gw_jinja_value *v, struct gw_buf *out)
{
    TRY(gw_jinja_step(run, 1));
    TRY(gw_jinja_enter(run));
    gw_err_t err = put_repr_of_kind(run, v, out);
    gw_jinja_leave(run);
    return err;
}

gw_err_t gw_jinja_print(struct gw_jinja_run *run, const struct gw_jinja_value *v, struct gw_buf *out)
{
    if (v->kind == GW_JINJA_UNDEFINED) return GW_OK;
    if (v->kind != GW_JINJA_STRING) return put_repr(run, v, out);
    gw_buf_put(out, v->string.bytes, v->string.len);
    return gw_jinja_step_bytes(run, v->string.len);
}
