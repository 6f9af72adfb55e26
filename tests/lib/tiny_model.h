/* Model directories made by tests: safetensors files byte by byte, in a temporary directory that is removed. */
#ifndef GW_TESTS_TINY_MODEL_H
#define GW_TESTS_TINY_MODEL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TINY_PATH_MAX 512

struct tiny_dir {
    char path[64];
};

static inline void tiny_dir_make(struct tiny_dir *d)
{
    strcpy(d->path, "/tmp/godwit-unit-XXXXXX");
    assert_non_null(mkdtemp(d->path));
}

static inline void tiny_dir_remove(struct tiny_dir *d)
{
    char path[TINY_PATH_MAX];
    DIR *dir = opendir(d->path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", d->path, e->d_name);
        if (e->d_name[0] != '.' || strlen(e->d_name) > 2) unlink(path);
    }
    closedir(dir);
    assert_int_equal(rmdir(d->path), 0);
}

static inline void tiny_write(const struct tiny_dir *d, const char *name, const void *bytes, size_t len)
{
    char path[TINY_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", d->path, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* A safetensors file of this header text and data. */
static inline void tiny_write_safetensors(const struct tiny_dir *d, const char *name, const char *header,
                                          const void *data, size_t data_len)
{
    uint64_t header_len = strlen(header);
    size_t len = sizeof header_len + header_len + data_len;
    uint8_t *bytes = malloc(len);
    memcpy(bytes, &header_len, sizeof header_len); /* little-endian, as this machine */
    memcpy(bytes + sizeof header_len, header, header_len);
    if (data_len) memcpy(bytes + sizeof header_len + header_len, data, data_len);
    tiny_write(d, name, bytes, len);
    free(bytes);
}

#endif
