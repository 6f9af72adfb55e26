/* controller/text/chat_template: what jinja2 renders, on every golden case; hostile templates end in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "controller/text/chat_template.h"
#include "tests/lib/text_goldens.h"

#define GOLDENS "tests/data/text/templates.json"

static const char *text_of(const cJSON *item, const char *field)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, field));
}

static gw_err_t render_case(const cJSON *item, char **text, size_t *len, struct gw_err_ctx *ctx)
{
    struct gw_chat_template *t = NULL;
    const char *source = text_of(item, "template");
    struct gw_chat_vars vars = {
        .messages = cJSON_GetObjectItem(item, "messages"),
        .add_generation_prompt = cJSON_IsTrue(cJSON_GetObjectItem(item, "add_generation_prompt")),
        .bos_token = text_of(item, "bos_token"),
        .eos_token = text_of(item, "eos_token"),
        .date_string = text_of(item, "date_string"),
    };
    cJSON *extra = cJSON_CreateObject();
    const cJSON *thinking = cJSON_GetObjectItem(item, "enable_thinking");
    if (thinking) cJSON_AddBoolToObject(extra, "enable_thinking", cJSON_IsTrue(thinking));
    vars.extra = extra;
    gw_err_t err = gw_chat_template_create(source, strlen(source), &t, ctx);
    if (err == GW_OK) err = gw_chat_template_render(t, &vars, text, len, ctx);
    gw_chat_template_destroy(t);
    cJSON_Delete(extra);
    return err;
}

static void assert_case(const cJSON *item)
{
    const char *name = text_of(item, "name"), *expected = text_of(item, "expected");
    char *text = NULL;
    size_t len = 0;
    struct gw_err_ctx ctx = {0};
    gw_err_t err = render_case(item, &text, &len, &ctx);
    if (!expected) {
        if (err != GW_ERR_INPUT || !strstr(ctx.text, text_of(item, "message")) || !strstr(ctx.text, "line "))
            fail_msg("%s: should fail with '%s': %s", name, text_of(item, "message"), ctx.text);
    } else if (err != GW_OK) {
        fail_msg("%s: %s", name, ctx.text);
    } else if (strcmp(text, expected) != 0 || len != strlen(expected)) {
        fail_msg("%s:\n--- want\n%s\n--- got\n%s", name, expected, text);
    }
    free(text);
}

static void test_render_goldens_equal_the_reference(void **state)
{
    (void)state;
    cJSON *cases = goldens_read(GOLDENS), *item;
    assert_true(cJSON_GetArraySize(cases) > 50);
    cJSON_ArrayForEach(item, cases) assert_case(item);
    cJSON_Delete(cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_render_goldens_equal_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
