/* What each step of a program takes, beside what copying as many bytes would. */
#ifndef KILN_BENCHMARKS_STEPS_H
#define KILN_BENCHMARKS_STEPS_H

#include "kiln/compile.h"

typedef struct stepped_run {
    const kiln_executable *executable;
    kiln_workspace *workspace;
    const kiln_tensor *inputs, *outputs;
    uint32_t n_inputs, n_outputs;
} stepped_run;

/* Runs `run` for a number of rounds and prints one line a step under `title`: milliseconds (the
 * median), GB/s of the bytes of its operands, and their share of `copy_gb_per_s`. 0, or 1 when a
 * run failed. */
int print_steps(const stepped_run *run, const char *title, double copy_gb_per_s);
#endif
