/* What a compiled model's own object calls. aot.c and cpu.c are linked into every such library:
 * they run a program on the caller's thread and need libc only. The generated object defines, for
 * the prefix "model":
 *
 *     const kiln_program model_program;
 *     int model_run(const void *const *inputs, void *const *outputs, void *arena)
 *         { return kiln_aot_run(&model_program, inputs, outputs, arena); }
 *     int64_t model_arena_bytes(void) { return kiln_aot_arena_bytes(&model_program); }
 *     const kiln_port_row *model_inputs(uint32_t *n)
 *         { return kiln_aot_inputs(&model_program, n); }
 *     const kiln_port_row *model_outputs(uint32_t *n)
 *         { return kiln_aot_outputs(&model_program, n); }
 *
 * and, for a program with LIBRARY steps,
 *
 *     int model_call(const void *const *inputs, void *const *outputs, void *arena,
 *                    const kiln_custom_functions *functions)
 *         { return kiln_aot_call(&model_program, inputs, outputs, arena, functions); }
 *
 * and, for one with an open batch,
 *
 *     int model_run_rows(int64_t rows, const void *const *inputs, void *const *outputs,
 *                        void *arena)
 *         { return kiln_aot_run_rows(&model_program, rows, inputs, outputs, arena); }
 *
 * The functions and the table are exported, nothing else. */
#ifndef KILN_RUNTIME_AOT_H
#define KILN_RUNTIME_AOT_H

#include <stddef.h>
#include <stdint.h>

#include "kiln/program.h"

/* Runs the program. `arena` has kiln_aot_arena_bytes, aligned to 64; with NULL the call allocates
 * and frees it. Returns a kiln_status: UNSUPPORTED when the machine lacks a feature, INVALID for a
 * NULL or misaligned address, NO_MEMORY, RANGE from a check, UNSUPPORTED for LIBRARY steps. Threads
 * may call it at the same time with memory of their own. */
int kiln_aot_run(const kiln_program *program, const void *const *inputs, void *const *outputs,
                 void *arena);
/* The same with functions for LIBRARY steps, found by the name in the step's signature.
 * UNSUPPORTED, before anything is run, when one is missing; what a function returns other than 0
 * ends the run. */
int kiln_aot_call(const kiln_program *program, const void *const *inputs, void *const *outputs,
                  void *arena, const kiln_custom_functions *functions);
/* An open batch: any number of rows, each port of its batch with as many. Of 0 rows nothing is
 * looked at; INVALID below, and for a program without an open batch. */
int kiln_aot_run_rows(const kiln_program *program, int64_t rows, const void *const *inputs,
                      void *const *outputs, void *arena);
/* Of the largest size. */
int64_t kiln_aot_arena_bytes(const kiln_program *program);
/* `out_n` may be NULL. */
const kiln_port_row *kiln_aot_inputs(const kiln_program *program, uint32_t *out_n);
const kiln_port_row *kiln_aot_outputs(const kiln_program *program, uint32_t *out_n);

/* aot.c and cpu.c as one relocatable object, for the linker of compiled models; in libkiln only. */
extern const unsigned char kiln_aot_object[];
extern const uint64_t kiln_aot_object_bytes;
#endif
