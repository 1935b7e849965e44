/* The pool: workers that run one job together with the caller, and the wait that they share. */
#ifndef KILN_RUNTIME_THREADS_H
#define KILN_RUNTIME_THREADS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct kiln_threads kiln_threads;

/* One worker's part of a job. */
typedef void kiln_threads_body(void *state, uint32_t worker);

/* n >= 2 workers, the caller included. Fewer when the system gives no more threads; NULL when it
 * gives none. */
kiln_threads *kiln_threads_create(uint32_t n);
void kiln_threads_destroy(kiln_threads *threads);
uint32_t kiln_threads_count(const kiln_threads *threads);

/* Runs body(state, 0) on the caller and body(state, w) on each worker w that comes while the caller
 * is at it; returns when all that came are done. A job must therefore be complete when the caller's
 * part is: workers help, nobody waits for a sleeper. False, and nothing runs, when another job is
 * in progress or the process has forked since the creation. */
bool kiln_threads_run(kiln_threads *threads, kiln_threads_body *body, void *state);

/* One turn of a wait for another thread: pauses, and lets others run after a while. Starts at 0. */
void kiln_threads_spin(uint32_t *turns);
#endif
