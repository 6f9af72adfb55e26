#include "controller/handover_wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_BYTES 64 /* payloads of our own types, PROFILE's included */

_Static_assert(SMALL_BYTES >= GW_WIRE_NAME_MAX, "a profile fits");

static void put_payload(const struct gw_handover_msg *m, struct gw_buf *b)
{
    if (m->type == GW_HANDOVER_PROFILE) gw_buf_put(b, m->profile, strlen(m->profile));
    if (m->type == GW_HANDOVER_PROFILE || m->type == GW_HANDOVER_GO) return;
    gw_buf_u64(b, m->request);
    if (m->type == GW_HANDOVER_DONE) return;
    gw_buf_u32(b, m->branch);
    if (m->type == GW_HANDOVER_FINISH) gw_buf_u8(b, (uint8_t)m->reason);
    if (m->type == GW_HANDOVER_STOP) gw_buf_u32(b, m->keep);
}

gw_err_t gw_handover_put(struct evbuffer *out, const struct gw_handover_msg *m)
{
    struct gw_buf b;
    if (m->type == GW_HANDOVER_WIRE) return gw_msg_put(&m->wire, out);
    gw_buf_init(&b, SMALL_BYTES);
    put_payload(m, &b);
    const struct gw_frame frame = {.type = (uint16_t)m->type, .len = (uint32_t)b.len, .payload = b.data};
    gw_err_t err = b.err == GW_OK ? gw_frame_put(out, &frame) : b.err;
    gw_buf_fini(&b);
    return err;
}

gw_err_t gw_handover_put_request(struct evbuffer *out, const struct gw_request *request,
                                 const struct gw_core_restored *branches, const char *profile)
{
    struct gw_handover_msg m = {.type = GW_HANDOVER_PROFILE};
    struct gw_branch_log *logs = calloc(request->n, sizeof *logs);
    if (!logs) return GW_ERR_MEMORY;
    snprintf(m.profile, sizeof m.profile, "%s", profile);
    gw_err_t err = gw_handover_put(out, &m);
    for (uint32_t i = 0; branches && i < request->n; i++)
        logs[i] = (struct gw_branch_log){branches[i].tokens.count, branches[i].done, branches[i].tokens.ids};
    const struct gw_msg wire = {.type = GW_MSG_SUBMIT,
                                .submit = {.attempt = 1, .request = *request, .logs = logs}};
    if (err == GW_OK) err = gw_msg_put(&wire, out);
    free(logs);
    return err;
}

static gw_err_t get_payload(const struct gw_frame *frame, struct gw_handover_msg *m)
{
    struct gw_reader r;
    gw_reader_init(&r, frame->payload, frame->len);
    if (m->type == GW_HANDOVER_PROFILE) {
        const uint8_t *text = gw_read_raw(&r, frame->len <= GW_WIRE_NAME_MAX ? frame->len : SIZE_MAX);
        if (r.err != GW_OK || memchr(text, '\0', frame->len)) return GW_ERR_PROTO;
        memcpy(m->profile, text, frame->len);
        return GW_OK;
    }
    if (m->type == GW_HANDOVER_GO) return gw_reader_finish(&r);
    m->request = gw_read_u64(&r);
    if (m->type != GW_HANDOVER_DONE) m->branch = gw_read_u32(&r);
    if (m->type == GW_HANDOVER_FINISH) m->reason = (enum gw_finish)gw_read_u8(&r);
    if (m->type == GW_HANDOVER_STOP) m->keep = gw_read_u32(&r);
    bool ends = m->reason == GW_FINISH_STOP || m->reason == GW_FINISH_LENGTH;
    if (m->type == GW_HANDOVER_FINISH && !ends) return GW_ERR_PROTO;
    return gw_reader_finish(&r);
}

static gw_err_t get_frame(const struct gw_frame *frame, struct gw_handover_msg *m, struct gw_err_ctx *ctx)
{
    *m = (struct gw_handover_msg){.type = (enum gw_handover_type)frame->type};
    if (frame->type >= GW_HANDOVER_PROFILE && frame->type <= GW_HANDOVER_STOP) return get_payload(frame, m);
    m->type = GW_HANDOVER_WIRE;
    TRY(gw_msg_decode(frame, &m->wire, ctx));
    switch (m->wire.type) {
    case GW_MSG_SUBMIT:
    case GW_MSG_TOKENS:
    case GW_MSG_CANCEL:
    case GW_MSG_REJECT: return GW_OK;
    default: gw_msg_fini(&m->wire); return GW_ERR_PROTO;
    }
}

gw_err_t gw_handover_get(struct evbuffer *in, struct gw_handover_msg *out, bool *ready,
                         struct gw_err_ctx *ctx)
{
    struct gw_frame frame;
    TRY(gw_frame_take(in, GW_FRAME_PAYLOAD_MAX, &frame, ready, ctx));
    if (!*ready) return GW_OK;
    gw_err_t err = get_frame(&frame, out, ctx);
    if (err != GW_OK) return gw_fail(ctx, err, "hand-over: a message of type %u cannot be", frame.type);
    gw_frame_drop(in, &frame);
    return GW_OK;
}

void gw_handover_msg_fini(struct gw_handover_msg *m)
{
    if (m->type == GW_HANDOVER_WIRE) gw_msg_fini(&m->wire);
}
