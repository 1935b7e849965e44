/* Kernels to objects on several threads. Each job has a scope of its own and stores its status; the
 * error of the lowest unit wins, so the message does not depend on timing. Threads are short-lived,
 * with 64 MB stacks: instruction selection recurses deeply on long kernels. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/compile.h"

#define STACK_BYTES ((size_t)64 << 20)
#define MAX_THREADS 64

typedef struct job_result {
    kiln_error error;
    void *data; /* malloc'ed object bytes */
    size_t bytes;
} job_result;

typedef struct job_queue {
    const kiln_backend *backend;
    kiln_unit *units;
    job_result *results;
    uint32_t n_units;
    atomic_uint next;
} job_queue;

static void run_job(job_queue *queue, uint32_t number)
{
    job_result *result = &queue->results[number];
    const kiln_unit *unit = &queue->units[number];
    kiln_scope scope;
    kiln_scope_open(&scope, &result->error);
    if (kiln_scope_try(&scope)) {
        kiln_object object = {0};
        queue->backend->compile(&scope, unit->kernel, unit->symbol, &object);
        result->data = malloc(object.bytes ? object.bytes : 1);
        if (!result->data) {
            kiln_fail(&scope, KILN_NO_MEMORY, "%s: %zu bytes of code", unit->symbol, object.bytes);
        }
        memcpy(result->data, object.data, object.bytes);
        result->bytes = object.bytes;
    }
    result->error.status = kiln_scope_close(&scope);
}

static void *run_jobs(void *argument)
{
    job_queue *queue = argument;
    for (;;) {
        uint32_t number = atomic_fetch_add(&queue->next, 1);
        if (number >= queue->n_units) return NULL;
        run_job(queue, number);
    }
}

static void free_results(void *object)
{
    job_queue *queue = object;
    for (uint32_t i = 0; i < queue->n_units; i++) free(queue->results[i].data);
}

static void run_threads(job_queue *queue, uint32_t n_threads)
{
    pthread_t threads[MAX_THREADS];
    uint32_t n_started = 0;
    pthread_attr_t attributes;
    bool has_attributes = pthread_attr_init(&attributes) == 0;
    if (has_attributes) pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (uint32_t i = 0; i < n_threads && i < MAX_THREADS; i++) {
        if (pthread_create(&threads[n_started], has_attributes ? &attributes : NULL, run_jobs,
                           queue)) {
            break;
        }
        n_started++;
    }
    if (has_attributes) pthread_attr_destroy(&attributes);
    if (!n_started) run_jobs(queue);
    for (uint32_t i = 0; i < n_started; i++) pthread_join(threads[i], NULL);
}

void kiln_compile_units(kiln_compilation *compilation, uint32_t n_threads)
{
    kiln_scope *scope = compilation->scope;
    job_queue *queue = kiln_new(&scope->arena, job_queue);
    queue->backend = compilation->backend;
    queue->units = compilation->units.at;
    queue->n_units = compilation->units.n;
    queue->results = kiln_new_array(&scope->arena, job_result, queue->n_units);
    atomic_init(&queue->next, 0);
    kiln_scope_defer(scope, free_results, queue);

    if (n_threads > queue->n_units) n_threads = queue->n_units;
    run_threads(queue, n_threads);
    for (uint32_t i = 0; i < queue->n_units; i++) {
        job_result *result = &queue->results[i];
        if (result->error.status != KILN_OK) kiln_fail_with(scope, &result->error);
        queue->units[i].object = (kiln_object){
            .data = kiln_arena_copy(&scope->arena, result->data, result->bytes),
            .bytes = result->bytes,
            .symbol = queue->units[i].symbol,
        };
    }
}
