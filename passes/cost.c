/* The cost model: time = max(bytes / bandwidth, work / throughput) + launch, for both machines.
 *
 * Work is counted in issue slots: what an op takes from a core that does flops_per_ns of f32 FMA
 * flops (an add takes two slots: it fills a port that could have done an FMA). How often a node of
 * a group is evaluated follows from its users: each index of a view or move evaluates its operand
 * once more, which is what fusing a producer into a reader of broadcasts or windows costs.
 * Bandwidth is that of the smallest level which holds a footprint: what the group touches, or, when
 * ways to group are compared, the largest group among them, so that no way wins by a cache's edge.
 */
#include "base/checked.h"
#include "graph/element.h"
#include "kiln/program.h"
#include "passes/fuse.h"

#include <stdlib.h>

typedef struct slots_row {
    bool is_listed;
    float slots, instrs;
} slots_row;

/* By op. Slots: measured order of magnitude on 512-bit vectors: a division is 12 cycles a vector,
 * the functions are polynomials of 10 to 30 instructions; integer division and pow run through f64
 * or by element. Instructions: what a kernel of the op alone has more than one of an addition. */
static const slots_row costly_ops[KILN_N_OPS] = {
    [KILN_OP_exp] = {true, 24, 42},    [KILN_OP_expm1] = {true, 40, 60},
    [KILN_OP_log] = {true, 32, 102},   [KILN_OP_log1p] = {true, 44, 66},
    [KILN_OP_sqrt] = {true, 48, 1},    [KILN_OP_rsqrt] = {true, 90, 43},
    [KILN_OP_sin] = {true, 60, 96},    [KILN_OP_cos] = {true, 60, 94},
    [KILN_OP_tan] = {true, 110, 95},   [KILN_OP_atan] = {true, 80, 73},
    [KILN_OP_atan2] = {true, 110, 73}, [KILN_OP_tanh] = {true, 60, 57},
    [KILN_OP_erf] = {true, 60, 41},    [KILN_OP_logistic] = {true, 80, 56},
    [KILN_OP_pow] = {true, 160, 162},  [KILN_OP_div] = {true, 48, 1},
    [KILN_OP_rem] = {true, 80, 60},    [KILN_OP_sign] = {true, 4, 8},
    [KILN_OP_popcnt] = {true, 10, 12}, [KILN_OP_clz] = {true, 10, 12},
    [KILN_OP_clamp] = {true, 4, 2},    [KILN_OP_select] = {true, 2, 1},
    [KILN_OP_convert] = {true, 3, 8},  [KILN_OP_bitcast] = {true, 0, 0},
};

static const slots_row *costs_of(const kiln_node *node)
{
    static const slots_row view = {true, 0, 0}, move = {true, 3, 1}, other = {true, 2, 1};
    if (costly_ops[node->op].is_listed) return &costly_ops[node->op];
    kiln_class class_ = kiln_node_row(node)->class_;
    if (class_ == KILN_VIEW || class_ == KILN_SOURCE) return &view;
    return class_ == KILN_MOVE ? &move : &other;
}

double kiln_op_slots(const kiln_node *node)
{
    double slots = costs_of(node)->slots;
    return kiln_dtype_bytes(node->type->dtype) > 4 ? slots * 2 : slots;
}

/* A view or move works out an index by axis: divisions where elements come from between others, and
 * masks. Narrow values are rounded after each operation. */
static double node_instrs(const kiln_node *node)
{
    kiln_class class_ = kiln_node_row(node)->class_;
    kiln_dtype dtype = node->type->dtype;
    double instrs = costs_of(node)->instrs;
    if (class_ == KILN_VIEW) return 3.0 * node->type->rank;
    if (class_ == KILN_MOVE) return 8.0 * node->type->rank;
    bool is_narrow =
        kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_FLOAT && kiln_dtype_bits(dtype) <= 16;
    if (class_ == KILN_ELEMENTWISE && is_narrow) instrs += 30;
    return kiln_dtype_bytes(dtype) > 4 ? instrs * 2 : instrs;
}

static double window_size(const kiln_node *node)
{
    double size = 1;
    kiln_ints sizes = node->attrs->window.sizes;
    for (uint32_t i = 0; i < sizes.n; i++) size *= (double)sizes.at[i];
    return size;
}

/* Multiplications and additions of one result element of a contraction. */
static double contraction_flops(const kiln_graph *graph, const kiln_node *node)
{
    const kiln_type *b = kiln_graph_type(graph, node->inputs[1]);
    double k = 1;
    if (node->op == KILN_OP_convolution) {
        kiln_ints axes = node->attrs->conv.kernel_axes;
        for (uint32_t i = 1; i < axes.n; i++) k *= (double)b->dims[axes.at[i]];
        double side = (double)node->attrs->conv.winograd, reach = side + 2;
        return side > 0 ? 2 * k * reach * reach / (9 * side * side) : 2 * k;
    }
    kiln_ints axes = node->attrs->dot.rhs_contract;
    for (uint32_t i = 0; i < axes.n; i++) k *= (double)b->dims[axes.at[i]];
    return 2 * k;
}

/* Of all elements of one evaluation of the node's result element. */
double kiln_op_flops(const kiln_graph *graph, const kiln_node *node)
{
    switch (kiln_node_row(node)->class_) {
    case KILN_ELEMENTWISE:
        return 1;
    case KILN_REDUCE: {
        const kiln_type *from = kiln_graph_type(graph, node->inputs[0]);
        return node->type->n_elements ? (double)from->n_elements / (double)node->type->n_elements
                                      : 0;
    }
    case KILN_WINDOW:
        return window_size(node);
    case KILN_CONTRACT:
        return contraction_flops(graph, node);
    case KILN_SOURCE:
    case KILN_VIEW:
    case KILN_MOVE:
    case KILN_ROUTINE:
    case KILN_REGION:
    case KILN_COMPOSITE:
        return 0;
    }
    return 0;
}

/* How often operand `i` is evaluated when the node is evaluated `evals` times. What is one number
 * for all elements a core computes before its loops. */
static double operand_evals(const kiln_fusion *fusion, const kiln_node *node, uint32_t i,
                            double evals)
{
    const kiln_type *from = kiln_graph_type(fusion->graph, node->inputs[i]);
    double elements = (double)from->n_elements;
    switch (kiln_node_row(node)->class_) {
    case KILN_REDUCE:
    case KILN_CONTRACT:
        return elements;
    case KILN_WINDOW:
        return evals * window_size(node);
    case KILN_MOVE:
        if (node->op == KILN_OP_concat) return evals;
        if (i == 0 || (i == 1 && node->op == KILN_OP_dynamic_update)) return evals;
        return elements < evals ? elements : evals;
    case KILN_VIEW:
        return elements == 1 && fusion->machine->kind == KILN_MACHINE_CPU ? 1 : evals;
    case KILN_SOURCE:
    case KILN_ELEMENTWISE:
    case KILN_ROUTINE:
    case KILN_REGION:
    case KILN_COMPOSITE:
        return evals;
    }
    return evals;
}

typedef struct cost_walk {
    kiln_fusion *fusion;
    uint32_t inside, other;
    double variants; /* of the kernel's code: each has all arithmetic */
    kiln_ids *nodes; /* reached: members, floating ones and what the group reads */
    kiln_cost cost;
} cost_walk;

static bool is_member(const cost_walk *walk, uint32_t id)
{
    uint32_t cluster = walk->fusion->cluster_of[id];
    return cluster != KILN_NONE && (cluster == walk->inside || cluster == walk->other);
}

static bool is_evaluated(const cost_walk *walk, uint32_t id)
{
    return is_member(walk, id) || walk->fusion->is_floating[id];
}

static int compare_descending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void reach(cost_walk *walk, uint32_t id)
{
    kiln_fusion *fusion = walk->fusion;
    if (fusion->node_stamp[id] == fusion->stamp) return;
    fusion->node_stamp[id] = fusion->stamp;
    fusion->evals[id] = fusion->evals_elsewhere[id] = 0;
    fusion->copies[id] = fusion->copies_elsewhere[id] = 0;
    kiln_vec_push(walk->nodes, fusion->arena, id);
}

/* Roots are the stored members: each is evaluated once per element and written. */
static void start_roots(cost_walk *walk, uint32_t number)
{
    if (number == KILN_NONE) return;
    kiln_fusion *fusion = walk->fusion;
    const kiln_cluster *cluster = &fusion->clusters.at[number];
    for (uint32_t i = 0; i < cluster->nodes.n; i++) {
        uint32_t id = cluster->nodes.at[i];
        if (!kiln_fusion_is_stored(fusion, id, walk->inside, walk->other)) continue;
        kiln_vec_push(walk->nodes, fusion->arena, id);
    }
}

static void walk_nodes(cost_walk *walk)
{
    kiln_fusion *fusion = walk->fusion;
    uint32_t n_roots = walk->nodes->n;
    fusion->stamp++;
    for (uint32_t i = 0; i < n_roots; i++) {
        uint32_t id = walk->nodes->at[i];
        const kiln_type *type = kiln_fusion_node(fusion, id)->type;
        fusion->node_stamp[id] = fusion->stamp;
        fusion->evals[id] = (double)type->n_elements;
        fusion->evals_elsewhere[id] = 0;
        fusion->copies[id] = 1;
        fusion->copies_elsewhere[id] = 0;
        walk->cost.bytes += (double)type->bytes;
    }
    for (uint32_t at = 0; at < walk->nodes->n; at++) {
        uint32_t id = walk->nodes->at[at];
        if (!is_evaluated(walk, id)) continue;
        const kiln_node *node = kiln_fusion_node(fusion, id);
        for (uint32_t i = 0; i < node->n_inputs; i++) reach(walk, node->inputs[i].id);
    }
    qsort(walk->nodes->at, walk->nodes->n, sizeof(uint32_t), compare_descending);
}

/* Readers at a node's own index share one evaluation, the largest; each view or move reads at an
 * index of its own. Reductions of one space read their operands together; a row is kept at hand
 * between stages. */
static void spread_evals(kiln_fusion *fusion, const kiln_node *node, double evals, double copies)
{
    kiln_class class_ = kiln_node_row(node)->class_;
    bool is_same_index = class_ == KILN_ELEMENTWISE || class_ == KILN_REDUCE;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        uint32_t id = node->inputs[i].id;
        double more = operand_evals(fusion, node, i, evals);
        if (!is_same_index)
            fusion->evals_elsewhere[id] += more;
        else if (fusion->evals[id] < more)
            fusion->evals[id] = more;
        if (!is_same_index && !(i == 0 && node->op == KILN_OP_dynamic_update))
            fusion->copies_elsewhere[id] += copies;
        else if (fusion->copies[id] < copies)
            fusion->copies[id] = copies;
    }
}

/* Results of reductions, windows and contractions are at hand, and so is what follows per row. */
static bool is_computed_once(const kiln_fusion *fusion, uint32_t id)
{
    kiln_class class_ = kiln_fusion_class(fusion, id);
    return class_ == KILN_REDUCE || class_ == KILN_WINDOW || class_ == KILN_CONTRACT ||
           fusion->role[id] == KILN_ROLE_ROW;
}

#define PANEL 16 /* columns: products work on whole panels */

static double column_padding(const kiln_node *node)
{
    int64_t n = node->type->rank ? node->type->dims[node->type->rank - 1] : 1;
    return n > 0 ? (double)kiln_round_up(n, PANEL) / (double)n : 1;
}

#define LOAD_INSTRS 6 /* of a gather, whose index is made as well */

static void count_node(cost_walk *walk, uint32_t id)
{
    kiln_fusion *fusion = walk->fusion;
    const kiln_node *node = kiln_fusion_node(fusion, id);
    double evals = fusion->evals[id] + fusion->evals_elsewhere[id];
    double copies = fusion->copies[id] + fusion->copies_elsewhere[id];
    if (is_member(walk, id) && is_computed_once(fusion, id)) {
        evals = (double)node->type->n_elements;
        copies = 1;
    }
    double times = kiln_node_row(node)->class_ == KILN_ELEMENTWISE ? walk->variants : 1;
    walk->cost.instrs +=
        copies * times * (is_evaluated(walk, id) ? node_instrs(node) : LOAD_INSTRS);
    if (!is_evaluated(walk, id)) {
        double read = evals * (double)kiln_dtype_bytes(node->type->dtype);
        walk->cost.bytes += read < (double)node->type->bytes ? read : (double)node->type->bytes;
        return;
    }
    double flops = kiln_op_flops(fusion->graph, node);
    bool is_contraction = kiln_node_row(node)->class_ == KILN_CONTRACT;
    double scale = kiln_dtype_bytes(node->type->dtype) > 4 ? 2 : 1;
    double slots = is_contraction ? flops * 1.2 * scale * column_padding(node)
                                  : kiln_op_slots(node) * (flops > 1 ? flops : 1);
    walk->cost.flops += evals * flops;
    walk->cost.slots += evals * slots;
    spread_evals(fusion, node, evals, copies);
}

static double bandwidth(const kiln_machine *machine, double bytes, double threads)
{
    if (bytes <= (double)machine->l2_bytes * threads) return machine->l2_bytes_per_ns * threads;
    if (bytes <= (double)machine->l3_bytes) return machine->l3_bytes_per_ns * threads;
    double rate = machine->bytes_per_ns * threads;
    return rate < machine->memory_bytes_per_ns ? rate : machine->memory_bytes_per_ns;
}

static double time_of(const kiln_machine *machine, const kiln_cost *cost, double footprint,
                      double threads)
{
    double memory = cost->bytes / bandwidth(machine, footprint, threads);
    double work = cost->slots / (machine->flops_per_ns * threads);
    return memory > work ? memory : work;
}

static bool is_serial(const kiln_fusion *fusion, uint32_t number)
{
    if (number == KILN_NONE) return false;
    const kiln_cluster *cluster = &fusion->clusters.at[number];
    return cluster->kind == KILN_GROUP_ROW && cluster->space.rows < fusion->pipeline->n_threads;
}

/* What follows a contraction stands in tiles of whole and of last rows and columns. */
#define TILE_VARIANTS 8

static double count_variants(const kiln_fusion *fusion, uint32_t number)
{
    if (number == KILN_NONE) return 1;
    kiln_group_kind kind = fusion->clusters.at[number].kind;
    return kind == KILN_GROUP_DOT || kind == KILN_GROUP_CONV ? TILE_VARIANTS : 1;
}

kiln_cost kiln_fusion_cost(kiln_fusion *fusion, uint32_t number, uint32_t other)
{
    cost_walk walk = {.fusion = fusion, .inside = number, .other = other, .nodes = &fusion->walked};
    double variants = count_variants(fusion, number), others = count_variants(fusion, other);
    walk.variants = variants > others ? variants : others;
    walk.nodes->n = 0;
    start_roots(&walk, number);
    start_roots(&walk, other);
    walk_nodes(&walk);
    for (uint32_t i = 0; i < walk.nodes->n; i++) count_node(&walk, walk.nodes->at[i]);
    bool is_one = is_serial(fusion, number) || is_serial(fusion, other);
    bool is_gpu = fusion->machine->kind == KILN_MACHINE_GPU;
    bool is_single = is_one || is_gpu || !fusion->pipeline->n_threads;
    walk.cost.threads = is_single ? 1 : fusion->pipeline->n_threads;
    walk.cost.one_core_ns = time_of(fusion->machine, &walk.cost, walk.cost.bytes, 1);
    return walk.cost;
}

/* LLVM takes 0.02 s for 500 instructions in one block, 0.35 s for 4,000, 19 s for 12,000 and
 * minutes for 24,000. The kernels of models need at most 300, equations of state 1,400. */
#define MAX_INSTRS 3000

bool kiln_cost_is_long(const kiln_cost *cost)
{
    return cost->instrs > MAX_INSTRS;
}

double kiln_fusion_bandwidth(const kiln_fusion *fusion, double footprint)
{
    double threads = fusion->pipeline->n_threads > 1 ? fusion->pipeline->n_threads : 1;
    return bandwidth(fusion->machine, footprint, threads) / threads;
}

double kiln_cost_ns(const kiln_fusion *fusion, const kiln_cost *cost, double footprint)
{
    return time_of(fusion->machine, cost, footprint, cost->threads) + fusion->machine->launch_ns;
}
