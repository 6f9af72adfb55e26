/* controller/front/stream_codec and stream_position: any piece is read within its limits or refused, what was read is
 * written as it was, and any id is a position or none.
 *
 *     input   0  1  % 3: 0 BEGIN, 1 TOKENS, 2 the id of an event of 1 + (byte / 3) % 8 choices
 *             1     the rest */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "controller/front/stream_codec.h"
#include "controller/front/stream_position.h"
#include "tests/fuzz/fuzz.h"

#define CHOICES_MAX 8

static void fuzz_begin(const uint8_t *piece, size_t len)
{
    struct gw_stream_begin begin;
    struct gw_buf again;
    if (gw_stream_get_begin(piece, len, &begin) != GW_OK) return;
    assert(begin.request->prompts_len >= 1 && begin.request->prompts_len <= GW_OPENAI_PROMPTS_MAX);
    assert(begin.request->options.n * begin.request->prompts_len <= GW_OPENAI_CHOICES_MAX);
    gw_buf_init(&again, GW_STREAM_PIECE_MAX);
    assert(gw_stream_put_begin(&again, &begin) == GW_OK);
    gw_buf_fini(&again);
    gw_stream_begin_fini(&begin);
}

static void fuzz_tokens(const uint8_t *piece, size_t len)
{
    struct gw_stream_tokens tokens;
    struct gw_buf again;
    if (gw_stream_get_tokens(piece, len, &tokens) != GW_OK) return;
    const struct gw_msg_tokens *m = &tokens.msg.tokens;
    gw_buf_init(&again, GW_STREAM_PIECE_MAX);
    gw_stream_put_tokens(&again, m->request, m->branch, tokens.profile, &m->tokens);
    assert(again.err == GW_OK && again.len == len);
    gw_buf_fini(&again);
    gw_msg_fini(&tokens.msg);
}

static void fuzz_position(uint32_t choices, const uint8_t *bytes, size_t len)
{
    struct gw_position positions[CHOICES_MAX];
    struct gw_buf again;
    bool usage;
    char *text = calloc(1, len + 1);
    assert(text);
    memcpy(text, bytes, len);
    if (gw_position_parse(text, positions, choices, &usage) == GW_OK) {
        gw_buf_init(&again, 4096);
        gw_position_put(&again, positions, choices, usage);
        assert(strcmp(gw_buf_cstr(&again), text) == 0);
        gw_buf_fini(&again);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len == 0) return 0;
    switch (bytes[0] % 3) {
    case 0: fuzz_begin(bytes + 1, len - 1); break;
    case 1: fuzz_tokens(bytes + 1, len - 1); break;
    default: fuzz_position(1 + bytes[0] / 3 % CHOICES_MAX, bytes + 1, len - 1); break;
    }
    return 0;
}
