/* Detokenizer of one branch: token ids in, whole UTF-8 characters out.
 *
 * Bytes of an unfinished character wait for the next token; at the end what cannot become a character turns
 * into U+FFFD, exactly as if all bytes had been decoded at once. Special tokens give no text (skip_special).
 * The output is a function of the ids alone, however they are cut into calls.
 *
 * Owner: caller memory, no heap. Thread: one. Units: bytes. Errors: the output buffer's sticky error.
 * Source: own design. */
#ifndef GW_CONTROLLER_DETOK_H
#define GW_CONTROLLER_DETOK_H

#include "base/buf.h"
#include "controller/text/tokenizer.h"

struct gw_detok {
    const struct gw_tokenizer *tokenizer;
    bool skip_special;
    uint8_t pending[4]; /* the start of a character */
    uint8_t pending_len;
};

void gw_detok_init(struct gw_detok *d, const struct gw_tokenizer *tokenizer, bool skip_special);
/* Appends the characters that id completes. */
void gw_detok_push(struct gw_detok *d, uint32_t id, struct gw_buf *out);
/* Appends what is still pending, as U+FFFD. */
void gw_detok_finish(struct gw_detok *d, struct gw_buf *out);

#endif
