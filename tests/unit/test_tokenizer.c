/* controller/text/tokenizer: the reference's ids on every golden text, refusal of broken files, no text that
 * takes long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "controller/text/split.h"
#include "controller/text/tokenizer.h"

#define MODEL_DIR "tests/models/tattler-3m"
#define GOLDENS   "tests/data/text/tokenizer.json"
#define PIECES    "tests/data/text/llama3_pattern.json"
#define FILE_MAX  (16u << 20)
#define IDS_MAX   ((size_t)1 << 24)

static int open_model(void **state)
{
    struct gw_tokenizer *t = NULL;
    struct gw_err_ctx ctx = {0};
    if (gw_tokenizer_open(MODEL_DIR, &t, &ctx) != GW_OK) {
        print_error("%s\n", ctx.text);
        return -1;
    }
    *state = t;
    return 0;
}

static int close_model(void **state)
{
    gw_tokenizer_close(*state);
    return 0;
}

/* cJSON ends strings at U+0000; the ids tell how long the text really is. */
static size_t golden_len(const struct gw_tokenizer *t, const cJSON *ids)
{
    const cJSON *id;
    size_t total = 0, len;
    cJSON_ArrayForEach(id, ids)
    {
        gw_tokenizer_bytes(t, (uint32_t)id->valuedouble, &len);
        total += len;
    }
    return total;
}

static void assert_ids(const struct gw_tokenizer *t, const char *text, size_t len, unsigned flags,
                       const cJSON *want)
{
    uint32_t *ids = NULL;
    size_t n = 0, i = 0;
    const cJSON *id;
    struct gw_err_ctx ctx = {0};
    if (gw_tokenizer_encode(t, text, len, flags, IDS_MAX, &ids, &n, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    if (n != (size_t)cJSON_GetArraySize(want)) fail_msg("%zu ids for \"%.60s\"", n, text);
    cJSON_ArrayForEach(id, want)
    {
        if (ids[i] != (uint32_t)id->valuedouble) fail_msg("id %zu of \"%.60s\" is %u", i, text, ids[i]);
        i++;
    }
    free(ids);
}

static void test_encode_goldens_equal_the_reference(void **state)
{
    cJSON *cases = NULL, *item;
    assert_int_equal(gw_json_parse_file(GOLDENS, FILE_MAX, &cases, NULL), GW_OK);
    assert_true(cJSON_GetArraySize(cases) > 100);
    cJSON_ArrayForEach(item, cases)
    {
        const cJSON *ids = cJSON_GetObjectItem(item, "ids"), *plain = cJSON_GetObjectItem(item, "ids_plain");
        const char *text = cJSON_GetObjectItem(item, "text")->valuestring;
        assert_ids(*state, text, golden_len(*state, ids), GW_ENCODE_PARSE_SPECIAL, ids);
        assert_ids(*state, text, golden_len(*state, plain), 0, plain);
    }
    cJSON_Delete(cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode_goldens_equal_the_reference),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
