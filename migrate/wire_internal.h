/* The pieces that wire.c puts together: an encoder, a decoder and a destructor per message.
 *
 * put_ writes a payload (sticky error in the buffer). get_ reads one: short or excess bytes show in the
 * reader's sticky error, wrong values as a returned error; what was allocated until then is in the struct
 * and is freed by fini_.
 *
 * Owner: as in wire.h. Thread: plain functions. Units: bytes. Errors: GW_ERR_PROTO, GW_ERR_MEMORY.
 * Source: own design. */
#ifndef GW_MIGRATE_WIRE_INTERNAL_H
#define GW_MIGRATE_WIRE_INTERNAL_H

#include "migrate/wire.h"

/* wire_session.c: who is there */
void wire_put_challenge(const struct gw_msg *m, struct gw_buf *b);
void wire_put_hello(const struct gw_msg *m, struct gw_buf *b);
void wire_put_welcome(const struct gw_msg *m, struct gw_buf *b);
void wire_put_refuse(const struct gw_msg *m, struct gw_buf *b);
void wire_put_heartbeat(const struct gw_msg *m, struct gw_buf *b);
void wire_put_ping(const struct gw_msg *m, struct gw_buf *b);
void wire_put_notice(const struct gw_msg *m, struct gw_buf *b);
void wire_put_goodbye(const struct gw_msg *m, struct gw_buf *b);
gw_err_t wire_get_challenge(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_hello(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_welcome(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_refuse(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_heartbeat(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_ping(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_notice(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_goodbye(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;

/* wire_request.c: what is to be computed, and what was */
void wire_put_submit(const struct gw_msg *m, struct gw_buf *b);
void wire_put_cancel(const struct gw_msg *m, struct gw_buf *b);
void wire_put_tokens(const struct gw_msg *m, struct gw_buf *b);
void wire_put_reject(const struct gw_msg *m, struct gw_buf *b);
void wire_put_cutover(const struct gw_msg *m, struct gw_buf *b);
void wire_put_resync(const struct gw_msg *m, struct gw_buf *b);
void wire_put_handoff(const struct gw_msg *m, struct gw_buf *b);
void wire_put_warmed(const struct gw_msg *m, struct gw_buf *b);
void wire_put_origin(const struct gw_msg *m, struct gw_buf *b);
gw_err_t wire_get_submit(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_cancel(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_tokens(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_reject(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_cutover(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_resync(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_handoff(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_warmed(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_origin(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
void wire_fini_submit(struct gw_msg *m);
void wire_fini_tokens(struct gw_msg *m);
void wire_fini_cutover(struct gw_msg *m);
void wire_fini_resync(struct gw_msg *m);
void wire_fini_handoff(struct gw_msg *m);

/* wire_layout.c: who is which rank of what */
void wire_put_rect(struct gw_buf *b, struct gw_cell_rect rect);
struct gw_cell_rect wire_get_rect(struct gw_reader *r);
void wire_put_hello_layout(const struct gw_msg_hello *h, struct gw_buf *b);
void wire_get_hello_layout(struct gw_reader *r, struct gw_msg_hello *h);
void wire_put_assign(const struct gw_msg *m, struct gw_buf *b);
void wire_put_ready(const struct gw_msg *m, struct gw_buf *b);
void wire_put_broken(const struct gw_msg *m, struct gw_buf *b);
void wire_put_stores(const struct gw_msg *m, struct gw_buf *b);
void wire_put_zones(const struct gw_msg *m, struct gw_buf *b);
void wire_put_nothing(const struct gw_msg *m, struct gw_buf *b);
gw_err_t wire_get_assign(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_ready(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_broken(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_stores(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_zones(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
gw_err_t wire_get_nothing(struct gw_reader *r, struct gw_msg *m) GW_MUST_USE;
void wire_fini_assign(struct gw_msg *m);
void wire_fini_stores(struct gw_msg *m);
void wire_fini_zones(struct gw_msg *m);

/* Fields that a younger protocol has at a payload's end are there iff bytes are left. */
static inline bool wire_more(const struct gw_reader *r)
{
    return r->err == GW_OK && r->pos < r->len;
}

/* Names go into logs, JSON and tables: printable ASCII, at most GW_WIRE_NAME_MAX bytes. */
void wire_get_name(struct gw_reader *r, char out[GW_WIRE_NAME_MAX + 1], bool may_be_empty);
void wire_get_raw(struct gw_reader *r, uint8_t *out, size_t len);

/* Text of a fixed array: u32 length, bytes. Reading checks the length against max, refuses NUL and malformed
 * UTF-8, and ends with a NUL: out holds max + 1. */
void wire_put_text(struct gw_buf *b, const char *text, size_t max);
void wire_get_text(struct gw_reader *r, char *out, size_t max);

#endif
