/* XML that came from outside: a walk over its elements, bounded.
 *
 * Names are the path from the root ("/Response/Result/Instances/member/InstanceId"); attributes and name spaces are not
 * looked at. Document types are refused, so that there are no entities but the five of XML itself: nothing expands,
 * nothing is fetched.
 *
 * Owner: borrows. Thread: safe. Units: bytes.
 * Errors: GW_ERR_PROTO (not well formed, a DOCTYPE), GW_ERR_LIMIT (GW_XML_*_MAX), GW_ERR_MEMORY, or what a callback
 * gave. Source: libexpat. */
#ifndef GW_CLOUD_XML_H
#define GW_CLOUD_XML_H

#include "base/err.h"

#define GW_XML_DEPTH_MAX 24
#define GW_XML_PATH_MAX  512
#define GW_XML_TEXT_MAX  (16u << 10)

struct gw_xml_handler {
    /* An element begins; NULL: not looked at. */
    gw_err_t (*begin)(void *arg, const char *path);
    /* An element ends; text: all character data directly in it, white space around it taken off. */
    gw_err_t (*end)(void *arg, const char *path, const char *text);
    void *arg;
};

gw_err_t gw_xml_walk(const char *bytes, size_t len, const struct gw_xml_handler *handler,
                     struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
