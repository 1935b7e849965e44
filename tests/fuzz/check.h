/* One graph compiled in every way, against the evaluator and against itself: optimisation and
 * fusion off and on, one and two threads, x86-64-v3 and v4, tiles where the machine has them, just
 * in time and ahead of time. What must be the same bits is compared so. */
#ifndef KILN_TESTS_FUZZ_CHECK_H
#define KILN_TESTS_FUZZ_CHECK_H

#include "fuzz/shrink.h"
#include "ops/compiled.h"

#define FUZZ_MAX_VARIANTS 12

typedef struct fuzz_checker {
    compiled_contexts contexts; /* both keep kernels in one memory */
    char folder[64];            /* of shared objects */
    uint64_t n_kernels, n_compiled, n_unsupported, n_linked;
    uint64_t n_unwritten; /* without a form in ONNX */
    uint64_t n_runs[FUZZ_MAX_VARIANTS];
} fuzz_checker;

bool fuzz_checker_open(fuzz_checker *checker);
void fuzz_checker_close(fuzz_checker *checker);
/* Removes the files of a checker, also of one whose process is gone. */
void fuzz_checker_clear(fuzz_checker *checker);
/* NULL after the last one. */
const char *fuzz_variant_name(int variant);

typedef struct fuzz_failure {
    int variant; /* -1: none */
    kiln_status status;
    char sentence[KILN_MESSAGE_BYTES];
} fuzz_failure;

/* How to check: `is_linked` also makes a shared object with a context of its own, loads and runs
 * it; `only` restricts to one variant and the one it is compared with, -1 to none. */
typedef struct fuzz_how {
    bool is_linked;
    int only;
} fuzz_how;

/* The first failure, or variant -1. */
fuzz_failure fuzz_check(fuzz_checker *checker, kiln_scope *scope, const fuzz_case *c,
                        const fuzz_how *how);
#endif
