/* base/json: any bytes give a tree or an error; what was accepted has the promised bounds and can be written
 * again. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_MAX (64u << 10)

static void check_string(const char *text)
{
    struct gw_buf b;
    cJSON *again = NULL;
    assert(gw_utf8_valid(text, strlen(text)));
    gw_buf_init(&b, 6 * TEXT_MAX + 2);
    gw_json_put_string(&b, text, strlen(text));
    assert(gw_buf_cstr(&b));
    assert(gw_json_parse((char *)b.data, b.len, b.max, &again, NULL) == GW_OK);
    assert(strcmp(again->valuestring, text) == 0);
    cJSON_Delete(again);
    gw_buf_fini(&b);
}

static void check_tree(const cJSON *node, int depth)
{
    assert(depth <= GW_JSON_DEPTH_MAX);
    for (; node; node = node->next) {
        if (cJSON_IsNumber(node)) assert(isfinite(node->valuedouble));
        if (cJSON_IsString(node)) check_string(node->valuestring);
        if (node->string) check_string(node->string);
        check_tree(node->child, depth + (cJSON_IsArray(node) || cJSON_IsObject(node)));
    }
}

static void check_getters(const cJSON *tree)
{
    int64_t n = 0;
    double d = 0;
    bool b = false;
    const char *s = NULL;
    if (gw_json_int(tree, "n", -9, 9, &n, NULL) == GW_OK) assert(n >= -9 && n <= 9);
    if (gw_json_double(tree, "d", -1, 1, &d, NULL) == GW_OK) assert(d >= -1 && d <= 1);
    if (gw_json_bool(tree, "b", &b, NULL) != GW_OK) assert(!b);
    if (gw_json_string(tree, "s", &s, NULL) != GW_OK) assert(!s);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    cJSON *tree = NULL;
    struct gw_err_ctx ctx = {0};
    if (gw_json_parse((const char *)bytes, len, TEXT_MAX, &tree, &ctx) != GW_OK) {
        assert(!tree && ctx.code != GW_OK && ctx.text[0]);
        return 0;
    }
    check_tree(tree, 0);
    check_getters(tree);
    cJSON_Delete(tree);
    return 0;
}
