/* A row a step: times from the profile of the workspace, bytes from the buffers of the program.
 * Operands in constants and in the arena count as a whole, in-place ones as read and written. */
#include "benchmarks/steps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kiln/program.h"

#define N_RUNS 21

static int compare_times(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double step_bytes(const kiln_program *program, const kiln_step_row *step)
{
    double bytes = 0;
    for (uint32_t i = 0; i < step->n_operands; i++)
        bytes += (double)program->buffers[program->operands[step->first_operand + i]].bytes;
    return bytes;
}

static void print_step(const kiln_program *program, uint32_t number, double ms,
                       double copy_gb_per_s)
{
    const kiln_step_row *step = &program->steps[number];
    const char *label = step->label == KILN_NONE ? "" : program->strings[step->label];
    double bytes = step_bytes(program, step), rate = bytes / ms * 1e-6;
    printf("  %4u %9.4f ms %9.1f MB %8.1f GB/s %4.0f%%  %.40s\n", number, ms, bytes * 1e-6, rate,
           rate / copy_gb_per_s * 100, label);
}

int print_steps(const stepped_run *run, const char *title, double copy_gb_per_s)
{
    const kiln_program *program = kiln_executable_program(run->executable);
    uint32_t n = program->n_steps;
    uint64_t *times = malloc((n + 1) * N_RUNS * sizeof *times);
    if (!times) return 1;
    kiln_workspace_set_profile(run->workspace, 1);
    int is_failed = 0;
    for (uint32_t i = 0; i < N_RUNS && !is_failed; i++) {
        is_failed = kiln_run(run->workspace, run->inputs, run->n_inputs, run->outputs,
                             run->n_outputs) != KILN_OK;
        const uint64_t *now = kiln_workspace_step_times(run->workspace);
        for (uint32_t j = 0; j < n; j++) times[j * N_RUNS + i] = now[j];
    }
    kiln_workspace_set_profile(run->workspace, 0);
    printf("%s, step by step; bytes of the operands, share of a copy\n", title);
    for (uint32_t j = 0; j < n && !is_failed; j++) {
        qsort(times + j * N_RUNS, N_RUNS, sizeof *times, compare_times);
        double ms = (double)times[j * N_RUNS + N_RUNS / 2] * 1e-6;
        print_step(program, j, ms, copy_gb_per_s);
    }
    free(times);
    return is_failed;
}
