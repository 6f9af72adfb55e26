/* The end of an NCCL communicator, within a time: NCCL's own calls for it may block.
 *
 * Owner: the communicator is gone for the caller, whatever is returned. Thread: the communicator's; ncclCommAbort runs on one
 * of its own, which is left behind if it does not return. Units: none. Errors: false. Source: own design. */
#ifndef GW_KERNELS_CUDA_NCCL_END_H
#define GW_KERNELS_CUDA_NCCL_END_H

#include "kernels/cuda/coll_device_internal.h"
#include "kernels/cuda/nccl_api.h"

/* Nothing of it is under way any more, as far as this rank is concerned: waits until others have what they need from it. */
bool gw_nccl_end_in_peace(struct gw_coll_device *d, const struct gw_nccl *nccl, struct gw_nccl_comm *comm);

/* Cuts short what is under way. False: it is not known to have stopped. */
bool gw_nccl_end_by_force(struct gw_coll_device *d, const struct gw_nccl *nccl, struct gw_nccl_comm *comm);

/* A look (coll_device_internal.h) of struct gw_nccl_asked: is the communicator done with what it was told last? */
struct gw_nccl_asked {
    const struct gw_nccl *nccl;
    struct gw_nccl_comm *comm;
    const char *what;
};
gw_err_t gw_nccl_look(struct gw_coll_device *d, void *asked, bool *done, struct gw_err_ctx *ctx);

#endif
