/* How long graphs of one operation take to compile. */
#ifndef KILN_BENCHMARKS_ONE_OP_H
#define KILN_BENCHMARKS_ONE_OP_H

#include <stdint.h>

/* Prints one line an operation: the least and the median milliseconds, over shapes, from the first
 * builder call to an executable of a context of `threads` that has compiled before, and the median
 * of the same graphs once more. Of operations whose name holds `only`; NULL: of all. 0, or 1 when a
 * compile failed. */
int print_one_op_compiles(uint32_t threads, const char *only);
#endif
