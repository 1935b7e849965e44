/* A workspace: one run's memory, and all that can be worked out before the run.
 *
 * Invariants: `pointers` holds one address per operand of a program; those of ports are the ones
 * of the last checked run, or of its last chunk. `state` is RUNNING only inside kiln_run; a stop is
 * a change of it. Every worker's scratch is its own. Cursors carry the tag of their step, so they
 * are never reset. */
#ifndef KILN_RUNTIME_WORKSPACE_H
#define KILN_RUNTIME_WORKSPACE_H

#include "runtime/cuda.h"
#include "runtime/executable.h"

enum { KILN_RUN_IDLE, KILN_RUN_RUNNING, KILN_RUN_CANCELLED, KILN_RUN_DEADLINE };

#define KILN_FORK_NS 10000.0 /* a cheaper step alone runs on the caller */

/* How a step runs. Its tiles are split in n_workers equal ranges, worker w always the same one; a
 * range is taken in chunks, by its owner first, by others when they have finished theirs. */
typedef struct kiln_step_plan {
    kiln_kernel_fn *kernel; /* NULL: BRANCH, JUMP, CHECK, LIBRARY */
    const struct kiln_custom_entry *custom; /* LIBRARY */
    void *const *buffers;
    const int64_t *sizes;  /* COPY: see copy_bytes; else NULL */
    uint32_t n_tiles;
    uint32_t n_workers;    /* 1: the caller alone */
    uint32_t chunk;        /* tiles of one call in a shared step */
    uint32_t serial_chunk; /* tiles of one call on one worker: about 5 ms */
    uint32_t region_end;   /* the first step after this one's region */
    uint32_t is_forked;    /* this step or a later one of the region has n_workers > 1, or
                              small ones beside each other are worth workers */
    bool is_beside;        /* starts without waiting for the step before it */
    bool is_grouped;       /* it or the step after it is beside: whoever comes first runs what is
                              for one worker */
} kiln_step_plan;

/* tag << 16 | chunks taken. An older tag means none taken. */
typedef struct kiln_cursor {
    _Alignas(64) _Atomic uint64_t taken;
} kiln_cursor;

/* The memory of a port in the check of overlaps. */
typedef struct kiln_span {
    uintptr_t begin, end;
    uint32_t port; /* inputs, then outputs */
} kiln_span;

/* What is worked out for one program. */
typedef struct kiln_program_plan {
    const kiln_program *program;
    kiln_step_plan *plans;
    void **pointers;
    int64_t *copy_bytes;  /* by step: what is copied; all of the target with a number, else 0 */
    uint32_t *uses;       /* operands that are a port, port by port */
    uint32_t *first_use;  /* by port: where its uses begin; one more at the end */
    uint64_t *step_times; /* in those of the workspace */
    kiln_cuda *cuda;      /* NULL unless the program has device_kernels; then it runs there */
} kiln_program_plan;

struct kiln_workspace {
    kiln_executable *executable; /* one count */
    kiln_context *context;       /* the executable's */
    kiln_threads *pool;          /* NULL: the caller's threads, or none */
    uint32_t threads;
    uint32_t mxcsr;

    char *memory; /* arena, then scratch of each worker */
    int64_t memory_bytes;
    char *scratch;
    int64_t scratch_stride;

    kiln_program_plan now;    /* at work: a copy of one of `sizes` */
    kiln_program_plan *sizes; /* of the program; of an open batch, of the larger ones too */
    uint32_t n_sizes;
    bool is_open;
    int64_t rows;         /* open batch: of the last checked run */
    void **bases;         /* open batch: by port, of the last checked run */
    void **port_data;     /* inputs, then outputs: of the last checked run, or of the chunk */
    kiln_span *spans;
    uint64_t *step_times; /* of all sizes, one after the other */
    kiln_cursor *cursors; /* by worker */
    uint64_t tag;

    int64_t deadline_ns;
    int64_t deadline_at; /* 0: none */
    bool is_profiled, is_checked;
    kiln_error error;
    _Alignas(64) _Atomic uint32_t state;
};

/* Checks the tensors of a run and stores their addresses in `pointers`. */
kiln_status kiln_ports_bind(kiln_workspace *workspace, const kiln_tensor *inputs, uint32_t n_inputs,
                            const kiln_tensor *outputs, uint32_t n_outputs);

/* One tensor against what its port expects; overlaps of all; and where kernels find a port. */
kiln_status kiln_port_check(kiln_workspace *workspace, uint32_t port, const kiln_port_row *row,
                            const kiln_tensor *tensor);
kiln_status kiln_ports_check_overlaps(kiln_workspace *workspace, const kiln_tensor *inputs,
                                      const kiln_tensor *outputs);
void kiln_port_point(kiln_workspace *workspace, uint32_t port, void *data);

/* batch.c: the same for an open batch, and its chunks one after the other. */
kiln_status kiln_batch_bind(kiln_workspace *workspace, const kiln_tensor *inputs,
                            const kiln_tensor *outputs);
kiln_status kiln_batch_run(kiln_workspace *workspace);

/* Runs the program of `now`, here or on its device. */
kiln_status kiln_program_run(kiln_workspace *workspace);

/* Runs all steps. KILN_OK also when it was stopped: `state` says so. */
kiln_status kiln_steps_run(kiln_workspace *workspace);

/* Runs steps first … last - 1, all with kernels, in one region. */
void kiln_region_run(kiln_workspace *workspace, uint32_t first, uint32_t last);

/* Marks the steps that may run beside those before them; the regions are known. */
void kiln_plan_beside(kiln_workspace *workspace);

/* True when the run is to end; notices a deadline. */
bool kiln_run_should_stop(kiln_workspace *workspace);

int64_t kiln_clock_ns(void);
#endif
