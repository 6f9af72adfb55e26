#include "controller/capacity_intent.h"

#include <string.h>

#define TYPE    67
#define VERSION 1

void gw_capacity_intent_put(struct gw_buf *b, const struct gw_capacity_action *intent)
{
    gw_buf_u8(b, TYPE);
    gw_buf_u8(b, VERSION);
    gw_buf_u8(b, (uint8_t)intent->group);
    gw_buf_u64(b, intent->term);
    gw_buf_u32(b, intent->desired);
    gw_buf_bytes(b, intent->instance, strlen(intent->instance));
}

bool gw_capacity_intent_is(const void *piece, size_t len)
{
    return len > 0 && *(const uint8_t *)piece == TYPE;
}

gw_err_t gw_capacity_intent_get(const void *piece, size_t len, struct gw_capacity_action *out)
{
    struct gw_reader r;
    struct gw_capacity_action a = {0};
    const uint8_t *instance = NULL;
    gw_reader_init(&r, piece, len);
    uint8_t type = gw_read_u8(&r), version = gw_read_u8(&r), group = gw_read_u8(&r);
    a.term = gw_read_u64(&r);
    a.desired = gw_read_u32(&r);
    size_t instance_len = gw_read_bytes(&r, sizeof a.instance - 1, &instance);
    if (r.err != GW_OK || r.pos != len || type != TYPE || version != VERSION || group >= GW_CAPACITY_GROUPS ||
        (instance_len && memchr(instance, '\0', instance_len)))
        return GW_ERR_PROTO;
    a.group = (enum gw_capacity_group)group;
    if (instance_len) memcpy(a.instance, instance, instance_len);
    a.type = instance_len ? GW_CAPACITY_DELETE : GW_CAPACITY_SET_DESIRED;
    *out = a;
    return GW_OK;
}
