/* Drives a fuzz target without libFuzzer: its corpus first, then mutations of it drawn from a seed.
 *
 *     fuzz_json [--runs N] [--seed S] [--only RUN] [--max-bytes N] CORPUS...
 *
 * Speaks TAP. Run i of seed s is always the same input (for the same corpus): a crash prints the line that
 * replays it and leaves the input in crash-<seed>-<run>. There is no coverage feedback: this finds what dumb
 * luck finds, on every commit. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/args.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/rng.h"
#include "tests/fuzz/fuzz.h"

#define INPUTS_MAX       4096
#define INPUT_FILE_MAX   (1u << 20)
#define CORPUS_PATHS_MAX 16
#define MUTATIONS_MAX    8  /* per run */
#define CHUNK_MAX        64 /* bytes inserted, copied or removed at once */
#define INPUT_LIMIT_S    20 /* one input that takes longer hangs */

struct input {
    uint8_t *bytes;
    size_t len;
};

struct fuzz {
    const char *program;
    int64_t runs, seed, only, max_bytes;
    struct input inputs[INPUTS_MAX];
    size_t inputs_len;
};

/* What runs now, for the death report alone: signal handlers get no argument. */
static struct {
    const char *program;
    int64_t seed, run;
    const uint8_t *bytes;
    size_t len;
} now;

void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void report_death(void)
{
    char name[64];
    if (!now.bytes) return;
    snprintf(name, sizeof name, "crash-%lld-%lld", (long long)now.seed, (long long)now.run);
    printf("# %zu bytes in %s; replay: %s --seed %lld --only %lld CORPUS\n", now.len, name, now.program,
           (long long)now.seed, (long long)now.run);
    fflush(stdout);
    int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    if (fd >= 0 && write(fd, now.bytes, now.len) != (ssize_t)now.len)
        printf("# it could not be written whole\n");
    if (fd >= 0) close(fd);
    now.bytes = NULL;
}

static void on_signal(int number)
{
    printf("# %s\n", number == SIGALRM ? "no end in time" : strsignal(number));
    report_death();
    signal(number, SIG_DFL);
    raise(number);
}

/* A heap block of exactly len, so that AddressSanitizer sees one byte too far. */
static void try_input(const struct fuzz *f, int64_t run, const uint8_t *bytes, size_t len)
{
    uint8_t *exact = malloc(len ? len : 1);
    if (!exact) abort();
    memcpy(exact, bytes, len);
    now.program = f->program;
    now.seed = f->seed;
    now.run = run;
    now.bytes = exact;
    now.len = len;
    alarm(INPUT_LIMIT_S);
    LLVMFuzzerTestOneInput(exact, len);
    alarm(0);
    now.bytes = NULL;
    free(exact);
}

static size_t pick(struct gw_rng *rng, size_t n)
{
    return n ? (size_t)gw_rng_below(rng, n) : 0;
}

static void overwrite(struct gw_rng *rng, uint8_t *b, size_t len)
{
    static const uint8_t interesting[] = {0x00, 0x01, 0x7F, 0x80, 0xFF, '"',  '\\', '{',
                                          '[',  '0',  '-',  ' ',  '\n', '\r', ':',  ','};
    if (len == 0) return;
    size_t at = pick(rng, len);
    switch (pick(rng, 3)) {
    case 0: b[at] ^= (uint8_t)(1u << pick(rng, 8)); return;
    case 1: b[at] = interesting[pick(rng, sizeof interesting)]; return;
    default: b[at] = (uint8_t)pick(rng, 256);
    }
}

static size_t remove_chunk(struct gw_rng *rng, uint8_t *b, size_t len)
{
    size_t at = pick(rng, len), n = 1 + pick(rng, CHUNK_MAX);
    if (n > len - at) n = len - at;
    memmove(b + at, b + at + n, len - at - n);
    return len - n;
}

/* Copies a chunk of `from` into b at any place; b has room for max. */
static size_t insert_chunk(struct gw_rng *rng, uint8_t *b, size_t len, size_t max, const struct input *from)
{
    size_t start = pick(rng, from->len), n = 1 + pick(rng, CHUNK_MAX), at = pick(rng, len + 1);
    if (n > from->len - start) n = from->len - start;
    if (n > max - len) n = max - len;
    memmove(b + at + n, b + at, len - at);
    memcpy(b + at, from->bytes + start, n);
    return len + n;
}

static size_t mutate(const struct fuzz *f, struct gw_rng *rng, uint8_t *b, size_t max)
{
    const struct input *base = &f->inputs[pick(rng, f->inputs_len)];
    size_t len = base->len < max ? base->len : max;
    memcpy(b, base->bytes, len);
    for (size_t n = 1 + pick(rng, MUTATIONS_MAX); n > 0; n--) {
        switch (pick(rng, 6)) {
        case 0: len = remove_chunk(rng, b, len); break;
        case 1: len = insert_chunk(rng, b, len, max, &f->inputs[pick(rng, f->inputs_len)]); break;
        case 2: len = pick(rng, 20) == 0 ? pick(rng, len + 1) : len; break;
        default: overwrite(rng, b, len);
        }
    }
    return len;
}

static gw_err_t add_input(struct fuzz *f, const char *path, struct gw_err_ctx *ctx)
{
    char *bytes;
    size_t len;
    if (f->inputs_len == INPUTS_MAX) return gw_fail(ctx, GW_ERR_LIMIT, "more than %d inputs", INPUTS_MAX);
    TRY(gw_file_read(path, INPUT_FILE_MAX, &bytes, &len, ctx));
    f->inputs[f->inputs_len++] = (struct input){(uint8_t *)bytes, len};
    return GW_OK;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_shown(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

/* A file, or every file of a folder in the order of their names (the seed's meaning hangs on it). */
static gw_err_t add_corpus(struct fuzz *f, const char *path, struct gw_err_ctx *ctx)
{
    struct stat st;
    struct dirent **entries = NULL;
    gw_err_t err = GW_OK;
    if (stat(path, &st) != 0) return gw_fail(ctx, GW_ERR_NOT_FOUND, "%s: no such corpus", path);
    if (!S_ISDIR(st.st_mode)) return add_input(f, path, ctx);
    int n = scandir(path, &entries, is_shown, by_name);
    for (int i = 0; i < n; i++) {
        char file[1024];
        snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
        if (err == GW_OK) err = add_input(f, file, ctx);
        free(entries[i]);
    }
    free(entries);
    return err;
}

static void run_mutations(const struct fuzz *f)
{
    size_t max = (size_t)f->max_bytes;
    uint8_t *b = malloc(max + CHUNK_MAX);
    if (!b) abort();
    for (int64_t run = 0; run < f->runs; run++) {
        struct gw_rng rng;
        if (f->only >= 0 && run != f->only) continue;
        gw_rng_init(&rng, gw_mix64((uint64_t)f->seed) + (uint64_t)run);
        size_t len = mutate(f, &rng, b, max);
        try_input(f, run, b, len);
    }
    free(b);
}

static gw_err_t parse(struct fuzz *f, int argc, char **argv, struct gw_err_ctx *ctx)
{
    const struct gw_flag flags[] = {
        {"runs", GW_FLAG_INT, &f->runs, "N", "mutated inputs to try", 0, 1e12},
        {"seed", GW_FLAG_INT, &f->seed, "S", "which mutations"},
        {"only", GW_FLAG_INT, &f->only, "RUN", "only this run of them (-1: all)"},
        {"max-bytes", GW_FLAG_INT, &f->max_bytes, "N", "longest input", 1, INPUT_FILE_MAX},
        {0}};
    const char *paths[CORPUS_PATHS_MAX];
    int npaths;
    bool help;
    TRY(gw_args_parse(argc, argv, flags, paths, CORPUS_PATHS_MAX, &npaths, &help, ctx));
    if (help)
        gw_args_help("fuzz_<name> [flags] CORPUS...", "Tries a parser on its corpus and on mutations of it.",
                     flags);
    if (help) exit(0);
    for (int i = 0; i < npaths; i++) TRY(add_corpus(f, paths[i], ctx));
    if (f->inputs_len == 0) return gw_fail(ctx, GW_ERR_INPUT, "no input: name a corpus");
    return GW_OK;
}

int main(int argc, char **argv)
{
    static struct fuzz f = {.runs = 10000, .seed = 1, .only = -1, .max_bytes = 4096};
    struct gw_err_ctx ctx = {0};
    f.program = argv[0];
    if (parse(&f, argc, argv, &ctx) != GW_OK) {
        fprintf(stderr, "%s: %s\n", argv[0], ctx.text);
        return 2;
    }
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(report_death);
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
    printf("1..2\n");
    for (size_t i = 0; i < f.inputs_len; i++)
        try_input(&f, -1 - (int64_t)i, f.inputs[i].bytes, f.inputs[i].len);
    printf("ok 1 - corpus of %zu inputs\n", f.inputs_len);
    run_mutations(&f);
    printf("ok 2 - %lld mutations, seed %lld\n", (long long)f.runs, (long long)f.seed);
    for (size_t i = 0; i < f.inputs_len; i++) free(f.inputs[i].bytes);
    return 0;
}
