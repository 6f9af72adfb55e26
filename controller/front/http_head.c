#include "controller/front/http_head.h"

#define HEAD_BYTES_MAX 4096 /* ours are a few hundred bytes */

static const struct {
    int status;
    const char *text;
} statuses[] = {
    {200, "OK"},
    {202, "Accepted"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {417, "Expectation Failed"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {505, "HTTP Version Not Supported"},
};

const char *gw_http_status_text(int status)
{
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        if (statuses[i].status == status) return statuses[i].text;
    return "Unknown";
}

static void put_date(struct gw_buf *b, time_t date)
{
    static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm t;
    gmtime_r(&date, &t);
    gw_buf_printf(b, "Date: %.3s, %02d %.3s %04d %02d:%02d:%02d GMT\r\n", days + 3 * t.tm_wday, t.tm_mday,
                  months + 3 * t.tm_mon, t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
}

static void put_framing(struct gw_buf *b, const struct gw_http_head *head)
{
    if (head->framing == GW_HTTP_LENGTH) gw_buf_printf(b, "Content-Length: %zu\r\n", head->length);
    if (head->framing == GW_HTTP_CHUNKED) gw_buf_puts(b, "Transfer-Encoding: chunked\r\n");
    if (head->connection) gw_buf_printf(b, "Connection: %s\r\n", head->connection);
}

gw_err_t gw_http_head_put(struct evbuffer *out, const struct gw_http_head *head)
{
    struct gw_buf b;
    gw_buf_init(&b, HEAD_BYTES_MAX);
    gw_buf_printf(&b, GW_HTTP_VERSION_BYTES "%d %s\r\n", head->status, gw_http_status_text(head->status));
    put_date(&b, head->date);
    if (head->content_type) gw_buf_printf(&b, "Content-Type: %s\r\n", head->content_type);
    put_framing(&b, head);
    if (head->request_id) gw_buf_printf(&b, "X-Request-Id: %s\r\n", head->request_id);
    for (int i = 0; i < head->headers_len; i++)
        gw_buf_printf(&b, "%s: %s\r\n", head->headers[i].name, head->headers[i].value);
    gw_buf_puts(&b, "\r\n");
    gw_err_t err = b.err;
    if (err == GW_OK && evbuffer_add(out, b.data, b.len) != 0) err = GW_ERR_MEMORY;
    gw_buf_fini(&b);
    return err;
}
