/* Frames: how Godwit's processes cut a byte stream into messages.
 *
 *     byte  size  field
 *        0     4  magic "GWF1"
 *        4     2  type         (migrate/wire.h)
 *        6     2  flags        0; unknown bits are refused
 *        8     4  length       of the payload, <= the reader's max
 *       12     4  crc          CRC-32 (zlib's polynomial) of the payload
 *       16     8  term         the controller's generation
 *       24     4  pipeline
 *       28     8  generation   of the pipeline
 *       36        payload
 *
 * All integers little-endian. The checksum finds bugs and broken links, not attackers.
 *
 * Owner: gw_frame_take hands out bytes that belong to the evbuffer until gw_frame_drop.
 * Thread: the buffer's. Units: bytes. Errors: GW_ERR_PROTO on anything wrong: drop the connection.
 * Source: own design. */
#ifndef GW_BASE_FRAME_H
#define GW_BASE_FRAME_H

#include <stdint.h>

#include "base/err.h"

struct evbuffer; /* <event2/buffer.h>; only named here, so that sans-I/O code may include this header */

#define GW_FRAME_HEAD_BYTES  36
#define GW_FRAME_PAYLOAD_MAX (16u << 20)

struct gw_frame {
    uint16_t type;
    uint32_t len;
    uint64_t term;
    uint32_t pipeline;
    uint64_t generation;
    const uint8_t *payload; /* len bytes */
};

/* Looks for one whole frame at the front of in. *ready says whether there is one; it stays in the buffer
 * until gw_frame_drop. GW_ERR_PROTO as soon as the head shows that it can never be good. */
gw_err_t gw_frame_take(struct evbuffer *in, uint32_t max_payload, struct gw_frame *out, bool *ready,
                       struct gw_err_ctx *ctx) GW_MUST_USE;

/* Removes the frame that gw_frame_take showed. */
void gw_frame_drop(struct evbuffer *in, const struct gw_frame *frame);

/* Appends one frame whole, or nothing: GW_ERR_LIMIT beyond GW_FRAME_PAYLOAD_MAX, GW_ERR_MEMORY.
 * frame->payload is copied. */
gw_err_t gw_frame_put(struct evbuffer *out, const struct gw_frame *frame) GW_MUST_USE;

#endif
