#include "base/args.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/file.h"

#define CONFIG_FILE_MAX (256 * 1024)

static const struct gw_flag *find_flag(const struct gw_flag *flags, const char *name, size_t len)
{
    for (const struct gw_flag *f = flags; f->name; f++)
        if (strlen(f->name) == len && memcmp(f->name, name, len) == 0) return f;
    return NULL;
}

static gw_err_t bad_number(const struct gw_flag *f, const char *value, struct gw_err_ctx *ctx)
{
    if (f->max > f->min)
        return gw_fail(ctx, GW_ERR_INPUT, "--%s %s: expected %s between %.15g and %.15g", f->name, value,
                       f->type == GW_FLAG_INT ? "an integer" : "a number", f->min, f->max);
    return gw_fail(ctx, GW_ERR_INPUT, "--%s %s: expected a number", f->name, value);
}

static gw_err_t set_number(const struct gw_flag *f, const char *value, struct gw_err_ctx *ctx)
{
    char *end;
    errno = 0;
    double v = f->type == GW_FLAG_INT ? (double)strtoll(value, &end, 10) : strtod(value, &end);
    if (errno || end == value || *end || !isfinite(v)) return bad_number(f, value, ctx);
    if (f->max > f->min && (v < f->min || v > f->max)) return bad_number(f, value, ctx);
    if (f->type == GW_FLAG_INT)
        *(int64_t *)f->target = strtoll(value, NULL, 10);
    else
        *(double *)f->target = v;
    return GW_OK;
}

static gw_err_t set_bool(const struct gw_flag *f, const char *value, struct gw_err_ctx *ctx)
{
    bool yes = strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
    if (!yes && strcmp(value, "false") != 0 && strcmp(value, "0") != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "--%s=%s: expected true or false", f->name, value);
    *(bool *)f->target = yes;
    return GW_OK;
}

static gw_err_t set_flag(const struct gw_flag *f, const char *value, struct gw_err_ctx *ctx)
{
    switch (f->type) {
    case GW_FLAG_STRING: *(const char **)f->target = value; return GW_OK;
    case GW_FLAG_BOOL: return set_bool(f, value, ctx);
    case GW_FLAG_INT:
    case GW_FLAG_DOUBLE: return set_number(f, value, ctx);
    }
    return gw_fail(ctx, GW_ERR_INTERNAL, "--%s: no such flag type", f->name);
}

static char *trim(char *s)
{
    while (isspace((unsigned char)*s)) s++;
    char *end = s + strlen(s);
    while (end > s && isspace((unsigned char)end[-1])) *--end = '\0';
    return s;
}

static gw_err_t config_line(char *line, const struct gw_flag *flags, struct gw_err_ctx *ctx)
{
    char *s = trim(line);
    if (*s == '\0' || *s == '#') return GW_OK;
    char *eq = strchr(s, '=');
    if (!eq) return gw_fail(ctx, GW_ERR_INPUT, "'%.40s': expected name = value", s);
    *eq = '\0';
    char *name = trim(s), *value = trim(eq + 1);
    const struct gw_flag *f = find_flag(flags, name, strlen(name));
    if (!f) return gw_fail(ctx, GW_ERR_INPUT, "no flag is named '%.40s'", name);
    return set_flag(f, value, ctx);
}

/* Moves text to memory that lives until exit: string targets point into it. Pages of their own and not the
 * heap's, so that nobody has to hold what a leak checker would ask for. */
static gw_err_t keep_text(char *text, size_t len, char **out, struct gw_err_ctx *ctx)
{
    char *kept = mmap(NULL, len + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (kept != MAP_FAILED) memcpy(kept, text, len + 1);
    free(text);
    if (kept == MAP_FAILED) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    *out = kept;
    return GW_OK;
}

static gw_err_t config_lines(char *text, const struct gw_flag *flags, const char *path,
                             struct gw_err_ctx *ctx)
{
    int number = 0;
    for (char *line; (line = strsep(&text, "\n"));) {
        number++;
        gw_err_t err = config_line(line, flags, ctx);
        if (err != GW_OK) return gw_fail_prefix(ctx, err, "%s:%d", path, number);
    }
    return GW_OK;
}

static gw_err_t config_file(const char *path, const struct gw_flag *flags, struct gw_err_ctx *ctx)
{
    char *text;
    size_t len;
    TRY(gw_file_read(path, CONFIG_FILE_MAX, &text, &len, ctx));
    bool has_nul = memchr(text, '\0', len) != NULL;
    TRY(keep_text(text, len, &text, ctx));
    if (has_nul) return gw_fail(ctx, GW_ERR_INPUT, "%s: not a text file", path);
    return config_lines(text, flags, path, ctx);
}

/* One "--name[=value] [value]" at argv[*i]; moves *i over what it used. apply = false only skips. */
static gw_err_t take_flag(int argc, char **argv, int *i, const struct gw_flag *flags, const char **config,
                          bool apply, struct gw_err_ctx *ctx)
{
    const char *name = argv[*i] + 2, *eq = strchr(name, '=');
    size_t len = eq ? (size_t)(eq - name) : strlen(name);
    bool is_config = len == 6 && memcmp(name, "config", 6) == 0;
    const struct gw_flag *f = find_flag(flags, name, len);
    if (!f && !is_config)
        return gw_fail(ctx, GW_ERR_INPUT, "no flag is named --%.*s (--help lists them)", (int)len, name);
    const char *value = eq ? eq + 1 : NULL;
    if (!value && f && f->type == GW_FLAG_BOOL) value = "true";
    if (!value) {
        if (*i + 1 >= argc || strncmp(argv[*i + 1], "--", 2) == 0)
            return gw_fail(ctx, GW_ERR_INPUT, "--%s needs a value", name);
        value = argv[++*i];
    }
    if (is_config)
        *config = value;
    else if (apply)
        return set_flag(f, value, ctx);
    return GW_OK;
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    return false;
}

/* Goes over argv once; apply = false looks for --config and mistakes only. */
static gw_err_t walk(int argc, char **argv, const struct gw_flag *flags, bool apply, const char **config,
                     const char **words, int max_words, int *nwords, struct gw_err_ctx *ctx)
{
    *nwords = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0) {
            TRY(take_flag(argc, argv, &i, flags, config, apply, ctx));
            continue;
        }
        if (*nwords >= max_words) return gw_fail(ctx, GW_ERR_INPUT, "'%s': not expected here", argv[i]);
        words[(*nwords)++] = argv[i];
    }
    return GW_OK;
}

gw_err_t gw_args_parse(int argc, char **argv, const struct gw_flag *flags, const char **words, int max_words,
                       int *nwords, bool *help, struct gw_err_ctx *ctx)
{
    const char *config = NULL;
    int ignored_count;
    if (!nwords) nwords = &ignored_count;
    *nwords = 0;
    *help = wants_help(argc, argv);
    if (*help) return GW_OK;
    TRY(walk(argc, argv, flags, false, &config, words, max_words, nwords, ctx));
    if (config) TRY(config_file(config, flags, ctx));
    return walk(argc, argv, flags, true, &config, words, max_words, nwords, ctx);
}

static void print_default(const struct gw_flag *f)
{
    switch (f->type) {
    case GW_FLAG_STRING:
        if (*(const char **)f->target) printf(" (default %s)", *(const char **)f->target);
        break;
    case GW_FLAG_INT: printf(" (default %lld)", (long long)*(int64_t *)f->target); break;
    case GW_FLAG_DOUBLE:
        if (!isnan(*(double *)f->target)) printf(" (default %g)", *(double *)f->target);
        break;
    case GW_FLAG_BOOL:
        if (*(bool *)f->target) printf(" (default true)");
        break;
    }
}

void gw_args_help(const char *usage, const char *intro, const struct gw_flag *flags)
{
    printf("usage: %s\n\n%s\n\n", usage, intro);
    for (const struct gw_flag *f = flags; f->name; f++) {
        char left[64];
        snprintf(left, sizeof left, "--%s %s", f->name, f->value_name ? f->value_name : "");
        printf("  %-28s %s", left, f->help);
        print_default(f);
        printf("\n");
    }
    printf("  %-28s %s\n  %-28s %s\n", "--config FILE", "read flags from FILE, lines 'name = value'",
           "--help", "this text");
}
