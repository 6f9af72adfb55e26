/* cloud/xml: paths and texts in order; what is refused, and as what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/xml.h"

#define SEEN_MAX 1024

struct seen {
    char text[SEEN_MAX];
    gw_err_t answer;
};

static gw_err_t on_begin(void *arg, const char *path)
{
    struct seen *s = arg;
    size_t len = strlen(s->text);
    snprintf(s->text + len, sizeof s->text - len, "<%s ", path);
    return GW_OK;
}

static gw_err_t on_end(void *arg, const char *path, const char *text)
{
    struct seen *s = arg;
    size_t len = strlen(s->text);
    snprintf(s->text + len, sizeof s->text - len, "%s=%s ", path, text);
    return s->answer;
}

static gw_err_t walk(const char *xml, size_t len, struct seen *s)
{
    const struct gw_xml_handler handler = {.begin = on_begin, .end = on_end, .arg = s};
    return gw_xml_walk(xml, len, &handler, NULL);
}

static gw_err_t walk_text(const char *xml)
{
    struct seen s = {.answer = GW_OK};
    return walk(xml, strlen(xml), &s);
}

static void test_walk_elements_have_their_paths_and_texts(void **state)
{
    static const char xml[] =
        "<?xml version='1.0'?>\n<r xmlns='urn:x'>\n <a k='v'> one &amp; 1 </a><b><a/></b>\n</r>";
    struct seen s = {.answer = GW_OK};
    (void)state;
    assert_int_equal(walk(xml, sizeof xml - 1, &s), GW_OK);
    assert_string_equal(s.text, "</r </r/a /r/a=one & 1 </r/b </r/b/a /r/b/a= /r/b= /r= ");
}

static void test_walk_malformed_is_a_protocol_error(void **state)
{
    static const char *const cases[] = {"",     "<",  "<a>",         "<a></b>",      "<a/><b/>",
                                        "text", "{}", "<a>\xff</a>", "<a>&nbsp;</a>"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(walk_text(cases[i]), GW_ERR_PROTO);
}

static void test_walk_document_types_are_refused_before_they_expand(void **state)
{
    (void)state;
    assert_int_equal(walk_text("<!DOCTYPE a [<!ENTITY x 'yyyy'><!ENTITY z '&x;&x;&x;'>]><a>&z;</a>"),
                     GW_ERR_PROTO);
    assert_int_equal(walk_text("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>"), GW_ERR_PROTO);
}

static void test_walk_depth_and_text_have_limits(void **state)
{
    char deep[8 * (GW_XML_DEPTH_MAX + 1)] = "";
    (void)state;
    for (int i = 0; i <= GW_XML_DEPTH_MAX; i++) strcat(deep, "<a>");
    for (int i = 0; i <= GW_XML_DEPTH_MAX; i++) strcat(deep, "</a>");
    assert_int_equal(walk_text(deep), GW_ERR_LIMIT);
    char *text = calloc(1, GW_XML_TEXT_MAX + 16);
    strcpy(text, "<a>");
    memset(text + 3, 'x', GW_XML_TEXT_MAX);
    strcpy(text + 3 + GW_XML_TEXT_MAX, "</a>");
    assert_int_equal(walk_text(text), GW_OK);
    strcpy(text + 3 + GW_XML_TEXT_MAX, "x</a>");
    assert_int_equal(walk_text(text), GW_ERR_LIMIT);
    free(text);
}

static void test_walk_what_a_callback_gives_ends_it(void **state)
{
    struct seen s = {.answer = GW_ERR_LIMIT};
    (void)state;
    assert_int_equal(walk("<a><b/><c/></a>", 15, &s), GW_ERR_LIMIT);
    assert_string_equal(s.text, "</a </a/b /a/b= ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk_elements_have_their_paths_and_texts),
        cmocka_unit_test(test_walk_malformed_is_a_protocol_error),
        cmocka_unit_test(test_walk_document_types_are_refused_before_they_expand),
        cmocka_unit_test(test_walk_depth_and_text_have_limits),
        cmocka_unit_test(test_walk_what_a_callback_gives_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
