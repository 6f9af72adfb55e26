#include "migrate/fingerprint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "migrate/model_files.h"

#define CACHE_NAME     ".godwit-fingerprint"
#define CACHE_TEXT_MAX 256
#define READ_BYTES     (1u << 20)

static gw_err_t join(char path[PATH_MAX], const char *dir, const char *name, struct gw_err_ctx *ctx)
{
    if (snprintf(path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "%s: path too long", dir);
    return GW_OK;
}

static gw_err_t hash_bytes(struct gw_sha256 *sha, int fd, const char *path, uint8_t *buf,
                           struct gw_err_ctx *ctx)
{
    for (;;) {
        ssize_t n = read(fd, buf, READ_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return gw_fail(ctx, GW_ERR_IO, "%s: %s", path, strerror(errno));
        if (n == 0) return GW_OK;
        gw_sha256_update(sha, buf, (size_t)n);
    }
}

/* name ‖ NUL ‖ size (u64 as the machine has it: little-endian) ‖ bytes: no two file sets give one stream. */
static gw_err_t hash_file(struct gw_sha256 *sha, const char *dir, const char *name, uint8_t *buf,
                          struct gw_err_ctx *ctx)
{
    char path[PATH_MAX];
    struct stat st;
    TRY(join(path, dir, name, ctx));
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return gw_fail(ctx, errno == ENOENT ? GW_ERR_NOT_FOUND : GW_ERR_IO, "%s: %s", path, strerror(errno));
    gw_err_t err = GW_OK;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        err = gw_fail(ctx, GW_ERR_IO, "%s: not a regular file", path);
    } else {
        uint64_t size = (uint64_t)st.st_size;
        gw_sha256_update(sha, name, strlen(name) + 1);
        gw_sha256_update(sha, &size, sizeof size);
        err = hash_bytes(sha, fd, path, buf, ctx);
    }
    close(fd);
    return err;
}

static gw_err_t hash_model(const char *dir, const struct gw_model_files *files,
                           uint8_t out[GW_FINGERPRINT_BYTES], struct gw_err_ctx *ctx)
{
    uint8_t digest[GW_SHA256_BYTES];
    uint8_t *buf = malloc(READ_BYTES);
    if (!buf) return gw_fail(ctx, GW_ERR_MEMORY, "%s: out of memory", dir);
    struct gw_sha256 *sha = gw_sha256_create();
    gw_sha256_update(sha, GW_FINGERPRINT_RULES, sizeof GW_FINGERPRINT_RULES);
    gw_err_t err = hash_file(sha, dir, "config.json", buf, ctx);
    for (uint32_t i = 0; i < files->count && err == GW_OK; i++)
        err = hash_file(sha, dir, files->names[i], buf, ctx);
    gw_sha256_finish(sha, digest);
    free(buf);
    if (err == GW_OK) memcpy(out, digest, GW_FINGERPRINT_BYTES);
    return err;
}

/* What the cached value depends on, hashed: rules, and name, size, mtime of each file. *total = bytes. */
static gw_err_t cache_key(const char *dir, const struct gw_model_files *files,
                          char hex[2 * GW_SHA256_BYTES + 1], uint64_t *total, struct gw_err_ctx *ctx)
{
    uint8_t digest[GW_SHA256_BYTES];
    struct gw_sha256 *sha = gw_sha256_create();
    gw_err_t err = GW_OK;
    *total = 0;
    gw_sha256_update(sha, GW_FINGERPRINT_RULES, sizeof GW_FINGERPRINT_RULES);
    for (uint32_t i = 0; i <= files->count && err == GW_OK; i++) {
        const char *name = i < files->count ? files->names[i] : "config.json";
        char path[PATH_MAX];
        struct stat st;
        TRY_GOTO(join(path, dir, name, ctx), out);
        if (stat(path, &st) != 0) {
            err =
                gw_fail(ctx, errno == ENOENT ? GW_ERR_NOT_FOUND : GW_ERR_IO, "%s: %s", path, strerror(errno));
            goto out;
        }
        int64_t facts[3] = {st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
        gw_sha256_update(sha, name, strlen(name) + 1);
        gw_sha256_update(sha, facts, sizeof facts);
        *total += (uint64_t)st.st_size;
    }
out:
    gw_sha256_finish(sha, digest);
    gw_hex(digest, sizeof digest, hex);
    return err;
}

/* The cache file: "<key hex> <fingerprint hex>\n". */
static bool cache_read(const char *path, const char *key, uint8_t out[GW_FINGERPRINT_BYTES])
{
    char *text = NULL;
    size_t len = 0, key_len = strlen(key);
    if (gw_file_read(path, CACHE_TEXT_MAX, &text, &len, NULL) != GW_OK) return false;
    bool ok = len == key_len + 2 + 2 * GW_FINGERPRINT_BYTES && memcmp(text, key, key_len) == 0;
    uint8_t value[GW_FINGERPRINT_BYTES];
    for (int i = 0; ok && i < GW_FINGERPRINT_BYTES; i++) {
        char pair[3] = {text[key_len + 1 + 2 * i], text[key_len + 2 + 2 * i], '\0'};
        char *end;
        value[i] = (uint8_t)strtoul(pair, &end, 16);
        ok = end == pair + 2;
    }
    free(text);
    if (ok) memcpy(out, value, sizeof value);
    return ok;
}

static bool cache_write(const char *path, const char *key, const uint8_t value[GW_FINGERPRINT_BYTES])
{
    char text[CACHE_TEXT_MAX], hex[2 * GW_FINGERPRINT_BYTES + 1];
    gw_hex(value, GW_FINGERPRINT_BYTES, hex);
    int len = snprintf(text, sizeof text, "%s %s\n", key, hex);
    return gw_file_replace(path, text, (size_t)len, 0644, NULL) == GW_OK;
}

/* The second place for the cache: $XDG_CACHE_HOME/godwit/fingerprint-<key>; false if there is none. */
static bool user_cache_path(const char *key, char path[PATH_MAX])
{
    const char *home = getenv("XDG_CACHE_HOME");
    if (!home || home[0] != '/') return false;
    if (snprintf(path, PATH_MAX, "%s/godwit", home) >= PATH_MAX) return false;
    if (mkdir(path, 0755) != 0 && errno != EEXIST) return false;
    return snprintf(path, PATH_MAX, "%s/godwit/fingerprint-%s", home, key) < PATH_MAX;
}

static gw_err_t through_cache(const char *dir, const struct gw_model_files *files,
                              uint8_t out[GW_FINGERPRINT_BYTES], struct gw_err_ctx *ctx)
{
    char key[2 * GW_SHA256_BYTES + 1], beside[PATH_MAX], user[PATH_MAX];
    uint64_t total;
    TRY(cache_key(dir, files, key, &total, ctx));
    if (total < GW_FINGERPRINT_CACHE_MIN_BYTES) return hash_model(dir, files, out, ctx);
    TRY(join(beside, dir, CACHE_NAME, ctx));
    bool has_user = user_cache_path(key, user);
    if (cache_read(beside, key, out) || (has_user && cache_read(user, key, out))) return GW_OK;
    TRY(hash_model(dir, files, out, ctx));
    bool kept = cache_write(beside, key, out) || (has_user && cache_write(user, key, out));
    (void)kept; /* without a place to keep it, the next start hashes again */
    return GW_OK;
}

gw_err_t gw_fingerprint_dir(const char *dir, uint8_t out[GW_FINGERPRINT_BYTES], struct gw_err_ctx *ctx)
{
    struct gw_model_files files;
    TRY(gw_model_files_find(dir, &files, ctx));
    gw_err_t err = through_cache(dir, &files, out, ctx);
    gw_model_files_fini(&files);
    return err;
}

/* print = that of what `format` makes of the model that has this print. */
static void refine(uint8_t print[GW_FINGERPRINT_BYTES], const char *format)
{
    uint8_t digest[GW_SHA256_BYTES];
    struct gw_sha256 *sha = gw_sha256_create();
    gw_sha256_update(sha, print, GW_FINGERPRINT_BYTES);
    gw_sha256_update(sha, format, strlen(format));
    gw_sha256_finish(sha, digest);
    memcpy(print, digest, GW_FINGERPRINT_BYTES);
}

gw_err_t gw_fingerprint_model(const char *dir, enum gw_weight_format weights, enum gw_kv_format kv,
                              uint8_t out[GW_FINGERPRINT_BYTES], struct gw_err_ctx *ctx)
{
    TRY(gw_fingerprint_dir(dir, out, ctx));
    if (weights != GW_WEIGHT_FILE) refine(out, gw_weight_format_name(weights));
    if (kv != GW_KV_FILE) {
        char name[32];
        snprintf(name, sizeof name, "kv %s", gw_kv_format_name(kv)); /* not a weight format's name */
        refine(out, name);
    }
    return GW_OK;
}
