#include "controller/cli/terminal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define COLUMNS_MIN 20

struct terminal_size terminal_size(int fd)
{
    struct winsize size = {0};
    const char *columns = getenv("COLUMNS");
    long wished = columns ? strtol(columns, NULL, 10) : 0;
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col >= COLUMNS_MIN && size.ws_row > 0)
        return (struct terminal_size){size.ws_col, size.ws_row};
    if (wished >= COLUMNS_MIN && wished <= 10000) return (struct terminal_size){(uint32_t)wished, 24};
    return (struct terminal_size){80, 24};
}

bool terminal_is_utf8(void)
{
    const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (!value || !*value) continue; /* the first one that is set counts */
        return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
    }
    return false;
}

gw_err_t terminal_open(struct terminal *t, struct gw_err_ctx *ctx)
{
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &t->before) != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "this needs a terminal (godwit status prints the same once)");
    struct termios raw = t->before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) != 0)
        return gw_fail(ctx, GW_ERR_IO, "the terminal's mode cannot be set");
    t->open = true;
    fputs("\033[?1049h\033[?25l", stdout);
    fflush(stdout);
    return GW_OK;
}

void terminal_close(struct terminal *t)
{
    if (!t->open) return;
    t->open = false;
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    tcsetattr(STDIN_FILENO, TCSANOW, &t->before);
}
