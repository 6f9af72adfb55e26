/* A fuzz target: one function that is given bytes and must survive them, whatever they are.
 *
 * Each tests/fuzz/fuzz_<name>.c defines LLVMFuzzerTestOneInput for one parser of outside bytes, and has a
 * corpus of real inputs in tests/fuzz/corpus/<name>. libFuzzer drives it where clang is found (`make fuzz`),
 * driver.c elsewhere and in `make test`. A target asserts what must hold of every answer (our bug if it does
 * not).
 *
 * Owner: the caller's bytes, in a heap block of exactly len. Thread: one. Errors: it returns 0 or does not
 * return. Source: libFuzzer's interface. */
#ifndef GW_TESTS_FUZZ_H
#define GW_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#endif
