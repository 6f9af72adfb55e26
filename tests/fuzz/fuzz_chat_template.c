/* controller/text/chat_template: any bytes as a template are refused with the line that is wrong, or render a
 * conversation, in bounded time, to text that is UTF-8.
 *
 * Input: the template, and after a NUL byte, if there is one, the messages as JSON. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "controller/text/chat_template.h"
#include "tests/fuzz/fuzz.h"

#define MESSAGES_MAX (64u << 10)

static const char talk[] =
    "[{\"role\":\"system\",\"content\":\" Be k\\u00efnd. \"},{\"role\":\"user\",\"content\":\"Hi\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\","
    "\"arguments\":{\"a\":[1,2.5,true,\"x\"]}}}]}]";

static cJSON *messages_of(const uint8_t *bytes, size_t len)
{
    cJSON *messages = NULL;
    if (len > 0 && gw_json_parse((const char *)bytes, len, MESSAGES_MAX, &messages, NULL) == GW_OK)
        return messages;
    return cJSON_Parse(talk);
}

static void render(const struct gw_chat_template *t, const cJSON *messages, const char *date)
{
    struct gw_chat_vars vars = {.messages = messages,
                                .add_generation_prompt = date != NULL,
                                .bos_token = "<s>",
                                .eos_token = "</s>",
                                .date_string = date};
    char *text = NULL;
    size_t len = 0;
    struct gw_err_ctx ctx = {0};
    gw_err_t err = gw_chat_template_render(t, &vars, &text, &len, &ctx);
    if (err == GW_OK)
        assert(text && text[len] == '\0' && gw_utf8_valid(text, len));
    else
        assert(!text && strstr(ctx.text, "line "));
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct gw_chat_template *t = NULL;
    struct gw_err_ctx ctx = {0};
    const uint8_t *nul = len ? memchr(bytes, '\0', len) : NULL;
    size_t source_len = nul ? (size_t)(nul - bytes) : len;
    if (gw_chat_template_create((const char *)bytes, source_len, &t, &ctx) != GW_OK) {
        assert(!t && ctx.text[0]);
        return 0;
    }
    cJSON *messages = nul ? messages_of(nul + 1, len - source_len - 1) : messages_of(NULL, 0);
    render(t, messages, NULL);
    render(t, messages, "20 Nov 2026");
    cJSON_Delete(messages);
    gw_chat_template_destroy(t);
    return 0;
}
