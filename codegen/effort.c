/* The compile of an operation that stands alone is waited for, its kernels run for microseconds.
 * Without LLVM's combining and scheduling a compile takes two thirds of the time and a run up to a
 * sixth longer, in parts of kernels that are no product somewhat more. */
#include "codegen/effort.h"

#define MOST_OPERATIONS 2
#define MOST_WAIT 4.1  /* milliseconds */
#define KERNEL_MS 1.7  /* of a kernel without instructions */
#define VALUE_MS 0.018 /* of an instruction, for each register that its value takes */

/* Of run, by the cost model, that are a millisecond of compile: a tenth of the one, which is what
 * long formulas lose, is worth a quarter of the other at 200 runs. */
#define RUN_NS 12000.0

static double estimate_ms(const kiln_kernel *kernel)
{
    int64_t vector = kernel->machine->vector_bytes, values = 0;
    for (kiln_kv v = 1; v < kernel->instrs.n; v++) {
        const kiln_instr *instr = kiln_kernel_at(kernel, v);
        int64_t bytes = instr->lanes * (int64_t)kiln_dtype_bytes((kiln_dtype)instr->dtype);
        values += bytes > vector ? (bytes + vector - 1) / vector : 1;
    }
    return KERNEL_MS + VALUE_MS * (double)values;
}

static bool stands_alone(const kiln_graph *source)
{
    uint32_t n_operations = 0;
    for (uint32_t id = 1; id < source->nodes.n && n_operations <= MOST_OPERATIONS; id++) {
        kiln_op op = source->nodes.at[id]->op;
        if (op != KILN_OP_input && op != KILN_OP_constant) n_operations++;
    }
    return n_operations <= MOST_OPERATIONS;
}

void kiln_choose_effort(const kiln_graph *source, const kiln_schedule *schedule,
                        kiln_kernel *const *kernels)
{
    double ms = 0, ns = 0;
    if (schedule->machine->kind != KILN_MACHINE_CPU || !stands_alone(source)) return;
    uint32_t n = schedule->groups.n;
    for (uint32_t i = 0; i < n; i++) {
        if (!kernels[i] || kiln_kernel_has_tiles(kernels[i])) return;
        ms += estimate_ms(kernels[i]);
        ns += schedule->groups.at[i].ns;
    }
    if (ms <= MOST_WAIT || ns > RUN_NS * ms) return;
    for (uint32_t i = 0; i < n; i++) kernels[i]->is_quick = true;
}
