/* controller/handover_wire: any payload of any type is a message within its limits or refused; what was read is written
 * and read again alike.
 *
 *     input   0  2  type
 *             2     payload */
#include <assert.h>
#include <string.h>

#include "controller/handover_wire.h"
#include "tests/fuzz/fuzz.h"

static struct evbuffer *put(const struct gw_handover_msg *m)
{
    struct evbuffer *b = evbuffer_new();
    assert(b && gw_handover_put(b, m) == GW_OK);
    return b;
}

static void check_alike(const struct gw_handover_msg *m)
{
    struct gw_handover_msg again;
    bool ready;
    struct evbuffer *first = put(m), *copy = put(m);
    assert(gw_handover_get(copy, &again, &ready, NULL) == GW_OK && ready);
    struct evbuffer *second = put(&again);
    size_t len = evbuffer_get_length(first);
    assert(len == evbuffer_get_length(second));
    assert(memcmp(evbuffer_pullup(first, -1), evbuffer_pullup(second, -1), len) == 0);
    gw_handover_msg_fini(&again);
    evbuffer_free(first);
    evbuffer_free(copy);
    evbuffer_free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct gw_handover_msg m;
    bool ready = false;
    if (len < 2) return 0;
    struct evbuffer *in = evbuffer_new();
    const struct gw_frame frame = {
        .type = (uint16_t)(bytes[0] | bytes[1] << 8), .len = (uint32_t)(len - 2), .payload = bytes + 2};
    assert(in && gw_frame_put(in, &frame) == GW_OK);
    gw_err_t err = gw_handover_get(in, &m, &ready, NULL);
    assert(err == GW_OK || err == GW_ERR_PROTO || err == GW_ERR_MEMORY);
    if (err == GW_OK) {
        assert(ready);
        check_alike(&m);
        gw_handover_msg_fini(&m);
    }
    evbuffer_free(in);
    return 0;
}
