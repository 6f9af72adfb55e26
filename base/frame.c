#include "base/frame.h"

#include <event2/buffer.h>
#include <string.h>

#include "base/buf.h"

#define FRAME_MAGIC 0x31465747u /* "GWF1" */

/* Nibble-wise CRC-32, reflected polynomial 0xEDB88320: control frames are small, 16 words of table suffice.
 */
static uint32_t crc32(const uint8_t *p, size_t len)
{
    static const uint32_t table[16] = {0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4,
                                       0x4DB26158, 0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
                                       0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
    uint32_t crc = ~0u;
    for (size_t i = 0; i < len; i++) {
        crc = (crc >> 4) ^ table[(crc ^ p[i]) & 15];
        crc = (crc >> 4) ^ table[(crc ^ (p[i] >> 4)) & 15];
    }
    return ~crc;
}

static gw_err_t parse_head(const uint8_t *head, uint32_t max_payload, struct gw_frame *f, uint32_t *crc,
                           struct gw_err_ctx *ctx)
{
    struct gw_reader r;
    gw_reader_init(&r, head, GW_FRAME_HEAD_BYTES);
    if (gw_read_u32(&r) != FRAME_MAGIC) return gw_fail(ctx, GW_ERR_PROTO, "frame: wrong magic");
    f->type = gw_read_u16(&r);
    uint16_t flags = gw_read_u16(&r);
    f->len = gw_read_u32(&r);
    *crc = gw_read_u32(&r);
    f->term = gw_read_u64(&r);
    f->pipeline = gw_read_u32(&r);
    f->generation = gw_read_u64(&r);
    if (flags) return gw_fail(ctx, GW_ERR_PROTO, "frame: unknown flags 0x%x", flags);
    if (f->len > max_payload)
        return gw_fail(ctx, GW_ERR_PROTO, "frame: %u bytes of payload, at most %u", f->len, max_payload);
    return GW_OK;
}

gw_err_t gw_frame_take(struct evbuffer *in, uint32_t max_payload, struct gw_frame *out, bool *ready,
                       struct gw_err_ctx *ctx)
{
    uint8_t head[GW_FRAME_HEAD_BYTES];
    struct gw_frame f = {0};
    uint32_t crc = 0;
    *ready = false;
    if (evbuffer_copyout(in, head, sizeof head) < (ev_ssize_t)sizeof head) return GW_OK;
    TRY(parse_head(head, max_payload, &f, &crc, ctx));
    if (evbuffer_get_length(in) < sizeof head + f.len) return GW_OK;
    const uint8_t *whole = evbuffer_pullup(in, (ev_ssize_t)(sizeof head + f.len));
    if (!whole) return gw_fail(ctx, GW_ERR_MEMORY, "frame: out of memory");
    f.payload = whole + sizeof head;
    if (crc32(f.payload, f.len) != crc) return gw_fail(ctx, GW_ERR_PROTO, "frame: wrong checksum");
    *out = f;
    *ready = true;
    return GW_OK;
}

void gw_frame_drop(struct evbuffer *in, const struct gw_frame *frame)
{
    evbuffer_drain(in, GW_FRAME_HEAD_BYTES + (size_t)frame->len);
}

gw_err_t gw_frame_put(struct evbuffer *out, const struct gw_frame *frame)
{
    struct gw_buf head;
    gw_err_t err = GW_OK;
    if (frame->len > GW_FRAME_PAYLOAD_MAX) return GW_ERR_LIMIT;
    gw_buf_init(&head, GW_FRAME_HEAD_BYTES);
    gw_buf_u32(&head, FRAME_MAGIC);
    gw_buf_u16(&head, frame->type);
    gw_buf_u16(&head, 0);
    gw_buf_u32(&head, frame->len);
    gw_buf_u32(&head, crc32(frame->payload, frame->len));
    gw_buf_u64(&head, frame->term);
    gw_buf_u32(&head, frame->pipeline);
    gw_buf_u64(&head, frame->generation);
    if (head.err != GW_OK)
        err = head.err;
    else if (evbuffer_expand(out, head.len + frame->len) != 0)
        err = GW_ERR_MEMORY;
    else if (evbuffer_add(out, head.data, head.len) != 0 ||
             evbuffer_add(out, frame->payload, frame->len) != 0)
        err = GW_ERR_MEMORY;
    gw_buf_fini(&head);
    return err;
}
