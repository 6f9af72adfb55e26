/* Logits of documents, for tests/bench/bench_loss.py: standard input has a document a line, token ids with spaces between; OUT
 * gets the rows of all their tokens in order, [vocab] f32 each, of the machine's byte order.
 *
 * usage: peer_logits MODEL PROFILE OUT < DOCUMENTS
 *        peer_logits MODEL ids TEXT > DOCUMENTS      what the model's tokenizer makes of a text; a document begins at each bos */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "controller/text/tokenizer.h"
#include "tests/lib/forward_run.h"

#define TEXT_MAX (1u << 20) /* bytes, and tokens */

struct out {
    FILE *file;
    uint32_t vocab;
};

static void must(gw_err_t err, const struct gw_err_ctx *ctx)
{
    if (err == GW_OK) return;
    fprintf(stderr, "peer_logits: %s\n", ctx->text);
    exit(1);
}

static void must_io(bool ok, const char *path)
{
    if (ok) return;
    fprintf(stderr, "peer_logits: %s: %s\n", path, strerror(errno));
    exit(1);
}

static void print_ids(const char *model, const char *text)
{
    struct gw_err_ctx ctx = {0};
    struct gw_tokenizer *tokenizer;
    char *bytes;
    size_t len, ids_len;
    uint32_t *ids;
    must(gw_tokenizer_open(model, &tokenizer, &ctx), &ctx);
    must(gw_file_read(text, TEXT_MAX, &bytes, &len, &ctx), &ctx);
    must(gw_tokenizer_encode(tokenizer, bytes, len, GW_ENCODE_PARSE_SPECIAL, TEXT_MAX, &ids, &ids_len, &ctx),
         &ctx);
    for (size_t i = 0; i < ids_len; i++) printf("%s%u", i == 0 ? "" : ids[i] == ids[0] ? "\n" : " ", ids[i]);
    printf("\n");
    free(bytes);
    free(ids);
    gw_tokenizer_close(tokenizer);
}

static void write_row(void *arg, uint32_t at, const float *row)
{
    struct out *out = arg;
    (void)at;
    must_io(fwrite(row, sizeof *row, out->vocab, out->file) == out->vocab, "OUT");
}

static void write_logits(const char *dir, const char *profile, const char *path)
{
    struct gw_err_ctx ctx = {0};
    struct gw_model *model;
    struct forward_run run = {0};
    char *line = NULL;
    size_t room = 0;
    must(gw_model_open(dir, &model, &ctx), &ctx);
    must(forward_run_open(&run, model, profile, &ctx), &ctx);
    struct out out = {.file = fopen(path, "wb"), .vocab = model->config.vocab};
    must_io(out.file != NULL, path);
    while (getline(&line, &room, stdin) > 0) {
        uint32_t ids[FORWARD_RUN_ROWS_MAX], len = 0;
        for (char *at = line, *end; len < FORWARD_RUN_ROWS_MAX; at = end) {
            unsigned long id = strtoul(at, &end, 10);
            if (end == at) break;
            if (id >= out.vocab) must(gw_fail(&ctx, GW_ERR_INPUT, "a token %lu of %u", id, out.vocab), &ctx);
            ids[len++] = (uint32_t)id;
        }
        must(forward_run_document(&run, ids, len, write_row, &out, &ctx), &ctx);
    }
    must_io(fclose(out.file) == 0, path);
    free(line);
    forward_run_close(&run);
    gw_model_close(model);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: peer_logits MODEL PROFILE OUT < DOCUMENTS | peer_logits MODEL ids TEXT\n");
        return 2;
    }
    if (strcmp(argv[2], "ids") == 0)
        print_ids(argv[1], argv[3]);
    else
        write_logits(argv[1], argv[2], argv[3]);
    return 0;
}
