/* A device made of threads: kernels/cuda/stream.h's table on the host, for tests of what is built on it.
 *
 * A stream is a thread that does its work in order. "Device" and "pinned" memory are registered: a copy that names any other
 * memory, or more of it than there is, aborts the test, as does giving back what is still in use. New memory is poisoned with
 * NaNs. Faults: the nth call of any kind fails; a stream stands still until it is told to go on. */
#ifndef GW_TESTS_LIB_HOST_STREAM_H
#define GW_TESTS_LIB_HOST_STREAM_H

#include <stdatomic.h>

#include "kernels/cuda/stream.h"

#define HOST_STREAM_TASKS 2048

/* How a stand-in for a library puts its work on a stream that it knows by its address alone: it is the first of the stream's
 * members. `run` gets memory of its own, which it frees. */
struct host_stream_entry {
    void (*enqueue)(struct gw_stream *stream, void (*run)(void *arg), void *arg);
};

struct host_device {
    struct gw_stream *stream;
    _Atomic uint32_t calls; /* of the table, so far */
    uint32_t fail_at;       /* this call fails, counted from 1; 0: none */
    _Atomic bool still;     /* the stream stands still */
    struct host_memory *memory;
    uint32_t memory_len; /* pieces that are not given back */
};

extern const struct gw_stream_ops host_stream_ops; /* self: struct host_device */

void host_device_open(struct host_device *device);
/* Ends the stream and frees all memory. Returns how many pieces had not been given back. */
uint32_t host_device_close(struct host_device *device);

#endif
