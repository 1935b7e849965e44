/* Which steps may run beside the steps right before them: those that touch no memory which the
 * others write. Workers then go on from one to the next without waiting for each other, so small
 * steps share the workers among them and large ones lose nothing at their ends. Steps that are each
 * too small to fork for may together be worth it. The tiles are the same, and so are the bits. */
#include "runtime/workspace.h"

#define MOST_BESIDE 32 /* steps between two waits: comparing them all stays cheap */
#define TURN_NS 1000.0 /* ten times what taking a step costs */
#define WAIT_NS 1500.0 /* of all workers for each other */

/* The caller may pass one address for a donated input and the output it is donated to. */
static bool is_donated(const kiln_program *program, const kiln_buffer_row *input,
                       const kiln_buffer_row *output)
{
    return input->kind == KILN_BUFFER_INPUT && output->kind == KILN_BUFFER_OUTPUT &&
           program->inputs[input->index].donated_to == output->index;
}

static bool overlaps(const kiln_program *program, uint32_t a, uint32_t b)
{
    const kiln_buffer_row *x = &program->buffers[a], *y = &program->buffers[b];
    if (a == b || is_donated(program, x, y) || is_donated(program, y, x)) return true;
    if (x->kind != y->kind || x->kind == KILN_BUFFER_CONSTANT) return false;
    if (x->kind != KILN_BUFFER_ARENA) return x->index == y->index;
    return x->offset < y->offset + y->bytes && y->offset < x->offset + x->bytes;
}

/* Whether `writer` writes what `other` touches. */
static bool disturbs(const kiln_program *program, const kiln_step_row *writer,
                     const kiln_step_row *other)
{
    const uint32_t *written =
        program->operands + writer->first_operand + writer->n_operands - writer->n_written;
    const uint32_t *touched = program->operands + other->first_operand;
    for (uint32_t i = 0; i < writer->n_written; i++) {
        for (uint32_t j = 0; j < other->n_operands; j++)
            if (overlaps(program, written[i], touched[j])) return true;
    }
    return false;
}

static bool is_independent(const kiln_program *program, uint32_t first, uint32_t step)
{
    const kiln_step_row *steps = program->steps;
    if (!steps[step].n_written || step - first >= MOST_BESIDE) return false;
    for (uint32_t i = first; i < step; i++) {
        if (!steps[i].n_written || disturbs(program, &steps[i], &steps[step]) ||
            disturbs(program, &steps[step], &steps[i]))
            return false;
    }
    return true;
}

/* What workers save who share steps `first` … end - 1 among them, each step run by one. */
static double shared_gain(const kiln_workspace *workspace, uint32_t first, uint32_t end)
{
    double total = 0, longest = 0;
    for (uint32_t i = first; i < end; i++) {
        double cost = (double)workspace->now.program->steps[i].cost;
        total += cost;
        if (cost > longest) longest = cost;
    }
    if (total < KILN_FORK_NS || total < (end - first) * TURN_NS) return 0;
    double each = total / workspace->threads;
    return total - (each > longest ? each : longest);
}

/* A region with no step worth a fork is forked all the same when its small ones gain more side by
 * side than its waits cost. */
static void fork_together(kiln_workspace *workspace, uint32_t first)
{
    kiln_step_plan *plans = workspace->now.plans;
    uint32_t end = plans[first].region_end;
    double gain = 0;
    for (uint32_t i = first; i < end;) {
        uint32_t next = i + 1;
        while (next < end && plans[next].is_beside) next++;
        gain += shared_gain(workspace, i, next) - WAIT_NS;
        i = next;
    }
    for (uint32_t i = first; i < end && gain > 0; i++) plans[i].is_forked = true;
}

void kiln_plan_beside(kiln_workspace *workspace)
{
    const kiln_program *program = workspace->now.program;
    kiln_step_plan *plans = workspace->now.plans;
    uint32_t first = 0;
    for (uint32_t i = 1; i < program->n_steps; i++) {
        bool is_neighbour = plans[i - 1].region_end > i;
        plans[i].is_beside = is_neighbour && is_independent(program, first, i);
        if (!plans[i].is_beside) first = i;
        plans[i].is_grouped = plans[i].is_beside;
        plans[first].is_grouped |= i > first;
    }
    for (uint32_t i = 0; i < program->n_steps; i = plans[i].region_end)
        if (workspace->pool && !plans[i].is_forked) fork_together(workspace, i);
}
