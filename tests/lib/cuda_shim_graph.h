/* Capture on the host shim: what a thread puts on its stream while it records is not done, but kept, arguments and all, and can
 * be done again and again. As in CUDA, a kernel's arguments are those of its recording, and what a copy copies is what
 * lies at its source when the graph is done.
 *
 * Owner: gw_shim_graph_free. Thread: recording is each thread's own. Errors: gw_shim_replay returns false, with gw_shim_error()'s
 * text, at the first launch that fails. Source: own design. */
#ifndef GW_TESTS_LIB_CUDA_SHIM_GRAPH_H
#define GW_TESTS_LIB_CUDA_SHIM_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gw_shim_graph;

bool gw_shim_is_recording(void);
void gw_shim_record_begin(void);
struct gw_shim_graph *gw_shim_record_end(void);
bool gw_shim_replay(const struct gw_shim_graph *graph);
void gw_shim_graph_free(struct gw_shim_graph *graph);
/* What is in it: launches, copies and the like. */
uint32_t gw_shim_graph_len(const struct gw_shim_graph *graph);

/* run(arg) now; or, of a thread that records, of a copy of arg's bytes whenever the graph is done. */
void gw_shim_do(void (*run)(const void *arg), const void *arg, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
