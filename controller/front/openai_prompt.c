#include "controller/front/openai_prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "controller/front/openai_fields.h"

#define TODAY_BYTES       32
#define MESSAGES_MAX      4096
#define MESSAGE_BYTES_MAX (64u << 20) /* the body's own limit is lower */

void gw_openai_prompt_fini(struct gw_openai_prompt *p)
{
    free(p->ids);
    free(p->text);
    *p = (struct gw_openai_prompt){0};
}

static gw_err_t too_long(const struct gw_openai_model *model, const char *param,
                         struct gw_openai_error *error)
{
    return gw_openai_error_set(error, 400, "context_length_exceeded", param,
                               "this model's context holds %u tokens, prompt and answer together; the prompt "
                               "alone has as many or more",
                               model->context);
}

static gw_err_t encode(const struct gw_openai_model *model, const char *text, size_t len, unsigned flags,
                       const char *param, uint32_t max_ids, struct gw_openai_prompt *out,
                       struct gw_openai_error *error)
{
    struct gw_err_ctx ctx = {0};
    uint32_t *ids = NULL;
    size_t n = 0;
    gw_err_t err = gw_tokenizer_encode(model->tokenizer, text, len, flags, max_ids, &ids, &n, &ctx);
    if (err == GW_ERR_LIMIT) return too_long(model, param, error);
    if (err == GW_ERR_MEMORY) return gw_openai_error_memory(error);
    if (err != GW_OK) return gw_openai_error_set(error, 400, NULL, param, "%s", ctx.text);
    out->ids = ids;
    out->len = (uint32_t)n;
    return GW_OK;
}

/* ---- messages ------------------------------------------------------------------------------------------ */

static gw_err_t bad_message(struct gw_openai_error *error, int index, const char *what)
{
    return gw_openai_error_set(error, 400, NULL, "messages", "messages[%d]: %s", index, what);
}

/* Templates know "system"; "developer" is OpenAI's newer name for it. */
static const char *template_role(const char *role)
{
    static const char *const known[] = {"system", "user", "assistant", "tool"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(role, known[i]) == 0) return known[i];
    return strcmp(role, "developer") == 0 ? "system" : NULL;
}

/* Text parts, joined by line ends as vLLM joins them. */
static gw_err_t join_parts(const cJSON *parts, int index, struct gw_buf *out, struct gw_openai_error *error)
{
    const cJSON *part;
    bool first = true;
    cJSON_ArrayForEach(part, parts)
    {
        const cJSON *type = cJSON_GetObjectItemCaseSensitive(part, "type");
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(part, "text");
        if (!cJSON_IsObject(part) || !cJSON_IsString(type))
            return bad_message(error, index, "a content part must be an object with a type");
        if (strcmp(type->valuestring, "text") != 0)
            return bad_message(error, index, "only text parts are supported, this model reads no other");
        if (!cJSON_IsString(text)) return bad_message(error, index, "a text part needs its text");
        if (!first) gw_buf_u8(out, '\n');
        gw_buf_puts(out, text->valuestring);
        first = false;
    }
    return GW_OK;
}

static gw_err_t read_content(const cJSON *message, int index, bool may_be_null, struct gw_buf *out,
                             struct gw_openai_error *error)
{
    const cJSON *content = gw_field(message, "content");
    if (!content) return may_be_null ? GW_OK : bad_message(error, index, "content is missing");
    if (cJSON_IsArray(content)) return join_parts(content, index, out, error);
    if (!cJSON_IsString(content))
        return bad_message(error, index, "content must be a string or a list of parts");
    gw_buf_puts(out, content->valuestring);
    return GW_OK;
}

/* {"role", "content"} with plain text, as templates want it. *out is a new tree. */
static gw_err_t plain_message(const cJSON *message, int index, cJSON **out, struct gw_openai_error *error)
{
    const cJSON *role = cJSON_GetObjectItemCaseSensitive(message, "role");
    if (!cJSON_IsObject(message)) return bad_message(error, index, "must be an object");
    if (!cJSON_IsString(role)) return bad_message(error, index, "role must be a string");
    const char *known = template_role(role->valuestring);
    if (!known) return bad_message(error, index, "role must be system, developer, user, assistant or tool");
    if (gw_field(message, "tool_calls") || gw_field(message, "function_call"))
        return bad_message(error, index, "tool calls are not supported yet");
    struct gw_buf text;
    gw_buf_init(&text, MESSAGE_BYTES_MAX);
    gw_err_t err = read_content(message, index, strcmp(known, "assistant") == 0, &text, error);
    const char *content = err == GW_OK ? gw_buf_cstr(&text) : NULL;
    cJSON *plain = content ? cJSON_CreateObject() : NULL;
    bool made = plain && cJSON_AddStringToObject(plain, "role", known) &&
                cJSON_AddStringToObject(plain, "content", content);
    gw_buf_fini(&text);
    if (made) {
        *out = plain;
        return GW_OK;
    }
    cJSON_Delete(plain);
    return err != GW_OK ? err : gw_openai_error_memory(error);
}

static gw_err_t plain_messages(const cJSON *body, cJSON **out, struct gw_openai_error *error)
{
    const cJSON *messages = gw_field(body, "messages"), *message;
    int index = 0;
    if (!cJSON_IsArray(messages))
        return gw_openai_error_set(error, 400, NULL, "messages", "'messages' must be a list of messages");
    if (!messages->child)
        return gw_openai_error_set(error, 400, NULL, "messages", "'messages' must not be empty");
    cJSON *list = cJSON_CreateArray();
    if (!list) return gw_openai_error_memory(error);
    gw_err_t err = GW_OK;
    cJSON_ArrayForEach(message, messages)
    {
        cJSON *plain = NULL;
        if (index == MESSAGES_MAX) {
            err = gw_openai_error_set(error, 400, NULL, "messages", "more than %d messages", MESSAGES_MAX);
            break;
        }
        err = plain_message(message, index++, &plain, error);
        if (err != GW_OK) break;
        cJSON_AddItemToArray(list, plain);
    }
    if (err != GW_OK)
        cJSON_Delete(list);
    else
        *out = list;
    return err;
}

/* "20 Nov 2026", in UTC, as templates write dates. It is part of the prompt from here on: a request that is
 * resubmitted tomorrow is still the same. */
static void put_today(char out[TODAY_BYTES])
{
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = (time_t)gw_clock_unix_s();
    struct tm utc;
    gmtime_r(&now, &utc);
    snprintf(out, TODAY_BYTES, "%02d %s %d", utc.tm_mday, months[utc.tm_mon], utc.tm_year + 1900);
}

static gw_err_t render(const struct gw_openai_model *model, const cJSON *body, char **text, size_t *len,
                       struct gw_openai_error *error)
{
    struct gw_err_ctx ctx = {0};
    cJSON *messages = NULL;
    char today[TODAY_BYTES];
    put_today(today);
    struct gw_chat_vars vars = {.add_generation_prompt = true,
                                .today = today,
                                .bos_token = gw_tokenizer_bos(model->tokenizer),
                                .eos_token = gw_tokenizer_eos(model->tokenizer)};
    TRY(gw_field_bool(body, "add_generation_prompt", &vars.add_generation_prompt, error));
    TRY(plain_messages(body, &messages, error));
    vars.messages = messages;
    gw_err_t err = gw_chat_template_render(model->chat, &vars, text, len, &ctx);
    cJSON_Delete(messages);
    if (err == GW_ERR_MEMORY) return gw_openai_error_memory(error);
    if (err != GW_OK) return gw_openai_error_set(error, 400, NULL, "messages", "chat template: %s", ctx.text);
    return GW_OK;
}

gw_err_t gw_openai_prompt_chat(const struct gw_openai_model *model, const cJSON *body, uint32_t max_ids,
                               struct gw_openai_prompt *out, struct gw_openai_error *error)
{
    char *text = NULL;
    size_t len = 0;
    bool add_special = false; /* the template writes them itself */
    if (!model->chat)
        return gw_openai_error_set(error, 400, NULL, "messages", "this model has no chat template");
    TRY(gw_field_bool(body, "add_special_tokens", &add_special, error));
    TRY(render(model, body, &text, &len, error));
    unsigned flags = GW_ENCODE_PARSE_SPECIAL | (add_special ? GW_ENCODE_ADD_SPECIAL : 0u);
    gw_err_t err = encode(model, text, len, flags, "messages", max_ids, out, error);
    free(text);
    return err;
}

/* ---- prompts ------------------------------------------------------------------------------------------- */

gw_err_t gw_openai_prompt_text(const struct gw_openai_model *model, const cJSON *body, const char *text,
                               uint32_t max_ids, struct gw_openai_prompt *out, struct gw_openai_error *error)
{
    bool add_special = true;
    TRY(gw_field_bool(body, "add_special_tokens", &add_special, error));
    unsigned flags = GW_ENCODE_PARSE_SPECIAL | (add_special ? GW_ENCODE_ADD_SPECIAL : 0u);
    return encode(model, text, strlen(text), flags, "prompt", max_ids, out, error);
}

gw_err_t gw_openai_prompt_ids(const cJSON *list, const char *param, uint32_t vocab, uint32_t max_ids,
                              struct gw_openai_prompt *out, struct gw_openai_error *error)
{
    const cJSON *item;
    uint32_t n = 0;
    cJSON_ArrayForEach(item, list)
    {
        if (!gw_field_is_token_id(item, vocab))
            return gw_openai_error_set(error, 400, NULL, param,
                                       "'%s' must hold token ids, integers from 0 to %u", param, vocab - 1);
        if (n++ == max_ids)
            return gw_openai_error_set(error, 400, "context_length_exceeded", param,
                                       "'%s' has more than %u token ids", param, max_ids);
    }
    uint32_t *ids = calloc(n ? n : 1, sizeof *ids);
    if (!ids) return gw_openai_error_memory(error);
    n = 0;
    cJSON_ArrayForEach(item, list) ids[n++] = (uint32_t)item->valuedouble;
    out->ids = ids;
    out->len = n;
    return GW_OK;
}

static gw_err_t bad_prompt(struct gw_openai_error *error)
{
    return gw_openai_error_set(
        error, 400, NULL, "prompt",
        "'prompt' must be a string, a list of strings, a list of token ids, or a list of such lists");
}

static gw_err_t read_one(const struct gw_openai_model *model, const cJSON *body, const cJSON *item,
                         struct gw_openai_prompt *out, struct gw_openai_error *error)
{
    if (cJSON_IsArray(item))
        return gw_openai_prompt_ids(item, "prompt", model->vocab, model->context, out, error);
    if (!cJSON_IsString(item)) return bad_prompt(error);
    return gw_openai_prompt_text(model, body, item->valuestring, model->context, out, error);
}

gw_err_t gw_openai_prompt_list(const struct gw_openai_model *model, const cJSON *body,
                               struct gw_openai_prompt **out, uint32_t *len, struct gw_openai_error *error)
{
    const cJSON *prompt = gw_field(body, "prompt"), *item;
    if (!prompt) return bad_prompt(error);
    bool one = !cJSON_IsArray(prompt) || cJSON_IsNumber(prompt->child);
    int count = one ? 1 : cJSON_GetArraySize(prompt);
    if (count < 1) return gw_openai_error_set(error, 400, NULL, "prompt", "'prompt' must not be empty");
    if (count > GW_OPENAI_PROMPTS_MAX)
        return gw_openai_error_set(error, 400, NULL, "prompt", "more than %d prompts in one request",
                                   GW_OPENAI_PROMPTS_MAX);
    struct gw_openai_prompt *prompts = calloc((size_t)count, sizeof *prompts);
    if (!prompts) return gw_openai_error_memory(error);
    *out = prompts;
    *len = (uint32_t)count;
    if (one) return read_one(model, body, prompt, prompts, error);
    cJSON_ArrayForEach(item, prompt)
    {
        if (cJSON_IsArray(item) != cJSON_IsArray(prompt->child)) return bad_prompt(error); /* no mixtures */
        TRY(read_one(model, body, item, prompts++, error));
    }
    return GW_OK;
}
