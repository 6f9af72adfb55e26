/* migrate/wire: any payload of any message type is decoded within its limits or refused; what was decoded encodes to
 * bytes that decode to the same again.
 *
 *     input   0  1  message type
 *             1     payload */
#include <assert.h>
#include <string.h>

#include "migrate/wire.h"
#include "tests/fuzz/fuzz.h"

static void encode(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_init(b, GW_FRAME_PAYLOAD_MAX);
    gw_msg_encode(m, b);
    assert(b->err == GW_OK);
}

static void check_encodes_and_decodes_alike(const struct gw_msg *m)
{
    struct gw_buf first, again;
    struct gw_msg copy;
    encode(m, &first);
    struct gw_frame f = {.type = (uint16_t)m->type, .len = (uint32_t)first.len, .payload = first.data};
    assert(gw_msg_decode(&f, &copy, NULL) == GW_OK);
    encode(&copy, &again);
    assert(first.len == again.len && (first.len == 0 || memcmp(first.data, again.data, first.len) == 0));
    gw_msg_fini(&copy);
    gw_buf_fini(&first);
    gw_buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct gw_msg m;
    if (len == 0) return 0;
    struct gw_frame f = {.type = bytes[0], .len = (uint32_t)(len - 1), .payload = bytes + 1};
    gw_err_t err = gw_msg_decode(&f, &m, NULL);
    assert(err == GW_OK || err == GW_ERR_PROTO || err == GW_ERR_MEMORY);
    if (err != GW_OK) return 0;
    if (m.type == GW_MSG_SUBMIT || m.type == GW_MSG_WARM) {
        assert(gw_request_check(&m.submit.request, UINT32_MAX, UINT32_MAX, NULL) == GW_OK);
        assert(m.submit.holders_len <= GW_WIRE_HOLDERS_MAX);
    }
    check_encodes_and_decodes_alike(&m);
    gw_msg_fini(&m);
    return 0;
}
