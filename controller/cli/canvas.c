#include "controller/cli/canvas.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { UP = 1, DOWN = 2, LEFT = 4, RIGHT = 8 };

#define TEXT_MAX 512
#define ELLIPSIS 0x2026u

void canvas_init(struct canvas *c, uint32_t columns)
{
    *c = (struct canvas){.columns = columns < CANVAS_COLUMNS_MAX ? columns : CANVAS_COLUMNS_MAX};
    if (c->columns == 0) c->columns = 1;
}

void canvas_fini(struct canvas *c)
{
    free(c->cells);
    *c = (struct canvas){0};
}

/* The cell, with rows added up to it; NULL: outside. */
static struct canvas_cell *cell_at(struct canvas *c, uint32_t x, uint32_t y)
{
    if (x >= c->columns || y >= CANVAS_ROWS_MAX || c->err != GW_OK) return NULL;
    if (y >= c->rows) {
        size_t old = (size_t)c->rows * c->columns, all = (size_t)(y + 1) * c->columns;
        struct canvas_cell *cells = realloc(c->cells, all * sizeof *cells);
        if (!cells) {
            c->err = GW_ERR_MEMORY;
            return NULL;
        }
        memset(cells + old, 0, (all - old) * sizeof *cells);
        c->cells = cells;
        c->rows = y + 1;
    }
    return &c->cells[(size_t)y * c->columns + x];
}

/* ---- drawing ---- */

/* One character of text; *at moves behind it. */
static uint32_t next_character(const char **at)
{
    const uint8_t *p = (const uint8_t *)*at;
    int len = gw_utf8_sequence(p, strlen(*at));
    static const uint8_t masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    if (len < 1 || (len == 1 && (*p < ' ' || *p == 0x7f))) {
        (*at)++;
        return '?';
    }
    uint32_t character = p[0] & masks[len];
    for (int i = 1; i < len; i++) character = character << 6 | (p[i] & 0x3f);
    *at += len;
    return character;
}

static void put_character(struct canvas *c, uint32_t x, uint32_t y, enum canvas_style style,
                          uint32_t character)
{
    struct canvas_cell *cell = cell_at(c, x, y);
    if (cell) *cell = (struct canvas_cell){.character = character, .style = (uint8_t)style};
}

uint32_t canvas_text(struct canvas *c, uint32_t x, uint32_t y, uint32_t room, enum canvas_style style,
                     const char *text)
{
    uint32_t n = 0;
    for (const char *at = text; *at && n < room; n++) put_character(c, x + n, y, style, next_character(&at));
    const char *rest = text;
    for (uint32_t i = 0; i < n; i++) (void)next_character(&rest);
    if (*rest && n) put_character(c, x + n - 1, y, style, ELLIPSIS);
    return n;
}

uint32_t canvas_printf(struct canvas *c, uint32_t x, uint32_t y, enum canvas_style style, const char *fmt,
                       ...)
{
    char text[TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return canvas_text(c, x, y, x < c->columns ? c->columns - x : 0, style, text);
}

static void add_lines(struct canvas *c, uint32_t x, uint32_t y, enum canvas_style style, int lines)
{
    struct canvas_cell *cell = cell_at(c, x, y);
    if (!cell) return;
    cell->character = 0;
    cell->lines |= (uint8_t)lines;
    cell->style = (uint8_t)style;
}

void canvas_box(struct canvas *c, uint32_t x, uint32_t y, uint32_t w, uint32_t h, enum canvas_style style)
{
    for (uint32_t i = 0; i <= w; i++) {
        int lines = (i > 0 ? LEFT : 0) | (i < w ? RIGHT : 0);
        add_lines(c, x + i, y, style, lines);
        add_lines(c, x + i, y + h, style, lines);
    }
    for (uint32_t i = 0; i <= h; i++) {
        int lines = (i > 0 ? UP : 0) | (i < h ? DOWN : 0);
        add_lines(c, x, y + i, style, lines);
        add_lines(c, x + w, y + i, style, lines);
    }
}

/* ---- printing ---- */

static void put_utf8(struct gw_buf *b, uint32_t character)
{
    if (character < 0x80) {
        gw_buf_u8(b, (uint8_t)character);
    } else if (character < 0x800) {
        gw_buf_u8(b, (uint8_t)(0xc0 | character >> 6));
        gw_buf_u8(b, (uint8_t)(0x80 | (character & 0x3f)));
    } else if (character < 0x10000) {
        gw_buf_u8(b, (uint8_t)(0xe0 | character >> 12));
        gw_buf_u8(b, (uint8_t)(0x80 | (character >> 6 & 0x3f)));
        gw_buf_u8(b, (uint8_t)(0x80 | (character & 0x3f)));
    } else {
        gw_buf_u8(b, (uint8_t)(0xf0 | character >> 18));
        gw_buf_u8(b, (uint8_t)(0x80 | (character >> 12 & 0x3f)));
        gw_buf_u8(b, (uint8_t)(0x80 | (character >> 6 & 0x3f)));
        gw_buf_u8(b, (uint8_t)(0x80 | (character & 0x3f)));
    }
}

/* By directions: right left down up, as bits. */
static uint32_t line_character(uint8_t lines, bool utf8)
{
    static const uint16_t drawing[16] = {' ',    0x2502, 0x2502, 0x2502, 0x2500, 0x2518, 0x2510, 0x2524,
                                         0x2500, 0x2514, 0x250c, 0x251c, 0x2500, 0x2534, 0x252c, 0x253c};
    if (utf8) return drawing[lines & 15];
    bool across = lines & (LEFT | RIGHT), along = lines & (UP | DOWN);
    return across && along ? '+' : across ? '-' : along ? '|' : ' ';
}

/* What stands for the few characters beyond ASCII that pictures use. */
static uint32_t ascii_of(uint32_t character)
{
    switch (character) {
    case 0x25a0: return '#'; /* ■ */
    case 0x25a1: return '.'; /* □ */
    case 0x00b7: return '-'; /* · */
    case ELLIPSIS: return '~';
    default: return character < 0x80 ? character : '?';
    }
}

static const char *escape_of(uint8_t style)
{
    static const char *const escapes[] = {
        [CANVAS_PLAIN] = "\033[0m",    [CANVAS_BOLD] = "\033[0;1m",    [CANVAS_DIM] = "\033[0;2m",
        [CANVAS_GREEN] = "\033[0;32m", [CANVAS_YELLOW] = "\033[0;33m", [CANVAS_RED] = "\033[0;31m",
        [CANVAS_CYAN] = "\033[0;36m",
    };
    return escapes[style];
}

static void put_row(const struct canvas *c, const struct canvas_print *how, uint32_t y, struct gw_buf *b)
{
    const struct canvas_cell *row = &c->cells[(size_t)y * c->columns];
    uint32_t end = c->columns;
    uint8_t style = CANVAS_PLAIN;
    while (end && !row[end - 1].lines && (row[end - 1].character == 0 || row[end - 1].character == ' '))
        end--;
    for (uint32_t x = 0; x < end; x++) {
        const struct canvas_cell *cell = &row[x];
        if (how->colours && cell->style != style) gw_buf_puts(b, escape_of(cell->style));
        style = cell->style;
        uint32_t character = cell->character ? cell->character : line_character(cell->lines, how->utf8);
        put_utf8(b, how->utf8 ? character : ascii_of(character));
    }
    if (how->colours && style != CANVAS_PLAIN) gw_buf_puts(b, escape_of(CANVAS_PLAIN));
    gw_buf_puts(b, how->line_end);
}

void canvas_put(const struct canvas *c, const struct canvas_print *how, struct gw_buf *b)
{
    uint32_t rows = how->rows && how->rows < c->rows ? how->rows : c->rows;
    for (uint32_t y = 0; y < rows; y++) put_row(c, how, y, b);
}
