#include "controller/front/stream_position.h"

#include <string.h>

#include "migrate/request.h"

static void put_choice(struct gw_buf *b, const struct gw_position *p)
{
    if (!p->begun)
        gw_buf_puts(b, "-");
    else
        gw_buf_printf(b, "%u%s", p->records, p->finished ? "e" : p->flushed ? "f" : "");
}

void gw_position_put(struct gw_buf *b, const struct gw_position *choices, uint32_t len, bool usage)
{
    for (uint32_t i = 0; i < len; i++) {
        if (i > 0) gw_buf_puts(b, ",");
        put_choice(b, &choices[i]);
    }
    if (usage) gw_buf_puts(b, ",u");
}

/* The number at *text, which is moved behind it; false unless it is written as put_choice writes it. */
static bool parse_records(const char **text, uint32_t *out)
{
    const char *p = *text;
    uint32_t n = 0;
    if (*p < '0' || *p > '9' || (p[0] == '0' && p[1] >= '0' && p[1] <= '9')) return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        n = n * 10 + (uint32_t)(*p - '0');
        if (n > GW_REQUEST_TOKENS_MAX) return false;
    }
    *text = p;
    *out = n;
    return true;
}

static bool parse_choice(const char **text, struct gw_position *p)
{
    *p = (struct gw_position){0};
    if (**text == '-') {
        (*text)++;
        return true;
    }
    if (!parse_records(text, &p->records)) return false;
    p->begun = true;
    p->finished = **text == 'e';
    p->flushed = p->finished || **text == 'f';
    *text += p->flushed;
    return true;
}

gw_err_t gw_position_parse(const char *text, struct gw_position *choices, uint32_t len, bool *usage)
{
    for (uint32_t i = 0; i < len; i++) {
        if (i > 0 && *text++ != ',') return GW_ERR_INPUT;
        if (!parse_choice(&text, &choices[i])) return GW_ERR_INPUT;
    }
    *usage = strcmp(text, ",u") == 0;
    for (uint32_t i = 0; *usage && i < len; i++)
        if (!choices[i].finished) return GW_ERR_INPUT;
    return *usage || *text == '\0' ? GW_OK : GW_ERR_INPUT;
}
