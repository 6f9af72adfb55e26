/* A library that is loaded at run time, and the calls that are wanted of it, looked up into a table of the caller's.
 *
 *     static const char *const files[] = {"libfoo.so.2", "libfoo.so.1"};
 *     static const struct gw_dl_call calls[] = {{"fooOpen", offsetof(struct foo, open)}, …};
 *     gw_dl_open(&(struct gw_dl_library){.name = "Foo", …}, path, &foo, &handle, ctx)
 *
 * A library that was opened once stays mapped (RTLD_NODELETE): threads of its own may outlive its handle.
 *
 * Owner: the handle is the caller's, closed by dlclose; on failure nothing is open. Thread: any. Errors: GW_ERR_NOT_FOUND with
 * a text that names the library or the call. Source: own design; dlopen(3). */
#ifndef GW_BASE_DL_CALLS_H
#define GW_BASE_DL_CALLS_H

#include <stddef.h>

#include "base/err.h"

/* Where in the table a call's address goes. Pointers to functions are of one size and form, whatever they take. */
struct gw_dl_call {
    const char *name;
    size_t at;
    bool optional; /* NULL in the table where the library lacks it */
};

struct gw_dl_library {
    const char *name;         /* for texts: "cuBLASLt" */
    const char *const *files; /* tried in order */
    size_t files_len;
    const struct gw_dl_call *calls;
    size_t calls_len;
    const char *from; /* where one has it from, behind the name when it cannot be loaded; "" */
    const char *need; /* behind "FILE has no CALL", as ": X 2 or newer is needed"; "" */
};

/* `path`: this file alone, or NULL: the library's own. */
gw_err_t gw_dl_open(const struct gw_dl_library *l, const char *path, void *table, void **handle,
                    struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
