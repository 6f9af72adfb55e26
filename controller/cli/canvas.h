/* Canvas: characters and boxes on a grid, printed as UTF-8 or ASCII, with or without colours.
 *
 * Lines are kept as the directions in which they leave a cell, so boxes that touch join by themselves:
 *
 *     ┌────┬───┐        +----+---+
 *     │ w0 │ w1│        | w0 | w1|
 *     ├────┴───┤        +----+---+
 *
 * What lies outside the width is cut off; rows are added as they are needed, CANVAS_ROWS_MAX at most.
 *
 * Owner: canvas_fini frees. Thread: one. Units: columns, rows, from 0 on. Errors: memory that is lacking is sticky (`err`)
 * and draws nothing. Source: own design; Unicode box drawing U+2500. */
#ifndef GW_CONTROLLER_CLI_CANVAS_H
#define GW_CONTROLLER_CLI_CANVAS_H

#include <stdint.h>

#include "base/buf.h"

#define CANVAS_ROWS_MAX    4096
#define CANVAS_COLUMNS_MAX 512

enum canvas_style {
    CANVAS_PLAIN,
    CANVAS_BOLD,
    CANVAS_DIM,
    CANVAS_GREEN,
    CANVAS_YELLOW,
    CANVAS_RED,
    CANVAS_CYAN
};

struct canvas_cell {
    uint32_t character; /* 0: none */
    uint8_t lines;      /* directions */
    uint8_t style;
};

struct canvas {
    uint32_t columns, rows;
    struct canvas_cell *cells; /* [rows][columns] */
    gw_err_t err;
};

void canvas_init(struct canvas *c, uint32_t columns);
void canvas_fini(struct canvas *c);

/* Text from (x, y) to the right, at most `room` columns (a last one that was cut is "…"). UTF-8 of one column per character;
 * malformed bytes and control characters become '?'. Returns the columns that it took. */
uint32_t canvas_text(struct canvas *c, uint32_t x, uint32_t y, uint32_t room, enum canvas_style style,
                     const char *text);
/* printf; cut at the canvas' edge and at 512 bytes. */
uint32_t canvas_printf(struct canvas *c, uint32_t x, uint32_t y, enum canvas_style style, const char *fmt,
                       ...) __attribute__((format(printf, 5, 6)));

/* A rectangle whose corners are (x, y) and (x + w, y + h). */
void canvas_box(struct canvas *c, uint32_t x, uint32_t y, uint32_t w, uint32_t h, enum canvas_style style);

struct canvas_print {
    bool utf8, colours;
    const char *line_end; /* "\n", or with escapes for a screen that is drawn over */
    uint32_t rows;        /* at most so many; 0: all */
};

void canvas_put(const struct canvas *c, const struct canvas_print *how, struct gw_buf *b);

#endif
