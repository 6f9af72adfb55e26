/* Cell part: what a part of the weights consists of, and how it is made of the model's files.
 *
 * A part is what is loaded and dropped at once (cell_store.h has the table of them). It has a number, the same at all workers of
 * one model: per layer group norms, shares, KV heads; then the final norm, and the shares' rows of the head. Whoever
 * makes one fills a part of his own.
 *
 * Owner: cell_part_drop frees; packers are caller memory. Thread: a packer and a part, one at a time; the rest any. Units:
 * bytes. Errors: GW_ERR_MEMORY; on error *out is unchanged. Source: own design; DESIGN part 2. */
#ifndef GW_WORKER_CELL_PART_H
#define GW_WORKER_CELL_PART_H

#include "kernels/device_memory.h"
#include "worker/cell_store.h"

enum cell_kind { CELL_NORMS, CELL_FINAL, CELL_SHARE, CELL_KV, CELL_HEAD };

struct cell_part {
    struct gw_memory sides; /* its memory, for operations and for who it came from or goes to */
    void *memory;           /* the host's side; NULL: not here */
    size_t bytes;
    struct gw_weight *matrices; /* in the device's side */
    float *vectors;             /* norms and biases, behind them: the host's side */
    uint64_t *sums; /* of its pieces (migrate/cell_codec.h); 0: not known yet. NULL: nobody has asked */
    /* the table's: */
    uint32_t refs, pins;
    bool unwanted; /* trimmed while it was pinned */
};

/* Makes parts of the model's files, one thread at a time. */
struct cell_packer {
    const struct gw_model *model;
    const struct gw_ops *ops;
    struct gw_device *device;
    uint8_t *stage; /* room for the largest matrix that is put together before packing */
};

/* Asked before each matrix; so many bytes are there. */
struct cell_while {
    bool (*ask)(void *arg, uint64_t bytes);
    void *arg;
};

gw_err_t cell_packer_init(struct cell_packer *packer, const struct gw_model *model, const struct gw_ops *ops,
                          struct gw_device *device) GW_MUST_USE;
void cell_packer_fini(struct cell_packer *packer);

/* How many numbers there are; that of a part, of those of its kind in the group; of the nth part of r, from 0 on: false when
 * there are no more. */
uint32_t cell_parts_of(const struct gw_cells *cells);
uint32_t cell_number(const struct gw_cells *cells, enum cell_kind kind, uint32_t group, uint32_t index);
bool cell_nth(const struct gw_cells *cells, struct gw_cell_rect r, uint32_t n, uint32_t *number);

uint64_t cell_part_bytes(const struct cell_packer *packer, uint32_t number);

/* Memory for a part, and its matrices' places in it. */
gw_err_t cell_part_open(const struct cell_packer *packer, uint32_t number, struct cell_part *out,
                        struct gw_err_ctx *ctx) GW_MUST_USE;
/* Fills the host's side from the files; false: goes_on (NULL: always) said no, it is not whole. */
bool cell_part_fill(const struct cell_packer *packer, uint32_t number, struct cell_part *part,
                    const struct cell_while *goes_on);
/* The host's side is whole: operations see it from now on. */
void cell_part_push(struct cell_part *part);
void cell_part_drop(struct cell_part *part);

#endif
