#include "controller/journal_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/rng.h"

#define NAME_BYTES   64
#define NAME_FORM    "segment-%016" PRIx64
#define NAME_LEN     (sizeof "segment-" - 1 + 16)
#define NEW_SUFFIX   ".new"
#define LOCK_NAME    "lock"
#define COPY_BYTES   ((size_t)1 << 20) /* of a frame in a new segment, but for longer pieces */
#define SEGMENTS_MAX 1024              /* left behind by crashes: one or two */

struct file {
    const struct gw_log *log;
    struct gw_record_sealer *sealer;
    int dir, lock, fd; /* -1: none */
    struct gw_segment_head head;
    uint64_t sequence;
    size_t bytes;   /* of the segment's whole frames, and its head */
    size_t compact; /* a new segment is made when it has so many */
    size_t compact_min;
    bool broken; /* behind bytes there may be something else */
};

static gw_err_t fail_io(struct gw_err_ctx *ctx, const char *what)
{
    return gw_fail(ctx, GW_ERR_IO, "%s: %s", what, strerror(errno));
}

static void segment_name(char name[NAME_BYTES], uint64_t number, bool new)
{
    snprintf(name, NAME_BYTES, NAME_FORM "%s", number, new ? NEW_SUFFIX : "");
}

static gw_err_t write_all(int fd, const void *bytes, size_t len, struct gw_err_ctx *ctx)
{
    const char *p = bytes;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_io(ctx, "write");
        p += n;
        len -= (size_t)n;
    }
    return GW_OK;
}

/* ---- reading ---- */

/* Reads the first len bytes of a segment's file; 0 = all. */
static gw_err_t load(struct file *f, int fd, size_t len, struct gw_journal_table *table,
                     struct gw_segment_head *head, size_t *torn, struct gw_err_ctx *ctx)
{
    const struct gw_segment_reader reader = {gw_journal_table_change, table};
    struct stat st;
    if (fstat(fd, &st) != 0) return fail_io(ctx, "stat");
    if (!S_ISREG(st.st_mode)) return gw_fail(ctx, GW_ERR_INPUT, "not a regular file");
    if (len == 0) len = (size_t)st.st_size;
    if (len == 0) return gw_fail(ctx, GW_ERR_INPUT, "it is empty");
    void *bytes = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED) return fail_io(ctx, "mmap");
    gw_err_t err = gw_segment_read(bytes, len, f->sealer, &reader, head, torn, ctx);
    if (err == GW_ERR_LIMIT) err = gw_fail(ctx, GW_ERR_INPUT, "more is live in it than a start can hold");
    munmap(bytes, len);
    return err;
}

static gw_err_t load_named(struct file *f, const char *name, struct gw_journal_table *table,
                           struct gw_err_ctx *ctx)
{
    size_t torn = 0;
    int fd = openat(f->dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_io(ctx, name);
    gw_err_t err = load(f, fd, 0, table, &f->head, &torn, ctx);
    close(fd);
    if (err == GW_ERR_INPUT)
        gw_fail_prefix(ctx, err, "%s cannot be used (move it away to start without what it holds)", name);
    if (err == GW_OK && torn > 0)
        gw_logf(f->log, GW_LOG_WARN, "journal: %s ends in a torn batch of %zu bytes: dropped", name, torn);
    return err;
}

/* Is it the name of a segment? */
static bool parse_name(const char *name, uint64_t *number)
{
    char again[NAME_BYTES];
    if (strlen(name) != NAME_LEN || sscanf(name, "segment-%" SCNx64, number) != 1) return false;
    segment_name(again, *number, false);
    return strcmp(name, again) == 0;
}

static bool is_new(const char *name)
{
    size_t len = strlen(name);
    return strncmp(name, "segment-", 8) == 0 && len > sizeof NEW_SUFFIX &&
           strcmp(name + len - (sizeof NEW_SUFFIX - 1), NEW_SUFFIX) == 0;
}

/* Calls each for each name in the directory. */
static gw_err_t each_name(struct file *f, void (*each)(struct file *f, const char *name, void *arg),
                          void *arg, struct gw_err_ctx *ctx)
{
    int fd = openat(f->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0) close(fd);
        return fail_io(ctx, "list");
    }
    struct dirent *entry;
    while ((entry = readdir(dir))) each(f, entry->d_name, arg);
    closedir(dir);
    return GW_OK;
}

static void find_highest(struct file *f, const char *name, void *arg)
{
    uint64_t number, *highest = arg;
    (void)f;
    if (parse_name(name, &number) && number > *highest) *highest = number;
}

/* What older segments and interrupted beginnings left. */
static void remove_old(struct file *f, const char *name, void *arg)
{
    uint64_t number = 0;
    (void)arg;
    bool old = parse_name(name, &number) && number < f->head.number;
    if (old || is_new(name)) unlinkat(f->dir, name, 0);
}

/* ---- a new segment ---- */

struct copying {
    struct file *f;
    int fd;
    struct gw_segment_head head;
    struct gw_buf batch, frame;
    uint64_t sequence;
    size_t bytes;
    struct gw_err_ctx *ctx;
};

static gw_err_t put_out(struct copying *c)
{
    TRY(write_all(c->fd, c->frame.data, c->frame.len, c->ctx));
    c->bytes += c->frame.len;
    gw_buf_reset(&c->frame);
    return GW_OK;
}

static gw_err_t flush_copy(struct copying *c)
{
    if (c->batch.len == 0) return GW_OK;
    gw_err_t err = c->batch.err;
    if (err == GW_OK)
        err = gw_segment_put_frame(&c->frame, c->f->sealer, &c->head, c->sequence++, c->bytes, c->batch.data,
                                   c->batch.len);
    if (err != GW_OK) return gw_fail(c->ctx, err, "out of memory");
    gw_buf_reset(&c->batch);
    return put_out(c);
}

static gw_err_t copy_entry(void *arg, uint64_t entry, const void *pieces, size_t len)
{
    struct copying *c = arg;
    struct gw_reader r;
    gw_reader_init(&r, pieces, len);
    while (r.pos < r.len) {
        struct gw_change change = {.kind = GW_CHANGE_APPEND, .entry = entry};
        change.len = gw_read_bytes(&r, GW_RECORD_BYTES_MAX, &change.piece);
        if (r.err != GW_OK) return gw_fail(c->ctx, GW_ERR_INTERNAL, "the table of live entries is broken");
        gw_change_put(&c->batch, &change);
        if (c->batch.len >= COPY_BYTES) TRY(flush_copy(c));
    }
    return GW_OK;
}

static gw_err_t copy_all(struct copying *c, const struct gw_journal_table *table)
{
    gw_segment_put_head(&c->frame, &c->head);
    if (c->frame.err != GW_OK) return gw_fail(c->ctx, c->frame.err, "out of memory");
    TRY(put_out(c));
    TRY(gw_journal_table_each(table, copy_entry, c));
    TRY(flush_copy(c));
    return fdatasync(c->fd) == 0 ? GW_OK : fail_io(c->ctx, "fdatasync");
}

/* The new segment counts from the rename on. */
static gw_err_t install(struct file *f, const struct copying *c, struct gw_err_ctx *ctx)
{
    char old[NAME_BYTES], temp[NAME_BYTES], name[NAME_BYTES];
    segment_name(old, f->head.number, false);
    segment_name(temp, c->head.number, true);
    segment_name(name, c->head.number, false);
    gw_failpoint("segment", "written");
    if (renameat(f->dir, temp, f->dir, name) != 0) return fail_io(ctx, "rename");
    gw_failpoint("segment", "renamed");
    if (fsync(f->dir) != 0) return fail_io(ctx, "fsync of the directory");
    if (f->head.number > 0) unlinkat(f->dir, old, 0);
    if (f->fd >= 0) close(f->fd);
    f->fd = c->fd;
    f->head = c->head;
    f->sequence = c->sequence;
    f->bytes = c->bytes;
    f->compact = c->bytes * 2 > f->compact_min ? c->bytes * 2 : f->compact_min;
    f->broken = false;
    return GW_OK;
}

/* Makes segment number + 1 of what is live and goes on in it; on error the old one stays. */
static gw_err_t begin_segment(struct file *f, const struct gw_journal_table *table, uint64_t term,
                              struct gw_err_ctx *ctx)
{
    char temp[NAME_BYTES];
    struct copying c = {.f = f, .head = {.number = f->head.number + 1, .term = term}, .ctx = ctx};
    gw_random_bytes(c.head.writer.bytes, sizeof c.head.writer.bytes);
    segment_name(temp, c.head.number, true);
    c.fd = openat(f->dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (c.fd < 0) return fail_io(ctx, temp);
    gw_failpoint("segment", "begun");
    gw_buf_init(&c.batch, GW_SEGMENT_FRAME_MAX);
    gw_buf_init(&c.frame, (size_t)GW_SEGMENT_FRAME_MAX + GW_SEGMENT_FRAME_BYTES);
    gw_err_t err = copy_all(&c, table);
    if (err == GW_OK) err = install(f, &c, ctx);
    gw_buf_fini(&c.batch);
    gw_buf_fini(&c.frame);
    if (err != GW_OK) {
        close(c.fd);
        unlinkat(f->dir, temp, 0);
    }
    return err;
}

static gw_err_t compact(struct file *f, struct gw_err_ctx *ctx)
{
    char name[NAME_BYTES];
    struct gw_segment_head head;
    size_t torn = 0, before = f->bytes;
    struct gw_journal_table *table = gw_journal_table_create();
    if (!table) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    segment_name(name, f->head.number, false);
    int fd = openat(f->dir, name, O_RDONLY | O_CLOEXEC);
    gw_err_t err = fd >= 0 ? load(f, fd, f->bytes, table, &head, &torn, ctx) : fail_io(ctx, name);
    if (fd >= 0) close(fd);
    if (err == GW_OK) err = begin_segment(f, table, f->head.term, ctx);
    if (err == GW_OK)
        gw_logf(f->log, GW_LOG_INFO, "journal: %zu bytes became %zu, %zu entries are live", before, f->bytes,
                gw_journal_table_len(table));
    gw_journal_table_destroy(table);
    return err;
}

/* ---- writing ---- */

static gw_err_t append_frame(struct file *f, const struct gw_buf *frame, struct gw_err_ctx *ctx)
{
    gw_failpoint("batch", "sealed");
    TRY(write_all(f->fd, frame->data, frame->len, ctx));
    gw_failpoint("batch", "written");
    if (fdatasync(f->fd) != 0) return fail_io(ctx, "fdatasync");
    gw_failpoint("batch", "durable");
    return GW_OK;
}

/* Half a frame must not stay: a whole one behind it would make it look like damage. */
static void cut_back(struct file *f)
{
    if (ftruncate(f->fd, (off_t)f->bytes) != 0 || lseek(f->fd, (off_t)f->bytes, SEEK_SET) < 0)
        f->broken = true;
}

static void compact_if_due(struct file *f)
{
    struct gw_err_ctx ctx = {0};
    if (f->bytes < f->compact || compact(f, &ctx) == GW_OK) return;
    f->compact = f->bytes + f->compact_min; /* not at each write from now on */
    gw_logf(f->log, GW_LOG_WARN, "journal: cannot be compacted: %s", ctx.text);
}

static gw_err_t file_write(void *state, const void *batch, size_t len, bool *fenced, struct gw_err_ctx *ctx)
{
    struct file *f = state;
    struct gw_buf frame;
    (void)fenced;
    if (f->broken) TRY(compact(f, ctx));
    gw_buf_init(&frame, (size_t)GW_SEGMENT_FRAME_MAX + GW_SEGMENT_FRAME_BYTES);
    gw_err_t err = gw_segment_put_frame(&frame, f->sealer, &f->head, f->sequence++, f->bytes, batch, len);
    if (err != GW_OK) gw_fail(ctx, err, "a batch of %zu bytes cannot be sealed", len);
    if (err == GW_OK && (err = append_frame(f, &frame, ctx)) != GW_OK) cut_back(f);
    if (err == GW_OK) f->bytes += frame.len;
    gw_buf_fini(&frame);
    if (err == GW_OK) compact_if_due(f);
    return err;
}

/* ---- open and close ---- */

static void file_close(void *state)
{
    struct file *f = state;
    if (f->fd >= 0) close(f->fd);
    if (f->lock >= 0) close(f->lock);
    if (f->dir >= 0) close(f->dir);
    gw_record_sealer_destroy(f->sealer);
    free(f);
}

static gw_err_t take_lock(struct file *f, struct gw_err_ctx *ctx)
{
    f->lock = openat(f->dir, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (f->lock < 0) return fail_io(ctx, LOCK_NAME);
    if (flock(f->lock, LOCK_EX | LOCK_NB) == 0) return GW_OK;
    if (errno != EWOULDBLOCK) return fail_io(ctx, LOCK_NAME);
    return gw_fail(ctx, GW_ERR_LIMIT, "another controller holds it");
}

static gw_err_t open_dir(struct file *f, const char *path, struct gw_err_ctx *ctx)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) return fail_io(ctx, "mkdir");
    f->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->dir < 0) return fail_io(ctx, "open");
    return take_lock(f, ctx);
}

static gw_err_t open_segments(struct file *f, uint64_t term_min, struct gw_journal_table *loaded,
                              uint64_t *term, struct gw_err_ctx *ctx)
{
    char name[NAME_BYTES];
    uint64_t highest = 0;
    TRY(each_name(f, find_highest, &highest, ctx));
    if (highest > 0) {
        segment_name(name, highest, false);
        TRY(load_named(f, name, loaded, ctx));
        if (f->head.number != highest) return gw_fail(ctx, GW_ERR_INPUT, "%s is another one, renamed", name);
    }
    *term = f->head.term + 1 > term_min ? f->head.term + 1 : term_min;
    TRY(begin_segment(f, loaded, *term, ctx));
    return each_name(f, remove_old, NULL, ctx);
}

static gw_err_t file_open(const struct gw_journal_config *config, struct gw_journal_table *loaded,
                          uint64_t *term, void **state, struct gw_err_ctx *ctx)
{
    struct file *f = calloc(1, sizeof *f);
    if (!f) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    f->dir = f->lock = f->fd = -1;
    f->log = config->log;
    f->compact_min = config->compact_bytes ? config->compact_bytes : GW_JOURNAL_COMPACT_BYTES;
    gw_err_t err = gw_record_sealer_create(config->key, config->key_len, &f->sealer, ctx);
    if (err == GW_OK) err = open_dir(f, config->where, ctx);
    if (err == GW_OK) err = open_segments(f, config->term_min, loaded, term, ctx);
    if (err == GW_OK)
        *state = f;
    else
        file_close(f);
    return err;
}

const struct gw_journal_ops gw_journal_file = {
    .name = "file", .open = file_open, .write = file_write, .close = file_close};
