/* controller/cli/cluster_view and its picture: any {"layout", "workers", "stats"} is drawn within its width, or refused in
 * words. */
#include <assert.h>
#include <string.h>

#include "controller/cli/cluster_picture.h"
#include "controller/cli/settled.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_MAX    (64u << 10)
#define PICTURE_MAX (16u << 20)

static void draw(const struct cluster_view *v, uint32_t columns, uint32_t rows)
{
    struct canvas c;
    struct gw_buf b;
    const struct cluster_rates rates = {0};
    const struct canvas_print how = {.colours = columns % 2, .line_end = "\n"};
    canvas_init(&c, columns);
    gw_buf_init(&b, PICTURE_MAX);
    uint32_t y = cluster_picture_head(&c, 0, v, &rates);
    y = cluster_picture_pipelines(&c, y, rows, v);
    cluster_picture_workers(&c, y, rows, v);
    canvas_put(&c, &how, &b);
    assert(c.err == GW_OK && b.err == GW_OK);
    for (size_t i = 0, x = 0; !how.colours && i < b.len; i++) {
        x = b.data[i] == '\n' ? 0 : x + 1;
        assert(x <= c.columns && (b.data[i] == '\n' || (b.data[i] >= ' ' && b.data[i] < 0x7f)));
    }
    gw_buf_fini(&b);
    canvas_fini(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    cJSON *tree = NULL;
    struct gw_err_ctx ctx = {0};
    struct cluster_view v;
    char unserved[UNSERVED_BYTES];
    if (gw_json_parse((const char *)bytes, len, TEXT_MAX, &tree, NULL) != GW_OK) return 0;
    const struct cluster_answers answers = {cJSON_GetObjectItemCaseSensitive(tree, "layout"),
                                            cJSON_GetObjectItemCaseSensitive(tree, "workers"),
                                            cJSON_GetObjectItemCaseSensitive(tree, "stats")};
    (void)cluster_settled(answers.layout, unserved);
    if (cluster_view_read(&answers, &v, &ctx) == GW_OK) {
        draw(&v, 80, 0);
        draw(&v, 1 + (uint32_t)(len % 90), 1 + (uint32_t)(len % 30));
        cluster_view_fini(&v);
    } else {
        assert(ctx.code != GW_OK && ctx.text[0] && v.pipelines_len == 0);
    }
    cJSON_Delete(tree);
    return 0;
}
