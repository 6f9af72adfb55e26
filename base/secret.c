#include "base/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/hash.h"

gw_err_t gw_secret_read(const char *path, char **out, size_t *len, struct gw_err_ctx *ctx)
{
    struct stat st;
    char *text = NULL;
    size_t n = 0;
    if (stat(path, &st) != 0)
        return gw_fail(ctx, errno == ENOENT ? GW_ERR_NOT_FOUND : GW_ERR_IO, "%s: %s", path, strerror(errno));
    if (st.st_mode & 077)
        return gw_fail(ctx, GW_ERR_INPUT, "%s: others may read this secret; run: chmod 600 %s", path, path);
    TRY(gw_file_read(path, GW_SECRET_MAX, &text, &n, ctx));
    while (n > 0 && strchr(" \t\r\n", text[n - 1])) text[--n] = '\0';
    if (n == 0) {
        free(text);
        return gw_fail(ctx, GW_ERR_INPUT, "%s: the secret is empty", path);
    }
    *out = text;
    *len = n;
    return GW_OK;
}

void gw_secret_free(char *secret, size_t len)
{
    if (!secret) return;
    gw_bytes_wipe(secret, len);
    free(secret);
}
