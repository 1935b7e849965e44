/* The public builder: elementwise operations, which broadcast, and composites without
 * attributes. */
#include "graph/builder.h"
#include "graph/describe.h"
#include "kiln/layers.h"

bool kiln_build_broadcast(uint32_t *rank, int64_t *dims, uint32_t other_rank, const int64_t *other)
{
    if (other_rank > *rank) {
        uint32_t shift = other_rank - *rank;
        for (uint32_t i = *rank; i-- > 0;) dims[i + shift] = dims[i];
        for (uint32_t i = 0; i < shift; i++) dims[i] = 1;
        *rank = other_rank;
    }
    int64_t *last = dims + (*rank - other_rank);
    for (uint32_t i = 0; i < other_rank; i++) {
        if (last[i] != other[i] && last[i] != 1 && other[i] != 1) return false;
        if (last[i] == 1) last[i] = other[i];
    }
    return true;
}

static _Noreturn void fail_operands(kiln_graph *graph, const kiln_request *request,
                                    const char *expected)
{
    const kiln_type *types[KILN_REQUEST_INPUTS];
    for (uint32_t i = 0; i < request->n; i++) types[i] = kiln_build_type(graph, request, i);
    kiln_fail(graph->scope, KILN_INVALID, "%s: operands are %s; expected %s",
              kiln_op_rows[request->op].name,
              kiln_types_string(&graph->scope->arena, types, request->n), expected);
}

kiln_value kiln_build_elementwise(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *first = kiln_build_type(graph, request, 0);
    int64_t dims[KILN_MAX_RANK];
    uint32_t rank = first->rank;
    for (uint32_t i = 0; i < rank; i++) dims[i] = first->dims[i];
    uint32_t alike = request->op == KILN_OP_select ? 1 : 0; /* whose dtype the later ones share */
    for (uint32_t i = 1; i < request->n; i++) {
        const kiln_type *type = kiln_build_type(graph, request, i);
        if (type->dtype != kiln_build_type(graph, request, alike)->dtype) {
            fail_operands(graph, request, alike ? "bool and two of one dtype (convert first)"
                                                : "one dtype (convert first)");
        }
        if (!kiln_build_broadcast(&rank, dims, type->rank, type->dims)) {
            fail_operands(graph, request, "shapes that broadcast");
        }
    }
    kiln_request wide = *request;
    for (uint32_t i = 0; i < request->n; i++) {
        wide.inputs[i] = kiln_add_broadcast_to(graph, request->inputs[i], rank, dims);
    }
    return kiln_build_node(graph, &wide, NULL);
}

static kiln_value elementwise(kiln_graph *graph, kiln_op op, uint32_t n, const kiln_value *inputs)
{
    kiln_request request = {op, .n = n};
    for (uint32_t i = 0; i < n; i++) request.inputs[i] = inputs[i];
    return kiln_build(graph, kiln_build_elementwise, &request);
}

#define UNARY(op)                                                                                  \
    kiln_value kiln_##op(kiln_graph *graph, kiln_value a)                                          \
    {                                                                                              \
        return elementwise(graph, KILN_OP_##op, 1, &a);                                            \
    }
#define BINARY(op)                                                                                 \
    kiln_value kiln_##op(kiln_graph *graph, kiln_value a, kiln_value b)                            \
    {                                                                                              \
        return elementwise(graph, KILN_OP_##op, 2, (kiln_value[]){a, b});                          \
    }

UNARY(neg)
UNARY(abs)
UNARY(real)
UNARY(imag)
UNARY(conj)
BINARY(complex)
UNARY(sign)
UNARY(floor)
UNARY(ceil)
UNARY(trunc)
UNARY(round_even)
UNARY(exp)
UNARY(expm1)
UNARY(log)
UNARY(log1p)
UNARY(sqrt)
UNARY(rsqrt)
UNARY(sin)
UNARY(cos)
UNARY(tan)
UNARY(atan)
UNARY(tanh)
UNARY(erf)
UNARY(logistic)
UNARY(is_finite)
UNARY(not)
UNARY(popcnt)
UNARY(clz)
BINARY(add)
BINARY(sub)
BINARY(mul)
BINARY(div)
BINARY(rem)
BINARY(max)
BINARY(min)
BINARY(pow)
BINARY(atan2)
BINARY(and)
BINARY(or)
BINARY(xor)
BINARY(shift_left)
BINARY(shift_right_logical)
BINARY(shift_right_arithmetic)
BINARY(eq)
BINARY(ne)
BINARY(lt)
BINARY(le)
BINARY(gt)
BINARY(ge)
UNARY(square)
UNARY(reciprocal)
UNARY(relu)
UNARY(silu)
UNARY(cbrt)
UNARY(asin)
UNARY(acos)
UNARY(sinh)
UNARY(cosh)
UNARY(asinh)
UNARY(acosh)
UNARY(atanh)
UNARY(erfc)
UNARY(erf_inv)
UNARY(lgamma)
UNARY(digamma)
UNARY(round_half_away)
UNARY(is_nan)
UNARY(is_inf)
UNARY(log_sigmoid)
UNARY(softsign)
UNARY(tanh_shrink)
UNARY(selu)
UNARY(relu6)
UNARY(sparse_plus)
BINARY(prelu)
UNARY(softplus)
UNARY(mish)
UNARY(hard_swish)

kiln_value kiln_select(kiln_graph *graph, kiln_value condition, kiln_value if_true,
                       kiln_value if_false)
{
    return elementwise(graph, KILN_OP_select, 3, (kiln_value[]){condition, if_true, if_false});
}

kiln_value kiln_clamp(kiln_graph *graph, kiln_value low, kiln_value a, kiln_value high)
{
    return elementwise(graph, KILN_OP_clamp, 3, (kiln_value[]){low, a, high});
}

static kiln_value convert_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *type = kiln_build_type(graph, request, 0);
    const kiln_type *given = kiln_graph_tensor(graph, request->dtype, type->rank, type->dims);
    if (given == type) return request->inputs[0];
    return kiln_graph_add(graph,
                          &(kiln_node_spec){request->op, given, request->inputs, 1, NULL, NULL});
}

kiln_value kiln_convert(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    kiln_request request = {KILN_OP_convert, .inputs = {a}, .n = 1, .dtype = dtype};
    return kiln_build(graph, convert_body, &request);
}
