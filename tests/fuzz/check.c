/* The variants as a table; each is a compile, a run, a comparison within the bounds and one with
 * the variant whose bits it must have. */
#include "fuzz/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/compile.h"
#include "fuzz/files.h"
#include "fuzz/generate.h"
#include "fuzz/oracle.h"
#include "passes/machine.h"
#include "runtime/executable.h"

/* Which graphs a variant is for. */
typedef enum variant_use {
    USE_EVALUATOR,
    USE_ALL,
    USE_SAME,   /* where the bits must be the same, and now and then elsewhere */
    USE_TILES,  /* with contractions of narrow dtypes */
    USE_AHEAD,  /* objects only */
    USE_LINKED, /* when asked for */
    USE_FILES,  /* the evaluator, for what the files' formats made of the graph */
} variant_use;

/* `slack` multiplies the bounds: rewrites may round in another order. */
typedef struct fuzz_variant {
    compiled_variant compiled;
    int same_as; /* index of the variant with the same bits, or -1 */
    bool is_same_f32_only;
    variant_use use;
    double slack;
} fuzz_variant;

#define V3 "x86-64-v3"
#define V4 "x86-64-v4"
#define FUSED 2
#define TILES 7
static const fuzz_variant variants[] = {
    {{"evaluator", NULL, 0, 0, 1}, -1, false, USE_EVALUATOR, 4},
    {{"strict unfused", V4, 1, 1, 1}, -1, false, USE_ALL, 1},
    {{"fused", V4, 0, 0, 2}, -1, false, USE_ALL, 4},
    {{"fused, one thread", V4, 0, 0, 1}, FUSED, false, USE_ALL, 4},
    {{"strict fused", V4, 0, 1, 1}, -1, false, USE_ALL, 1},
    {{"unfused", V4, 1, 0, 1}, -1, false, USE_ALL, 4},
    {{"fused v3", V3, 0, 0, 1}, FUSED, true, USE_SAME, 4},
    {{"fused with tiles", NULL, 0, 0, 2}, -1, false, USE_TILES, 4},
    {{"tiles, one thread", NULL, 0, 0, 1}, TILES, false, USE_TILES, 4},
    {{"ahead of time", V4, 0, 0, 2}, FUSED, false, USE_AHEAD, 4},
    {{"linked", V4, 0, 0, 2}, FUSED, false, USE_LINKED, 4},
    {{"files", NULL, 0, 0, 1}, -1, false, USE_FILES, 4},
};
#define N_VARIANTS ((int)(sizeof variants / sizeof *variants))

const char *fuzz_variant_name(int variant)
{
    return variant < N_VARIANTS ? variants[variant].compiled.name : NULL;
}

/* The contexts' kernels in one memory: a kernel is compiled once, however many threads run it. */
static bool share_kernels(compiled_contexts *contexts)
{
    kiln_graph *graph = NULL;
    if (kiln_graph_create(contexts->of[2], "first", &graph)) return false;
    kiln_value x = kiln_input(graph, "x", KILN_f32, 0, NULL);
    kiln_output(graph, "y", kiln_neg(graph, x));
    kiln_executable *executable = NULL;
    kiln_status status = kiln_compile(graph, NULL, &executable);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    contexts->of[1]->memo = contexts->of[2]->memo;
    contexts->of[1]->memo_release = NULL;
    return status == KILN_OK;
}

/* What custom calls call: its operand from the last element to the first. */
static kiln_status run_reversed(void *user, const kiln_custom_call_args *args)
{
    (void)user;
    unsigned dtype = 0;
    int64_t n = 1;
    const char *at = strchr(args->signature, '(') + 1;
    size_t letters = strcspn(at, "[");
    for (unsigned i = 1; i < 32 && !dtype; i++) {
        const char *name = kiln_dtype_name((kiln_dtype)i);
        if (name && strlen(name) == letters && strncmp(name, at, letters) == 0) dtype = i;
    }
    for (at += letters; *at != ']';) {
        char *end;
        at++;
        if (*at == ']') break;
        n *= strtoll(at, &end, 10);
        at = end;
    }
    size_t bytes = kiln_dtype_bytes((kiln_dtype)dtype);
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)args->outputs[0] + (size_t)i * bytes,
               (const char *)args->inputs[0] + (size_t)(n - 1 - i) * bytes, bytes);
    return dtype ? KILN_OK : KILN_INVALID;
}

static bool add_custom(kiln_context *context)
{
    return kiln_context_register(context, FUZZ_CUSTOM, NULL, run_reversed, NULL) == KILN_OK;
}

static void model_path(const fuzz_checker *checker, char *path, size_t bytes)
{
    snprintf(path, bytes, "%s/model.so", checker->folder);
}

bool fuzz_checker_open(fuzz_checker *checker)
{
    snprintf(checker->folder, sizeof checker->folder, "/tmp/kiln-fuzz-XXXXXX");
    return mkdtemp(checker->folder) && compiled_contexts_open(&checker->contexts) &&
           share_kernels(&checker->contexts) && add_custom(checker->contexts.of[1]) &&
           add_custom(checker->contexts.of[2]);
}

void fuzz_checker_clear(fuzz_checker *checker)
{
    char path[96];
    if (!checker->folder[0]) return;
    model_path(checker, path, sizeof path);
    unlink(path);
    rmdir(checker->folder);
}

void fuzz_checker_close(fuzz_checker *checker)
{
    checker->contexts.of[1]->memo = NULL;
    compiled_contexts_close(&checker->contexts);
    fuzz_checker_clear(checker);
}

/* One graph at work. */
typedef struct check_run {
    fuzz_checker *checker;
    kiln_scope *scope;
    const fuzz_case *c;
    const fuzz_how *how;
    const fuzz_oracle *oracle;
    compiled_result results[FUZZ_MAX_VARIANTS];
    fuzz_failure failure;
} check_run;

static void fail(check_run *run, int variant, kiln_status status, const char *sentence)
{
    if (run->failure.variant >= 0) return;
    run->failure = (fuzz_failure){.variant = variant, .status = status};
    snprintf(run->failure.sentence, sizeof run->failure.sentence, "%s: %s%s%.900s",
             variants[variant].compiled.name, status ? kiln_status_name(status) : "",
             status ? ": " : "", sentence);
}

static void fail_miss(check_run *run, int v, uint32_t output, const bound_miss *miss)
{
    char sentence[600];
    snprintf(sentence, sizeof sentence,
             "output %s: %lld elements differ, the first is %lld: %.9g (%a), expected %.9g (%a) "
             "within %g",
             run->c->graph->outputs.at[output].name, (long long)miss->n_missed,
             (long long)miss->index, miss->found, miss->found, miss->expected, miss->expected,
             miss->bound);
    fail(run, v, KILN_OK, sentence);
}

/* Complex values by the evaluator's own formulas: near, or where the formulas differ in class. */
static bool is_close(const bound_miss *miss, const kiln_type *type)
{
    if (!kiln_dtype_in(type->dtype, KILN_TYPES_FLOAT)) return true;
    if (!isfinite(miss->found) || !isfinite(miss->expected)) return true;
    return fabs(miss->found - miss->expected) <= 1e-2 * fmax(1, fabs(miss->expected));
}

/* ONNX leaves open in which order, and in which precision, elements of one place meet. */
static bool has_scatters(const kiln_graph *graph)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        bool is_sum = node->op == KILN_OP_scatter_add || node->op == KILN_OP_scatter_mul;
        bool is_float = kiln_dtype_kind_of(node->type->dtype) == KILN_DTYPE_KIND_FLOAT;
        if (node->op == KILN_OP_scatter || (is_sum && is_float)) return true;
    }
    return false;
}

static void compare_bounds(check_run *run, int v)
{
    const fuzz_oracle *oracle = run->oracle;
    const compiled_result *result = &run->results[v];
    double slack = variants[v].slack;
    if (result->overrun >= 0) fail(run, v, KILN_OK, "an output is written beyond its memory");
    bool is_evaluated = variants[v].use == USE_EVALUATOR || variants[v].use == USE_FILES;
    bool is_exact = variants[v].compiled.is_strict || is_evaluated;
    const fuzz_bound *bound = is_exact ? &oracle->strict : &oracle->free;
    bool is_other = oracle->has_chains || oracle->has_cuts; /* for the evaluator */
    if (variants[v].use == USE_FILES)
        is_other |= has_scatters(run->c->graph) || has_scatters(oracle->bounds->graph);
    if (bound->is_loose || (is_evaluated && is_other)) return;
    for (uint32_t i = 0; i < run->c->graph->outputs.n; i++) {
        const kiln_type *type = oracle->types[i];
        const double *errors =
            bound_scaled(&run->scope->arena, bound->errors[i], type->n_elements, slack);
        bound_miss miss = bound_compare(type, result->outputs[i].data, oracle->values[i], errors);
        if (is_evaluated && oracle->is_complex && is_close(&miss, type)) continue;
        if (miss.index >= 0) fail_miss(run, v, i, &miss);
    }
}

static bool has_only_f32(const kiln_graph *graph)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        kiln_dtype dtype = graph->nodes.at[id]->type->dtype;
        if (kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_FLOAT && dtype != KILN_f32) return false;
    }
    return true;
}

static void compare_bits(check_run *run, int v)
{
    int same_as = variants[v].same_as;
    const compiled_result *other = &run->results[same_as < 0 ? 0 : same_as];
    if (same_as < 0 || !other->outputs) return;
    if (variants[v].is_same_f32_only && !has_only_f32(run->oracle->bounds->graph)) return;
    for (uint32_t i = 0; i < run->c->graph->outputs.n; i++) {
        const kiln_type *type = run->oracle->types[i];
        bound_miss miss =
            bound_compare(type, run->results[v].outputs[i].data, other->outputs[i].data, NULL);
        if (miss.index >= 0) fail_miss(run, v, i, &miss);
    }
}

static bool are_same_objects(const kiln_artifact *ahead, const kiln_executable *executable)
{
    const kiln_artifact *made = kiln_executable_owner(executable, kiln_artifact_destroy);
    bool is_same = made && made->program.n_kernels == ahead->program.n_kernels;
    for (uint32_t i = 0; is_same && i < ahead->program.n_kernels; i++) {
        const kiln_object *a = &ahead->objects[i], *b = &made->objects[i];
        is_same = a->bytes == b->bytes && strcmp(a->symbol, b->symbol) == 0 &&
                  memcmp(a->data, b->data, a->bytes) == 0;
    }
    return is_same;
}

/* The objects that a shared object is made of, in the graph's context, are those of the executable.
 * They go before that context does. */
static void compare_objects(check_run *run, int v, const compiled_variant *variant)
{
    kiln_graph *graph = run->c->graph;
    kiln_context *context = graph->context;
    kiln_compile_options options = compiled_options(variant);
    compiled_result result;
    kiln_executable *made = compiled_open(&run->checker->contexts, graph, variant, &result);
    graph->context = context;
    if (!made) return;
    kiln_error error = {0};
    kiln_scope scope;
    volatile bool is_same = false;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope))
        is_same = are_same_objects(kiln_compile_ahead(&scope, graph, &options), made);
    kiln_status status = kiln_scope_close(&scope);
    kiln_executable_destroy(made);
    if (status)
        fail(run, v, status, error.message);
    else if (!is_same)
        fail(run, v, KILN_OK, "other objects ahead of time than just in time");
}

static bool is_used(const check_run *run, int v)
{
    const fuzz_variant *variant = &variants[v];
    int only = run->how->only;
    if (only >= 0 && v != only && v != variants[only].same_as) return false;
    if (variant->use == USE_LINKED) return run->how->is_linked || only == v;
    if (variant->use == USE_SAME)
        return has_only_f32(run->oracle->bounds->graph) || run->c->graph->nodes.n % 4 == 0;
    if (variant->use != USE_TILES) return true;
    if (!kiln_machine_best(kiln_cpu_features())->plain) return false;
    const kiln_graph *graph = run->oracle->bounds->graph;
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        if (kiln_node_row(node)->class_ != KILN_CONTRACT) continue;
        if (kiln_dtype_bits(kiln_graph_type(graph, node->inputs[0])->dtype) <= 16) return true;
    }
    return false;
}

static void take_status(check_run *run, int v)
{
    const compiled_result *result = &run->results[v];
    if (result->status == KILN_UNSUPPORTED && variants[v].use == USE_FILES)
        run->checker->n_unwritten++;
    else if (result->status == KILN_UNSUPPORTED)
        run->checker->n_unsupported++;
    else if (result->status)
        fail(run, v, result->status, result->message);
}

/* A shared object made without kept kernels, loaded and run. */
static void run_linked(check_run *run, int v, const compiled_variant *variant)
{
    fuzz_checker *checker = run->checker;
    kiln_context_options context_options = {.struct_bytes = sizeof context_options, .threads = 2};
    kiln_context *context = NULL;
    kiln_executable *executable = NULL;
    compiled_result *result = &run->results[v];
    kiln_compile_options options = compiled_options(variant);
    kiln_graph *graph = run->c->graph;
    char path[96];
    model_path(checker, path, sizeof path);
    *result = (compiled_result){.overrun = -1};
    if ((result->status = kiln_context_create(&context_options, &context))) return;
    add_custom(context);
    graph->context = context;
    result->status = kiln_compile_library(graph, &options, path, NULL, "model");
    snprintf(result->message, sizeof result->message, "%s", kiln_graph_message(graph));
    if (!result->status) {
        result->status = kiln_executable_load(context, path, "model", &executable);
        snprintf(result->message, sizeof result->message, "%s", kiln_context_message(context));
    }
    if (!result->status) compiled_execute(run->scope, graph, executable, run->c->inputs, result);
    if (!result->status) compare_objects(run, v, variant);
    unlink(path);
    kiln_executable_destroy(executable);
    kiln_context_destroy(context);
    graph->context = checker->contexts.of[1];
    checker->n_linked++;
}

static void run_variant(check_run *run, int v)
{
    compiled_variant variant = variants[v].compiled;
    compiled_result *result = &run->results[v];
    if (variant.target_cpu && !compiled_can_run(variant.target_cpu)) variant.target_cpu = NULL;
    if (variants[v].use == USE_EVALUATOR) {
        *result = (compiled_result){.overrun = -1, .outputs = run->oracle->evaluated};
    } else if (variants[v].use == USE_LINKED) {
        run_linked(run, v, &variant);
    } else if (variants[v].use == USE_FILES) {
        fuzz_files_run(run->scope, run->checker->folder, run->c, result);
    } else if (variants[v].use != USE_AHEAD) {
        *result = compiled_run(run->scope, &run->checker->contexts, run->c->graph, &variant,
                               run->c->inputs);
    }
    if (variants[v].use == USE_AHEAD && run->results[FUSED].outputs) {
        run->c->graph->context = run->checker->contexts.of[variant.threads];
        compare_objects(run, v, &variant);
    }
    run->checker->n_runs[v]++;
    run->checker->n_kernels += result->n_kernels;
    run->checker->n_compiled += result->n_compiled;
    take_status(run, v);
    if (result->status || variants[v].use == USE_AHEAD) return;
    compare_bounds(run, v);
    compare_bits(run, v);
}

fuzz_failure fuzz_check(fuzz_checker *checker, kiln_scope *scope, const fuzz_case *c,
                        const fuzz_how *how)
{
    check_run *run = kiln_new(&scope->arena, check_run);
    *run = (check_run){.checker = checker, .scope = scope, .c = c, .how = how};
    run->failure.variant = -1;
    c->graph->context = checker->contexts.of[1];
    run->oracle = fuzz_oracle_open(scope, c);
    for (int v = 0; v < N_VARIANTS && run->failure.variant < 0; v++) {
        if (is_used(run, v)) run_variant(run, v);
    }
    return run->failure;
}
