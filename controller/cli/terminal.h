/* The terminal: its size, its character set, and a screen of our own without echo.
 *
 * Owner: terminal_open's state is terminal_close's. Thread: main. Units: columns, rows. Errors: GW_ERR_INPUT when there is no
 * terminal. Source: ECMA-48 escapes that every terminal of the last thirty years knows. */
#ifndef GW_CONTROLLER_CLI_TERMINAL_H
#define GW_CONTROLLER_CLI_TERMINAL_H

#include <stdint.h>
#include <termios.h>

#include "base/err.h"

struct terminal_size {
    uint32_t columns, rows;
};

/* 80 × 24 where there is no terminal; there $COLUMNS counts. */
struct terminal_size terminal_size(int fd);

/* Says the locale UTF-8 ($LC_ALL, $LC_CTYPE, $LANG)? */
bool terminal_is_utf8(void);

struct terminal {
    struct termios before;
    bool open;
};

/* Keys come at once and are not shown; the alternate screen is drawn on, without a cursor. */
gw_err_t terminal_open(struct terminal *t, struct gw_err_ctx *ctx) GW_MUST_USE;
/* As it was before. */
void terminal_close(struct terminal *t);

#endif
