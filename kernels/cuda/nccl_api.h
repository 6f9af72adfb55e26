/* NCCL, loaded when the program runs: what of it the collectives call, and nothing else.
 *
 * The types are those of nccl.h (NCCL 2.28.9; the same since 2.14, in which communicators that do not block came), so that
 * this builds where no header of NCCL or CUDA is. Of ncclConfig_t it is the part that 2.14 had: a library reads as much as
 * `size` says and takes its defaults for what came later than `version`.
 *
 *     call                                       wanted
 *     ────────────────────────────────────────   ─────────────────────────────────────
 *     ncclCommRevoke (2.28)                      taken where it is there
 *     ncclGetLastError (2.13)                    taken where it is there, for texts
 *     all others                                 gw_nccl_open fails without them
 *
 * Owner: gw_nccl_close gives the handle back; the library stays mapped, since threads of its own may still run. Thread:
 * any; a communicator one at a time, but comm_abort. Units: bytes. Errors: GW_ERR_NOT_FOUND (no library, or one without a
 * call that is wanted), GW_ERR_INPUT (too old). Source: nccl.h of NCCL 2.28.9 (declarations only). */
#ifndef GW_KERNELS_CUDA_NCCL_API_H
#define GW_KERNELS_CUDA_NCCL_API_H

#include "kernels/cuda/stream.h"

#define GW_NCCL_LIBRARY     "libnccl.so.2"
#define GW_NCCL_VERSION_MIN 21400 /* 2.14.0 */
#define GW_NCCL_ID_BYTES    128

struct gw_nccl_comm;

struct gw_nccl_id {
    char bytes[GW_NCCL_ID_BYTES];
};

enum gw_nccl_result {
    GW_NCCL_SUCCESS = 0,
    GW_NCCL_UNHANDLED_CUDA_ERROR,
    GW_NCCL_SYSTEM_ERROR,
    GW_NCCL_INTERNAL_ERROR,
    GW_NCCL_INVALID_ARGUMENT,
    GW_NCCL_INVALID_USAGE,
    GW_NCCL_REMOTE_ERROR,
    GW_NCCL_IN_PROGRESS,
};

enum gw_nccl_type { GW_NCCL_UINT8 = 1 };

#define GW_NCCL_CONFIG_MAGIC 0xcafebeefu

struct gw_nccl_config {
    size_t size;
    unsigned magic, version;
    int blocking;
};

struct gw_nccl {
    void *library;
    int version; /* 22809 = 2.28.9 */
    enum gw_nccl_result (*get_version)(int *version);
    enum gw_nccl_result (*get_unique_id)(struct gw_nccl_id *id);
    const char *(*get_error_string)(enum gw_nccl_result result);
    const char *(*get_last_error)(struct gw_nccl_comm *comm); /* NULL: not there */
    enum gw_nccl_result (*comm_init_rank_config)(struct gw_nccl_comm **comm, int ranks, struct gw_nccl_id id,
                                                 int rank, struct gw_nccl_config *config);
    enum gw_nccl_result (*comm_get_async_error)(struct gw_nccl_comm *comm, enum gw_nccl_result *state);
    enum gw_nccl_result (*comm_finalize)(struct gw_nccl_comm *comm);
    enum gw_nccl_result (*comm_destroy)(struct gw_nccl_comm *comm);
    enum gw_nccl_result (*comm_abort)(struct gw_nccl_comm *comm);
    enum gw_nccl_result (*comm_revoke)(struct gw_nccl_comm *comm, int flags); /* NULL: not there */
    enum gw_nccl_result (*all_gather)(const void *from, void *to, size_t count, enum gw_nccl_type type,
                                      struct gw_nccl_comm *comm, struct gw_stream *stream);
    enum gw_nccl_result (*send)(const void *from, size_t count, enum gw_nccl_type type, int peer,
                                struct gw_nccl_comm *comm, struct gw_stream *stream);
    enum gw_nccl_result (*recv)(void *to, size_t count, enum gw_nccl_type type, int peer,
                                struct gw_nccl_comm *comm, struct gw_stream *stream);
    enum gw_nccl_result (*group_start)(void);
    enum gw_nccl_result (*group_end)(void);
};

/* path NULL: GW_NCCL_LIBRARY, where the system looks for libraries. On error *out is unchanged. */
gw_err_t gw_nccl_open(const char *path, struct gw_nccl *out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_nccl_close(struct gw_nccl *nccl);

/* A new id, for one communicator: who forms a generation of ranks makes one and gives it to all of them. It is a
 * secret of theirs: who has it can join. */
gw_err_t gw_nccl_make_id(const struct gw_nccl *nccl, struct gw_nccl_id *id,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

/* What a failed call is to our callers: "what: NCCL's words". comm NULL: there is none yet. */
gw_err_t gw_nccl_fail(const struct gw_nccl *nccl, struct gw_nccl_comm *comm, enum gw_nccl_result result,
                      const char *what, struct gw_err_ctx *ctx);

#endif
