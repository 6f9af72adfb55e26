#include "controller/text/detok.h"

#include <string.h>

#include "base/utf8.h"

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

void gw_detok_init(struct gw_detok *d, const struct gw_tokenizer *tokenizer, bool skip_special)
{
    *d = (struct gw_detok){.tokenizer = tokenizer, .skip_special = skip_special};
}

/* pending is always a proper prefix of a well-formed character, so a byte that does not go on with it ends a
 * "maximal subpart": one U+FFFD for that, and the byte is looked at again as a first one. This is what
 * decoders of whole strings do (Unicode 15, section 3.9). */
static void push_byte(struct gw_detok *d, uint8_t byte, struct gw_buf *out)
{
    d->pending[d->pending_len++] = byte;
    int n = gw_utf8_sequence(d->pending, d->pending_len);
    if (n < 0) return;
    if (n > 0) {
        gw_buf_put(out, d->pending, d->pending_len);
        d->pending_len = 0;
        return;
    }
    bool first = d->pending_len == 1;
    gw_buf_puts(out, replacement);
    d->pending_len = 0;
    if (!first) push_byte(d, byte, out); /* once: then it is the first */
}

void gw_detok_push(struct gw_detok *d, uint32_t id, struct gw_buf *out)
{
    if (d->skip_special && gw_tokenizer_is_special(d->tokenizer, id)) return;
    size_t len;
    const char *bytes = gw_tokenizer_bytes(d->tokenizer, id, &len);
    for (size_t i = 0; i < len; i++) push_byte(d, (uint8_t)bytes[i], out);
}

void gw_detok_finish(struct gw_detok *d, struct gw_buf *out)
{
    if (d->pending_len > 0) gw_buf_puts(out, replacement);
    d->pending_len = 0;
}
