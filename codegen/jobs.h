/* Short-lived threads for the work of a compile: numbered jobs, taken in order, run in any. */
#ifndef KILN_CODEGEN_JOBS_H
#define KILN_CODEGEN_JOBS_H

#include <stdint.h>

/* Runs job 0 … n_jobs - 1, each once, on up to n_threads threads with 64 MB stacks (on the caller
 * where none can be made), and returns when all are done. A job keeps its own errors. */
void kiln_run_jobs(uint32_t n_threads, uint32_t n_jobs, void (*run)(void *user, uint32_t number),
                   void *user);
#endif
