/* What no page transfer can do without: `bench <name> ours=<x> ref=<y> ratio=<x/y> unit=<u>`.
 *
 *     page_checksum      a page of 32 KiB in L2. ref: CRC32C by its instruction, four lanes
 *     page_copy_cpu      processor time of 256 MiB of pages, summed up and copied within this process (lower is better). ref:
 *                        the copy alone
 *
 * The best of ROUNDS turns. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "migrate/checksum.h"

#define PAGE_BYTES   ((size_t)32 << 10)
#define TOTAL        ((size_t)256 << 20)
#define ROUNDS       10
#define CHECK_ROUNDS 200
#define CHECKS       100 /* of a round: one takes a microsecond */

static void report(const char *name, double ours, double ref, const char *unit)
{
    printf("bench %s ours=%.2f ref=%.2f ratio=%.2f unit=%s\n", name, ours, ref, ours / ref, unit);
    fflush(stdout);
}

static double cpu_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint8_t *map_pages(int fill)
{
    uint8_t *pages = mmap(NULL, TOTAL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        fprintf(stderr, "bench_page: no memory\n");
        exit(1);
    }
    (void)madvise(pages, TOTAL, MADV_HUGEPAGE);
    memset(pages, fill, TOTAL);
    return pages;
}

__attribute__((target("sse4.2"), noipa)) static uint64_t crc_lanes(const uint8_t *p, size_t len)
{
    uint64_t crc[4] = {0};
    for (size_t i = 0; i + 32 <= len; i += 32)
        for (size_t lane = 0; lane < 4; lane++) {
            uint64_t word;
            memcpy(&word, p + i + 8 * lane, sizeof word);
            crc[lane] = __builtin_ia32_crc32di(crc[lane], word);
        }
    return crc[0] ^ crc[1] << 1 ^ crc[2] << 2 ^ crc[3] << 3;
}

static uint64_t bench_checksum(const uint8_t *page)
{
    uint64_t sum = 0;
    double ours = 0, ref = 0;
    for (int round = 0; round < CHECK_ROUNDS; round++) {
        double start_s = cpu_s();
        for (int i = 0; i < CHECKS; i++) sum += gw_checksum(page, PAGE_BYTES);
        double middle_s = cpu_s();
        for (int i = 0; i < CHECKS; i++) sum += crc_lanes(page, PAGE_BYTES);
        double end_s = cpu_s();
        ours = fmax(ours, (double)(CHECKS * PAGE_BYTES) / (middle_s - start_s) / 1e9);
        ref = fmax(ref, (double)(CHECKS * PAGE_BYTES) / (end_s - middle_s) / 1e9);
    }
    report("page_checksum", ours, ref, "GB/s");
    return sum;
}

static uint64_t bench_copy(uint8_t *to, const uint8_t *from)
{
    uint64_t sum = 0;
    double ours = INFINITY, ref = INFINITY;
    for (int round = 0; round < ROUNDS; round++) {
        double start_s = cpu_s();
        for (size_t at = 0; at < TOTAL; at += PAGE_BYTES) {
            sum += gw_checksum(from + at, PAGE_BYTES);
            memcpy(to + at, from + at, PAGE_BYTES);
        }
        double middle_s = cpu_s();
        for (size_t at = 0; at < TOTAL; at += PAGE_BYTES) memcpy(to + at, from + at, PAGE_BYTES);
        double end_s = cpu_s();
        ours = fmin(ours, (middle_s - start_s) / (double)TOTAL * 1e9);
        ref = fmin(ref, (end_s - middle_s) / (double)TOTAL * 1e9);
    }
    report("page_copy_cpu", ours, ref, "ns/byte");
    return sum;
}

int main(void)
{
    uint8_t *to = map_pages(1), *from = map_pages(2);
    uint64_t sum = bench_checksum(from) + bench_copy(to, from);
    munmap(to, TOTAL);
    munmap(from, TOTAL);
    return sum == 0; /* it is not; the compiler does not know */
}
