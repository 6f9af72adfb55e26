#include "controller/text/stops.h"

#include <stdlib.h>
#include <string.h>

static void fill_borders(const char *string, size_t len, uint16_t *borders)
{
    borders[0] = 0;
    for (size_t i = 1; i < len; i++) {
        uint16_t k = borders[i - 1];
        while (k > 0 && string[i] != string[k]) k = borders[k - 1];
        if (string[i] == string[k]) k++;
        borders[i] = k;
    }
}

static gw_err_t add_string(struct gw_stops *s, const char *string)
{
    size_t len = strnlen(string, GW_STOPS_BYTES_MAX + 1);
    if (len == 0 || len > GW_STOPS_BYTES_MAX) return GW_ERR_LIMIT;
    int i = s->len++;
    s->lens[i] = len;
    s->strings[i] = strndup(string, len);
    s->borders[i] = malloc(len * sizeof *s->borders[i]);
    if (!s->strings[i] || !s->borders[i]) return GW_ERR_MEMORY;
    fill_borders(string, len, s->borders[i]);
    return GW_OK;
}

/* Takes the memory for held now, so that pushing cannot fail. */
static gw_err_t reserve_held(struct gw_stops *s)
{
    static const char zeros[GW_STOPS_BYTES_MAX];
    gw_buf_init(&s->held, GW_STOPS_BYTES_MAX);
    gw_buf_put(&s->held, zeros, sizeof zeros);
    TRY(s->held.err);
    gw_buf_reset(&s->held);
    return GW_OK;
}

gw_err_t gw_stops_init(struct gw_stops *s, const char *const *strings, int len, bool include_stop)
{
    gw_err_t err = GW_OK;
    *s = (struct gw_stops){.include_stop = include_stop};
    if (len < 0 || len > GW_STOPS_MAX) return GW_ERR_LIMIT;
    for (int i = 0; i < len; i++) TRY_GOTO(add_string(s, strings[i]), out);
    if (len > 0) TRY_GOTO(reserve_held(s), out);
out:
    if (err != GW_OK) gw_stops_fini(s);
    return err;
}

void gw_stops_fini(struct gw_stops *s)
{
    for (int i = 0; i < s->len; i++) {
        free(s->strings[i]);
        free(s->borders[i]);
    }
    gw_buf_fini(&s->held);
    *s = (struct gw_stops){0};
}

/* Steps all automata by one byte; none is complete before (a hit ends everything). Returns the longest match
 * that ends here (0 = none); *keep gets the longest beginning of a string that the text ends with. */
static size_t step(struct gw_stops *s, char byte, size_t *keep)
{
    size_t hit = 0;
    *keep = 0;
    for (int i = 0; i < s->len; i++) {
        size_t k = s->matched[i];
        while (k > 0 && s->strings[i][k] != byte) k = s->borders[i][k - 1];
        if (s->strings[i][k] == byte) k++;
        if (k == s->lens[i] && k > hit) hit = k;
        s->matched[i] = k;
        if (k > *keep) *keep = k;
    }
    return hit;
}

/* The text so far is held, then text: shows it but for its last keep bytes, which become what is held. */
static void release(struct gw_stops *s, const char *text, size_t len, size_t keep, struct gw_buf *out)
{
    size_t show = s->held.len + len - keep;
    if (show <= s->held.len) {
        gw_buf_put(out, s->held.data, show);
        gw_buf_consume(&s->held, show);
        gw_buf_put(&s->held, text, len);
        return;
    }
    size_t from_text = show - s->held.len;
    gw_buf_put(out, s->held.data, s->held.len);
    gw_buf_put(out, text, from_text);
    gw_buf_reset(&s->held);
    gw_buf_put(&s->held, text + from_text, len - from_text);
}

bool gw_stops_push(struct gw_stops *s, const char *text, size_t len, struct gw_buf *out)
{
    if (s->hit) return true;
    size_t keep = s->held.len;
    for (size_t i = 0; i < len; i++) {
        size_t match = step(s, text[i], &keep);
        if (match == 0) continue;
        s->hit = true;
        release(s, text, i + 1, s->include_stop ? 0 : match, out);
        gw_buf_reset(&s->held);
        return true;
    }
    release(s, text, len, keep, out);
    return false;
}

void gw_stops_flush(struct gw_stops *s, struct gw_buf *out)
{
    gw_buf_put(out, s->held.data, s->held.len);
    gw_buf_reset(&s->held);
}
