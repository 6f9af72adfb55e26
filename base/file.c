#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static gw_err_t read_all(int fd, const char *path, char *data, size_t size, struct gw_err_ctx *ctx)
{
    size_t got = 0;
    while (got < size) {
        ssize_t n = read(fd, data + got, size - got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return gw_fail(ctx, GW_ERR_IO, "%s: %s", path, strerror(errno));
        if (n == 0) return gw_fail(ctx, GW_ERR_IO, "%s: shrank while it was read", path);
        got += (size_t)n;
    }
    return GW_OK;
}

gw_err_t gw_file_read(const char *path, size_t max_bytes, char **out, size_t *len, struct gw_err_ctx *ctx)
{
    gw_err_t err = GW_OK;
    char *data = NULL;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return gw_fail(ctx, errno == ENOENT ? GW_ERR_NOT_FOUND : GW_ERR_IO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        err = gw_fail(ctx, GW_ERR_IO, "%s: not a regular file", path);
        goto out;
    }
    if ((uint64_t)st.st_size > max_bytes) {
        err = gw_fail(ctx, GW_ERR_LIMIT, "%s: %lld bytes, at most %zu are read", path, (long long)st.st_size,
                      max_bytes);
        goto out;
    }
    data = malloc((size_t)st.st_size + 1);
    if (!data) {
        err = gw_fail(ctx, GW_ERR_MEMORY, "%s: out of memory", path);
        goto out;
    }
    TRY_GOTO(read_all(fd, path, data, (size_t)st.st_size, ctx), out);
    data[st.st_size] = '\0';
    *out = data;
    *len = (size_t)st.st_size;
    data = NULL;
out:
    free(data);
    close(fd);
    return err;
}

static gw_err_t write_all(int fd, const char *path, const void *bytes, size_t len, struct gw_err_ctx *ctx)
{
    const char *p = bytes;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return gw_fail(ctx, GW_ERR_IO, "%s: %s", path, strerror(errno));
        p += n;
        len -= (size_t)n;
    }
    return GW_OK;
}

gw_err_t gw_file_replace(const char *path, const void *bytes, size_t len, unsigned mode,
                         struct gw_err_ctx *ctx)
{
    char temp[PATH_MAX];
    if (snprintf(temp, sizeof temp, "%s.XXXXXX", path) >= (int)sizeof temp)
        return gw_fail(ctx, GW_ERR_LIMIT, "%s: path too long", path);
    int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) return gw_fail(ctx, GW_ERR_IO, "%s: %s", temp, strerror(errno));
    gw_err_t err = write_all(fd, temp, bytes, len, ctx);
    if (err == GW_OK && fchmod(fd, (mode_t)mode) != 0)
        err = gw_fail(ctx, GW_ERR_IO, "%s: %s", temp, strerror(errno));
    if (close(fd) != 0 && err == GW_OK) err = gw_fail(ctx, GW_ERR_IO, "%s: %s", temp, strerror(errno));
    if (err == GW_OK && rename(temp, path) != 0)
        err = gw_fail(ctx, GW_ERR_IO, "%s: %s", path, strerror(errno));
    if (err != GW_OK) unlink(temp);
    return err;
}
