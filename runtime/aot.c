/* Running a compiled model without the runtime library: the steps of a program, one after the
 * other, on the caller's thread. The arena is followed by one worker's scratch and by the addresses
 * of one step's operands, so a call allocates nothing when the caller brings the arena. */
#include "runtime/aot.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xmmintrin.h>

#include "base/checked.h"
#include "kiln/types.h"
#include "runtime/batch.h"
#include "runtime/copy.h"
#include "runtime/cpu.h"

#define MXCSR_EXACT 0x1f80u
#define MXCSR_FLUSH 0x9fc0u
typedef struct aot_run {
    const kiln_program *program; /* of an open batch: the size of the chunk at hand */
    const kiln_program *head;
    int64_t first;               /* row of the chunk */
    bool is_padded;              /* fewer rows than the smallest size has */
    const void *const *inputs;
    void *const *outputs;
    char *arena, *scratch;
    void **pointers;
    const kiln_custom_functions *functions; /* NULL: none */
} aot_run;

static uint32_t most_operands(const kiln_program *program)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < program->n_steps; i++) {
        if (program->steps[i].n_operands > most) most = program->steps[i].n_operands;
    }
    return most;
}

static int64_t size_arena_bytes(const kiln_program *program)
{
    int64_t pointers = (int64_t)most_operands(program) * (int64_t)sizeof(void *);
    return kiln_round_up(program->arena_bytes, 64) + kiln_round_up(program->scratch_bytes, 64) +
           kiln_round_up(pointers, 64);
}

int64_t kiln_aot_arena_bytes(const kiln_program *program)
{
    int64_t most = 0;
    for (uint32_t i = 0; i < kiln_program_n_sizes(program); i++)
        most = kiln_max_i64(most, size_arena_bytes(kiln_program_size(program, i)));
    return most;
}

const kiln_port_row *kiln_aot_inputs(const kiln_program *program, uint32_t *out_n)
{
    if (out_n) *out_n = program->n_inputs;
    return program->inputs;
}

const kiln_port_row *kiln_aot_outputs(const kiln_program *program, uint32_t *out_n)
{
    if (out_n) *out_n = program->n_outputs;
    return program->outputs;
}

static bool address_is_right(const kiln_port_row *port, const void *data)
{
    size_t unit = (size_t)port->bytes;
    for (uint32_t i = 0; i < port->rank && port->bytes; i++) unit /= (size_t)port->dims[i];
    return port->bytes == 0 || (data && (uintptr_t)data % unit == 0);
}

static bool addresses_are_right(const aot_run *run)
{
    const kiln_program *program = run->program;
    if ((program->n_inputs && !run->inputs) || (program->n_outputs && !run->outputs)) return false;
    for (uint32_t i = 0; i < program->n_inputs; i++) {
        if (!address_is_right(&program->inputs[i], run->inputs[i])) return false;
    }
    for (uint32_t i = 0; i < program->n_outputs; i++) {
        if (!address_is_right(&program->outputs[i], run->outputs[i])) return false;
    }
    return (uintptr_t)run->arena % 64 == 0;
}

/* Bytes of a port before the chunk at hand. */
static int64_t port_offset(const aot_run *run, uint32_t port)
{
    if (run->first == 0 || !run->head->is_batched[port]) return 0;
    return run->first * kiln_batch_row_bytes(run->head, port);
}

/* Where the ports of the run at hand are. */
static char *port_address(const aot_run *run, uint32_t port)
{
    const kiln_program *head = run->head;
    bool is_input = port < head->n_inputs;
    char *data = is_input ? (char *)(uintptr_t)run->inputs[port]
                          : (char *)run->outputs[port - head->n_inputs];
    if (run->is_padded && head->is_batched[port]) return kiln_batch_pad(head, port, run->arena);
    return data ? data + port_offset(run, port) : NULL;
}

static void *buffer_address(const aot_run *run, uint32_t number)
{
    const kiln_buffer_row *row = &run->program->buffers[number];
    switch ((kiln_buffer_kind)row->kind) {
    case KILN_BUFFER_INPUT:
        return port_address(run, row->index);
    case KILN_BUFFER_OUTPUT:
        return port_address(run, run->head->n_inputs + row->index);
    case KILN_BUFFER_CONSTANT:
        return (char *)(uintptr_t)run->program->constants + row->offset;
    case KILN_BUFFER_ARENA:
        return run->arena + row->offset;
    }
    return NULL;
}

static void copy_run(const aot_run *run, const kiln_step_row *step)
{
    const uint32_t *operands = &run->program->operands[step->first_operand];
    int64_t bytes = run->program->buffers[operands[0]].bytes, start = 0;
    if (step->n_operands == 3) {
        int64_t number;
        memcpy(&number, run->pointers[2], sizeof number);
        start = kiln_copy_stretch(number, bytes, run->program->buffers[operands[1]].bytes);
    }
    char *to = run->pointers[1];
    if (start >= 0 && run->pointers[0] != to + start)
        memcpy(to + start, run->pointers[0], (size_t)bytes);
}

static const kiln_custom_function *function_find(const aot_run *run, const kiln_step_row *step)
{
    const char *signature = run->program->strings[step->target];
    size_t n = strcspn(signature, "(");
    for (uint32_t i = 0; run->functions && i < run->functions->n; i++) {
        const kiln_custom_function *function = &run->functions->at[i];
        if (strlen(function->name) == n && memcmp(function->name, signature, n) == 0)
            return function;
    }
    return NULL;
}

/* Every function that the program calls is there. */
static bool functions_are_there(const aot_run *run)
{
    for (uint32_t i = 0; i < run->program->n_steps; i++) {
        const kiln_step_row *step = &run->program->steps[i];
        if (step->kind == KILN_STEP_LIBRARY && !function_find(run, step)) return false;
    }
    return true;
}

static kiln_status function_run(const aot_run *run, const kiln_step_row *step)
{
    const kiln_custom_function *function = function_find(run, step);
    kiln_custom_call_args args = {
        .signature = run->program->strings[step->target],
        .n_inputs = step->n_tiles,
        .n_outputs = step->n_operands - step->n_tiles,
        .inputs = (const void *const *)run->pointers,
        .outputs = run->pointers + step->n_tiles,
    };
    return (kiln_status)function->run(function->user, &args);
}

static kiln_status step_run(const aot_run *run, uint32_t *at)
{
    const kiln_program *program = run->program;
    const kiln_step_row *step = &program->steps[*at];
    kiln_kernel_args args = {run->pointers, NULL, run->scratch};
    uint32_t next = *at + 1;
    int64_t count;
    for (uint32_t i = 0; i < step->n_operands; i++) {
        run->pointers[i] = buffer_address(run, program->operands[step->first_operand + i]);
    }
    switch ((kiln_step_kind)step->kind) {
    case KILN_STEP_KERNEL:
    case KILN_STEP_PACK:
        if (step->n_tiles) program->kernels[step->target](&args, 0, step->n_tiles);
        break;
    case KILN_STEP_COPY:
        copy_run(run, step);
        break;
    case KILN_STEP_LIBRARY: {
        kiln_status status = function_run(run, step);
        if (status) return status;
        break;
    }
    case KILN_STEP_BRANCH:
        if (*(const unsigned char *)run->pointers[0]) next = step->target;
        break;
    case KILN_STEP_JUMP:
        next = step->target;
        break;
    case KILN_STEP_CHECK:
        memcpy(&count, run->pointers[0], sizeof count);
        if (count) return KILN_RANGE;
        break;
    }
    *at = next;
    return KILN_OK;
}

static kiln_status steps_run(aot_run *run)
{
    const kiln_program *program = run->program;
    run->scratch = run->arena + kiln_round_up(program->arena_bytes, 64);
    run->pointers = (void **)(run->scratch + kiln_round_up(program->scratch_bytes, 64));
    uint32_t mxcsr = _mm_getcsr();
    _mm_setcsr(program->flags & KILN_PROGRAM_FLUSH_DENORMALS ? MXCSR_FLUSH : MXCSR_EXACT);
    kiln_status status = KILN_OK;
    for (uint32_t at = 0; at < program->n_steps && !status;) status = step_run(run, &at);
    _mm_setcsr(mxcsr);
    return status;
}

static kiln_status padded_run(aot_run *run, int64_t rows)
{
    const kiln_program *head = run->head;
    run->is_padded = true;
    for (uint32_t i = 0; i < head->n_inputs; i++) {
        if (head->is_batched[i])
            kiln_batch_fill(head, i, rows, run->inputs[i], port_address(run, i));
    }
    kiln_status status = steps_run(run);
    for (uint32_t i = 0; i < head->n_outputs && !status; i++) {
        uint32_t port = head->n_inputs + i;
        size_t bytes = (size_t)(rows * kiln_batch_row_bytes(head, port));
        if (bytes) memcpy(run->outputs[i], port_address(run, port), bytes);
    }
    return status;
}

/* The chunks of an open batch, or the one run of another program (rows 0). */
static kiln_status rows_run(aot_run *run, int64_t rows)
{
    kiln_status status = KILN_OK;
    if (rows == 0) return steps_run(run);
    if (rows < run->head->rows) return padded_run(run, rows);
    for (int64_t done = 0; done < rows && !status;) {
        uint32_t size = kiln_batch_next(run->head, rows, done, &run->first);
        run->program = kiln_program_size(run->head, size);
        status = steps_run(run);
        done = run->first + run->program->rows;
    }
    return status;
}

static int call(aot_run *run, int64_t rows)
{
    const kiln_program *program = run->program;
    run->head = program;
    if (program->cpu_features & ~kiln_cpu_detect()) return KILN_UNSUPPORTED;
    if (!kiln_cpu_enable(program->cpu_features)) return KILN_UNSUPPORTED;
    if (!addresses_are_right(run)) return KILN_INVALID;
    if (!functions_are_there(run)) return KILN_UNSUPPORTED;
    if (run->arena) return (int)rows_run(run, rows);
    run->arena = aligned_alloc(64, (size_t)kiln_aot_arena_bytes(program) + 64);
    if (!run->arena) return KILN_NO_MEMORY;
    kiln_status status = rows_run(run, rows);
    free(run->arena);
    return (int)status;
}

int kiln_aot_call(const kiln_program *program, const void *const *inputs, void *const *outputs,
                  void *arena, const kiln_custom_functions *functions)
{
    aot_run run = {.program = program,
                   .inputs = inputs,
                   .outputs = outputs,
                   .arena = arena,
                   .functions = functions};
    return call(&run, 0);
}

int kiln_aot_run(const kiln_program *program, const void *const *inputs, void *const *outputs,
                 void *arena)
{
    return kiln_aot_call(program, inputs, outputs, arena, NULL);
}

int kiln_aot_run_rows(const kiln_program *program, int64_t rows, const void *const *inputs,
                      void *const *outputs, void *arena)
{
    aot_run run = {.program = program, .inputs = inputs, .outputs = outputs, .arena = arena};
    if (rows < 0 || !kiln_program_is_open(program)) return KILN_INVALID;
    return rows ? call(&run, rows) : KILN_OK;
}
