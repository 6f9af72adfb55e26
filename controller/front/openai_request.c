#include "controller/front/openai_request.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "controller/front/openai_fields.h"
#include "controller/front/openai_prompt.h"
#include "controller/front/openai_sampling.h"

#define COMPLETIONS_TOKENS_DEFAULT 16 /* OpenAI's (and vLLM's) default of the old endpoint */

/* What the parts of the parser share. */
struct parse {
    const struct gw_openai_model *model;
    const cJSON *body;
    struct gw_openai_request *r;
    struct gw_openai_error *error;
};

void gw_openai_request_destroy(struct gw_openai_request *r)
{
    if (!r) return;
    for (uint32_t i = 0; i < r->prompts_len; i++) gw_openai_prompt_fini(&r->prompts[i]);
    for (int i = 0; i < r->options.stop_len; i++) free(r->options.stop[i]);
    free(r->prompts);
    free(r->sampling.stop_ids);
    free(r->sampling.bias);
    free(r);
}

/* ---- the body ------------------------------------------------------------------------------------------ */

gw_err_t gw_openai_body_parse(const struct gw_openai_model *model, const void *body, size_t len, cJSON **out,
                              struct gw_openai_error *error)
{
    struct gw_err_ctx ctx = {0};
    cJSON *tree = NULL;
    const char *name = model->name;
    if (len == 0)
        return gw_openai_error_set(error, 400, NULL, NULL, "the body is empty, a JSON object is needed");
    if (gw_json_parse(body, len, len, &tree, &ctx) != GW_OK)
        return gw_openai_error_set(error, 400, NULL, NULL, "%s", ctx.text);
    gw_err_t err = GW_OK;
    if (!cJSON_IsObject(tree))
        err = gw_openai_error_set(error, 400, NULL, NULL, "the body must be a JSON object");
    if (err == GW_OK) err = gw_field_string(tree, "model", &name, error);
    if (err == GW_OK && strcmp(name, model->name) != 0)
        err = gw_openai_error_set(error, 404, "model_not_found", "model",
                                  "the model '%.128s' does not exist, this is '%s'", name, model->name);
    if (err == GW_OK)
        *out = tree;
    else
        cJSON_Delete(tree);
    return err;
}

/* ---- what is not there yet ----------------------------------------------------------------------------- */

/* Is the value what the field means when it is absent? */
static bool says_nothing(const char *field, const cJSON *v)
{
    if (cJSON_IsFalse(v) || ((cJSON_IsArray(v) || cJSON_IsObject(v)) && !v->child)) return true;
    if (cJSON_IsString(v) && (strcmp(field, "tool_choice") == 0 || strcmp(field, "function_call") == 0))
        return strcmp(v->valuestring, "none") == 0;
    if (cJSON_IsString(v)) return v->valuestring[0] == '\0';
    if (strcmp(field, "response_format") == 0) {
        const cJSON *type = cJSON_GetObjectItemCaseSensitive(v, "type");
        return cJSON_IsString(type) && strcmp(type->valuestring, "text") == 0;
    }
    if (strcmp(field, "modalities") == 0)
        return cJSON_IsString(v->child) && strcmp(v->child->valuestring, "text") == 0 && !v->child->next;
    return false;
}

static gw_err_t refuse_unsupported(const struct parse *p)
{
    static const char *const fields[] = {
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "response_format",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "structured_outputs",
        "suffix",
        "audio",
        "modalities",
        "prompt_logprobs",
        "use_beam_search",
        "prompt_embeds",
        "continue_final_message",
        "logits_processors",
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const cJSON *v = gw_field(p->body, fields[i]);
        if (v && !says_nothing(fields[i], v))
            return gw_openai_error_set(p->error, 400, "unsupported_parameter", fields[i],
                                       "'%s' is not supported yet", fields[i]);
    }
    return GW_OK;
}

/* ---- options ------------------------------------------------------------------------------------------- */

static gw_err_t add_stop(const struct parse *p, const cJSON *item)
{
    struct gw_openai_options *o = &p->r->options;
    if (!cJSON_IsString(item))
        return gw_openai_error_set(p->error, 400, NULL, "stop",
                                   "'stop' must be a string or a list of strings");
    size_t len = strlen(item->valuestring);
    if (len == 0 || len > GW_STOPS_BYTES_MAX)
        return gw_openai_error_set(p->error, 400, NULL, "stop", "a stop string must have 1 to %d bytes",
                                   GW_STOPS_BYTES_MAX);
    if (o->stop_len == GW_STOPS_MAX)
        return gw_openai_error_set(p->error, 400, NULL, "stop", "more than %d stop strings", GW_STOPS_MAX);
    char *copy = strdup(item->valuestring);
    if (!copy) return gw_openai_error_memory(p->error);
    o->stop[o->stop_len++] = copy;
    return GW_OK;
}

static gw_err_t read_stop(const struct parse *p)
{
    const cJSON *stop = gw_field(p->body, "stop"), *item;
    if (!stop) return GW_OK;
    if (!cJSON_IsArray(stop)) return add_stop(p, stop);
    cJSON_ArrayForEach(item, stop) TRY(add_stop(p, item));
    return GW_OK;
}

static gw_err_t read_stream(const struct parse *p)
{
    struct gw_openai_options *o = &p->r->options;
    const cJSON *more = gw_field(p->body, "stream_options");
    TRY(gw_field_bool(p->body, "stream", &o->stream, p->error));
    if (!more) return GW_OK;
    if (!cJSON_IsObject(more))
        return gw_openai_error_set(p->error, 400, NULL, "stream_options",
                                   "'stream_options' must be an object");
    if (!o->stream)
        return gw_openai_error_set(p->error, 400, NULL, "stream_options",
                                   "'stream_options' needs 'stream': true");
    return gw_field_bool(more, "include_usage", &o->include_usage, p->error);
}

static gw_err_t read_echo(const struct parse *p)
{
    struct gw_openai_options *o = &p->r->options;
    if (o->endpoint == GW_OPENAI_CHAT) return GW_OK; /* unknown there */
    TRY(gw_field_bool(p->body, "echo", &o->echo, p->error));
    if (o->echo && gw_field(p->body, "logprobs"))
        return gw_openai_error_set(p->error, 400, "unsupported_parameter", "echo",
                                   "'echo' together with 'logprobs' is not supported yet");
    return GW_OK;
}

static gw_err_t read_n(const struct parse *p)
{
    struct gw_openai_options *o = &p->r->options;
    uint32_t best_of = 0;
    o->n = 1;
    TRY(gw_field_u32(p->body, "n", 1, GW_REQUEST_BRANCHES_MAX, &o->n, p->error));
    TRY(gw_field_u32(p->body, "best_of", 1, UINT32_MAX, &best_of, p->error));
    if (best_of > o->n)
        return gw_openai_error_set(p->error, 400, "unsupported_parameter", "best_of",
                                   "'best_of' above 'n' is not supported yet");
    if (best_of > 0 && best_of < o->n)
        return gw_openai_error_set(p->error, 400, NULL, "best_of", "'best_of' must not be below 'n'");
    return GW_OK;
}

static gw_err_t read_options(const struct parse *p)
{
    struct gw_openai_options *o = &p->r->options;
    o->skip_special = true;
    TRY(read_n(p));
    TRY(read_stream(p));
    TRY(read_stop(p));
    TRY(read_echo(p));
    TRY(gw_field_bool(p->body, "include_stop_str_in_output", &o->include_stop, p->error));
    return gw_field_bool(p->body, "skip_special_tokens", &o->skip_special, p->error);
}

/* ---- prompts ------------------------------------------------------------------------------------------- */

static gw_err_t read_prompts(const struct parse *p)
{
    struct gw_openai_request *r = p->r;
    if (r->options.endpoint == GW_OPENAI_COMPLETIONS)
        return gw_openai_prompt_list(p->model, p->body, &r->prompts, &r->prompts_len, p->error);
    r->prompts = calloc(1, sizeof *r->prompts);
    if (!r->prompts) return gw_openai_error_memory(p->error);
    r->prompts_len = 1;
    return gw_openai_prompt_chat(p->model, p->body, p->model->context, r->prompts, p->error);
}

static const char *prompt_param(const struct parse *p)
{
    return p->r->options.endpoint == GW_OPENAI_CHAT ? "messages" : "prompt";
}

/* max_tokens as asked for (0 = not), and the field that asked. */
static gw_err_t read_max_tokens(const struct parse *p, uint32_t *max_tokens, const char **field)
{
    *field = "max_tokens";
    if (p->r->options.endpoint == GW_OPENAI_CHAT && gw_field(p->body, "max_completion_tokens"))
        *field = "max_completion_tokens";
    *max_tokens = 0;
    TRY(gw_field_u32(p->body, *field, 1, UINT32_MAX, max_tokens, p->error));
    if (*max_tokens == 0 && p->r->options.endpoint == GW_OPENAI_COMPLETIONS)
        *max_tokens = COMPLETIONS_TOKENS_DEFAULT;
    return GW_OK;
}

/* The most tokens per branch that this prompt leaves room for: in the context, and in one request. */
static uint32_t room_for(const struct parse *p, uint32_t prompt_len)
{
    uint32_t context_room = p->model->context - prompt_len;
    uint32_t share =
        prompt_len < GW_REQUEST_TOTAL_MAX ? (GW_REQUEST_TOTAL_MAX - prompt_len) / p->r->options.n : 0;
    uint32_t room = context_room < share ? context_room : share;
    return room < GW_REQUEST_TOKENS_MAX ? room : GW_REQUEST_TOKENS_MAX;
}

static gw_err_t fit_prompt(const struct parse *p, struct gw_openai_prompt *prompt, uint32_t asked, bool given,
                           const char *field)
{
    if (prompt->len == 0)
        return gw_openai_error_set(p->error, 400, NULL, prompt_param(p), "the prompt has no tokens");
    if (prompt->len >= p->model->context)
        return gw_openai_error_set(p->error, 400, "context_length_exceeded", prompt_param(p),
                                   "this model's context holds %u tokens, prompt and answer together; the "
                                   "prompt alone has %u",
                                   p->model->context, prompt->len);
    uint32_t room = room_for(p, prompt->len);
    if (given && asked > room)
        return gw_openai_error_set(
            p->error, 400, "context_length_exceeded", field,
            "this model's context holds %u tokens; %u of the prompt and '%s' = %u are too "
            "many",
            p->model->context, prompt->len, field, asked);
    prompt->max_tokens = asked > 0 && asked < room ? asked : room;
    if (p->r->sampling.min_tokens > prompt->max_tokens)
        return gw_openai_error_set(p->error, 400, NULL, "min_tokens",
                                   "'min_tokens' must not exceed 'max_tokens'");
    return GW_OK;
}

/* The prompt's text as the answer repeats it: what its ids decode to, without special tokens. */
static gw_err_t echo_text(const struct parse *p, struct gw_openai_prompt *prompt)
{
    struct gw_detok detok;
    struct gw_buf text;
    gw_buf_init(&text, SIZE_MAX / 2);
    gw_detok_init(&detok, p->model->tokenizer, true);
    for (uint32_t i = 0; i < prompt->len; i++) gw_detok_push(&detok, prompt->ids[i], &text);
    gw_detok_finish(&detok, &text);
    if (!gw_buf_cstr(&text)) {
        gw_buf_fini(&text);
        return gw_openai_error_memory(p->error);
    }
    prompt->text = (char *)text.data;
    prompt->text_len = text.len;
    return GW_OK;
}

static gw_err_t finish_prompts(const struct parse *p)
{
    uint32_t asked;
    uint64_t seed = 0;
    bool seeded;
    const char *field;
    TRY(read_max_tokens(p, &asked, &field));
    bool given = gw_field(p->body, field) != NULL;
    TRY(gw_openai_seed_read(p->body, &seeded, &seed, p->error));
    for (uint32_t i = 0; i < p->r->prompts_len; i++) {
        struct gw_openai_prompt *prompt = &p->r->prompts[i];
        TRY(fit_prompt(p, prompt, asked, given, field));
        prompt->seed = seed;
        if (!seeded) gw_random_bytes(&prompt->seed, sizeof prompt->seed);
        if (p->r->options.echo) TRY(echo_text(p, prompt));
    }
    return GW_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

/* request.h's own limits, as a last look; each has a friendlier check before it. */
static gw_err_t check_whole(const struct parse *p)
{
    static const uint8_t tenant[GW_REQUEST_TENANT_BYTES] = {0};
    for (uint32_t i = 0; i < p->r->prompts_len; i++) {
        struct gw_err_ctx ctx = {0};
        struct gw_request *core = NULL;
        if (gw_openai_request_core(p->r, i, 1, tenant, &core) != GW_OK)
            return gw_openai_error_memory(p->error);
        gw_err_t err = gw_request_check(core, p->model->vocab, p->model->context, &ctx);
        gw_request_destroy(core);
        if (err != GW_OK) return gw_openai_error_set(p->error, 400, NULL, NULL, "%s", ctx.text);
    }
    return GW_OK;
}

static gw_err_t read_all(const struct parse *p)
{
    TRY(refuse_unsupported(p));
    TRY(read_options(p));
    TRY(gw_openai_sampling_read(p->model, p->r->options.endpoint, p->body, &p->r->sampling, p->error));
    TRY(read_prompts(p));
    if ((uint64_t)p->r->prompts_len * p->r->options.n > GW_OPENAI_CHOICES_MAX)
        return gw_openai_error_set(p->error, 400, NULL, "n", "more than %d choices in one request",
                                   GW_OPENAI_CHOICES_MAX);
    TRY(finish_prompts(p));
    return check_whole(p);
}

gw_err_t gw_openai_request_parse(const struct gw_openai_model *model, enum gw_openai_endpoint endpoint,
                                 const void *body, size_t len, struct gw_openai_request **out,
                                 struct gw_openai_error *error)
{
    cJSON *tree = NULL;
    TRY(gw_openai_body_parse(model, body, len, &tree, error));
    struct gw_openai_request *r = calloc(1, sizeof *r);
    gw_err_t err = r ? GW_OK : gw_openai_error_memory(error);
    if (r) {
        const struct parse p = {.model = model, .body = tree, .r = r, .error = error};
        r->options.endpoint = endpoint;
        err = read_all(&p);
    }
    cJSON_Delete(tree);
    if (err == GW_OK)
        *out = r;
    else
        gw_openai_request_destroy(r);
    return err;
}

gw_err_t gw_openai_request_core(const struct gw_openai_request *r, uint32_t prompt, uint64_t id,
                                const uint8_t tenant[GW_REQUEST_TENANT_BYTES], struct gw_request **out)
{
    const struct gw_openai_prompt *p = &r->prompts[prompt];
    struct gw_request q = {
        .id = id, .n = r->options.n, .prompt = p->ids, .prompt_len = p->len, .sampling = r->sampling};
    q.sampling.seed = p->seed;
    q.sampling.max_tokens = p->max_tokens;
    memcpy(q.tenant, tenant, sizeof q.tenant);
    return gw_request_copy(&q, out);
}
