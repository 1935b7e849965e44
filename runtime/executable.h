/* An executable: a checked program, who owns its code, and the context it runs in. Immutable and
 * counted; workspaces hold a count. */
#ifndef KILN_RUNTIME_EXECUTABLE_H
#define KILN_RUNTIME_EXECUTABLE_H

#include "runtime/context.h"

typedef void kiln_release_fn(void *owner);

struct kiln_executable {
    _Atomic uint32_t refs;
    kiln_context *context; /* one count */
    const kiln_program *program;
    void *owner;              /* of code, constants and tables; opaque here */
    kiln_release_fn *release; /* called once with `owner`; NULL: the program outlives us */
};

/* Takes `owner` on success only. On failure the sentence is on the context. */
kiln_status kiln_executable_adopt(kiln_context *context, const kiln_program *program, void *owner,
                                  kiln_release_fn *release, kiln_executable **out_executable);

/* The owner, when `release` is the function it was adopted with; else NULL: so the compiler finds
 * its own data (the report, objects to write) and nobody else's. */
void *kiln_executable_owner(const kiln_executable *executable, kiln_release_fn *release);

kiln_executable *kiln_executable_retain(kiln_executable *executable);

/* Checks every table of a program: abi, ports, buffers, operands, steps, sizes and CPU features.
 * ABI, UNSUPPORTED, LIMIT or CORRUPT with a sentence that names the row. */
kiln_status kiln_program_verify(const kiln_program *program, uint64_t cpu_features,
                                int64_t max_bytes, kiln_error *error);

/* The abi and the size only, before anything else is read. */
kiln_status kiln_program_verify_abi(const kiln_program *program, kiln_error *error);

/* verify_batch.c: what the sizes of an open batch have to do with each other; each of them is
 * verified like a program of its own besides. */
kiln_status kiln_program_verify_batch(const kiln_program *program, kiln_error *error);

/* Bytes of arena and of one worker's scratch, in whole cache lines; of the largest size. */
int64_t kiln_program_arena_bytes(const kiln_program *program);
int64_t kiln_program_scratch_bytes(const kiln_program *program);
#endif
