/* Derivatives of nodes with regions. A call and a map are what their region does to the operands. A
 * choice becomes the choice between the derivatives of its branches. A scan becomes one that runs
 * from the last trip to the first; the carried values that every trip began with are kept by a
 * second run of its body. */
#include "graph/element.h"
#include "graph/rules/derive.h"

void kiln_derive_item(kiln_derivation *d)
{
    d->out[0] = d->gradients[0];
    d->item = (uint32_t)d->node->attrs->item.index;
}

static kiln_value *new_values(const kiln_derivation *d, uint32_t n)
{
    return kiln_new_array(&d->graph->scope->arena, kiln_value, n + 1);
}

void kiln_derive_call(kiln_derivation *d)
{
    kiln_value *results = new_values(d, d->node->type->n_items);
    kiln_graph_inline(d->graph, d->node->attrs->regions.regions.at[0], d->node->inputs, results);
    kiln_derive_through(d, results);
}

/* One node of a region over scalars, at every index of `dims`. */
static kiln_value spread_node(kiln_graph *g, const kiln_node *node, const kiln_type *like,
                              const kiln_value *map)
{
    if (node->op == KILN_OP_constant) {
        const kiln_type *type = kiln_graph_retype(g, node->type);
        kiln_value scalar = kiln_add_literal(g, type, &node->attrs->literal.value);
        return kiln_add_broadcast_to(g, scalar, like->rank, like->dims);
    }
    bool is_given = kiln_node_row(node)->result == KILN_RESULT_GIVEN;
    kiln_value *inputs = kiln_new_array(&g->scope->arena, kiln_value, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++) inputs[i] = map[node->inputs[i].id];
    kiln_node_spec spec = {(kiln_op)node->op, NULL, inputs, node->n_inputs, node->attrs, NULL};
    if (is_given) spec.given = kiln_graph_tensor(g, node->type->dtype, like->rank, like->dims);
    return kiln_graph_add(g, &spec);
}

void kiln_derive_map(kiln_derivation *d)
{
    const kiln_graph *region = d->node->attrs->regions.regions.at[0];
    kiln_value *map = new_values(d, region->nodes.n), *results = new_values(d, region->outputs.n);
    for (uint32_t i = 0; i < region->inputs.n; i++)
        map[region->inputs.at[i].id] = d->node->inputs[i];
    for (uint32_t id = 1; id < region->nodes.n; id++) {
        if (!map[id].id)
            map[id] = spread_node(d->graph, region->nodes.at[id], kiln_derive_type(d, 0), map);
    }
    for (uint32_t i = 0; i < region->outputs.n; i++)
        results[i] = map[region->outputs.at[i].value.id];
    kiln_derive_through(d, results);
}

/* A region in the making: parameters are made for operands of the node that will have it. */
typedef struct region {
    kiln_graph *graph;
    kiln_vec(kiln_value) operands, parameters;
} region;

static region open_region(kiln_derivation *d, const char *name)
{
    return (region){.graph = kiln_graph_open(d->graph->scope, d->graph->context, name)};
}

/* A parameter of that type for the operand. */
static kiln_value add_parameter(kiln_derivation *d, region *r, kiln_value operand,
                                const kiln_type *type)
{
    const char *name = kiln_arena_format(&r->graph->arena, "p%u", r->graph->inputs.n);
    kiln_value value = kiln_add_input(r->graph, kiln_graph_retype(r->graph, type), name, false);
    kiln_vec_push(&r->operands, &d->graph->scope->arena, operand);
    kiln_vec_push(&r->parameters, &d->graph->scope->arena, value);
    return value;
}

static kiln_value add_same(kiln_derivation *d, region *r, kiln_value operand)
{
    return add_parameter(d, r, operand, kiln_graph_type(d->graph, operand));
}

static bool is_float(const kiln_type *type)
{
    return kiln_dtype_in(type->dtype, KILN_TYPES_FLOAT);
}

static void refuse_complex(kiln_derivation *d)
{
    const kiln_type *type = d->node->type;
    for (uint32_t i = 0; i < type->n_items; i++) {
        if (kiln_dtype_in(type->items[i]->dtype, KILN_TYPES_COMPLEX))
            kiln_derive_refuse(d, "it gives complex values; expected real ones");
    }
}

/* Sums of results times cotangents inside a region, differentiated there. */
typedef struct inner_gradient {
    kiln_vec(kiln_value) of, cotangents, values;
} inner_gradient;

static void add_result(kiln_derivation *d, inner_gradient *inner, kiln_value of,
                       kiln_value cotangent)
{
    kiln_vec_push(&inner->of, &d->graph->scope->arena, of);
    kiln_vec_push(&inner->cotangents, &d->graph->scope->arena, cotangent);
}

/* The gradients of inner->values, zeros included. */
static kiln_value *inner_run(kiln_derivation *d, region *r, const inner_gradient *inner)
{
    kiln_value *out = new_values(d, inner->values.n);
    kiln_gradient_request request = {.n_of = inner->of.n,
                                     .n_values = inner->values.n,
                                     .of = inner->of.at,
                                     .cotangents = inner->cotangents.at,
                                     .values = inner->values.at,
                                     .is_cut = true};
    kiln_graph_gradient(r->graph, &request, out);
    for (uint32_t i = 0; i < inner->values.n; i++) {
        if (!out[i].id) out[i] = kiln_add_splat_like(r->graph, inner->values.at[i], 0);
    }
    return out;
}

static kiln_value close_region(kiln_derivation *d, region *r, kiln_op op, kiln_attrs *attrs)
{
    kiln_node_spec spec = {op, NULL, r->operands.at, r->operands.n, attrs, NULL};
    return kiln_graph_add(d->graph, &spec);
}

/* The derivative of one branch: parameters are the branch's, then the cotangents. */
static region derive_branch(kiln_derivation *d, const kiln_graph *branch)
{
    region r = open_region(d, branch->name);
    inner_gradient inner = {0};
    kiln_value *args = new_values(d, d->node->n_inputs);
    kiln_value *results = new_values(d, branch->outputs.n);
    for (uint32_t i = 1; i < d->node->n_inputs; i++) {
        args[i - 1] = add_same(d, &r, d->node->inputs[i]);
        if (d->is_wanted[i]) kiln_vec_push(&inner.values, &d->graph->scope->arena, args[i - 1]);
    }
    kiln_graph_inline(r.graph, branch, args, results);
    for (uint32_t i = 0; i < branch->outputs.n; i++) {
        if (d->gradients[i].id) add_result(d, &inner, results[i], add_same(d, &r, d->gradients[i]));
    }
    const kiln_value *gradients = inner_run(d, &r, &inner);
    for (uint32_t i = 0; i < inner.values.n; i++) kiln_add_output(r.graph, gradients[i], NULL);
    kiln_region_close(d->graph->scope, r.graph);
    return r;
}

static void derive_choice(kiln_derivation *d)
{
    kiln_regions regions = d->node->attrs->regions.regions;
    const kiln_graph **made =
        kiln_new_array(&d->graph->scope->arena, const kiln_graph *, regions.n);
    region all = {0}, last = {0};
    refuse_complex(d);
    for (uint32_t i = 0; i < regions.n; i++) {
        last = derive_branch(d, regions.at[i]);
        made[i] = last.graph;
    }
    kiln_vec_push(&all.operands, &d->graph->scope->arena, d->node->inputs[0]);
    for (uint32_t i = 0; i < last.operands.n; i++)
        kiln_vec_push(&all.operands, &d->graph->scope->arena, last.operands.at[i]);
    kiln_attrs attrs = {KILN_FAMILY_regions, .regions = {{regions.n, made}}};
    kiln_value tuple = close_region(d, &all, (kiln_op)d->node->op, &attrs);
    for (uint32_t i = 1, item = 0; i < d->node->n_inputs; i++) {
        if (d->is_wanted[i]) d->out[i] = kiln_add_item(d->graph, tuple, item++);
    }
}

void kiln_derive_if(kiln_derivation *d)
{
    derive_choice(d);
}

void kiln_derive_case(kiln_derivation *d)
{
    derive_choice(d);
}

/* A scan at work: operands are carried values, sequences, then fixed ones. */
typedef struct scan_run {
    kiln_derivation *d;
    const kiln_graph *body;
    uint32_t n_carried, n_slices;
    int64_t length;
    kiln_value *history; /* of the carried values, at the beginning of each trip */
} scan_run;

static kiln_value finish_scan(const scan_run *run, region *r, uint32_t n_carried, uint32_t n_slices)
{
    kiln_region_close(run->d->graph->scope, r->graph);
    kiln_attrs attrs = {KILN_FAMILY_scan};
    const kiln_graph *regions[] = {r->graph};
    attrs.scan.n_carried = n_carried;
    attrs.scan.n_slices = n_slices;
    attrs.scan.length = run->length;
    attrs.scan.regions = (kiln_regions){1, regions};
    return close_region(run->d, r, KILN_OP_scan, &attrs);
}

/* The body again, which stacks what it began with. */
static void keep_history(scan_run *run)
{
    kiln_derivation *d = run->d;
    uint32_t n = d->node->n_inputs;
    run->history = new_values(d, run->n_carried);
    if (run->n_carried == 0) return;
    region r = open_region(d, run->body->name);
    kiln_value *args = new_values(d, n), *results = new_values(d, run->body->outputs.n);
    for (uint32_t i = 0; i < n; i++)
        args[i] = add_parameter(d, &r, d->node->inputs[i],
                                kiln_graph_type(run->body, run->body->inputs.at[i]));
    kiln_graph_inline(r.graph, run->body, args, results);
    for (uint32_t i = 0; i < run->n_carried; i++) kiln_add_output(r.graph, results[i], NULL);
    for (uint32_t i = 0; i < run->n_carried; i++) kiln_add_output(r.graph, args[i], NULL);
    kiln_value tuple = finish_scan(run, &r, run->n_carried, run->n_slices);
    for (uint32_t i = 0; i < run->n_carried; i++)
        run->history[i] = kiln_add_item(d->graph, tuple, run->n_carried + i);
}

static kiln_value turned(kiln_graph *g, kiln_value sequence)
{
    static const int64_t first = 0;
    kiln_attrs attrs = {KILN_FAMILY_axes, .axes = {{1, &first}}};
    return kiln_derive_node(g, KILN_OP_reverse, 1, &sequence, &attrs);
}

static bool is_fixed(const scan_run *run, uint32_t operand)
{
    return operand >= run->n_carried + run->n_slices;
}

/* Parameters of the scan backwards: gradients of the carried floats and of the wanted fixed values
 * go around; history, sequences and the gradients of stacks come turned; fixed values stay. */
typedef struct scan_back {
    region r;
    kiln_value *around;  /* by operand: the gradient that goes around */
    kiln_value *args;    /* of the body */
    kiln_value *results; /* of the body */
    kiln_value *stacked; /* by result: the gradient of this trip's row */
    uint32_t n_around, n_slices;
} scan_back;

static void add_around(const scan_run *run, scan_back *back)
{
    kiln_derivation *d = run->d;
    for (uint32_t i = 0; i < d->node->n_inputs; i++) {
        bool is_carried = i < run->n_carried && is_float(kiln_derive_type(d, i));
        if (!is_carried && !(is_fixed(run, i) && d->is_wanted[i])) continue;
        bool has_gradient = is_carried && d->gradients[i].id;
        kiln_value start = has_gradient ? d->gradients[i] : kiln_derive_zeros(d, i);
        back->around[i] = add_same(d, &back->r, start);
        back->n_around++;
    }
}

static void add_rows(const scan_run *run, scan_back *back)
{
    kiln_derivation *d = run->d;
    uint32_t first = back->r.operands.n;
    for (uint32_t i = 0; !is_fixed(run, i) && i < d->node->n_inputs; i++) {
        kiln_value rows = i < run->n_carried ? run->history[i] : d->node->inputs[i];
        const kiln_type *type = kiln_graph_type(run->body, run->body->inputs.at[i]);
        back->args[i] = add_parameter(d, &back->r, turned(d->graph, rows), type);
    }
    for (uint32_t i = run->n_carried; i < run->body->outputs.n; i++) {
        const kiln_type *type = kiln_graph_type(run->body, run->body->outputs.at[i].value);
        if (d->gradients[i].id)
            back->stacked[i] = add_parameter(d, &back->r, turned(d->graph, d->gradients[i]), type);
    }
    back->n_slices = back->r.operands.n - first;
    for (uint32_t i = run->n_carried + run->n_slices; i < d->node->n_inputs; i++)
        back->args[i] = add_same(d, &back->r, d->node->inputs[i]);
}

/* Differentiates the body; gradients by operand of the scan, id 0 where none is asked for. */
static kiln_value *derive_body(const scan_run *run, scan_back *back)
{
    kiln_derivation *d = run->d;
    inner_gradient inner = {0};
    kiln_value *out = new_values(d, d->node->n_inputs);
    for (uint32_t i = 0; i < run->body->outputs.n; i++) {
        kiln_value cotangent = i < run->n_carried ? back->around[i] : back->stacked[i];
        if (cotangent.id) add_result(d, &inner, back->results[i], cotangent);
    }
    for (uint32_t i = 0; i < d->node->n_inputs; i++) {
        bool is_asked = back->around[i].id || (i >= run->n_carried && d->is_wanted[i]);
        if (is_asked) kiln_vec_push(&inner.values, &d->graph->scope->arena, back->args[i]);
    }
    const kiln_value *gradients = inner_run(d, &back->r, &inner);
    for (uint32_t i = 0, next = 0; i < d->node->n_inputs; i++) {
        if (next < inner.values.n && inner.values.at[next].id == back->args[i].id)
            out[i] = gradients[next++];
    }
    return out;
}

/* Outputs: what goes around, then rows of the wanted sequences. */
static void output_back(const scan_run *run, scan_back *back, const kiln_value *gradients)
{
    for (uint32_t i = 0; i < run->d->node->n_inputs; i++) {
        kiln_value next = gradients[i];
        if (!back->around[i].id) continue;
        if (is_fixed(run, i)) next = sum(back->r.graph, back->around[i], next);
        kiln_add_output(back->r.graph, next, NULL);
    }
    for (uint32_t i = run->n_carried; !is_fixed(run, i); i++) {
        if (run->d->is_wanted[i]) kiln_add_output(back->r.graph, gradients[i], NULL);
    }
}

void kiln_derive_scan(kiln_derivation *d)
{
    const kiln_attrs *attrs = d->node->attrs;
    scan_run run = {d,
                    attrs->scan.regions.at[0],
                    (uint32_t)attrs->scan.n_carried,
                    (uint32_t)attrs->scan.n_slices,
                    attrs->scan.length,
                    NULL};
    uint32_t n = d->node->n_inputs, item = 0;
    refuse_complex(d);
    keep_history(&run);
    scan_back back = {.r = open_region(d, run.body->name)};
    back.around = new_values(d, n);
    back.args = new_values(d, n);
    back.results = new_values(d, run.body->outputs.n);
    back.stacked = new_values(d, run.body->outputs.n);
    add_around(&run, &back);
    add_rows(&run, &back);
    kiln_graph_inline(back.r.graph, run.body, back.args, back.results);
    output_back(&run, &back, derive_body(&run, &back));
    kiln_value tuple = finish_scan(&run, &back.r, back.n_around, back.n_slices);
    for (uint32_t i = 0; i < n; i++) {
        if (!back.around[i].id) continue;
        kiln_value sum_of = kiln_add_item(d->graph, tuple, item++);
        if (d->is_wanted[i]) d->out[i] = sum_of;
    }
    for (uint32_t i = run.n_carried; !is_fixed(&run, i); i++) {
        if (d->is_wanted[i]) d->out[i] = turned(d->graph, kiln_add_item(d->graph, tuple, item++));
    }
}
