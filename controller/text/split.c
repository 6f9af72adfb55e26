#include "controller/text/split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "controller/text/onig.h"

/* One match of the patterns in use looks at each byte a few times (a greedy run that is given back once per
 * alternative); more than this per byte is backtracking gone wild. */
#define MATCH_STEPS_PER_BYTE 16u
#define MATCH_STEPS_MIN      1000000u
#define MATCH_DEPTH_MAX      100000u
#define MATCH_HEAP_KIB       (64u << 10)
#define JIT_STACK_START      (32u << 10)
#define JIT_STACK_MAX        (1u << 20)

struct gw_split {
    pcre2_code *code;
};

static gw_err_t check_compiled(struct gw_split *s, struct gw_err_ctx *ctx)
{
    uint32_t empty = 1;
    pcre2_pattern_info(s->code, PCRE2_INFO_MATCHEMPTY, &empty);
    if (empty) return gw_fail(ctx, GW_ERR_INPUT, "a pattern that matches the empty string is not supported");
    /* Without JIT (an architecture, or a kernel that forbids it) the interpreter does the same, slower. */
    pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE);
    return GW_OK;
}

static gw_err_t compile(const char *pattern, size_t len, pcre2_code **out, struct gw_err_ctx *ctx)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_compile_context *how = pcre2_compile_context_create(NULL);
    if (!how) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    pcre2_set_newline(how, PCRE2_NEWLINE_LF);
    /* In Oniguruma ^ and $ are always those of lines. */
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    *out = pcre2_compile((PCRE2_SPTR)pattern, len, options, &code, &at, how);
    pcre2_compile_context_free(how);
    if (*out) return GW_OK;
    char why[128] = "";
    pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
    return gw_fail(ctx, GW_ERR_INPUT, "pattern not understood near byte %zu: %s", (size_t)at, why);
}

gw_err_t gw_split_create(const char *pattern, size_t len, struct gw_split **out, struct gw_err_ctx *ctx)
{
    gw_err_t err = GW_OK;
    struct gw_buf translated;
    gw_buf_init(&translated, 64 * (size_t)GW_SPLIT_PATTERN_MAX);
    struct gw_split *s = calloc(1, sizeof *s);
    if (!s) {
        err = gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
        goto out;
    }
    if (len > GW_SPLIT_PATTERN_MAX) {
        err = gw_fail(ctx, GW_ERR_LIMIT, "pattern of %zu bytes, at most %u are read", len,
                      GW_SPLIT_PATTERN_MAX);
        goto out;
    }
    TRY_GOTO(gw_onig_to_pcre2(pattern, len, &translated, ctx), out);
    TRY_GOTO(compile((const char *)translated.data, translated.len, &s->code, ctx), out);
    TRY_GOTO(check_compiled(s, ctx), out);
    *out = s;
    s = NULL;
out:
    gw_split_destroy(s);
    gw_buf_fini(&translated);
    return err;
}

void gw_split_destroy(struct gw_split *s)
{
    if (!s) return;
    pcre2_code_free(s->code);
    free(s);
}

gw_err_t gw_matcher_init(struct gw_matcher *m, size_t max_len)
{
    m->data = pcre2_match_data_create(1, NULL);
    m->context = pcre2_match_context_create(NULL);
    m->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MAX, NULL);
    if (!m->data || !m->context || !m->stack) {
        gw_matcher_fini(m);
        return GW_ERR_MEMORY;
    }
    size_t steps = MATCH_STEPS_MIN + MATCH_STEPS_PER_BYTE * max_len;
    pcre2_set_match_limit(m->context, steps > UINT32_MAX ? UINT32_MAX : (uint32_t)steps);
    pcre2_set_depth_limit(m->context, MATCH_DEPTH_MAX);
    pcre2_set_heap_limit(m->context, MATCH_HEAP_KIB);
    pcre2_jit_stack_assign(m->context, NULL, m->stack);
    return GW_OK;
}

void gw_matcher_fini(struct gw_matcher *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    *m = (struct gw_matcher){0};
}

/* Finds the match at or behind walk->pos; none is a match of nothing at the end. */
static gw_err_t find(const struct gw_split *s, struct gw_matcher *m, struct gw_split_walk *walk,
                     struct gw_err_ctx *ctx)
{
    int rc = pcre2_match(s->code, (PCRE2_SPTR)walk->text, walk->len, walk->pos, PCRE2_NO_UTF_CHECK, m->data,
                         m->context);
    walk->match_start = walk->match_end = walk->len;
    if (rc == PCRE2_ERROR_NOMATCH) return GW_OK;
    if (rc == PCRE2_ERROR_NOMEMORY) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    if (rc < 0) {
        char why[128] = "";
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
        return gw_fail(ctx, GW_ERR_LIMIT, "splitting text into words: %s", why);
    }
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(m->data);
    /* An empty match is refused above, but \K-like tricks must not make us loop: it counts as none. */
    if (ends[0] < walk->pos || ends[1] <= ends[0]) return GW_OK;
    walk->match_start = ends[0];
    walk->match_end = ends[1];
    return GW_OK;
}

gw_err_t gw_split_next(const struct gw_split *s, struct gw_matcher *m, struct gw_split_walk *walk,
                       const char **word, size_t *len, struct gw_err_ctx *ctx)
{
    if (walk->pos >= walk->match_end && walk->pos < walk->len) TRY(find(s, m, walk, ctx));
    size_t end = walk->pos < walk->match_start ? walk->match_start : walk->match_end;
    *word = walk->text + walk->pos;
    *len = walk->pos < walk->len ? end - walk->pos : 0;
    walk->pos += *len;
    return GW_OK;
}
