/* Numbered jobs on threads that live as long as the work; and kernels to objects as such jobs. Each
 * kernel has a scope of its own and stores its status; the error of the lowest unit wins, so the
 * message does not depend on timing. Stacks are large: instruction selection recurses deeply on
 * long kernels. Not even one short kernel is compiled on the caller's thread, which takes 0.1 ms
 * less: LLVM's thread-local data would stay with it, and leak checkers die of that. */
#include "codegen/jobs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/compile.h"
#include "codegen/kernel_memo.h"
#include "codegen/tool_pool.h"

#define STACK_BYTES ((size_t)64 << 20)
#define MAX_THREADS 64

typedef struct job_queue {
    void (*run)(void *user, uint32_t number);
    void *user;
    uint32_t n_jobs;
    atomic_uint next;
} job_queue;

static void *take_jobs(void *argument)
{
    job_queue *queue = argument;
    for (;;) {
        uint32_t number = atomic_fetch_add(&queue->next, 1);
        if (number >= queue->n_jobs) return NULL;
        queue->run(queue->user, number);
    }
}

void kiln_run_jobs(uint32_t n_threads, uint32_t n_jobs, void (*run)(void *user, uint32_t number),
                   void *user)
{
    job_queue queue = {.run = run, .user = user, .n_jobs = n_jobs};
    atomic_init(&queue.next, 0);
    pthread_t threads[MAX_THREADS];
    uint32_t n_started = 0;
    pthread_attr_t attributes;
    bool has_attributes = pthread_attr_init(&attributes) == 0;
    if (has_attributes) pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (uint32_t i = 0; i < n_threads && i < MAX_THREADS && i < n_jobs; i++) {
        if (pthread_create(&threads[n_started], has_attributes ? &attributes : NULL, take_jobs,
                           &queue)) {
            break;
        }
        n_started++;
    }
    if (has_attributes) pthread_attr_destroy(&attributes);
    if (!n_started) take_jobs(&queue);
    for (uint32_t i = 0; i < n_started; i++) pthread_join(threads[i], NULL);
}

typedef struct unit_result {
    kiln_error error;
    void *data; /* malloc'ed object bytes */
    size_t bytes;
} unit_result;

typedef struct unit_work {
    kiln_context *context;
    const kiln_backend *backend;
    const kiln_unit *units;
    unit_result *results;
    uint32_t *numbers; /* of the units that are to be compiled */
    uint32_t n_numbers, n_units;
} unit_work;

static void compile_unit(void *user, uint32_t job)
{
    unit_work *work = user;
    uint32_t number = work->numbers[job];
    unit_result *result = &work->results[number];
    const kiln_unit *unit = &work->units[number];
    kiln_scope scope;
    kiln_scope_open(&scope, &result->error);
    if (kiln_scope_try(&scope)) {
        kiln_object object = {0};
        kiln_tools *tools = kiln_tools_borrow(&scope, work->context, work->backend);
        work->backend->compile(&scope, tools, unit->kernel, unit->symbol, &object);
        result->data = malloc(object.bytes ? object.bytes : 1);
        if (!result->data) {
            kiln_fail(&scope, KILN_NO_MEMORY, "%s: %zu bytes of code", unit->symbol, object.bytes);
        }
        memcpy(result->data, object.data, object.bytes);
        result->bytes = object.bytes;
    }
    result->error.status = kiln_scope_close(&scope);
}

static void free_results(void *object)
{
    unit_work *work = object;
    for (uint32_t i = 0; i < work->n_units; i++) free(work->results[i].data);
}

void kiln_compile_units(kiln_compilation *compilation, uint32_t n_threads)
{
    kiln_scope *scope = compilation->scope;
    kiln_context *context = compilation->pipeline.context;
    unit_work *work = kiln_new(&scope->arena, unit_work);
    work->context = context;
    work->backend = compilation->backend;
    work->units = compilation->units.at;
    work->n_units = compilation->units.n;
    work->results = kiln_new_array(&scope->arena, unit_result, work->n_units);
    kiln_scope_defer(scope, free_results, work);
    work->numbers = kiln_new_array(&scope->arena, uint32_t, work->n_units + 1);
    for (uint32_t i = 0; i < work->n_units; i++) {
        kiln_unit *unit = &compilation->units.at[i];
        bool is_known = context && kiln_kernel_memo_find(context, &scope->arena, unit);
        if (!is_known) work->numbers[work->n_numbers++] = i;
    }

    compilation->n_compiled = work->n_numbers;
    kiln_run_jobs(n_threads, work->n_numbers, compile_unit, work);
    for (uint32_t i = 0; i < work->n_numbers; i++) {
        unit_result *result = &work->results[work->numbers[i]];
        kiln_unit *unit = &compilation->units.at[work->numbers[i]];
        if (result->error.status != KILN_OK) kiln_fail_with(scope, &result->error);
        unit->object = (kiln_object){result->data, result->bytes, unit->symbol};
        if (context) kiln_kernel_memo_keep(context, unit);
    }
}
