#include "cloud/xml.h"

#include <ctype.h>
#include <expat.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct walk {
    XML_Parser parser;
    const struct gw_xml_handler *handler;
    gw_err_t err; /* the first one; the parser is then stopped */
    const char *why;
    char path[GW_XML_PATH_MAX];
    size_t path_len, depth;
    char text[GW_XML_TEXT_MAX + 1];
    size_t text_len;
};

static void stop(struct walk *w, gw_err_t err, const char *why)
{
    if (w->err != GW_OK) return;
    w->err = err;
    w->why = why;
    XML_StopParser(w->parser, XML_FALSE);
}

static void XMLCALL on_begin(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    struct walk *w = arg;
    (void)attributes;
    size_t len = strlen(name);
    if (w->err != GW_OK) return;
    if (w->depth == GW_XML_DEPTH_MAX || w->path_len + len + 2 > sizeof w->path) {
        stop(w, GW_ERR_LIMIT, "elements are nested too deep");
        return;
    }
    w->path[w->path_len++] = '/';
    memcpy(w->path + w->path_len, name, len + 1);
    w->path_len += len;
    w->depth++;
    w->text_len = 0;
    gw_err_t err = w->handler->begin ? w->handler->begin(w->handler->arg, w->path) : GW_OK;
    if (err != GW_OK) stop(w, err, "refused");
}

static const char *trimmed_text(struct walk *w)
{
    const char *from = w->text;
    while (w->text_len && isspace((unsigned char)w->text[w->text_len - 1])) w->text_len--;
    w->text[w->text_len] = '\0';
    while (isspace((unsigned char)*from)) from++;
    return from;
}

static void XMLCALL on_end(void *arg, const XML_Char *name)
{
    struct walk *w = arg;
    if (w->err != GW_OK) return;
    gw_err_t err = w->handler->end(w->handler->arg, w->path, trimmed_text(w));
    if (err != GW_OK) stop(w, err, "refused");
    w->path_len -= strlen(name) + 1;
    w->path[w->path_len] = '\0';
    w->depth--;
    w->text_len = 0; /* what follows belongs to the element around it: of no interest when it has children */
}

static void XMLCALL on_text(void *arg, const XML_Char *text, int len)
{
    struct walk *w = arg;
    if (w->err != GW_OK) return;
    if ((size_t)len > GW_XML_TEXT_MAX - w->text_len) {
        stop(w, GW_ERR_LIMIT, "a text is too long");
        return;
    }
    memcpy(w->text + w->text_len, text, (size_t)len);
    w->text_len += (size_t)len;
}

static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *system_id,
                               const XML_Char *public_id, int internal)
{
    (void)name;
    (void)system_id;
    (void)public_id;
    (void)internal;
    stop(arg, GW_ERR_PROTO, "it has a document type");
}

static gw_err_t parse(struct walk *w, const char *bytes, size_t len, struct gw_err_ctx *ctx)
{
    XML_SetUserData(w->parser, w);
    XML_SetElementHandler(w->parser, on_begin, on_end);
    XML_SetCharacterDataHandler(w->parser, on_text);
    XML_SetStartDoctypeDeclHandler(w->parser, on_doctype);
    if (len > INT_MAX) return gw_fail(ctx, GW_ERR_LIMIT, "XML of %zu bytes", len);
    if (XML_Parse(w->parser, bytes, (int)len, 1) == XML_STATUS_OK) return GW_OK;
    unsigned long line = XML_GetCurrentLineNumber(w->parser);
    if (w->err != GW_OK) return gw_fail(ctx, w->err, "XML, line %lu: %s", line, w->why);
    enum XML_Error error = XML_GetErrorCode(w->parser);
    return gw_fail(ctx, error == XML_ERROR_NO_MEMORY ? GW_ERR_MEMORY : GW_ERR_PROTO, "XML, line %lu: %s",
                   line, XML_ErrorString(error));
}

gw_err_t gw_xml_walk(const char *bytes, size_t len, const struct gw_xml_handler *handler,
                     struct gw_err_ctx *ctx)
{
    struct walk *w = calloc(1, sizeof *w);
    if (!w) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    w->handler = handler;
    w->parser = XML_ParserCreate("UTF-8");
    gw_err_t err = w->parser ? parse(w, bytes, len, ctx) : gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    if (w->parser) XML_ParserFree(w->parser);
    free(w);
    return err;
}
