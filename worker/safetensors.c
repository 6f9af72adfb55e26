#include "worker/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "migrate/model_files.h"

#define EXACT_INT_MAX 9007199254740992.0 /* 2^53: above it JSON numbers are no longer whole */
#define LENGTH_BYTES  8

/* One mapped file. copy is set when the data section is not aligned in the file: then it lives on the heap.
 */
struct shard {
    const uint8_t *bytes;
    size_t len;
    bool mapped; /* else borrowed */
    uint8_t *copy;
    const uint8_t *data;
    uint64_t data_bytes;
};

struct gw_safetensors {
    struct shard *shards;
    uint32_t shards_len;
    struct gw_tensor *tensors; /* sorted by name */
    uint32_t len, cap;
};

struct dtype_row {
    const char *name;
    uint8_t bytes;
    enum gw_dtype type;
};

static const struct dtype_row *dtype_of(const char *name)
{
    static const struct dtype_row rows[] = {
        {"F32", 4, GW_F32}, {"BF16", 2, GW_BF16}, {"F16", 2, GW_F16}, {"F64", 8, 0},     {"I64", 8, 0},
        {"U64", 8, 0},      {"I32", 4, 0},        {"U32", 4, 0},      {"I16", 2, 0},     {"U16", 2, 0},
        {"I8", 1, 0},       {"U8", 1, 0},         {"BOOL", 1, 0},     {"F8_E4M3", 1, 0}, {"F8_E5M2", 1, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    return NULL;
}

static gw_err_t map_file(const char *path, struct shard *shard, struct gw_err_ctx *ctx)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return gw_fail(ctx, errno == ENOENT ? GW_ERR_NOT_FOUND : GW_ERR_IO, "%s: %s", path, strerror(errno));
    gw_err_t err = GW_OK;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        err = gw_fail(ctx, GW_ERR_IO, "%s: not a regular file", path);
    } else if (st.st_size == 0) {
        err = gw_fail(ctx, GW_ERR_INPUT, "%s: the file is empty", path);
    } else {
        void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED)
            err = gw_fail(ctx, GW_ERR_IO, "%s: mmap: %s", path, strerror(errno));
        else
            *shard = (struct shard){.bytes = map, .len = (size_t)st.st_size, .mapped = true};
    }
    close(fd);
    return err;
}

static bool whole_number(const cJSON *item, double max, uint64_t *out)
{
    if (!cJSON_IsNumber(item)) return false;
    double v = item->valuedouble;
    if (!(v >= 0 && v <= max) || v != (double)(uint64_t)v) return false;
    *out = (uint64_t)v;
    return true;
}

/* shape → dims and the number of bytes, refusing products that overflow. */
static gw_err_t parse_shape(const cJSON *shape, uint64_t item_bytes, struct gw_tensor *t,
                            struct gw_err_ctx *ctx)
{
    const cJSON *item;
    uint64_t bytes = item_bytes;
    if (!cJSON_IsArray(shape)) return gw_fail(ctx, GW_ERR_INPUT, "tensor '%s': no array 'shape'", t->name);
    cJSON_ArrayForEach(item, shape)
    {
        uint64_t n;
        if (t->dims == GW_SAFETENSORS_DIMS_MAX)
            return gw_fail(ctx, GW_ERR_INPUT, "tensor '%s': more than %d dimensions", t->name,
                           GW_SAFETENSORS_DIMS_MAX);
        if (!whole_number(item, EXACT_INT_MAX, &n))
            return gw_fail(ctx, GW_ERR_INPUT, "tensor '%s': 'shape' is not made of sizes", t->name);
        if (__builtin_mul_overflow(bytes, n, &bytes))
            return gw_fail(ctx, GW_ERR_INPUT, "tensor '%s': 'shape' is too large", t->name);
        t->shape[t->dims++] = n;
    }
    t->bytes = bytes;
    return GW_OK;
}

static gw_err_t parse_place(const cJSON *offsets, const struct shard *shard, uint64_t item_bytes,
                            struct gw_tensor *t, struct gw_err_ctx *ctx)
{
    uint64_t begin, end;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !whole_number(cJSON_GetArrayItem(offsets, 0), EXACT_INT_MAX, &begin) ||
        !whole_number(cJSON_GetArrayItem(offsets, 1), EXACT_INT_MAX, &end))
        return gw_fail(ctx, GW_ERR_INPUT, "tensor '%s': 'data_offsets' is not [begin, end]", t->name);
    if (begin > end || end > shard->data_bytes)
        return gw_fail(ctx, GW_ERR_INPUT,
                       "tensor '%s': bytes [%llu, %llu) are outside of the file's %llu data bytes", t->name,
                       (unsigned long long)begin, (unsigned long long)end,
                       (unsigned long long)shard->data_bytes);
    if (end - begin != t->bytes)
        return gw_fail(ctx, GW_ERR_INPUT, "tensor '%s': shape and type need %llu bytes, the file gives %llu",
                       t->name, (unsigned long long)t->bytes, (unsigned long long)(end - begin));
    if (begin % item_bytes != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "tensor '%s': offset %llu is not aligned for its type", t->name,
                       (unsigned long long)begin);
    t->data = shard->data + begin;
    return GW_OK;
}

static gw_err_t parse_tensor(const cJSON *item, const struct shard *shard, struct gw_tensor *t,
                             struct gw_err_ctx *ctx)
{
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(item, "dtype");
    const struct dtype_row *row = cJSON_IsString(dtype) ? dtype_of(dtype->valuestring) : NULL;
    if (!row) return gw_fail(ctx, GW_ERR_INPUT, "tensor '%s': unknown 'dtype'", t->name);
    t->type = row->type;
    TRY(parse_shape(cJSON_GetObjectItemCaseSensitive(item, "shape"), row->bytes, t, ctx));
    return parse_place(cJSON_GetObjectItemCaseSensitive(item, "data_offsets"), shard, row->bytes, t, ctx);
}

static gw_err_t grow(struct gw_safetensors *f, struct gw_err_ctx *ctx)
{
    if (f->len < f->cap) return GW_OK;
    if (f->len == GW_SAFETENSORS_COUNT_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "more than %u tensors", GW_SAFETENSORS_COUNT_MAX);
    uint32_t cap = f->cap ? 2 * f->cap : 256;
    struct gw_tensor *tensors = realloc(f->tensors, cap * sizeof *tensors);
    if (!tensors) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    f->tensors = tensors;
    f->cap = cap;
    return GW_OK;
}

static gw_err_t add_tensor(struct gw_safetensors *f, const cJSON *item, const struct shard *shard,
                           struct gw_err_ctx *ctx)
{
    size_t len = strlen(item->string);
    if (len == 0 || len > GW_SAFETENSORS_NAME_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "a tensor's name has %zu bytes, at most %d are read", len,
                       GW_SAFETENSORS_NAME_MAX);
    TRY(grow(f, ctx));
    struct gw_tensor *t = &f->tensors[f->len];
    *t = (struct gw_tensor){.name = strdup(item->string)};
    if (!t->name) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    f->len++;
    return parse_tensor(item, shard, t, ctx);
}

static int by_place(const void *a, const void *b)
{
    const struct gw_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int by_name(const void *a, const void *b)
{
    const struct gw_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* tensors[first..len) are those of one shard. Bytes behind the last one belong to nobody: a file that lies.
 */
static gw_err_t check_places(struct gw_safetensors *f, uint32_t first, const struct shard *shard,
                             struct gw_err_ctx *ctx)
{
    uint64_t end = 0;
    if (f->len > first) qsort(f->tensors + first, f->len - first, sizeof *f->tensors, by_place);
    for (uint32_t i = first; i < f->len; i++) {
        const struct gw_tensor *t = &f->tensors[i];
        uint64_t begin = (uint64_t)((const uint8_t *)t->data - shard->data);
        if (begin < end)
            return gw_fail(ctx, GW_ERR_INPUT, "tensors '%s' and '%s' overlap", t[-1].name, t->name);
        end = begin + t->bytes;
    }
    if (end != shard->data_bytes)
        return gw_fail(ctx, GW_ERR_INPUT, "the tensors end at byte %llu of %llu", (unsigned long long)end,
                       (unsigned long long)shard->data_bytes);
    return GW_OK;
}

/* Finds the data section behind the header; copies it when no operation could read it in place. */
static gw_err_t place_data(struct shard *shard, uint64_t header_bytes, struct gw_err_ctx *ctx)
{
    shard->data = shard->bytes + LENGTH_BYTES + header_bytes;
    shard->data_bytes = shard->len - LENGTH_BYTES - header_bytes;
    if ((LENGTH_BYTES + header_bytes) % sizeof(uint64_t) == 0 || shard->data_bytes == 0) return GW_OK;
    shard->copy = malloc(shard->data_bytes);
    if (!shard->copy) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    memcpy(shard->copy, shard->data, shard->data_bytes);
    shard->data = shard->copy;
    return GW_OK;
}

static gw_err_t parse_file(struct gw_safetensors *f, struct shard *shard, struct gw_err_ctx *ctx)
{
    uint64_t header_bytes = 0;
    cJSON *header = NULL;
    if (shard->len < LENGTH_BYTES)
        return gw_fail(ctx, GW_ERR_INPUT, "%zu bytes are too short for a safetensors file", shard->len);
    for (int i = LENGTH_BYTES; i-- > 0;) header_bytes = header_bytes << 8 | shard->bytes[i];
    if (header_bytes > shard->len - LENGTH_BYTES)
        return gw_fail(ctx, GW_ERR_INPUT, "the header's length is beyond the end of the file");
    const char *text = (const char *)shard->bytes + LENGTH_BYTES;
    TRY(gw_json_parse(text, header_bytes, GW_SAFETENSORS_HEADER_MAX, &header, ctx));
    gw_err_t err = GW_OK;
    uint32_t first = f->len;
    if (!cJSON_IsObject(header)) {
        err = gw_fail(ctx, GW_ERR_INPUT, "the header is no JSON object");
        goto out;
    }
    TRY_GOTO(place_data(shard, header_bytes, ctx), out);
    const cJSON *item;
    cJSON_ArrayForEach(item, header)
    {
        if (strcmp(item->string, "__metadata__") == 0) continue;
        TRY_GOTO(add_tensor(f, item, shard, ctx), out);
    }
    err = check_places(f, first, shard, ctx);
out:
    cJSON_Delete(header);
    return err;
}

static gw_err_t open_shard(struct gw_safetensors *f, const char *dir, const char *name,
                           struct gw_err_ctx *ctx)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return gw_fail(ctx, GW_ERR_LIMIT, "%s: path too long", dir);
    struct shard *shard = &f->shards[f->shards_len++];
    TRY(map_file(path, shard, ctx));
    gw_err_t err = parse_file(f, shard, ctx);
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "%s", path);
}

static gw_err_t sort_names(struct gw_safetensors *f, struct gw_err_ctx *ctx)
{
    if (f->len) qsort(f->tensors, f->len, sizeof *f->tensors, by_name);
    for (uint32_t i = 0; i + 1 < f->len; i++)
        if (strcmp(f->tensors[i].name, f->tensors[i + 1].name) == 0)
            return gw_fail(ctx, GW_ERR_INPUT, "tensor '%s' is there twice", f->tensors[i].name);
    return GW_OK;
}

static gw_err_t create(uint32_t shards, struct gw_safetensors **out, struct gw_err_ctx *ctx)
{
    struct gw_safetensors *f = calloc(1, sizeof *f);
    if (f) f->shards = calloc(shards, sizeof *f->shards);
    if (!f || !f->shards) {
        free(f);
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    }
    *out = f;
    return GW_OK;
}

gw_err_t gw_safetensors_open(const char *dir, struct gw_safetensors **out, struct gw_err_ctx *ctx)
{
    struct gw_model_files files;
    struct gw_safetensors *f = NULL;
    TRY(gw_model_files_find(dir, &files, ctx));
    gw_err_t err = create(files.count, &f, ctx);
    for (uint32_t i = 0; err == GW_OK && i < files.count; i++) err = open_shard(f, dir, files.names[i], ctx);
    gw_model_files_fini(&files);
    if (err == GW_OK) {
        err = sort_names(f, ctx);
        if (err != GW_OK) gw_fail_prefix(ctx, err, "%s", dir);
    }
    if (err == GW_OK)
        *out = f;
    else
        gw_safetensors_close(f);
    return err;
}

gw_err_t gw_safetensors_parse(const void *bytes, size_t len, struct gw_safetensors **out,
                              struct gw_err_ctx *ctx)
{
    struct gw_safetensors *f = NULL;
    TRY(create(1, &f, ctx));
    f->shards[f->shards_len++] = (struct shard){.bytes = bytes, .len = len};
    gw_err_t err = parse_file(f, &f->shards[0], ctx);
    if (err == GW_OK) err = sort_names(f, ctx);
    if (err == GW_OK)
        *out = f;
    else
        gw_safetensors_close(f);
    return err;
}

uint32_t gw_safetensors_count(const struct gw_safetensors *f)
{
    return f->len;
}

const struct gw_tensor *gw_safetensors_at(const struct gw_safetensors *f, uint32_t index)
{
    return &f->tensors[index];
}

void gw_safetensors_close(struct gw_safetensors *f)
{
    if (!f) return;
    for (uint32_t i = 0; i < f->len; i++) free(f->tensors[i].name);
    for (uint32_t i = 0; i < f->shards_len; i++) {
        if (f->shards[i].mapped) munmap((void *)f->shards[i].bytes, f->shards[i].len);
        free(f->shards[i].copy);
    }
    free(f->tensors);
    free(f->shards);
    free(f);
}

const struct gw_tensor *gw_safetensors_find(const struct gw_safetensors *f, const char *name)
{
    uint32_t low = 0, high = f->len;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int order = strcmp(name, f->tensors[mid].name);
        if (order == 0) return &f->tensors[mid];
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}
