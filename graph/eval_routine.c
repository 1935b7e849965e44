/* The evaluator of ROUTINE nodes, one function an op. */
#include <string.h>

#include "graph/eval.h"

static void eval_barrier(const kiln_eval_call *call)
{
    if (call->node->type->bytes) memcpy(call->out, call->in[0], (size_t)call->node->type->bytes);
}

void kiln_eval_routine(const kiln_eval_call *call)
{
    static kiln_eval_fn *const rows[KILN_N_OPS] = {
        [KILN_OP_barrier] = eval_barrier,          [KILN_OP_cholesky] = kiln_eval_cholesky,
        [KILN_OP_forward_solve] = kiln_eval_forward_solve,
        [KILN_OP_argsort] = kiln_eval_argsort,
        [KILN_OP_cumulative_sum] = kiln_eval_cumulative,
        [KILN_OP_cumulative_prod] = kiln_eval_cumulative,
        [KILN_OP_cumulative_max] = kiln_eval_cumulative,
        [KILN_OP_cumulative_min] = kiln_eval_cumulative,
        [KILN_OP_scatter] = kiln_eval_scatter,
        [KILN_OP_scatter_add] = kiln_eval_scatter, [KILN_OP_scatter_mul] = kiln_eval_scatter,
        [KILN_OP_scatter_max] = kiln_eval_scatter, [KILN_OP_scatter_min] = kiln_eval_scatter,
    };
    if (!rows[call->node->op]) {
        kiln_fail(call->scope, KILN_INTERNAL, "evaluator: %s has no meaning",
                  kiln_node_row(call->node)->name);
    }
    rows[call->node->op](call);
}
