/* Tokenizer: byte-level BPE as Hugging Face's tokenizer.json describes it (Llama-3 kind).
 *
 *     text ─ added tokens cut out ─► pieces ─ Split by regex (PCRE2) ─► words ─ bytes → symbols ─ merges ─►
 * ids
 *
 * Merging is O(n log n) per word whatever the text (a heap over linked symbols): a megabyte of one letter or
 * of spaces is fine. Regex matching runs under match limits. The file is untrusted: every id, merge and size
 * is checked.
 *
 * Owner: open/close; encode's result is the caller's (free). Thread: immutable after open: any thread.
 * Units: bytes, token ids. Errors: GW_ERR_INPUT (file or text), GW_ERR_LIMIT; on error *out is unchanged.
 * Source: tokenizer.json as written by Hugging Face `tokenizers`; own implementation. */
#ifndef GW_CONTROLLER_TOKENIZER_H
#define GW_CONTROLLER_TOKENIZER_H

#include <stdint.h>

#include "base/err.h"

struct gw_tokenizer;

/* Opens DIR/tokenizer.json (and, if there, the special tokens named in DIR/tokenizer_config.json and
 * DIR/generation_config.json and DIR/config.json: bos, eos ids). */
gw_err_t gw_tokenizer_open(const char *dir, struct gw_tokenizer **out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_tokenizer_close(struct gw_tokenizer *t);

enum gw_encode_flags {
    GW_ENCODE_ADD_SPECIAL = 1, /* what the post-processor adds (bos in front) */
    GW_ENCODE_PARSE_SPECIAL =
        2, /* special token strings in the text become their ids; else they are plain text */
};

/* text need not be NUL-terminated; must be UTF-8 (GW_ERR_INPUT). More than max_ids tokens: GW_ERR_LIMIT. */
gw_err_t gw_tokenizer_encode(const struct gw_tokenizer *t, const char *text, size_t len, unsigned flags,
                             size_t max_ids, uint32_t **ids, size_t *ids_len,
                             struct gw_err_ctx *ctx) GW_MUST_USE;

/* The bytes of one token; special tokens give their literal text. NULL (len 0) for ids out of range. Valid
 * until close. */
const char *gw_tokenizer_bytes(const struct gw_tokenizer *t, uint32_t id, size_t *len);
bool gw_tokenizer_is_special(const struct gw_tokenizer *t, uint32_t id);

/* One above the highest id. */
uint32_t gw_tokenizer_vocab(const struct gw_tokenizer *t);

/* Texts of bos and eos, "" if none (templates use them). */
const char *gw_tokenizer_bos(const struct gw_tokenizer *t);
const char *gw_tokenizer_eos(const struct gw_tokenizer *t);

/* Ids that end a generation (generation_config.json's eos_token_id, else config.json's). Valid until close.
 */
const uint32_t *gw_tokenizer_eos_ids(const struct gw_tokenizer *t, size_t *len);

#endif
