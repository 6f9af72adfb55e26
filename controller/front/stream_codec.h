/* Stream codec: what the journal keeps of a stream that clients may come back to, as bytes.
 *
 * An entry of the journal is one BEGIN, then TOKENS as they come. Everything else (text, stop strings, ends) follows
 * from these.
 *
 *     BEGIN    0     1  type 1
 *              1     1  version 1
 *              2     1  endpoint      1 chat, 2 completions
 *              3     1  flags         bit 0 usage, 1 echo, 2 include_stop, 3 skip_special
 *              4     8  created       seconds since 1970
 *             12    16  fingerprint   of the model
 *             28   4+i  id            1..47 bytes: a-z, 0-9, '-'
 *                4+4..  stops         count <= 16, each 4 + 1..512 bytes
 *                4+ ..  prompts       count 1..256, each
 *                4+s      request     a SUBMIT's payload (migrate/wire.h) without records; its id is the core's
 *                4+t      text        for echo, else empty
 *     TOKENS   0     1  type 2
 *              1   4+p  profile       <= 64 bytes
 *                     t  records       a TOKENS payload (migrate/wire.h); its request names the prompt
 *
 * Integers little-endian. The bytes were sealed by a holder of the cluster key; they are checked all the same.
 *
 * Owner: gw_stream_begin_fini frees what a decoded BEGIN holds. Thread: any. Units: bytes, tokens.
 * Errors: GW_ERR_PROTO for bytes that no writer of ours makes, GW_ERR_MEMORY. Source: own design; DESIGN part 6. */
#ifndef GW_CONTROLLER_STREAM_CODEC_H
#define GW_CONTROLLER_STREAM_CODEC_H

#include "controller/front/openai_response.h"
#include "migrate/wire.h"

#define GW_STREAM_PIECE_MAX ((size_t)128 << 20) /* GW_JOURNAL_PIECE_MAX */

struct gw_stream_begin {
    char id[GW_OPENAI_ID_MAX];
    int64_t created;
    uint8_t fingerprint[GW_FINGERPRINT_BYTES];
    uint8_t tenant[GW_REQUEST_TENANT_BYTES];
    struct gw_openai_request *request;
    uint64_t *ids; /* [request->prompts_len] of the core's requests */
};

/* Appends the piece (the buffer's sticky error tells). */
gw_err_t gw_stream_put_begin(struct gw_buf *b, const struct gw_stream_begin *begin) GW_MUST_USE;
void gw_stream_put_tokens(struct gw_buf *b, uint64_t request, uint32_t branch, const char *profile,
                          const struct gw_tokens *tokens);

gw_err_t gw_stream_get_begin(const void *piece, size_t len, struct gw_stream_begin *out) GW_MUST_USE;
void gw_stream_begin_fini(struct gw_stream_begin *begin);

struct gw_stream_tokens {
    char profile[GW_WIRE_NAME_MAX + 1];
    struct gw_msg msg; /* TOKENS; gw_msg_fini */
};
gw_err_t gw_stream_get_tokens(const void *piece, size_t len, struct gw_stream_tokens *out) GW_MUST_USE;

#endif
