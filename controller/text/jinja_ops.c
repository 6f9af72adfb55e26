/* Arithmetic of expressions, after Python's: integers (of 64 bits; Python's grow), floats, texts, lists. */
#include "controller/text/jinja_eval.h"

#include <math.h>
#include <string.h>

static gw_err_t fail_overflow(struct gw_jinja_run *run)
{
    return gw_jinja_fail(run, GW_ERR_LIMIT, "an integer does not fit into 64 bits");
}

static gw_err_t fail_types(struct gw_jinja_run *run, struct gw_jinja_string op,
                           const struct gw_jinja_value *a, const struct gw_jinja_value *b)
{
    if (a->kind == GW_JINJA_UNDEFINED) return gw_jinja_fail_undefined(run, a);
    if (b->kind == GW_JINJA_UNDEFINED) return gw_jinja_fail_undefined(run, b);
    const char *left = gw_jinja_type_name(a->kind), *right = gw_jinja_type_name(b->kind);
    if (op.bytes[0] == '+' && a->kind == GW_JINJA_STRING)
        return gw_jinja_fail(run, GW_ERR_INPUT, "can only concatenate str (not \"%s\") to str", right);
    return gw_jinja_fail(run, GW_ERR_INPUT, "unsupported operand type(s) for %.*s: '%s' and '%s'",
                         (int)op.len, op.bytes, left, right);
}

static int64_t as_int(const struct gw_jinja_value *v)
{
    return v->kind == GW_JINJA_BOOL ? v->truth : v->integer;
}

/* Quotient and remainder rounded down, as Python's; b != 0. INT64_MIN / -1 is for the caller to refuse. */
static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

static gw_err_t int_power(struct gw_jinja_run *run, int64_t base, int64_t exp, struct gw_jinja_value *out)
{
    if (exp < 0) {
        if (base == 0) return gw_jinja_fail(run, GW_ERR_INPUT, "0.0 cannot be raised to a negative power");
        *out = gw_jinja_float(pow((double)base, (double)exp));
        return GW_OK;
    }
    int64_t result = 1;
    if (base == 0 || base == 1) exp = exp > 0;
    if (base == -1) exp %= 2;
    for (; exp > 0; exp--) /* at most 63 rounds: |base| >= 2 overflows by then */
        if (__builtin_mul_overflow(result, base, &result)) return fail_overflow(run);
    *out = gw_jinja_int(result);
    return GW_OK;
}

static gw_err_t int_divide(struct gw_jinja_run *run, char op, int64_t a, int64_t b,
                           struct gw_jinja_value *out)
{
    if (b == 0) return gw_jinja_fail(run, GW_ERR_INPUT, "division by zero");
    if (op == '/') {
        *out = gw_jinja_float((double)a / (double)b);
        return GW_OK;
    }
    if (b == -1) { /* INT64_MIN would trap */
        int64_t negated;
        if (op != '%' && __builtin_sub_overflow(0, a, &negated)) return fail_overflow(run);
        *out = gw_jinja_int(op == '%' ? 0 : negated);
        return GW_OK;
    }
    int64_t quotient = floor_div(a, b);
    *out = gw_jinja_int(op == '%' ? a - quotient * b : quotient);
    return GW_OK;
}

/* op: one character; 'd' is //, 'p' is **. */
static gw_err_t int_op(struct gw_jinja_run *run, char op, int64_t a, int64_t b, struct gw_jinja_value *out)
{
    int64_t result = 0;
    bool over = false;
    switch (op) {
    case '+': over = __builtin_add_overflow(a, b, &result); break;
    case '-': over = __builtin_sub_overflow(a, b, &result); break;
    case '*': over = __builtin_mul_overflow(a, b, &result); break;
    case 'p': return int_power(run, a, b, out);
    default: return int_divide(run, op, a, b, out);
    }
    if (over) return fail_overflow(run);
    *out = gw_jinja_int(result);
    return GW_OK;
}

static gw_err_t float_op(struct gw_jinja_run *run, char op, double a, double b, struct gw_jinja_value *out)
{
    double result = 0;
    if (b == 0 && (op == '/' || op == 'd' || op == '%'))
        return gw_jinja_fail(run, GW_ERR_INPUT, "division by zero");
    switch (op) {
    case '+': result = a + b; break;
    case '-': result = a - b; break;
    case '*': result = a * b; break;
    case '/': result = a / b; break;
    case 'd': result = floor(a / b); break;
    case '%': result = a - floor(a / b) * b; break;
    case 'p': result = pow(a, b); break;
    default: return gw_jinja_fail(run, GW_ERR_INTERNAL, "an operator without a meaning");
    }
    *out = gw_jinja_float(result);
    return GW_OK;
}

/* text * count; nothing if count < 1. */
static gw_err_t repeat_text(struct gw_jinja_run *run, struct gw_jinja_string s, int64_t count,
                            struct gw_jinja_value *out)
{
    void *bytes;
    size_t times = count > 0 ? (size_t)count : 0;
    if (s.len > 0 && times > GW_JINJA_MEMORY_MAX / s.len)
        return gw_jinja_fail(run, GW_ERR_LIMIT, "a text of the template is too long");
    TRY(gw_jinja_step(run, 1 + s.len * times / GW_JINJA_BYTES_STEP));
    TRY(gw_jinja_alloc(run, s.len * times, &bytes));
    if (s.len > 0)
        for (size_t i = 0; i < times; i++) memcpy((char *)bytes + i * s.len, s.bytes, s.len);
    *out = gw_jinja_text(bytes, s.len * times);
    return GW_OK;
}

static gw_err_t put_all(struct gw_jinja_run *run, struct gw_jinja_list *to, const struct gw_jinja_list *from)
{
    for (size_t i = 0; i < from->len; i++) TRY(gw_jinja_list_put(run, to, from->items[i]));
    return GW_OK;
}

static gw_err_t repeat_list(struct gw_jinja_run *run, const struct gw_jinja_list *list, int64_t count,
                            struct gw_jinja_value *out)
{
    TRY(gw_jinja_list_new(run, 0, list->tuple, out));
    for (int64_t i = 0; i < count && list->len > 0; i++) TRY(put_all(run, out->list, list));
    return GW_OK;
}

static gw_err_t join_lists(struct gw_jinja_run *run, const struct gw_jinja_list *a,
                           const struct gw_jinja_list *b, struct gw_jinja_value *out)
{
    TRY(gw_jinja_list_new(run, a->len + b->len, a->tuple, out));
    TRY(put_all(run, out->list, a));
    return put_all(run, out->list, b);
}

static gw_err_t repeat(struct gw_jinja_run *run, const struct gw_jinja_value *v, int64_t count,
                       struct gw_jinja_value *out)
{
    return v->kind == GW_JINJA_STRING ? repeat_text(run, v->string, count, out)
                                      : repeat_list(run, v->list, count, out);
}

static bool is_sequence(const struct gw_jinja_value *v)
{
    return v->kind == GW_JINJA_STRING || v->kind == GW_JINJA_LIST;
}

static bool is_integer(const struct gw_jinja_value *v)
{
    return v->kind == GW_JINJA_INT || v->kind == GW_JINJA_BOOL;
}

gw_err_t gw_jinja_binary(struct gw_jinja_run *run, struct gw_jinja_string op, const struct gw_jinja_value *a,
                         const struct gw_jinja_value *b, struct gw_jinja_value *out)
{
    char sign = op.len == 1 ? op.bytes[0] : op.bytes[0] == '/' ? 'd' : 'p';
    if (is_integer(a) && is_integer(b)) return int_op(run, sign, as_int(a), as_int(b), out);
    if (gw_jinja_is_number(a) && gw_jinja_is_number(b))
        return float_op(run, sign, gw_jinja_as_double(a), gw_jinja_as_double(b), out);
    if (sign == '+' && a->kind == GW_JINJA_STRING && b->kind == GW_JINJA_STRING)
        return gw_jinja_append(run, a->string, b->string, out);
    if (sign == '+' && a->kind == GW_JINJA_LIST && b->kind == GW_JINJA_LIST &&
        a->list->tuple == b->list->tuple)
        return join_lists(run, a->list, b->list, out);
    if (sign == '*' && is_sequence(a) && is_integer(b)) return repeat(run, a, as_int(b), out);
    if (sign == '*' && is_integer(a) && is_sequence(b)) return repeat(run, b, as_int(a), out);
    return fail_types(run, op, a, b);
}

gw_err_t gw_jinja_negate(struct gw_jinja_run *run, const struct gw_jinja_value *a, struct gw_jinja_value *out)
{
    if (a->kind == GW_JINJA_UNDEFINED) return gw_jinja_fail_undefined(run, a);
    if (!gw_jinja_is_number(a))
        return gw_jinja_fail(run, GW_ERR_INPUT, "bad operand type for unary -: '%s'",
                             gw_jinja_type_name(a->kind));
    if (a->kind == GW_JINJA_FLOAT) {
        *out = gw_jinja_float(-a->real);
        return GW_OK;
    }
    return int_op(run, '-', 0, as_int(a), out);
}
