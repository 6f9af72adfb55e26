/* Prompts: messages or text from a request body, as token ids.
 *
 * Owner: the caller frees ids and text. Thread: any (pool threads: it is slow). Units: tokens, bytes.
 * Errors: *error says what the client is told; on error nothing is held.
 * Source: OpenAI API reference; vLLM for add_special_tokens, add_generation_prompt and joined text parts. */
#ifndef GW_CONTROLLER_OPENAI_PROMPT_H
#define GW_CONTROLLER_OPENAI_PROMPT_H

#include <cjson/cJSON.h>

#include "controller/front/openai_request.h"

/* Renders body's "messages" and tokenizes the text. More than max_ids tokens: context_length_exceeded. */
gw_err_t gw_openai_prompt_chat(const struct gw_openai_model *model, const cJSON *body, uint32_t max_ids,
                               struct gw_openai_prompt *out, struct gw_openai_error *error) GW_MUST_USE;

/* Tokenizes body's "prompt", a string. */
gw_err_t gw_openai_prompt_text(const struct gw_openai_model *model, const cJSON *body, const char *text,
                               uint32_t max_ids, struct gw_openai_prompt *out,
                               struct gw_openai_error *error) GW_MUST_USE;

/* All of body's "prompt": a string, a list of strings, token ids, or a list of lists of token ids. *out holds
 * *len prompts even on error (the caller frees them). */
gw_err_t gw_openai_prompt_list(const struct gw_openai_model *model, const cJSON *body,
                               struct gw_openai_prompt **out, uint32_t *len,
                               struct gw_openai_error *error) GW_MUST_USE;

/* Reads a JSON list of token ids called param. */
gw_err_t gw_openai_prompt_ids(const cJSON *list, const char *param, uint32_t vocab, uint32_t max_ids,
                              struct gw_openai_prompt *out, struct gw_openai_error *error) GW_MUST_USE;

void gw_openai_prompt_fini(struct gw_openai_prompt *p);

#endif
