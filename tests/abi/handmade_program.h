/* A program written by hand, as a compiler would emit it: constant tables and kernels that call
 * nothing. Linked into the tests, and into a shared object as a compiled model is. */
#ifndef KILN_TESTS_HANDMADE_PROGRAM_H
#define KILN_TESTS_HANDMADE_PROGRAM_H

#include "kiln/program.h"

#define HANDMADE_ROWS 1000
#define HANDMADE_COLUMNS 17

/* out = x * 2 + y + column table, then each row less its mean; total = the sum of x's row 0 by a
 * loop of steps; "x: a row index below 0" is RANGE when fault is not 0. */
extern const kiln_program handmade_program;
#endif
