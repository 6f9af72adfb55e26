/* base/hash: published vectors, and what the 64-bit hash must not do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static void sha256_hex(const void *bytes, size_t len, size_t piece, char hex[65])
{
    uint8_t digest[GW_SHA256_BYTES];
    struct gw_sha256 *s = gw_sha256_create();
    const uint8_t *p = bytes;
    for (size_t at = 0; at < len; at += piece)
        gw_sha256_update(s, p + at, len - at < piece ? len - at : piece);
    gw_sha256_finish(s, digest);
    gw_hex(digest, sizeof digest, hex);
}

/* FIPS 180-4 examples (NIST CSRC, "SHA256.pdf") and the empty message (CAVP SHA256ShortMsg). */
static void test_sha256_published_vectors_match_however_the_text_is_cut(void **state)
{
    (void)state;
    static const struct {
        const char *text, *digest;
    } vectors[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    static const size_t pieces[] = {1, 3, 64, 1000};
    for (size_t v = 0; v < sizeof vectors / sizeof *vectors; v++)
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
            char hex[65];
            sha256_hex(vectors[v].text, strlen(vectors[v].text), pieces[p], hex);
            assert_string_equal(hex, vectors[v].digest);
        }
}

static void test_sha256_a_million_letters_match(void **state)
{
    (void)state;
    char hex[65], *text = malloc(1000000);
    assert_non_null(text);
    memset(text, 'a', 1000000);
    sha256_hex(text, 1000000, 4096, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(text);
}

/* RFC 4231, test cases 1, 2, 3, 4, 6 and 7. */
static void test_hmac_sha256_rfc4231_vectors_match(void **state)
{
    (void)state;
    uint8_t key_0b[20], key_aa[131], data_dd[50], data_cd[50], key_seq[25];
    memset(key_0b, 0x0b, sizeof key_0b);
    memset(key_aa, 0xaa, sizeof key_aa);
    memset(data_dd, 0xdd, sizeof data_dd);
    memset(data_cd, 0xcd, sizeof data_cd);
    for (int i = 0; i < 25; i++) key_seq[i] = (uint8_t)(i + 1);
    static const char large_key[] = "Test Using Larger Than Block-Size Key - Hash Key First";
    static const char large_both[] =
        "This is a test using a larger than block-size key and a larger than block-size data. "
        "The key needs to be hashed before being used by the HMAC algorithm.";
    const struct {
        const void *key;
        size_t key_len;
        const void *data;
        size_t len;
        const char *mac;
    } vectors[] = {
        {key_0b, 20, "Hi There", 8, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {"Jefe", 4, "what do ya want for nothing?", 28,
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {key_aa, 20, data_dd, 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
        {key_seq, 25, data_cd, 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
        {key_aa, 131, large_key, 54, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
        {key_aa, 131, large_both, 152, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        uint8_t mac[GW_SHA256_BYTES];
        char hex[65];
        gw_hmac_sha256(vectors[i].key, vectors[i].key_len, vectors[i].data, vectors[i].len, mac);
        gw_hex(mac, sizeof mac, hex);
        assert_string_equal(hex, vectors[i].mac);
    }
}

static void test_hmac_of_nothing_with_no_key_is_defined(void **state)
{
    (void)state;
    uint8_t mac[GW_SHA256_BYTES];
    char hex[65];
    gw_hmac_sha256(NULL, 0, NULL, 0, mac);
    gw_hex(mac, sizeof mac, hex);
    assert_string_equal(hex, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

/* The third output of Vigna's splitmix64.c from state 1234567 (the reference implementation's test values).
 */
static void test_mix64_is_splitmix64(void **state)
{
    (void)state;
    static const uint64_t wanted[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u};
    uint64_t x = 1234567;
    for (int i = 0; i < 3; i++) {
        assert_true(gw_mix64(x) == wanted[i]);
        x += 0x9E3779B97F4A7C15u;
    }
}

static void test_hash64_tells_lengths_seeds_and_every_bit_apart(void **state)
{
    (void)state;
    uint8_t text[33] = {0};
    for (size_t len = 0; len <= 32; len++) {
        uint64_t h = gw_hash64(text, len, 1);
        assert_true(h == gw_hash64(text, len, 1));
        assert_true(h != gw_hash64(text, len, 2));
        assert_true(h != gw_hash64(text, len + 1, 1));
        for (size_t bit = 0; bit < len * 8; bit++) {
            text[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            assert_true(h != gw_hash64(text, len, 1));
            text[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
    }
    assert_true(gw_hash64(NULL, 0, 5) == gw_hash64("x", 0, 5));
}

static void test_bytes_equal_ct_looks_at_every_byte(void **state)
{
    (void)state;
    uint8_t a[16] = {1, 2, 3}, b[16] = {1, 2, 3};
    assert_int_equal(gw_bytes_equal_ct(a, b, 16), 1);
    assert_int_equal(gw_bytes_equal_ct(a, b, 0), 1);
    for (size_t i = 0; i < 16; i++) {
        b[i] ^= 0x80;
        assert_int_equal(gw_bytes_equal_ct(a, b, 16), 0);
        assert_int_equal(gw_bytes_equal_ct(a, b, i), 1);
        b[i] ^= 0x80;
    }
}

static void test_bytes_wipe_leaves_zeros_and_no_more(void **state)
{
    (void)state;
    uint8_t secret[8] = "secret!";
    gw_bytes_wipe(secret, 6);
    assert_memory_equal(secret, "\0\0\0\0\0\0!", 8);
}

static void test_hex_is_lower_case_with_a_nul(void **state)
{
    (void)state;
    char out[9];
    memset(out, 'x', sizeof out);
    gw_hex("\x00\x9A\xFF", 3, out);
    assert_string_equal(out, "009aff");
    assert_int_equal(out[7], 'x');
    gw_hex(NULL, 0, out);
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_published_vectors_match_however_the_text_is_cut),
        cmocka_unit_test(test_sha256_a_million_letters_match),
        cmocka_unit_test(test_hmac_sha256_rfc4231_vectors_match),
        cmocka_unit_test(test_hmac_of_nothing_with_no_key_is_defined),
        cmocka_unit_test(test_mix64_is_splitmix64),
        cmocka_unit_test(test_hash64_tells_lengths_seeds_and_every_bit_apart),
        cmocka_unit_test(test_bytes_equal_ct_looks_at_every_byte),
        cmocka_unit_test(test_bytes_wipe_leaves_zeros_and_no_more),
        cmocka_unit_test(test_hex_is_lower_case_with_a_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
