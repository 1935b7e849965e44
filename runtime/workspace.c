/* Workspaces: memory of a run, addresses of operands, and a plan for every step: how many workers
 * its cost is worth and in which chunks its tiles go out. */
#include "runtime/workspace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "runtime/batch.h"
#include "runtime/copy.h"
#include "runtime/custom.h"

#define SHARE_NS 5000.0        /* least work worth a worker */
#define CHUNK_LEAST_NS 3000.0  /* ten times what taking a chunk costs */
#define CHUNK_MOST_NS 2e6      /* estimates may be five times off: a stop is seen within 10 ms */
#define SERIAL_CHUNK_NS 2e6
#define CHUNKS_PER_RANGE 8.0
#define RANGE_CHUNKS_MOST 60000u /* the cursor counts in 16 bits */
#define COPY_TILE ((int64_t)256 << 10)
#define COPY_BYTES_PER_NS 10.0

#define MXCSR_EXACT 0x1f80u /* nearest, denormals on, traps masked */
#define MXCSR_FLUSH 0x9fc0u /* the same, denormals read and written as 0 */

static void copy_run(const kiln_kernel_args *args, uint32_t tile_begin, uint32_t tile_end)
{
    int64_t begin = tile_begin * COPY_TILE;
    int64_t end = kiln_min_i64(tile_end * COPY_TILE, args->sizes[0]);
    const char *from = args->buffers[0];
    char *to = args->buffers[1];
    if (args->sizes[1]) {
        int64_t number;
        memcpy(&number, args->buffers[2], sizeof number);
        int64_t start = kiln_copy_stretch(number, args->sizes[0], args->sizes[1]);
        if (start < 0) return;
        to += start;
    }
    if (from != to && begin < end) memcpy(to + begin, from + begin, (size_t)(end - begin));
}

static uint32_t clamp_u32(double value, uint32_t least, uint32_t most)
{
    if (!(value > least)) return least;
    return value < most ? (uint32_t)value : most;
}

static void split_plan(kiln_step_plan *plan, double cost, uint32_t threads)
{
    uint32_t n = plan->n_tiles;
    plan->n_workers = 1;
    plan->chunk = plan->serial_chunk = n;
    if (n == 0 || cost <= 0) return;
    double tile_ns = cost / n;
    plan->serial_chunk = clamp_u32(SERIAL_CHUNK_NS / tile_ns, 1, n);
    if (cost < KILN_FORK_NS) return;
    plan->n_workers = clamp_u32(cost / SHARE_NS, 1, threads < n ? threads : n);
    double chunk_ns = cost / plan->n_workers / CHUNKS_PER_RANGE;
    if (chunk_ns < CHUNK_LEAST_NS) chunk_ns = CHUNK_LEAST_NS;
    if (chunk_ns > CHUNK_MOST_NS) chunk_ns = CHUNK_MOST_NS;
    uint32_t least = n / plan->n_workers / RANGE_CHUNKS_MOST + 1;
    plan->chunk = clamp_u32(chunk_ns / tile_ns, least, n);
}

static void step_plan(kiln_workspace *workspace, uint32_t number)
{
    const kiln_program *program = workspace->now.program;
    const kiln_step_row *step = &program->steps[number];
    kiln_step_plan *plan = &workspace->now.plans[number];
    plan->buffers = workspace->now.pointers + step->first_operand;
    plan->region_end = number + 1;
    double cost = (double)step->cost;
    if (step->kind == KILN_STEP_COPY) {
        int64_t bytes = program->buffers[program->operands[step->first_operand]].bytes;
        const uint32_t *operands = &program->operands[step->first_operand];
        int64_t *sizes = &workspace->now.copy_bytes[2 * (size_t)number];
        sizes[0] = bytes;
        sizes[1] = step->n_operands == 3 ? program->buffers[operands[1]].bytes : 0;
        plan->kernel = copy_run;
        plan->sizes = sizes;
        plan->n_tiles = (uint32_t)kiln_min_i64(kiln_ceil_div(bytes, COPY_TILE), UINT32_MAX);
        cost = (double)bytes / COPY_BYTES_PER_NS;
    } else if (step->kind == KILN_STEP_KERNEL || step->kind == KILN_STEP_PACK) {
        if (program->device_kernels) return;
        plan->kernel = program->kernels[step->target];
        plan->n_tiles = step->n_tiles;
    }
    if (step->kind == KILN_STEP_LIBRARY) {
        kiln_error error; /* the executable has found all of them */
        kiln_custom_find(workspace->context, program->strings[step->target], &plan->custom,
                         &error);
    }
    if (plan->kernel) split_plan(plan, cost, workspace->threads);
}

/* Neighbours with one region number > 0 share a region, unless the caller's parallel function runs
 * them: it may run workers one after the other, so nobody can wait inside it. */
static void plan_regions(kiln_workspace *workspace)
{
    const kiln_program *program = workspace->now.program;
    kiln_step_plan *plans = workspace->now.plans;
    for (uint32_t i = program->n_steps; i-- > 0;) {
        plans[i].is_forked = plans[i].n_workers > 1;
        bool has_next = i + 1 < program->n_steps && plans[i].kernel && plans[i + 1].kernel &&
                        program->steps[i].region > 0 &&
                        program->steps[i].region == program->steps[i + 1].region;
        if (!has_next || !workspace->pool) continue;
        plans[i].region_end = plans[i + 1].region_end;
        plans[i].is_forked |= plans[i + 1].is_forked;
    }
}

static void bind_fixed(kiln_workspace *workspace)
{
    const kiln_program *program = workspace->now.program;
    for (uint32_t i = 0; i < program->n_operands; i++) {
        const kiln_buffer_row *row = &program->buffers[program->operands[i]];
        if (row->kind == KILN_BUFFER_CONSTANT && program->constants) {
            workspace->now.pointers[i] = (char *)(uintptr_t)program->constants + row->offset;
        } else if (row->kind == KILN_BUFFER_ARENA) {
            workspace->now.pointers[i] = workspace->memory + row->offset;
        }
    }
}

static uint32_t operand_port(const kiln_program *program, uint32_t operand)
{
    const kiln_buffer_row *row = &program->buffers[program->operands[operand]];
    if (row->kind == KILN_BUFFER_INPUT) return row->index;
    if (row->kind == KILN_BUFFER_OUTPUT) return program->n_inputs + row->index;
    return KILN_NONE;
}

/* Lists the operands of each port, by counting. */
static void list_uses(kiln_workspace *workspace)
{
    const kiln_program *program = workspace->now.program;
    uint32_t n_ports = program->n_inputs + program->n_outputs, *first = workspace->now.first_use;
    for (uint32_t i = 0; i < program->n_operands; i++) {
        uint32_t port = operand_port(program, i);
        if (port != KILN_NONE) first[port + 1]++;
    }
    for (uint32_t p = 0; p < n_ports; p++) first[p + 1] += first[p];
    for (uint32_t i = program->n_operands; i-- > 0;) {
        uint32_t port = operand_port(program, i);
        if (port != KILN_NONE) workspace->now.uses[--first[port + 1]] = i;
    }
    /* Each entry has moved to the front of its list: first[p + 1] is now where list p begins. */
    for (uint32_t p = 0; p < n_ports; p++) first[p] = first[p + 1];
    uint32_t n = 0;
    for (uint32_t i = 0; i < program->n_operands; i++) n += operand_port(program, i) != KILN_NONE;
    first[n_ports] = n;
}

/* Tables of the program in `now`. */
static bool allocate_plan(kiln_workspace *workspace)
{
    kiln_program_plan *now = &workspace->now;
    const kiln_program *program = now->program;
    size_t n_ports = (size_t)program->n_inputs + program->n_outputs;
    size_t n_steps = program->n_steps, n_operands = program->n_operands;
    now->plans = calloc(n_steps + 1, sizeof *now->plans);
    now->pointers = calloc(n_operands + 1, sizeof *now->pointers);
    now->copy_bytes = calloc(2 * n_steps + 1, sizeof *now->copy_bytes);
    now->uses = calloc(n_operands + 1, sizeof *now->uses);
    now->first_use = calloc(n_ports + 1, sizeof *now->first_use);
    return now->plans && now->pointers && now->copy_bytes && now->uses && now->first_use;
}

/* Tables that all sizes share. */
static bool allocate_tables(kiln_workspace *workspace)
{
    const kiln_program *program = workspace->executable->program;
    size_t n_ports = (size_t)program->n_inputs + program->n_outputs, n_steps = 0;
    for (uint32_t i = 0; i < workspace->n_sizes; i++)
        n_steps += kiln_program_size(program, i)->n_steps;
    workspace->sizes = calloc(workspace->n_sizes, sizeof *workspace->sizes);
    workspace->bases = calloc(n_ports + 1, sizeof *workspace->bases);
    workspace->port_data = calloc(n_ports + 1, sizeof *workspace->port_data);
    workspace->spans = calloc(n_ports + 1, sizeof *workspace->spans);
    workspace->step_times = calloc(n_steps + 1, sizeof *workspace->step_times);
    workspace->cursors = aligned_alloc(64, workspace->threads * sizeof *workspace->cursors);
    if (workspace->cursors) {
        memset(workspace->cursors, 0, workspace->threads * sizeof *workspace->cursors);
    }
    return workspace->sizes && workspace->bases && workspace->port_data && workspace->spans &&
           workspace->step_times && workspace->cursors;
}

/* Scratch follows the arena; one allocation, so that it lies on huge pages as a whole. */
static bool allocate_memory(kiln_workspace *workspace)
{
    const kiln_program *program = workspace->executable->program;
    int64_t arena = program->device_kernels ? 0 : kiln_program_arena_bytes(program);
    workspace->scratch_stride = kiln_program_scratch_bytes(program);
    workspace->memory_bytes = arena + workspace->scratch_stride * workspace->threads;
    if (workspace->memory_bytes == 0) { /* an address that nobody uses, to spare NULL + 0 */
        workspace->memory = workspace->scratch = (char *)workspace->cursors;
        return true;
    }
    workspace->memory = kiln_context_allocate(workspace->context, workspace->memory_bytes);
    workspace->scratch = workspace->memory ? workspace->memory + arena : NULL;
    return workspace->memory && (uintptr_t)workspace->memory % 64 == 0;
}

/* Small steps may be worth workers together: see beside.c. */
static bool program_is_parallel(const kiln_program *program)
{
    double total = 0;
    for (uint32_t i = 0; i < program->n_steps; i++) {
        const kiln_step_row *step = &program->steps[i];
        bool is_shared = step->cost >= KILN_FORK_NS && step->n_tiles > 1;
        if (step->kind == KILN_STEP_COPY || is_shared) return true;
        total += (double)step->cost;
    }
    return program->n_steps > 1 && total >= KILN_FORK_NS;
}

static kiln_status fail_memory(const kiln_workspace *workspace)
{
    return kiln_context_fail(workspace->context, KILN_NO_MEMORY,
                             "workspace: %" PRId64 " bytes of arena and scratch were not available",
                             workspace->memory_bytes);
}

/* Fills size `number`, by way of `now`. */
static kiln_status fill_size(kiln_workspace *workspace, uint32_t number, uint64_t *step_times)
{
    const kiln_program *program = kiln_program_size(workspace->executable->program, number);
    workspace->now = (kiln_program_plan){.program = program, .step_times = step_times};
    bool is_there = allocate_plan(workspace);
    kiln_status status = KILN_OK;
    if (is_there) {
        for (uint32_t i = 0; i < program->n_steps; i++) step_plan(workspace, i);
        plan_regions(workspace);
        kiln_plan_beside(workspace);
        bind_fixed(workspace);
        list_uses(workspace);
        if (program->device_kernels)
            status = kiln_cuda_open(program, &workspace->now.cuda, &workspace->error);
    }
    workspace->sizes[number] = workspace->now;
    if (status) kiln_context_fail(workspace->context, status, "%s", workspace->error.message);
    return is_there ? status : fail_memory(workspace);
}

static kiln_status workspace_fill(kiln_workspace *workspace)
{
    const kiln_program *program = workspace->executable->program;
    kiln_context *context = workspace->context;
    bool is_parallel = false;
    workspace->threads = context->threads;
    workspace->is_open = kiln_program_is_open(program);
    workspace->n_sizes = kiln_program_n_sizes(program);
    for (uint32_t i = 0; i < workspace->n_sizes && !is_parallel; i++)
        is_parallel = program_is_parallel(kiln_program_size(program, i));
    if (!program->device_kernels && is_parallel) workspace->pool = kiln_context_pool(context);
    workspace->mxcsr = program->flags & KILN_PROGRAM_FLUSH_DENORMALS ? MXCSR_FLUSH : MXCSR_EXACT;
    if (!allocate_tables(workspace) || !allocate_memory(workspace)) return fail_memory(workspace);
    kiln_status status = KILN_OK;
    uint64_t *step_times = workspace->step_times;
    for (uint32_t i = 0; i < workspace->n_sizes && !status; i++) {
        status = fill_size(workspace, i, step_times);
        step_times += workspace->now.program->n_steps;
    }
    if (!status) workspace->now = workspace->sizes[0];
    return status;
}

kiln_status kiln_workspace_create(kiln_executable *executable, kiln_workspace **out_workspace)
{
    if (!executable) return KILN_INVALID;
    if (!out_workspace) {
        return kiln_context_fail(executable->context, KILN_INVALID,
                                 "workspace: out_workspace is NULL");
    }
    kiln_workspace *workspace = aligned_alloc(64, sizeof *workspace);
    if (!workspace) {
        return kiln_context_fail(executable->context, KILN_NO_MEMORY, "workspace: no memory");
    }
    memset(workspace, 0, sizeof *workspace);
    workspace->executable = kiln_executable_retain(executable);
    workspace->context = executable->context;
    kiln_status status = workspace_fill(workspace);
    if (status) {
        kiln_workspace_destroy(workspace);
        return status;
    }
    *out_workspace = workspace;
    return KILN_OK;
}

static void free_size(kiln_program_plan *size)
{
    kiln_cuda_close(size->cuda);
    free(size->plans);
    free(size->pointers);
    free(size->copy_bytes);
    free(size->uses);
    free(size->first_use);
}

void kiln_workspace_destroy(kiln_workspace *workspace)
{
    if (!workspace) return;
    for (uint32_t i = 0; workspace->sizes && i < workspace->n_sizes; i++)
        free_size(&workspace->sizes[i]);
    if (workspace->memory_bytes > 0) {
        kiln_context_release(workspace->context, workspace->memory, workspace->memory_bytes);
    }
    free(workspace->sizes);
    free(workspace->bases);
    free(workspace->port_data);
    free(workspace->spans);
    free(workspace->step_times);
    free(workspace->cursors);
    kiln_executable_destroy(workspace->executable);
    free(workspace);
}

const char *kiln_workspace_message(const kiln_workspace *workspace)
{
    return workspace ? workspace->error.message : "workspace: NULL; expected a workspace";
}
