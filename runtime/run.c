/* A run: tensors in, steps one after the other, a status out. Allocates nothing. Rounding mode and
 * trap masks are set for the kernels and given back to the caller as they were. */
#include <string.h>
#include <time.h>
#include <xmmintrin.h>

#include "runtime/custom.h"
#include "runtime/workspace.h"

int64_t kiln_clock_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

bool kiln_run_should_stop(kiln_workspace *workspace)
{
    uint32_t state = atomic_load_explicit(&workspace->state, memory_order_relaxed);
    if (state != KILN_RUN_RUNNING) return true;
    if (!workspace->deadline_at || kiln_clock_ns() < workspace->deadline_at) return false;
    atomic_compare_exchange_strong(&workspace->state, &state, KILN_RUN_DEADLINE);
    return true;
}

static kiln_status custom_run(kiln_workspace *workspace, uint32_t at)
{
    const kiln_program *program = workspace->now.program;
    const kiln_step_row *step = &program->steps[at];
    void *const *operands = workspace->now.pointers + step->first_operand;
    kiln_custom_call_args args = {
        .signature = program->strings[step->target],
        .n_inputs = step->n_tiles,
        .n_outputs = step->n_operands - step->n_tiles,
        .inputs = (const void *const *)operands,
        .outputs = operands + step->n_tiles,
    };
    return kiln_custom_run(workspace->now.plans[at].custom, &args, &workspace->error);
}

/* A step that is not a kernel. Sets *at to the step that follows it. */
static kiln_status control_run(kiln_workspace *workspace, uint32_t *at)
{
    const kiln_program *program = workspace->now.program;
    const kiln_step_row *step = &program->steps[*at];
    const void *operand = step->n_operands ? workspace->now.pointers[step->first_operand] : NULL;
    uint32_t next = *at + 1;
    int64_t count;
    switch ((kiln_step_kind)step->kind) {
    case KILN_STEP_BRANCH:
        if (*(const unsigned char *)operand) next = step->target;
        break;
    case KILN_STEP_JUMP:
        next = step->target;
        break;
    case KILN_STEP_CHECK:
        memcpy(&count, operand, sizeof count);
        if (count == 0) break;
        return kiln_error_set(&workspace->error, KILN_RANGE, "%s", program->strings[step->target]);
    case KILN_STEP_LIBRARY: {
        kiln_status status = custom_run(workspace, *at);
        if (status) return status;
        break;
    }
    case KILN_STEP_KERNEL:
    case KILN_STEP_PACK:
    case KILN_STEP_COPY:
        return kiln_error_set(&workspace->error, KILN_INTERNAL,
                              "step %u: kind %u has no kernel", (unsigned)*at,
                              (unsigned)step->kind);
    }
    *at = next;
    return KILN_OK;
}

kiln_status kiln_steps_run(kiln_workspace *workspace)
{
    const kiln_program *program = workspace->now.program;
    for (uint32_t at = 0; at < program->n_steps;) {
        const kiln_step_plan *plan = &workspace->now.plans[at];
        if (kiln_run_should_stop(workspace)) return KILN_OK;
        if (plan->kernel) {
            kiln_region_run(workspace, at, plan->region_end);
            at = plan->region_end;
            continue;
        }
        kiln_status status = control_run(workspace, &at);
        if (status) return status;
    }
    return KILN_OK;
}

static kiln_status stopped_status(kiln_workspace *workspace, uint32_t state)
{
    if (state == KILN_RUN_CANCELLED) {
        return kiln_error_set(&workspace->error, KILN_CANCELLED, "run: cancelled");
    }
    return kiln_error_set(&workspace->error, KILN_DEADLINE,
                          "run: took longer than its deadline of %lld ns",
                          (long long)workspace->deadline_ns);
}

static bool device_should_stop(void *workspace)
{
    return kiln_run_should_stop(workspace);
}

static kiln_status device_run(kiln_workspace *workspace)
{
    kiln_cuda_run_args args = {.ports = workspace->port_data, .should_stop = device_should_stop,
                               .user = workspace, .error = &workspace->error};
    return kiln_cuda_run(workspace->now.cuda, &args);
}

static void clear_times(kiln_workspace *workspace)
{
    for (uint32_t i = 0; i < workspace->n_sizes; i++) {
        const kiln_program_plan *size = &workspace->sizes[i];
        memset(size->step_times, 0, size->program->n_steps * sizeof *size->step_times);
    }
}

kiln_status kiln_program_run(kiln_workspace *workspace)
{
    if (workspace->now.cuda) return device_run(workspace);
    uint32_t mxcsr = _mm_getcsr();
    _mm_setcsr(workspace->mxcsr);
    kiln_status status = kiln_steps_run(workspace);
    _mm_setcsr(mxcsr);
    return status;
}

static kiln_status run_bound(kiln_workspace *workspace)
{
    if (workspace->is_profiled) clear_times(workspace);
    int64_t end;
    bool has_deadline = workspace->deadline_ns > 0;
    if (has_deadline && __builtin_add_overflow(kiln_clock_ns(), workspace->deadline_ns, &end)) {
        has_deadline = false;
    }
    workspace->deadline_at = has_deadline ? end : 0;
    return workspace->is_open ? kiln_batch_run(workspace) : kiln_program_run(workspace);
}

kiln_status kiln_run(kiln_workspace *workspace, const kiln_tensor *inputs, uint32_t n_inputs,
                     const kiln_tensor *outputs, uint32_t n_outputs)
{
    if (!workspace) return KILN_INVALID;
    uint32_t state = KILN_RUN_IDLE;
    if (!atomic_compare_exchange_strong(&workspace->state, &state, KILN_RUN_RUNNING)) {
        return KILN_INVALID; /* the sentence belongs to the run in progress */
    }
    kiln_status status = kiln_ports_bind(workspace, inputs, n_inputs, outputs, n_outputs);
    if (!status) status = run_bound(workspace);
    state = atomic_exchange(&workspace->state, KILN_RUN_IDLE);
    if (!status && state != KILN_RUN_RUNNING) status = stopped_status(workspace, state);
    return status;
}

void kiln_workspace_cancel(kiln_workspace *workspace)
{
    if (!workspace) return;
    uint32_t state = KILN_RUN_RUNNING;
    atomic_compare_exchange_strong(&workspace->state, &state, KILN_RUN_CANCELLED);
}

void kiln_workspace_set_deadline(kiln_workspace *workspace, int64_t nanoseconds)
{
    if (workspace) workspace->deadline_ns = nanoseconds > 0 ? nanoseconds : 0;
}
