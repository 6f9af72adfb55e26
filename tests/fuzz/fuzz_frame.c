/* base/frame: any byte stream is cut into frames, waited for, or refused; what was taken can be put back bit
 * for bit. */
#include <assert.h>
#include <event2/buffer.h>
#include <string.h>

#include "base/frame.h"
#include "tests/fuzz/fuzz.h"

#define PAYLOAD_MAX 1024

static void check_put_gives_the_same(const struct gw_frame *f)
{
    struct evbuffer *again = evbuffer_new();
    struct gw_frame out;
    bool ready = false;
    assert(again && gw_frame_put(again, f) == GW_OK);
    assert(gw_frame_take(again, PAYLOAD_MAX, &out, &ready, NULL) == GW_OK && ready);
    assert(out.type == f->type && out.len == f->len && out.term == f->term && out.pipeline == f->pipeline &&
           out.generation == f->generation && memcmp(out.payload, f->payload, f->len) == 0);
    evbuffer_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct evbuffer *in = evbuffer_new();
    struct gw_frame f;
    bool ready = true;
    assert(in && evbuffer_add(in, bytes, len) == 0);
    while (gw_frame_take(in, PAYLOAD_MAX, &f, &ready, NULL) == GW_OK && ready) {
        assert(f.len <= PAYLOAD_MAX && GW_FRAME_HEAD_BYTES + f.len <= evbuffer_get_length(in));
        check_put_gives_the_same(&f);
        gw_frame_drop(in, &f);
    }
    evbuffer_free(in);
    return 0;
}
