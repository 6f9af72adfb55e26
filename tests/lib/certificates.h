/* Certificates for tests of TLS: an authority, and servers' certificates that it signs, as PEM files. */
#ifndef GW_TESTS_CERTIFICATES_H
#define GW_TESTS_CERTIFICATES_H

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

#define CERTIFICATE_DAY_S (24l * 3600)

struct authority {
    EVP_PKEY *key;
    X509 *cert;
};

static inline void certificate_need(bool ok)
{
    if (!ok) abort();
}

static inline void certificate_extend(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    certificate_need(e && X509_add_ext(cert, e, -1) == 1);
    X509_EXTENSION_free(e);
}

/* From a day ago until days from now. */
static inline X509 *certificate_of(const char *common_name, EVP_PKEY *key, long days)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    certificate_need(
        X509_set_version(cert, 2) == 1 && X509_set_pubkey(cert, key) == 1 &&
        ASN1_INTEGER_set(X509_get_serialNumber(cert), (long)(uintptr_t)key >> 4 & 0xFFFFFF) == 1 &&
        X509_gmtime_adj(X509_getm_notBefore(cert), -CERTIFICATE_DAY_S) &&
        X509_gmtime_adj(X509_getm_notAfter(cert), days * CERTIFICATE_DAY_S) &&
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)common_name, -1, -1, 0) == 1);
    return cert;
}

static inline struct authority authority_make(const char *name)
{
    struct authority a = {.key = EVP_EC_gen("P-256")};
    certificate_need(a.key);
    a.cert = certificate_of(name, a.key, 10);
    certificate_extend(a.cert, NID_basic_constraints, "critical,CA:TRUE");
    certificate_need(X509_set_issuer_name(a.cert, X509_get_subject_name(a.cert)) == 1 &&
                     X509_sign(a.cert, a.key, EVP_sha256()) > 0);
    return a;
}

static inline void authority_free(struct authority *a)
{
    X509_free(a->cert);
    EVP_PKEY_free(a->key);
}

static inline void certificate_write(const char *path, X509 *cert, EVP_PKEY *key)
{
    FILE *f = fopen(path, "w");
    certificate_need(f && (!cert || PEM_write_X509(f, cert) == 1) &&
                     (!key || PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1));
    certificate_need(fclose(f) == 0);
}

/* Writes a certificate for whom ("IP:127.0.0.1", "DNS:redis.example") and its key into one file. */
static inline void authority_issue(const struct authority *a, const char *whom, long days, const char *path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    certificate_need(key);
    X509 *cert = certificate_of("a server of the tests", key, days);
    certificate_extend(cert, NID_subject_alt_name, whom);
    certificate_need(X509_set_issuer_name(cert, X509_get_subject_name(a->cert)) == 1 &&
                     X509_sign(cert, a->key, EVP_sha256()) > 0);
    certificate_write(path, cert, key);
    X509_free(cert);
    EVP_PKEY_free(key);
}

#endif
