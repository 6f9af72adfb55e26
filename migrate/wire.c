#include "migrate/wire_internal.h"

#include <string.h>

/* One row per message type. */
struct codec {
    const char *name;
    void (*put)(const struct gw_msg *m, struct gw_buf *b);
    gw_err_t (*get)(struct gw_reader *r, struct gw_msg *m);
    void (*fini)(struct gw_msg *m); /* NULL: owns nothing */
};

static const struct codec codecs[] = {
    [GW_MSG_CHALLENGE] = {"CHALLENGE", wire_put_challenge, wire_get_challenge, NULL},
    [GW_MSG_HELLO] = {"HELLO", wire_put_hello, wire_get_hello, NULL},
    [GW_MSG_WELCOME] = {"WELCOME", wire_put_welcome, wire_get_welcome, NULL},
    [GW_MSG_REFUSE] = {"REFUSE", wire_put_refuse, wire_get_refuse, NULL},
    [GW_MSG_SUBMIT] = {"SUBMIT", wire_put_submit, wire_get_submit, wire_fini_submit},
    [GW_MSG_CANCEL] = {"CANCEL", wire_put_cancel, wire_get_cancel, NULL},
    [GW_MSG_TOKENS] = {"TOKENS", wire_put_tokens, wire_get_tokens, wire_fini_tokens},
    [GW_MSG_REJECT] = {"REJECT", wire_put_reject, wire_get_reject, NULL},
    [GW_MSG_HEARTBEAT] = {"HEARTBEAT", wire_put_heartbeat, wire_get_heartbeat, NULL},
    [GW_MSG_PING] = {"PING", wire_put_ping, wire_get_ping, NULL},
    [GW_MSG_NOTICE] = {"NOTICE", wire_put_notice, wire_get_notice, NULL},
    [GW_MSG_CUTOVER] = {"CUTOVER", wire_put_cutover, wire_get_cutover, wire_fini_cutover},
    [GW_MSG_HANDOFF] = {"HANDOFF", wire_put_handoff, wire_get_handoff, wire_fini_handoff},
    [GW_MSG_GOODBYE] = {"GOODBYE", wire_put_goodbye, wire_get_goodbye, NULL},
    [GW_MSG_ASSIGN] = {"ASSIGN", wire_put_assign, wire_get_assign, wire_fini_assign},
    [GW_MSG_READY] = {"READY", wire_put_ready, wire_get_ready, NULL},
    [GW_MSG_START] = {"START", wire_put_nothing, wire_get_nothing, NULL},
    [GW_MSG_RELEASE] = {"RELEASE", wire_put_nothing, wire_get_nothing, NULL},
    [GW_MSG_BROKEN] = {"BROKEN", wire_put_broken, wire_get_broken, NULL},
    [GW_MSG_WARM] = {"WARM", wire_put_submit, wire_get_submit, wire_fini_submit},
    [GW_MSG_WARMED] = {"WARMED", wire_put_warmed, wire_get_warmed, NULL},
    [GW_MSG_ORIGIN] = {"ORIGIN", wire_put_origin, wire_get_origin, NULL},
    [GW_MSG_STORES] = {"STORES", wire_put_stores, wire_get_stores, wire_fini_stores},
    [GW_MSG_ZONES] = {"ZONES", wire_put_zones, wire_get_zones, wire_fini_zones},
    [GW_MSG_RESYNC] = {"RESYNC", wire_put_resync, wire_get_resync, wire_fini_resync},
};

/* NULL for numbers that are no type. */
static const struct codec *codec_of(unsigned type)
{
    if (type >= sizeof codecs / sizeof codecs[0] || !codecs[type].name) return NULL;
    return &codecs[type];
}

const char *gw_msg_name(unsigned type)
{
    const struct codec *codec = codec_of(type);
    return codec ? codec->name : "?";
}

void gw_msg_encode(const struct gw_msg *msg, struct gw_buf *b)
{
    const struct codec *codec = codec_of(msg->type);
    if (codec)
        codec->put(msg, b);
    else
        b->err = GW_ERR_INTERNAL;
}

gw_err_t gw_msg_put(const struct gw_msg *msg, struct evbuffer *out)
{
    struct gw_buf payload;
    gw_buf_init(&payload, GW_FRAME_PAYLOAD_MAX);
    gw_msg_encode(msg, &payload);
    gw_err_t err = payload.err;
    if (err == GW_OK) {
        struct gw_frame frame = {.type = (uint16_t)msg->type,
                                 .len = (uint32_t)payload.len,
                                 .term = msg->term,
                                 .pipeline = msg->pipeline,
                                 .generation = msg->generation,
                                 .payload = payload.data};
        err = gw_frame_put(out, &frame);
    }
    gw_buf_fini(&payload);
    return err;
}

gw_err_t gw_msg_decode(const struct gw_frame *frame, struct gw_msg *msg, struct gw_err_ctx *ctx)
{
    const struct codec *codec = codec_of(frame->type);
    if (!codec) return gw_fail(ctx, GW_ERR_PROTO, "no message has type %u", frame->type);
    struct gw_reader r;
    struct gw_msg m = {.type = frame->type,
                       .term = frame->term,
                       .pipeline = frame->pipeline,
                       .generation = frame->generation};
    gw_reader_init(&r, frame->payload, frame->len);
    gw_err_t err = codec->get(&r, &m);
    /* Fields read behind the end are zeros, which may look wrong in their own way: missing bytes come first.
     */
    if (r.err != GW_OK) err = r.err;
    if (err == GW_OK) err = gw_reader_finish(&r);
    if (err != GW_OK) {
        gw_msg_fini(&m);
        return gw_fail(ctx, err, "%s: %s", codec->name,
                       err == GW_ERR_MEMORY ? "out of memory" : "malformed message");
    }
    *msg = m;
    return GW_OK;
}

void gw_msg_fini(struct gw_msg *msg)
{
    const struct codec *codec = codec_of(msg->type);
    if (codec && codec->fini) codec->fini(msg);
    memset(msg, 0, sizeof *msg);
}
