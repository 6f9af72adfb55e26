#include "kernels/cuda/nccl_end.h"

#include <stdlib.h>

#include "base/thread.h"

gw_err_t gw_nccl_look(struct gw_coll_device *d, void *asked, bool *done, struct gw_err_ctx *ctx)
{
    (void)d;
    const struct gw_nccl_asked *a = asked;
    enum gw_nccl_result state = GW_NCCL_SUCCESS;
    enum gw_nccl_result result = a->nccl->comm_get_async_error(a->comm, &state);
    if (result != GW_NCCL_SUCCESS)
        return gw_nccl_fail(a->nccl, a->comm, result, "ncclCommGetAsyncError", ctx);
    if (state != GW_NCCL_SUCCESS && state != GW_NCCL_IN_PROGRESS)
        return gw_nccl_fail(a->nccl, a->comm, state, a->what, ctx);
    *done = state == GW_NCCL_SUCCESS;
    return GW_OK;
}

static bool comes_to_rest(struct gw_coll_device *d, const struct gw_nccl *nccl, struct gw_nccl_comm *comm,
                          enum gw_nccl_result result)
{
    struct gw_nccl_asked asked = {.nccl = nccl, .comm = comm, .what = "the end"};
    if (result != GW_NCCL_SUCCESS && result != GW_NCCL_IN_PROGRESS) return false;
    return gw_coll_device_await_end(d, gw_nccl_look, &asked);
}

bool gw_nccl_end_in_peace(struct gw_coll_device *d, const struct gw_nccl *nccl, struct gw_nccl_comm *comm)
{
    if (!comes_to_rest(d, nccl, comm, nccl->comm_finalize(comm))) return gw_nccl_end_by_force(d, nccl, comm);
    return nccl->comm_destroy(comm) == GW_NCCL_SUCCESS;
}

/* What the thread that aborts takes with it; it frees it. */
struct aborting {
    enum gw_nccl_result (*comm_abort)(struct gw_nccl_comm *comm);
    struct gw_nccl_comm *comm;
};

static void *abort_main(void *arg)
{
    struct aborting *a = arg;
    (void)a->comm_abort(a->comm);
    free(a);
    return NULL;
}

static gw_err_t look_ended(struct gw_coll_device *d, void *thread, bool *done, struct gw_err_ctx *ctx)
{
    (void)d, (void)ctx;
    *done = pthread_tryjoin_np(*(pthread_t *)thread, NULL) == 0;
    return GW_OK;
}

bool gw_nccl_end_by_force(struct gw_coll_device *d, const struct gw_nccl *nccl, struct gw_nccl_comm *comm)
{
    /* Revoke ends the work and keeps the communicator whole, so that the abort finds it at rest. It is an attempt: the abort
     * alone must do, too. */
    if (nccl->comm_revoke) (void)comes_to_rest(d, nccl, comm, nccl->comm_revoke(comm, 0));
    struct aborting *a = malloc(sizeof *a);
    if (!a) return false;
    *a = (struct aborting){.comm_abort = nccl->comm_abort, .comm = comm};
    pthread_t thread;
    if (gw_thread_start(&thread, 0, abort_main, a, NULL) != GW_OK) {
        free(a);
        return false;
    }
    if (gw_coll_device_await_end(d, look_ended, &thread)) return true;
    pthread_detach(thread);
    return false;
}
