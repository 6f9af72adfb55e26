/* Price file: what instances cost, as the operator says, for clouds that do not tell.
 *
 *     {"prices": [{"market": "spot", "type": "g2-standard-8", "zone": "europe-west4-a", "usd_h": 0.38},
 *                 {"market": "on-demand", "usd_h": 0.85}]}
 *
 * Without type or zone a row is for all of them. Of the rows that fit an instance, one with its type goes before one with its
 * zone, one with both before either; of equals the first. An instance whose type its cloud does not tell (GCP) fits rows of every
 * type. Other fields are ignored.
 *
 * Owner: gw_price_file_fini frees the rows. Thread: any; read blocks on the disk. Units: USD per hour.
 * Errors: those of the file; GW_ERR_PROTO with a text that names the row; *out is unchanged then. Source: own design. */
#ifndef GW_CONTROLLER_PRICE_FILE_H
#define GW_CONTROLLER_PRICE_FILE_H

#include <stddef.h>

#include "base/err.h"

#define GW_PRICE_FILE_BYTES_MAX (256u << 10)
#define GW_PRICE_ROWS_MAX       1024
#define GW_PRICE_NAME_MAX       64 /* of a type or zone, NUL included */

struct gw_price_row {
    bool spot;
    char type[GW_PRICE_NAME_MAX], zone[GW_PRICE_NAME_MAX]; /* "": all */
    double usd_h;
};

struct gw_price_file {
    struct gw_price_row *rows; /* [len] */
    size_t len;
};

gw_err_t gw_price_file_read(const char *path, struct gw_price_file *out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_price_file_fini(struct gw_price_file *file);

/* False: no row fits, *usd_h is unchanged. */
bool gw_price_file_find(const struct gw_price_file *file, bool spot, const char *type, const char *zone,
                        double *usd_h);

#endif
