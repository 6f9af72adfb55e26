/* Tests: what may stand behind "is". */
#include "controller/text/jinja_builtins.h"

#include <string.h>

#include "controller/text/utext.h"

#define TEST(name)                                                                                           \
    static gw_err_t name(struct gw_jinja_run *run, const struct gw_jinja_value *in,                          \
                         const struct gw_jinja_args *args, bool *out)

/* A test that looks at the value alone. */
#define PLAIN_TEST(name, condition)                                                                          \
    TEST(name)                                                                                               \
    {                                                                                                        \
        (void)run;                                                                                           \
        (void)args;                                                                                          \
        *out = (condition);                                                                                  \
        return GW_OK;                                                                                        \
    }

PLAIN_TEST(test_defined, in->kind != GW_JINJA_UNDEFINED)
PLAIN_TEST(test_undefined, in->kind == GW_JINJA_UNDEFINED)
PLAIN_TEST(test_none, in->kind == GW_JINJA_NONE)
PLAIN_TEST(test_string, in->kind == GW_JINJA_STRING)
PLAIN_TEST(test_mapping, in->kind == GW_JINJA_DICT)
PLAIN_TEST(test_number, gw_jinja_is_number(in))
PLAIN_TEST(test_integer, in->kind == GW_JINJA_INT)
PLAIN_TEST(test_float, in->kind == GW_JINJA_FLOAT)
PLAIN_TEST(test_boolean, in->kind == GW_JINJA_BOOL)
PLAIN_TEST(test_true, in->kind == GW_JINJA_BOOL && in->truth)
PLAIN_TEST(test_false, in->kind == GW_JINJA_BOOL && !in->truth)
PLAIN_TEST(test_sequence, in->kind == GW_JINJA_LIST || in->kind == GW_JINJA_STRING ||
                              in->kind == GW_JINJA_DICT || in->kind == GW_JINJA_UNDEFINED)
PLAIN_TEST(test_iterable, in->kind == GW_JINJA_LIST || in->kind == GW_JINJA_STRING ||
                              in->kind == GW_JINJA_DICT || in->kind == GW_JINJA_UNDEFINED)
PLAIN_TEST(test_callable,
           in->kind == GW_JINJA_FUNCTION || in->kind == GW_JINJA_METHOD || in->kind == GW_JINJA_MACRO)

static gw_err_t first_arg(struct gw_jinja_run *run, const struct gw_jinja_args *args,
                          const struct gw_jinja_value **out)
{
    *out = args->by_pos_len > 0 ? &args->by_pos[0] : NULL;
    return *out ? GW_OK : gw_jinja_fail(run, GW_ERR_INPUT, "a test lacks its argument");
}

/* in % divisor == remainder. */
static gw_err_t check_remainder(struct gw_jinja_run *run, const struct gw_jinja_value *in, int64_t divisor,
                                bool want_zero, bool *out)
{
    if (in->kind != GW_JINJA_INT && in->kind != GW_JINJA_BOOL)
        return gw_jinja_fail(run, GW_ERR_INPUT, "'%s' is no integer", gw_jinja_type_name(in->kind));
    if (divisor == 0) return gw_jinja_fail(run, GW_ERR_INPUT, "division by zero");
    int64_t v = in->kind == GW_JINJA_INT ? in->integer : in->truth;
    bool zero = divisor == -1 || v % divisor == 0; /* INT64_MIN % -1 would trap */
    *out = zero == want_zero;
    return GW_OK;
}

TEST(test_odd)
{
    (void)args;
    return check_remainder(run, in, 2, false, out);
}

TEST(test_even)
{
    (void)args;
    return check_remainder(run, in, 2, true, out);
}

TEST(test_divisibleby)
{
    int64_t divisor = 0;
    TRY(gw_jinja_arg_int(run, args, 0, "num", &divisor));
    return check_remainder(run, in, divisor, true, out);
}

TEST(test_equal)
{
    const struct gw_jinja_value *other;
    TRY(first_arg(run, args, &other));
    return gw_jinja_equal(run, in, other, out);
}

TEST(test_not_equal)
{
    TRY(test_equal(run, in, args, out));
    *out = !*out;
    return GW_OK;
}

static gw_err_t order_with(struct gw_jinja_run *run, const struct gw_jinja_value *in,
                           const struct gw_jinja_args *args, int *order)
{
    const struct gw_jinja_value *other;
    TRY(first_arg(run, args, &other));
    return gw_jinja_compare(run, in, other, order);
}

TEST(test_less)
{
    int order = 0;
    TRY(order_with(run, in, args, &order));
    *out = order < 0;
    return GW_OK;
}

TEST(test_less_equal)
{
    int order = 0;
    TRY(order_with(run, in, args, &order));
    *out = order <= 0;
    return GW_OK;
}

TEST(test_greater)
{
    int order = 0;
    TRY(order_with(run, in, args, &order));
    *out = order > 0;
    return GW_OK;
}

TEST(test_greater_equal)
{
    int order = 0;
    TRY(order_with(run, in, args, &order));
    *out = order >= 0;
    return GW_OK;
}

TEST(test_in)
{
    const struct gw_jinja_value *container;
    TRY(first_arg(run, args, &container));
    return gw_jinja_contains(run, container, in, out);
}

static const struct gw_jinja_test tests[] = {
    {"defined", test_defined},
    {"undefined", test_undefined},
    {"none", test_none},
    {"string", test_string},
    {"mapping", test_mapping},
    {"iterable", test_iterable},
    {"sequence", test_sequence},
    {"number", test_number},
    {"integer", test_integer},
    {"float", test_float},
    {"boolean", test_boolean},
    {"true", test_true},
    {"false", test_false},
    {"callable", test_callable},
    {"odd", test_odd},
    {"even", test_even},
    {"divisibleby", test_divisibleby},
    {"equalto", test_equal},
    {"eq", test_equal},
    {"==", test_equal},
    {"sameas", test_equal},
    {"ne", test_not_equal},
    {"!=", test_not_equal},
    {"lt", test_less},
    {"lessthan", test_less},
    {"<", test_less},
    {"le", test_less_equal},
    {"<=", test_less_equal},
    {"gt", test_greater},
    {"greaterthan", test_greater},
    {">", test_greater},
    {"ge", test_greater_equal},
    {">=", test_greater_equal},
    {"in", test_in},
    {0},
};

const struct gw_jinja_test *gw_jinja_test_find(struct gw_jinja_string name)
{
    for (const struct gw_jinja_test *t = tests; t->name; t++)
        if (strlen(t->name) == name.len && memcmp(t->name, name.bytes, name.len) == 0) return t;
    return NULL;
}
