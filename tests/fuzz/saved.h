/* Failing cases as files: the graph's text between comments that say what failed and hold the bytes
 * of the inputs.
 *
 *     # run: fuzz
 *     # fused: output y: 2 elements differ …
 *     kiln 1
 *     graph fuzz(%in0: f32[2]) { … }
 *     # input 0000803f00000040       in hexadecimal, one line an input; or: splat, one element */
#ifndef KILN_TESTS_FUZZ_SAVED_H
#define KILN_TESTS_FUZZ_SAVED_H

#include "fuzz/shrink.h"

/* Writes folder/name.kiln; false when it cannot be written. */
bool fuzz_save(kiln_scope *scope, const char *path, const fuzz_case *c, const char *sentence);
/* The case of such a file, in the scope; fails with IO or MODEL. */
fuzz_case fuzz_load(kiln_scope *scope, kiln_context *context, const char *path);
#endif
