/* The sockets to the other ranks of a pipeline: frames out, frames in, and the waits.
 *
 * Sends and wants (gw_coll_tcp_send, gw_coll_tcp_want) start; gw_coll_tcp_finish waits until all that was started is
 * done. Whatever it waits for, every wait reads from all sockets and writes what is pending to all of them, so ranks that
 * send to each other never block one another. A rank that is waited for is one with a want, a frame that is waited for,
 * or bytes of ours that it has not taken; it fails the wait when it closes its socket, or when no byte has moved between
 * it and this rank for deadline_us. Other ranks that close fail gw_coll_tcp_frame alone: nothing else is missed from them.
 *
 * Waits read the sockets of these ranks for some time, yielding the core in between, then sleep in poll; not while a TLS
 * session holds bytes that poll does not see.
 *
 * Owner: gw_coll_tcp_destroy frees it and closes the sockets. Thread: one at a time; abort and wake: any. Units: bytes,
 * us. Errors: GW_ERR_IO (closed, slow, aborted), GW_ERR_PROTO and GW_ERR_LIMIT (coll_in.h), GW_ERR_MEMORY; the text names
 * the rank. No use but abort, wake and destroy after one. Source: own design. */
#ifndef GW_KERNELS_CPU_COLL_TCP_H
#define GW_KERNELS_CPU_COLL_TCP_H

#include "kernels/cpu/coll_frame.h"
#include <sys/uio.h>

struct gw_coll_tcp;

/* Takes over config->sockets[ranks], also on error; *out is then unchanged. */
gw_err_t gw_coll_tcp_create(const struct gw_coll_config *config, struct gw_coll_tcp **out,
                            struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_coll_tcp_destroy(struct gw_coll_tcp *tcp);

/* Starts to send a frame whose payload lies in pieces (GW_COLL_PIECES_MAX at most); they may not change until
 * gw_coll_tcp_finish or gw_coll_tcp_let_go returns. One at a time per rank. */
gw_err_t gw_coll_tcp_send(struct gw_coll_tcp *tcp, uint32_t rank, const struct gw_coll_head *head,
                          const struct iovec *pieces, uint32_t pieces_len,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

/* Asks for the next DATA frame from rank, as gw_coll_in_want. bytes > 0. */
gw_err_t gw_coll_tcp_want(struct gw_coll_tcp *tcp, uint32_t rank, void *to, size_t bytes, uint64_t step,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

/* Waits until all wants are there and all frames are written. */
gw_err_t gw_coll_tcp_finish(struct gw_coll_tcp *tcp, struct gw_err_ctx *ctx) GW_MUST_USE;

/* The same, and until the sockets have taken all that was copied. */
gw_err_t gw_coll_tcp_flush(struct gw_coll_tcp *tcp, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Writes the frame to rank for as long as the rank reads, then copies what is left: the memory is free. */
gw_err_t gw_coll_tcp_let_go(struct gw_coll_tcp *tcp, uint32_t rank, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Reads and writes once where that can be without waiting. *moved: there were bytes. */
gw_err_t gw_coll_tcp_turn(struct gw_coll_tcp *tcp, bool *moved, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Has rank closed its socket? As far as the turns have seen. */
bool gw_coll_tcp_closed(const struct gw_coll_tcp *tcp, uint32_t rank);
/* Are there copied bytes that no socket has taken yet? */
bool gw_coll_tcp_backlogged(const struct gw_coll_tcp *tcp);

/* Waits until until_us for a whole frame of that kind: its head, *there = true. *there = false: the time is over or
 * gw_coll_tcp_wake was called. Fails when any rank closes. until_us 0: deadline_us from now, an error then. */
gw_err_t gw_coll_tcp_frame(struct gw_coll_tcp *tcp, uint32_t rank, uint8_t kind, int64_t until_us,
                           bool *there, struct gw_coll_head *head, struct gw_err_ctx *ctx) GW_MUST_USE;
/* Copies the payload of the frame that is there, of exactly so many bytes (GW_ERR_PROTO). */
gw_err_t gw_coll_tcp_take(struct gw_coll_tcp *tcp, uint32_t rank, uint8_t kind, void *to, size_t bytes,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

void gw_coll_tcp_wake(struct gw_coll_tcp *tcp);
void gw_coll_tcp_abort(struct gw_coll_tcp *tcp);
bool gw_coll_tcp_aborted(const struct gw_coll_tcp *tcp);

#endif
