/* A model whose pages are small: what tests of page pools share.
 *
 * Owner: constants. Thread: any. Units: as in worker/model_config.h and worker/cells.h. Errors: none. Source: own design. */
#ifndef GW_TESTS_SMALL_PAGES_H
#define GW_TESTS_SMALL_PAGES_H

#include "worker/cells.h"
#include "worker/model_config.h"

/* 2 KV heads, 2 layer groups of a layer. */
static const struct gw_model_config config = {.layers = 2,
                                              .hidden = 64,
                                              .heads = 8,
                                              .kv_heads = 2,
                                              .head_dim = 8,
                                              .intermediate = 64,
                                              .vocab = 64,
                                              .context = 256};
static const struct gw_cells cells = {.shares = 8,
                                      .group_layers = 1,
                                      .groups = 2,
                                      .layers = 2,
                                      .share_heads = 1,
                                      .kv_heads = 2,
                                      .query_group = 4};

#endif
