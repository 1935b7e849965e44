/* Kernels for testing printers: small kernels over every instruction, dtype and lane count, with
 * their data and the results that plain C gives. A printer's test builds each case, runs it in its
 * own way and lets the case check itself. */
#ifndef KILN_TESTS_KERNEL_BENCH_H
#define KILN_TESTS_KERNEL_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/kernel.h"

/* A case at work: parameter i is the array buffers.at[i]; everything is owned by the scope. */
typedef struct bench {
    kiln_scope *scope;
    const kiln_machine *machine;
    kiln_kernel *k;
    kiln_vec(void *) buffers;
    uint32_t lanes;
    kiln_dtype dtype;
    kiln_loop_kind kind; /* of inner loops */
    uint32_t flags;
    kiln_kv zero, tile;
    const void *table;
} bench;

/* Builds the kernel of a case and fills its buffers; checks them after a run of tiles 0 … n_tiles
 * - 1. */
typedef struct bench_case {
    const char *name;
    uint32_t n_tiles;
    uint32_t variants;            /* of each dtype and lane count: 0 … variants - 1 */
    bool (*fits)(const bench *b); /* NULL: every dtype, lane count and machine */
    void (*build)(bench *b);
    void (*check)(const bench *b);
} bench_case;

extern const bench_case bench_cases[];
extern const size_t n_bench_cases;
extern const kiln_dtype bench_dtypes[];
extern const size_t n_bench_dtypes;

typedef struct bench_spec {
    const char *machine;
    kiln_dtype dtype;
    uint32_t lanes, variant;
} bench_spec;

/* One of the cases for a machine, a dtype and lanes; NULL when it does not fit. */
bench *bench_create(kiln_scope *scope, const bench_case *row, const bench_spec *spec);
#endif
