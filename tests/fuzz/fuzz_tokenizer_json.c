/* controller/text/tokenizer: any bytes as tokenizer.json are refused with a line that says why, or give a
 * tokenizer that encodes and decodes without harm. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "controller/text/detok.h"
#include "controller/text/tokenizer_impl.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_MAX (1u << 20)
#define IDS_MAX  1000

static const char *const texts[] = {"Hello, world! <|x|> 123  \n\n I'm",
                                    "e\u0301 \u00e9 \u0301\u0316 \uD55C 🦆\u200d \u3000x",
                                    "aaaaaaaaaaaabbbbbbbbbbbb", ""};

static void use(const struct gw_tokenizer *t)
{
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        uint32_t *ids = NULL;
        size_t n = 0;
        struct gw_err_ctx ctx = {0};
        struct gw_detok d;
        struct gw_buf out;
        gw_err_t err =
            gw_tokenizer_encode(t, texts[i], strlen(texts[i]), (unsigned)i, IDS_MAX, &ids, &n, &ctx);
        assert(err == GW_OK || ctx.text[0]);
        assert(n <= IDS_MAX);
        gw_buf_init(&out, TEXT_MAX);
        gw_detok_init(&d, t, i % 2);
        for (size_t k = 0; k < n; k++) {
            assert(ids[k] < gw_tokenizer_vocab(t));
            gw_detok_push(&d, ids[k], &out);
        }
        gw_detok_finish(&d, &out);
        gw_buf_fini(&out);
        free(ids);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    cJSON *root = NULL;
    struct gw_err_ctx ctx = {0};
    if (gw_json_parse((const char *)bytes, len, TEXT_MAX, &root, NULL) != GW_OK) return 0;
    struct gw_tokenizer *t = calloc(1, sizeof *t);
    assert(t);
    if (gw_tokenizer_load(t, root, &ctx) == GW_OK)
        use(t);
    else
        assert(ctx.code != GW_OK && ctx.text[0]);
    gw_tokenizer_close(t);
    cJSON_Delete(root);
    return 0;
}
