/* Cell store, inside: its parts, as those see them that load them (cell_load.c) and give them to others (cell_source.c).
 *
 * A part has a number: its place in the table, the same at all workers of one model. Whoever loads one fills a part of his
 * own, which nobody sees until it is put into the table, whole.
 *
 *     refs  of pipelines here: it stays
 *     pins  of peers that it is being sent to: its memory stays; what was trimmed meanwhile goes with the last pin */
#ifndef GW_WORKER_CELL_STORE_INTERNAL_H
#define GW_WORKER_CELL_STORE_INTERNAL_H

#include <pthread.h>

#include "worker/cell_store.h"

struct cell_part {
    void *memory; /* NULL: not here */
    size_t bytes;
    uint32_t refs, pins;
    bool unwanted; /* trimmed while it was pinned */
    struct gw_weight *matrices;
    float *vectors; /* norms and biases, behind them */
    uint64_t
        *sums; /* of its pieces (migrate/cell_codec.h), 0: not known yet; NULL: nobody has asked for any */
};

/* Makes parts of the model's files, one thread at a time. */
struct cell_packer {
    const struct gw_model *model;
    const struct gw_ops *ops;
    uint8_t *stage; /* room for the largest matrix that is put together before packing */
};

struct gw_cell_store {
    struct cell_packer packer; /* of who acquires */
    pthread_mutex_t lock;      /* guards parts; what a counted or pinned one points to stays */
    uint32_t parts_len;
    struct cell_part parts[];
};

/* Asked before each matrix; so many bytes are there. */
struct cell_while {
    bool (*ask)(void *arg, uint64_t bytes);
    void *arg;
};

gw_err_t cell_packer_init(struct cell_packer *packer, const struct gw_model *model,
                          const struct gw_ops *ops) GW_MUST_USE;
void cell_packer_fini(struct cell_packer *packer);

/* The nth part of r, from 0 on; false when there are no more. */
bool cell_nth_part(const struct gw_cell_store *store, struct gw_cell_rect r, uint32_t n, uint32_t *number);
uint64_t cell_part_bytes(const struct gw_cell_store *store, uint32_t number);

/* Memory for a part, and its matrices' places in it. */
gw_err_t cell_part_open(const struct gw_cell_store *store, uint32_t number, struct cell_part *out,
                        struct gw_err_ctx *ctx) GW_MUST_USE;
/* Fills it from the files; false: goes_on (NULL: always) said no, it is not whole. */
bool cell_part_fill(const struct cell_packer *packer, uint32_t number, struct cell_part *part,
                    const struct cell_while *goes_on);
void cell_part_drop(struct cell_part *part);

/* Is it here? */
bool cell_store_has(struct gw_cell_store *store, uint32_t number);
/* Takes a whole part over: everybody sees it from now on. */
void cell_store_put(struct gw_cell_store *store, uint32_t number, struct cell_part *part);

#endif
