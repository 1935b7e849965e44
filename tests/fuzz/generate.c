/* The generator's frame: inputs, picking operands, how often each class comes, outputs. Biases:
 * sizes around the vector width, empty and unit dims, few dtypes per graph so that values meet,
 * special values in one input of four. */
#include "fuzz/generate.h"

#include <string.h>

#include "graph/gradient.h"

#define DIFFERENTIATED_EVERY 8 /* graphs: gradients join them */

uint64_t fuzz_below(fuzz_graph *g, uint64_t n)
{
    return op_random(&g->batch) % n;
}

bool fuzz_chance(fuzz_graph *g, uint32_t percent)
{
    return fuzz_below(g, 100) < percent;
}

const kiln_type *fuzz_type(const fuzz_graph *g, kiln_value value)
{
    return kiln_graph_type(g->batch.graph, value);
}

bool fuzz_fits(const fuzz_graph *g, uint32_t rank, const int64_t *dims)
{
    int64_t n = 1;
    for (uint32_t i = 0; i < rank; i++) n *= dims[i] > 0 ? dims[i] : 1;
    return rank <= 6 && n <= g->max_elements;
}

void fuzz_note(fuzz_graph *g, kiln_value value)
{
    for (uint32_t i = 0; i < g->values.n; i++) {
        if (g->values.at[i].id == value.id) return;
    }
    kiln_vec_push(&g->values, &g->batch.scope->arena, value);
    kiln_vec_push(&g->uses, &g->batch.scope->arena, 0u);
}

void fuzz_note_use(fuzz_graph *g, kiln_value value)
{
    for (uint32_t i = 0; i < g->values.n; i++) {
        if (g->values.at[i].id == value.id) g->uses.at[i]++;
    }
}

kiln_value fuzz_node(fuzz_graph *g, kiln_op op, uint32_t n_inputs, const kiln_value *inputs,
                     const kiln_attrs *attrs)
{
    kiln_value value = op_node(&g->batch, op, n_inputs, inputs, attrs);
    for (uint32_t i = 0; i < n_inputs; i++) fuzz_note_use(g, inputs[i]);
    fuzz_note(g, value);
    return value;
}

/* A region has no inputs of its own: a constant there, and elsewhere now and then. */
static kiln_value add_input(fuzz_graph *g, const kiln_type *type, op_values values)
{
    op_batch *batch = &g->batch;
    kiln_value value;
    if (g->depth || fuzz_chance(g, 10)) {
        const kiln_type *own = kiln_graph_retype(batch->graph, type);
        value = kiln_add_constant(batch->graph, own, op_values_new(batch, own, values));
    } else {
        value = op_input(batch, type->dtype, type->rank, type->dims, values);
    }
    fuzz_note(g, value);
    return value;
}

kiln_value fuzz_input(fuzz_graph *g, kiln_dtype dtype, uint32_t rank, const int64_t *dims)
{
    uint64_t kind = fuzz_below(g, 100);
    op_values values = kind < 20 ? OP_VALUES_ANY : kind < 28 ? OP_VALUES_WIDE : OP_VALUES_SMALL;
    return add_input(g, kiln_graph_tensor(g->batch.graph, dtype, rank, dims), values);
}

kiln_value fuzz_small_input(fuzz_graph *g, kiln_dtype dtype, uint32_t rank, const int64_t *dims)
{
    return add_input(g, kiln_graph_tensor(g->batch.graph, dtype, rank, dims), OP_VALUES_SMALL);
}

/* The latest values come more often: chains grow deep. */
kiln_value fuzz_pick(fuzz_graph *g)
{
    uint64_t at = fuzz_below(g, g->values.n);
    if (fuzz_chance(g, 50)) at = g->values.n - 1 - fuzz_below(g, g->values.n < 4 ? g->values.n : 4);
    return g->values.at[at];
}

/* Few sizes a graph: values meet without a broadcast, and kernels of one node come again. */
static void pick_sizes(fuzz_graph *g)
{
    static const int64_t dims[] = {1,  1,  2,  3,  4,  5,  7,  8,  9,   15,
                                   16, 17, 31, 32, 33, 63, 64, 65, 100, 129};
    static const int64_t usual[] = {1, 3, 4, 8, 17, 33};
    bool is_usual = fuzz_chance(g, 60), is_square = fuzz_chance(g, 40);
    for (uint32_t i = 0; g->is_large && i < FUZZ_SIZES; i++) {
        bool is_any = fuzz_chance(g, 25);
        g->sizes[i] = is_any ? 1 + (int64_t)fuzz_below(g, 300) : 88 + (int64_t)fuzz_below(g, 64);
        if (is_square) g->sizes[i] = g->sizes[0];
    }
    for (uint32_t i = 0; !g->is_large && i < FUZZ_SIZES; i++) {
        g->sizes[i] = is_usual ? usual[fuzz_below(g, sizeof usual / sizeof *usual)]
                               : dims[fuzz_below(g, sizeof dims / sizeof *dims)];
    }
}

int64_t fuzz_size(fuzz_graph *g)
{
    return fuzz_chance(g, 2) ? 0 : g->sizes[fuzz_below(g, FUZZ_SIZES)];
}

static uint32_t pick_count(fuzz_graph *g)
{
    if (g->is_large) return 1 + fuzz_chance(g, 40);
    if (fuzz_chance(g, 70)) return 1 + (uint32_t)fuzz_below(g, 4);
    if (fuzz_chance(g, 75)) return 1 + (uint32_t)fuzz_below(g, 10);
    if (fuzz_chance(g, 80)) return 1 + (uint32_t)fuzz_below(g, 20);
    return 10 + (uint32_t)fuzz_below(g, 40);
}

/* Few dtypes with a code of their own each: one graph in twelve starts from one. */
kiln_dtype fuzz_dtype(fuzz_graph *g)
{
    static const kiln_dtype dtypes[] = {
        KILN_f32, KILN_f32, KILN_f32, KILN_f32, KILN_f32,  KILN_f32, KILN_f64, KILN_bf16, KILN_f16,
        KILN_i32, KILN_i64, KILN_i8,  KILN_u8,  KILN_bool, KILN_u32, KILN_i16, KILN_u16,  KILN_u64,
    };
    static const kiln_dtype rare[] = {KILN_c64,       KILN_c64,    KILN_c128,     KILN_i2,
                                      KILN_u2,        KILN_i4,     KILN_u4,       KILN_f8e5m2,
                                      KILN_f8e4m3fn,  KILN_f4e2m1, KILN_f8e4m3fn, KILN_f8e5m2fnuz,
                                      KILN_f8e4m3fnuz};
    if (!g->is_scalar && fuzz_chance(g, 5)) return rare[fuzz_below(g, sizeof rare / sizeof *rare)];
    return dtypes[fuzz_below(g, sizeof dtypes / sizeof *dtypes)];
}

static kiln_value fresh_input(fuzz_graph *g, kiln_dtype dtype)
{
    int64_t dims[5];
    uint32_t rank = g->is_scalar ? 0 : (uint32_t)fuzz_below(g, 5);
    if (g->is_large && !g->is_scalar)
        rank = fuzz_chance(g, 65) ? 2 : 1 + (uint32_t)fuzz_below(g, 4);
    for (uint32_t i = 0; i < rank; i++) dims[i] = fuzz_size(g);
    if (g->is_large && rank == 1 && fuzz_chance(g, 50))
        dims[0] = 1 + (int64_t)fuzz_below(g, (uint64_t)g->max_elements);
    while (!fuzz_fits(g, rank, dims)) dims[fuzz_below(g, rank)] = 1 + (int64_t)fuzz_below(g, 3);
    return fuzz_input(g, dtype, rank, dims);
}

kiln_value fuzz_pick_in(fuzz_graph *g, kiln_dtype_set set)
{
    for (int tries = 0; tries < 8; tries++) {
        kiln_value value = fuzz_pick(g);
        if (kiln_dtype_in(fuzz_type(g, value)->dtype, set)) return value;
    }
    kiln_dtype dtype = fuzz_dtype(g);
    while (!kiln_dtype_in(dtype, set)) dtype = fuzz_dtype(g);
    return fresh_input(g, dtype);
}

/* Whether `from` broadcasts to `to` with trailing axes lined up. */
static bool broadcasts_to(const kiln_type *from, const kiln_type *to)
{
    if (from->rank > to->rank) return false;
    for (uint32_t i = 0; i < from->rank; i++) {
        int64_t dim = to->dims[to->rank - from->rank + i];
        if (from->dims[i] != dim && from->dims[i] != 1) return false;
    }
    return true;
}

kiln_value fuzz_operand(fuzz_graph *g, const kiln_type *type)
{
    kiln_graph *graph = g->batch.graph;
    for (int tries = 0; tries < 6; tries++) {
        kiln_value value = fuzz_pick(g);
        const kiln_type *found = fuzz_type(g, value);
        if (found == type) return value;
        if (!broadcasts_to(found, type) || found->dtype != type->dtype) continue;
        return kiln_add_broadcast_to(graph, value, type->rank, type->dims);
    }
    if (fuzz_chance(g, 30)) {
        double number = (double)fuzz_below(g, 9) / 2 - 2;
        return kiln_add_splat(graph, type->dtype, type->rank, type->dims, number);
    }
    uint32_t rank =
        type->rank && fuzz_chance(g, 40) ? (uint32_t)fuzz_below(g, type->rank) : type->rank;
    kiln_value value = fuzz_input(g, type->dtype, rank, type->dims + (type->rank - rank));
    return kiln_add_broadcast_to(graph, value, type->rank, type->dims);
}

/* Steps of scalars stand first. */
static const struct {
    fuzz_step_fn *step;
    uint32_t weight;
} steps[] = {
    {fuzz_step_elementwise, 36}, {fuzz_step_convert, 6},     {fuzz_step_select, 4},
    {fuzz_step_function, 5},     {fuzz_step_iota, 1},        {fuzz_step_reduce, 10},
    {fuzz_step_window, 3},       {fuzz_step_view, 13},       {fuzz_step_move, 7},
    {fuzz_step_take_along, 1},   {fuzz_step_gather, 2},      {fuzz_step_scatter, 2},
    {fuzz_step_order, 3},        {fuzz_step_barrier, 1},     {fuzz_step_solve, 1},
    {fuzz_step_dot, 4},          {fuzz_step_convolution, 2}, {fuzz_step_composite, 5},
    {fuzz_step_random, 1},       {fuzz_step_region, 2},      {fuzz_step_scalar_region, 2},
    {fuzz_step_custom, 1},       {fuzz_step_image, 1},       {fuzz_step_layers, 1},
};
#define N_STEPS (sizeof steps / sizeof *steps)
#define N_SCALAR_STEPS 4

static bool add_contraction(fuzz_graph *g)
{
    static fuzz_step_fn *const contractions[] = {fuzz_step_dot, fuzz_step_layers, fuzz_step_layers,
                                                 fuzz_step_image, fuzz_step_attention};
    return contractions[fuzz_below(g, sizeof contractions / sizeof *contractions)](g);
}

void fuzz_add_step(fuzz_graph *g)
{
    if (g->is_large && !g->depth && fuzz_chance(g, 25) && add_contraction(g)) return;
    uint32_t total = 0, n = g->is_scalar ? N_SCALAR_STEPS : N_STEPS;
    for (uint32_t i = 0; i < n; i++) total += steps[i].weight;
    uint64_t at = fuzz_below(g, total);
    for (uint32_t i = 0; i < n; i++) {
        if (at < steps[i].weight) {
            steps[i].step(g);
            return;
        }
        at -= steps[i].weight;
    }
}

static bool is_source(const fuzz_graph *g, kiln_value value)
{
    return kiln_node_row(kiln_graph_node(g->batch.graph, value))->class_ == KILN_SOURCE;
}

/* What nothing reads is an output, and now and then something that is read too. */
static void add_outputs(fuzz_graph *g)
{
    uint32_t n_outputs = 0;
    for (uint32_t i = 0; i < g->values.n; i++) {
        bool is_last = i + 1 == g->values.n && n_outputs == 0;
        if (g->uses.at[i] > 0 && !is_last && !fuzz_chance(g, 8)) continue;
        if (g->is_large && !is_last && is_source(g, g->values.at[i])) continue;
        kiln_add_output(g->batch.graph, g->values.at[i],
                        kiln_arena_format(&g->batch.scope->arena, "out%u", n_outputs++));
    }
}

static kiln_value pick_float(fuzz_graph *g)
{
    kiln_value value = {0};
    for (int tries = 0; tries < 16; tries++) {
        value = fuzz_pick(g);
        if (kiln_dtype_in(fuzz_type(g, value)->dtype, KILN_TYPES_FLOAT)) return value;
    }
    return (kiln_value){0};
}

/* Gradients of one value by others, of which some come after it or do not lead to it. */
static void add_gradients(fuzz_graph *g)
{
    kiln_value of = pick_float(g), values[3], gradients[3];
    uint32_t n = 0;
    for (uint32_t tries = 0; tries < 3; tries++) {
        values[n] = pick_float(g);
        n += values[n].id != 0 && values[n].id != of.id;
    }
    if (!of.id || n == 0) return;
    kiln_value cotangent = fuzz_operand(g, fuzz_type(g, of));
    kiln_gradient_request request = {
        .n_of = 1, .n_values = n, .of = &of, .cotangents = &cotangent, .values = values};
    kiln_graph_gradient(g->batch.graph, &request, gradients);
    for (uint32_t i = 0; i < n; i++)
        if (gradients[i].id) fuzz_note(g, gradients[i]);
}

static fuzz_graph *generate(kiln_scope *scope, uint64_t seed, bool is_differentiated)
{
    fuzz_graph *g = kiln_new(&scope->arena, fuzz_graph);
    g->batch.scope = scope;
    g->batch.random = seed;
    g->batch.random = op_random(&g->batch); /* the stream of the next seed is another one */
    g->batch.name = kiln_arena_format(&scope->arena, "seed %llu", (unsigned long long)seed);
    g->batch.graph = kiln_graph_open(scope, NULL, "fuzz");
    g->is_large = fuzz_chance(g, 12);
    g->max_elements = g->is_large ? 40000 : fuzz_chance(g, 10) ? 20000 : 3000;
    if (fuzz_chance(g, g->is_large ? 5 : 1))
        g->max_elements = 200000; /* enough for threads to share */
    g->is_rounded = fuzz_chance(g, 20);
    g->max_work = g->is_large ? 3000000 : 60000;
    g->n_wanted = pick_count(g);
    pick_sizes(g);
    uint32_t n_inputs = 1 + (uint32_t)fuzz_below(g, g->is_large ? 2 : 3);
    for (uint32_t i = 0; i < n_inputs; i++) fresh_input(g, fuzz_dtype(g));
    for (uint32_t i = 0; i < g->n_wanted; i++) fuzz_add_step(g);
    if (is_differentiated) add_gradients(g);
    add_outputs(g);
    return g;
}

/* Whether all operations on the way have a derivative; other failures come again and are told. */
static bool is_differentiable(uint64_t seed)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) generate(&scope, seed, true);
    return kiln_scope_close(&scope) != KILN_UNSUPPORTED;
}

fuzz_graph *fuzz_generate(kiln_scope *scope, uint64_t seed)
{
    bool is_tried = seed % DIFFERENTIATED_EVERY == 0;
    return generate(scope, seed, is_tried && is_differentiable(seed));
}
