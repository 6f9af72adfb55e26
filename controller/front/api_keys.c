#include "controller/front/api_keys.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/hash.h"

#define FILE_BYTES_MAX (4u << 20)

struct entry {
    uint8_t key[GW_SHA256_BYTES];
    uint8_t tenant[GW_REQUEST_TENANT_BYTES];
};

struct gw_api_keys {
    size_t len;
    struct entry entries[GW_API_KEYS_MAX];
};

static void digest(const char *text, size_t len, uint8_t out[GW_SHA256_BYTES])
{
    struct gw_sha256 *s = gw_sha256_create();
    gw_sha256_update(s, text, len);
    gw_sha256_finish(s, out);
}

static gw_err_t add_line(struct gw_api_keys *keys, char *line, int number, struct gw_err_ctx *ctx)
{
    uint8_t hash[GW_SHA256_BYTES];
    line += strspn(line, " \t");
    size_t len = strcspn(line, "\r\n");
    while (len > 0 && strchr(" \t", line[len - 1])) len--;
    line[len] = '\0';
    if (len == 0 || line[0] == '#') return GW_OK;
    char *colon = strchr(line, ':');
    if (!colon || colon == line)
        return gw_fail(ctx, GW_ERR_INPUT, "line %d: not in the form tenant:key", number);
    const char *key = colon + 1;
    if (!*key) return gw_fail(ctx, GW_ERR_INPUT, "line %d: the key is empty", number);
    if (keys->len == GW_API_KEYS_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "line %d: more than %d keys", number, GW_API_KEYS_MAX);
    struct entry *e = &keys->entries[keys->len++];
    digest(key, strlen(key), e->key);
    digest(line, (size_t)(colon - line), hash);
    memcpy(e->tenant, hash, sizeof e->tenant);
    return GW_OK;
}

static gw_err_t add_lines(struct gw_api_keys *keys, char *text, struct gw_err_ctx *ctx)
{
    int number = 1;
    for (char *line = text, *next; line; line = next, number++) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        TRY(add_line(keys, line, number, ctx));
    }
    if (keys->len == 0) return gw_fail(ctx, GW_ERR_INPUT, "no key in it");
    return GW_OK;
}

gw_err_t gw_api_keys_open(const char *path, struct gw_api_keys **out, struct gw_err_ctx *ctx)
{
    char *text = NULL;
    size_t len = 0;
    TRY(gw_file_read(path, FILE_BYTES_MAX, &text, &len, ctx));
    struct gw_api_keys *keys = calloc(1, sizeof *keys);
    gw_err_t err = keys ? add_lines(keys, text, ctx) : gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    gw_bytes_wipe(text, len);
    free(text);
    if (err != GW_OK) {
        free(keys);
        return gw_fail_prefix(ctx, err, "%s", path);
    }
    *out = keys;
    return GW_OK;
}

void gw_api_keys_destroy(struct gw_api_keys *keys)
{
    free(keys);
}

const char *gw_bearer_token(const char *authorization)
{
    if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0) return NULL;
    return authorization + 7 + strspn(authorization + 7, " ");
}

bool gw_api_keys_check(const struct gw_api_keys *keys, const char *authorization,
                       uint8_t tenant[GW_REQUEST_TENANT_BYTES])
{
    uint8_t hash[GW_SHA256_BYTES];
    memset(tenant, 0, GW_REQUEST_TENANT_BYTES);
    if (!keys) return true;
    const char *token = gw_bearer_token(authorization);
    if (!token) return false;
    digest(token, strlen(token), hash);
    const struct entry *found = NULL;
    for (size_t i = 0; i < keys->len; i++)
        if (gw_bytes_equal_ct(hash, keys->entries[i].key, sizeof hash)) found = &keys->entries[i];
    if (found) memcpy(tenant, found->tenant, GW_REQUEST_TENANT_BYTES);
    return found != NULL;
}
