/* Golden files of the text tests: plain cJSON, as they hold U+0000, which base/json refuses.
 *
 * Owner: the caller frees the tree with cJSON_Delete. Thread: one. Units: bytes.
 * Errors: a file that cannot be read fails the test. Source: own design. */
#ifndef GW_TESTS_TEXT_GOLDENS_H
#define GW_TESTS_TEXT_GOLDENS_H

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "controller/text/tokenizer.h"

#define GOLDENS_BYTES_MAX (16u << 20)

static inline cJSON *goldens_read(const char *path)
{
    char *text = NULL;
    size_t len = 0;
    assert_int_equal(gw_file_read(path, GOLDENS_BYTES_MAX, &text, &len, NULL), GW_OK);
    cJSON *cases = cJSON_ParseWithLength(text, len);
    free(text);
    assert_non_null(cases);
    return cases;
}

/* cJSON's strings end at U+0000; the ids of a golden text tell how long it really is. */
static inline size_t goldens_text_len(const struct gw_tokenizer *t, const cJSON *ids)
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

#endif
