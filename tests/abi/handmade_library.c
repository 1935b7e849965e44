/* The entry points of a compiled model, as the compiler emits them, over the hand-made program. */
#include "runtime/aot.h"
#include "tests/abi/handmade_program.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT int handmade_run(const void *const *inputs, void *const *outputs, void *arena);
EXPORT int64_t handmade_arena_bytes(void);
EXPORT int foreign_run(const void *const *inputs, void *const *outputs, void *arena);
EXPORT const kiln_port_row *handmade_inputs(uint32_t *n);
EXPORT const kiln_port_row *handmade_outputs(uint32_t *n);

int handmade_run(const void *const *inputs, void *const *outputs, void *arena)
{
    return kiln_aot_run(&handmade_program, inputs, outputs, arena);
}

/* The same for a machine that does not exist. */
int foreign_run(const void *const *inputs, void *const *outputs, void *arena)
{
    kiln_program program = handmade_program;
    program.cpu_features |= 1ull << 40;
    return kiln_aot_run(&program, inputs, outputs, arena);
}

int64_t handmade_arena_bytes(void)
{
    return kiln_aot_arena_bytes(&handmade_program);
}

const kiln_port_row *handmade_inputs(uint32_t *n)
{
    return kiln_aot_inputs(&handmade_program, n);
}

const kiln_port_row *handmade_outputs(uint32_t *n)
{
    return kiln_aot_outputs(&handmade_program, n);
}
