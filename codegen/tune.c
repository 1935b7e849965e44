/* Tuning: the kernel of a heavy product is lowered, compiled and run with each of the tiles that
 * the cost model likes best, then with the best tile in more and in fewer blocks. A candidate runs
 * as a program of one step, on the threads that the model will have, over operands of plain
 * numbers. A choice stays the cost model's unless another one is clearly faster. */
#include "codegen/tune.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/checked.h"
#include "codegen/gemm.h"
#include "codegen/math.h"
#include "codegen/object.h"
#include "codegen/tool_pool.h"
#include "kiln/runtime.h"

#define HEAVY_FLOPS (1 << 22)
#define N_TILES 5
#define LEAST_GAIN 0.97 /* of the time; less is noise */
#define SECONDS 0.01    /* of a candidate */
#define LEAST_RUNS 5
#define ELEMENT_BYTE 0x3c /* f32 0.0115, f16 1.06, small integers */
#define ALIGNMENT 64

typedef struct tuning {
    kiln_compilation *compilation;
    kiln_tools *tools;
    const kiln_part *part;
    uint32_t group;
    char *memory; /* of all operands */
    int64_t bytes;
} tuning;

/* A candidate and what was measured. */
typedef struct trial {
    kiln_tuned choice;
    uint32_t blocks[2]; /* of rows and columns, as they were cut */
    double seconds;
} trial;

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The program of one kernel: its parameters are the ports. */
typedef struct single {
    kiln_program program;
    kiln_port_row *ports;
    kiln_buffer_row *buffers;
    uint32_t *operands;
    kiln_step_row step;
    kiln_kernel_fn *function;
    const char *name;
    kiln_tensor *tensors;
} single;

static void fill_single(tuning *t, const kiln_kernel *kernel, single *one)
{
    kiln_scope *scope = t->compilation->scope;
    const kiln_group *group = &t->part->schedule->groups.at[t->group];
    uint32_t n = kernel->params.n, n_inputs = n - group->n_outputs;
    one->ports = kiln_new_array(&scope->arena, kiln_port_row, n);
    one->buffers = kiln_new_array(&scope->arena, kiln_buffer_row, n);
    one->operands = kiln_new_array(&scope->arena, uint32_t, n);
    one->tensors = kiln_new_array(&scope->arena, kiln_tensor, n);
    int64_t *dims = kiln_new_array(&scope->arena, int64_t, n), at = 0;
    for (uint32_t i = 0; i < n; i++) {
        const kiln_param *param = &kernel->params.at[i];
        bool is_input = i < n_inputs;
        dims[i] = param->n_elements * (int64_t)kiln_dtype_bytes(param->dtype);
        one->ports[i] = (kiln_port_row){"x", KILN_u8, 1, &dims[i], dims[i], KILN_NONE, 0};
        one->buffers[i] = (kiln_buffer_row){is_input ? KILN_BUFFER_INPUT : KILN_BUFFER_OUTPUT,
                                            is_input ? i : i - n_inputs, 0, dims[i]};
        one->operands[i] = i;
        one->tensors[i] = (kiln_tensor){KILN_u8, 1, &dims[i], t->memory + at, (size_t)dims[i]};
        at += kiln_round_up(dims[i], ALIGNMENT);
    }
    one->step = (kiln_step_row){.kind = KILN_STEP_KERNEL,
                                .n_operands = n,
                                .n_tiles = kernel->n_tiles,
                                .cost = (uint64_t)group->ns,
                                .label = KILN_NONE,
                                .n_written = group->n_outputs};
    one->name = "tuning";
    one->program = (kiln_program){.abi = KILN_PROGRAM_ABI,
                                  .struct_bytes = sizeof one->program,
                                  .name = one->name,
                                  .target = t->compilation->pipeline.machine->name,
                                  .producer = one->name,
                                  .cpu_features = t->compilation->pipeline.machine->cpu_features,
                                  .inputs = one->ports,
                                  .outputs = one->ports + n_inputs,
                                  .buffers = one->buffers,
                                  .operands = one->operands,
                                  .steps = &one->step,
                                  .kernels = &one->function,
                                  .kernel_names = &one->name,
                                  .n_inputs = n_inputs,
                                  .n_outputs = n - n_inputs,
                                  .n_buffers = n,
                                  .n_operands = n,
                                  .n_steps = 1,
                                  .n_kernels = 1,
                                  .scratch_bytes = kernel->scratch_bytes};
}

/* Memory for the operands of a kernel; false where there is none. */
static bool hold_operands(tuning *t, const kiln_kernel *kernel)
{
    int64_t bytes = 0, size;
    for (uint32_t i = 0; i < kernel->params.n; i++) {
        const kiln_param *param = &kernel->params.at[i];
        size = (int64_t)kiln_dtype_bytes(param->dtype);
        if (!kiln_checked_mul(param->n_elements, size, &size) ||
            !kiln_checked_add(size, ALIGNMENT, &size) || !kiln_checked_add(bytes, size, &bytes))
            return false;
    }
    bytes = kiln_round_up(bytes, ALIGNMENT);
    t->bytes = bytes;
    t->memory = aligned_alloc(ALIGNMENT, (size_t)bytes);
    if (t->memory) memset(t->memory, ELEMENT_BYTE, (size_t)bytes);
    return t->memory != NULL;
}

/* The least time of several runs, or a negative number where they fail. */
static double time_runs(kiln_workspace *workspace, const single *one)
{
    uint32_t n = one->program.n_inputs;
    double best = -1, start = now_seconds(), before = start;
    for (int i = 0; i < LEAST_RUNS || before - start < SECONDS; i++) {
        if (kiln_run(workspace, one->tensors, n, one->tensors + n, one->program.n_outputs))
            return -1;
        double after = now_seconds();
        if (best < 0 || after - before < best) best = after - before;
        before = after;
    }
    return best;
}

static double time_function(tuning *t, const kiln_kernel *kernel, kiln_kernel_fn *function)
{
    single one = {.function = function};
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    double seconds = -1;
    fill_single(t, kernel, &one);
    kiln_context *context = t->compilation->pipeline.context;
    if (kiln_executable_create(context, &one.program, &executable) == KILN_OK &&
        kiln_workspace_create(executable, &workspace) == KILN_OK)
        seconds = time_runs(workspace, &one);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    return seconds;
}

static kiln_kernel *lower_trial(tuning *t, trial *it)
{
    kiln_schedule *schedule = t->part->schedule;
    schedule->groups.at[t->group].tuned = it->choice;
    kiln_kernel *kernel = kiln_lower_group(t->compilation->scope, schedule, t->group);
    it->blocks[0] = kernel->n_blocks[0];
    it->blocks[1] = kernel->n_blocks[1];
    return kernel;
}

static void run_trial(tuning *t, trial *it)
{
    kiln_scope *scope = t->compilation->scope;
    kiln_object object;
    kiln_code *code;
    kiln_kernel *kernel = lower_trial(t, it);
    it->seconds = -1;
    if (!t->memory && !hold_operands(t, kernel)) return;
    t->compilation->backend->compile(scope, t->tools, kernel, "tuning", &object);
    kiln_code_load(scope, &object, 1, &code);
    it->seconds = time_function(t, kernel, kiln_code_function(code, 0));
    kiln_code_unload(code);
}

static void keep_faster(tuning *t, trial *best, trial it)
{
    run_trial(t, &it);
    if (it.seconds > 0 && it.seconds < LEAST_GAIN * best->seconds) *best = it;
}

/* Twice the blocks of rows or of columns, and half of those of columns. */
static void try_blocks(tuning *t, trial *best)
{
    uint32_t rows = best->blocks[0], columns = best->blocks[1];
    const uint32_t cuts[][2] = {{2 * rows, columns}, {rows, 2 * columns}, {rows, columns / 2}};
    kiln_tuned choice = best->choice;
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        choice.row_blocks = cuts[i][0];
        choice.column_blocks = cuts[i][1];
        if (choice.row_blocks && choice.column_blocks)
            keep_faster(t, best, (trial){.choice = choice});
    }
}

static uint32_t find_tiles(tuning *t, kiln_tile_choice *out_tiles)
{
    const kiln_schedule *schedule = t->part->schedule;
    const kiln_group *group = &schedule->groups.at[t->group];
    const kiln_node *node = kiln_graph_node(schedule->graph, group->anchor);
    kiln_matmul_roles roles;
    kiln_dot_roles(&t->compilation->scope->arena, schedule->graph, group->anchor, &roles);
    kiln_dtype dtype = kiln_compute_dtype(node->attrs->dot.accumulate);
    uint32_t lanes = kiln_machine_lanes(schedule->machine, dtype);
    if (lanes > KILN_PANEL) lanes = KILN_PANEL;
    kiln_tile_shape shape = {lanes, roles.m_size, roles.n_size, roles.k_size};
    return kiln_tile_rank(schedule->machine, &shape, N_TILES, out_tiles);
}

/* The cost model's choice, then others; the winner must still be faster when the first one is
 * measured again. */
static kiln_tuned tune_group(tuning *t)
{
    kiln_tile_choice tiles[N_TILES];
    uint32_t n = find_tiles(t, tiles);
    trial first = {.choice = {tiles[0].rows, tiles[0].vectors, 0, 0}};
    run_trial(t, &first);
    first.choice.row_blocks = first.blocks[0];
    first.choice.column_blocks = first.blocks[1];
    trial best = first;
    for (uint32_t i = 1; i < n && first.seconds > 0; i++)
        keep_faster(t, &best, (trial){.choice = {tiles[i].rows, tiles[i].vectors, 0, 0}});
    if (first.seconds > 0) try_blocks(t, &best);
    best.choice.row_blocks = best.blocks[0];
    best.choice.column_blocks = best.blocks[1];
    run_trial(t, &first);
    return best.seconds < LEAST_GAIN * first.seconds ? best.choice : first.choice;
}

/* Products whose tiles the cost model chooses. */
static bool is_tunable(const kiln_group *group, const kiln_kernel *kernel)
{
    return group->kind == KILN_GROUP_DOT && kernel->n_blocks[0] > 0 && group->flops >= HEAVY_FLOPS;
}

void kiln_tune_part(kiln_compilation *compilation, const kiln_part *part)
{
    kiln_scope *scope = compilation->scope;
    kiln_schedule *schedule = part->schedule;
    const char **texts = kiln_new_array(&scope->arena, const char *, schedule->groups.n + 1);
    kiln_tools *tools =
        kiln_tools_borrow(scope, compilation->pipeline.context, compilation->backend);
    for (uint32_t i = 0; i < schedule->groups.n; i++) {
        kiln_group *group = &schedule->groups.at[i];
        if (group->kind != KILN_GROUP_DOT) continue;
        const kiln_kernel *kernel = kiln_lower_group(scope, schedule, i);
        if (!is_tunable(group, kernel)) continue;
        kiln_text text = {.arena = &scope->arena};
        kiln_kernel_print(kernel, &text);
        texts[i] = kiln_text_string(&text);
        uint32_t same = 0;
        while (!texts[same] || strcmp(texts[same], texts[i]) != 0) same++;
        if (same < i) {
            group->tuned = schedule->groups.at[same].tuned;
            continue;
        }
        tuning t = {.compilation = compilation, .tools = tools, .part = part, .group = i};
        group->tuned = tune_group(&t);
        free(t.memory);
    }
}
