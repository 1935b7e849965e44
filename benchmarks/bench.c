/* usage: bench [--quick] [--json] [--steps] [--only NAME] [--seconds S] [--threads N]
 *        bench --compile [--only NAME] [--threads N]
 * Fused against unfused: every workload compiled both ways with the same kernels, arena and
 * threads, its outputs compared, then both timed in interleaved rounds. --steps shows each step of
 * both too; --compile times compiles of one operation instead. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "benchmarks/limits.h"
#include "benchmarks/one_op.h"
#include "benchmarks/steps.h"
#include "benchmarks/workloads.h"

#define N_ROUNDS 5
#define MAX_TIMES 4096
#define MAX_PORTS 32
#define SKIPPED 2
#define HUGE_PAGE ((size_t)2 << 20)

typedef struct options {
    int is_quick, is_json, is_stepped, is_compile;
    const char *only;
    double seconds;
    uint32_t threads;
} options;

typedef struct variant {
    kiln_executable *executable;
    kiln_workspace *workspace;
    kiln_compile_report report;
    kiln_tensor inputs[MAX_PORTS], outputs[MAX_PORTS];
    uint32_t n_inputs, n_outputs, n_times;
    double times[MAX_TIMES];
} variant;

static int fail(const char *name, const char *message)
{
    fprintf(stderr, "bench: %s: %s\n", name, message);
    return 1;
}

/* Large ones on huge pages, as NumPy allocates them and as the copy that is the limit has them. */
static kiln_tensor allocate_port(const kiln_port_row *port)
{
    kiln_tensor tensor = {(kiln_dtype)port->dtype, port->rank, port->dims, NULL,
                          (size_t)port->bytes};
    size_t alignment = tensor.bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    size_t bytes = (tensor.bytes + 64 + alignment - 1) & ~(alignment - 1);
    tensor.data = aligned_alloc(alignment, bytes);
    if (!tensor.data) exit(fail(port->name, "no memory"));
    if (alignment == HUGE_PAGE) madvise(tensor.data, bytes, MADV_HUGEPAGE);
    memset(tensor.data, 0, tensor.bytes);
    return tensor;
}

/* Floats in [-1, 1), doubles in [0.5, 1.5), bf16 numbers of size 0.5 … 1, integers 0 … 255: valid
 * token numbers. */
static void fill_input(kiln_tensor *tensor)
{
    uint32_t state = 7;
    for (size_t i = 0; i < tensor->bytes / kiln_dtype_bytes(tensor->dtype); i++) {
        state = state * 1664525u + 1013904223u;
        if (tensor->dtype == KILN_f32) {
            ((float *)tensor->data)[i] = (float)(state >> 8) / (1 << 23) - 1;
        } else if (tensor->dtype == KILN_f64) {
            ((double *)tensor->data)[i] = (double)state * 0x1p-32 + 0.5;
        } else if (tensor->dtype == KILN_i64) {
            ((int64_t *)tensor->data)[i] = state >> 24;
        } else if (tensor->dtype == KILN_bf16) {
            ((uint16_t *)tensor->data)[i] = (uint16_t)(0x3f00 | (state >> 16 & 0x807f));
        }
    }
}

static int prepare(variant *one, const kiln_graph *graph, kiln_precision precision, int is_unfused)
{
    kiln_compile_options compile_options = {
        .struct_bytes = sizeof compile_options, .is_unfused = is_unfused, .precision = precision};
    kiln_status status = kiln_compile(graph, &compile_options, &one->executable);
    if (status == KILN_UNSUPPORTED && precision != KILN_PRECISION_FMA) return SKIPPED;
    if (status) {
        return fail("compile", kiln_graph_message(graph));
    }
    if (kiln_workspace_create(one->executable, &one->workspace))
        return fail("workspace", "no memory");
    kiln_executable_report(one->executable, &one->report);
    const kiln_program *program = kiln_executable_program(one->executable);
    if (program->n_inputs > MAX_PORTS || program->n_outputs > MAX_PORTS)
        return fail("ports", "too many");
    for (uint32_t i = 0; i < program->n_inputs; i++) {
        one->inputs[i] = allocate_port(&program->inputs[i]);
        fill_input(&one->inputs[i]);
    }
    one->n_inputs = program->n_inputs;
    one->n_outputs = program->n_outputs;
    for (uint32_t i = 0; i < program->n_outputs; i++)
        one->outputs[i] = allocate_port(&program->outputs[i]);
    return 0;
}

static int run_once(variant *one)
{
    if (kiln_run(one->workspace, one->inputs, one->n_inputs, one->outputs, one->n_outputs)) {
        return fail("run", kiln_workspace_message(one->workspace));
    }
    return 0;
}

static int measure(variant *one, double budget_ms)
{
    double start = now_ms(), before = start;
    for (int n = 0; one->n_times < MAX_TIMES && (n < 2 || before - start < budget_ms); n++) {
        if (run_once(one)) return 1;
        double after = now_ms();
        one->times[one->n_times++] = after - before;
        before = after;
    }
    return 0;
}

static int compare_times(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(variant *one)
{
    qsort(one->times, one->n_times, sizeof *one->times, compare_times);
    return one->times[one->n_times / 2];
}

static double read_element(const kiln_tensor *tensor, size_t i)
{
    if (tensor->dtype == KILN_f64) return ((const double *)tensor->data)[i];
    if (tensor->dtype != KILN_bf16) return ((const float *)tensor->data)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)tensor->data)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Fusing may round differently; both are the same function. */
static int is_same_tensor(const kiln_tensor *a, const kiln_tensor *b)
{
    size_t n = a->bytes / kiln_dtype_bytes(a->dtype);
    double largest = 0, worst = 0;
    for (size_t i = 0; i < n; i++) {
        double x = read_element(a, i), y = read_element(b, i);
        largest = fmax(largest, fabs(y));
        double error = fabs(x - y);
        if (!(error <= worst)) worst = error;
    }
    return worst <= (a->dtype == KILN_bf16 ? 1e-2 : 1e-4) * largest;
}

static int is_same_result(const variant *a, const variant *b)
{
    int is_same = 1;
    for (uint32_t i = 0; i < a->n_outputs && is_same; i++)
        is_same = is_same_tensor(&a->outputs[i], &b->outputs[i]);
    return is_same;
}

static void release(variant *one)
{
    for (uint32_t i = 0; i < one->n_inputs; i++) free(one->inputs[i].data);
    for (uint32_t i = 0; i < one->n_outputs; i++) free(one->outputs[i].data);
    kiln_workspace_destroy(one->workspace);
    kiln_executable_destroy(one->executable);
}

static const char *const precision_names[] = {"fma", "x6", "bf16"};

static void print_row(const workload *work, variant *variants, const options *asked,
                      machine_limits limits)
{
    double fused = median(&variants[0]), unfused = median(&variants[1]);
    const kiln_compile_report *report = &variants[0].report;
    double amount = (double)(work->is_compute_bound ? report->flops : report->bytes);
    double rate = amount / fused * 1e-6;
    double share = rate / (work->is_compute_bound ? limits.f32_gflop_per_s : limits.copy_gb_per_s);
    int64_t arena = kiln_executable_peak_bytes(variants[0].executable, asked->threads);
    if (asked->is_json) {
        printf("{\"model\": \"%s\", \"precision\": \"%s\", \"threads\": %u, \"unfused_ms\": %.5f, "
               "\"fused_ms\": %.5f, "
               "\"fused_min_ms\": %.5f, \"flops\": %lld, \"bytes\": %lld, \"share\": %.4f, "
               "\"kernels\": %u, \"unfused_kernels\": %u, \"compile_s\": %.4f, \"peak_bytes\": "
               "%lld}\n",
               work->name, precision_names[work->precision], asked->threads, unfused, fused,
               variants[0].times[0], (long long)report->flops, (long long)report->bytes, share,
               report->n_groups, variants[1].report.n_groups, report->seconds, (long long)arena);
    } else {
        printf("%-26s %-4s %10.4f %10.4f %6.2f %8.1f %-7s %4.0f%% %5u %5u %8.3f %12lld\n",
               work->name, precision_names[work->precision], unfused, fused, unfused / fused, rate,
               work->is_compute_bound ? "GFLOP/s" : "GB/s", share * 100,
               variants[1].report.n_groups, report->n_groups, report->seconds, (long long)arena);
    }
    fflush(stdout);
}

static int show_steps(variant *variants, machine_limits limits)
{
    static const char *const titles[] = {"fused", "unfused"};
    int status = 0;
    for (int i = 0; i < 2 && !status; i++) {
        stepped_run run = {variants[i].executable, variants[i].workspace, variants[i].inputs,
                           variants[i].outputs,    variants[i].n_inputs,  variants[i].n_outputs};
        status = print_steps(&run, titles[i], limits.copy_gb_per_s);
    }
    return status;
}

static int bench_workload(const workload *work, const options *asked, machine_limits limits)
{
    static variant variants[2];
    memset(variants, 0, sizeof variants);
    kiln_context_options context_options = {.struct_bytes = sizeof context_options,
                                            .threads = asked->threads};
    kiln_context *context;
    kiln_graph *graph;
    if (kiln_context_create(&context_options, &context)) return fail(work->name, "no context");
    if (kiln_graph_create(context, work->name, &graph)) return fail(work->name, "no graph");
    work->build(graph);
    int status = prepare(&variants[0], graph, work->precision, 0);
    if (!status) status = prepare(&variants[1], graph, work->precision, 1);
    kiln_graph_destroy(graph);
    for (int i = 0; i < 2 && !status; i++)
        status = run_once(&variants[i]) || run_once(&variants[i]);
    if (!status && !is_same_result(&variants[0], &variants[1])) {
        status = fail(work->name, "fused and unfused results differ");
    }
    double budget = asked->seconds * 1e3 / (2 * N_ROUNDS);
    for (int i = 0; i < 2 * N_ROUNDS && !status; i++) status = measure(&variants[i % 2], budget);
    if (!status) print_row(work, variants, asked, limits);
    if (!status && asked->is_stepped) status = show_steps(variants, limits);
    release(&variants[0]);
    release(&variants[1]);
    kiln_context_destroy(context);
    if (status != SKIPPED) return status;
    fprintf(stderr, "SKIP %s: this machine has no matrix tiles\n", work->name);
    return 0;
}

int main(int argc, char **argv)
{
    options asked = {.seconds = 2};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--quick") == 0) {
            asked.is_quick = 1;
        } else if (strcmp(argv[i], "--json") == 0) {
            asked.is_json = 1;
        } else if (strcmp(argv[i], "--steps") == 0) {
            asked.is_stepped = 1;
        } else if (strcmp(argv[i], "--compile") == 0) {
            asked.is_compile = 1;
        } else if (value && strcmp(argv[i], "--only") == 0) {
            asked.only = argv[++i];
        } else if (value && strcmp(argv[i], "--seconds") == 0) {
            asked.seconds = atof(argv[++i]);
        } else if (value && strcmp(argv[i], "--threads") == 0) {
            asked.threads = (uint32_t)atoi(argv[++i]);
        } else {
            return fail(argv[i], "expected --quick, --json, --steps, --compile, --only NAME, "
                                 "--seconds S or --threads N") +
                   1;
        }
    }
    kiln_context *context;
    kiln_context_options context_options = {.struct_bytes = sizeof context_options,
                                            .threads = asked.threads};
    if (kiln_context_create(&context_options, &context)) return fail("context", "not created");
    asked.threads = kiln_context_threads(context);
    kiln_context_destroy(context);
    if (asked.is_compile) return print_one_op_compiles(asked.threads, asked.only);
    machine_limits limits = measure_limits(asked.threads);
    if (!asked.is_json) {
        printf("%u threads; copy %.1f GB/s, f32 FMA %.0f GFLOP/s\n\n", asked.threads,
               limits.copy_gb_per_s, limits.f32_gflop_per_s);
        printf("%-26s %-4s %10s %10s %6s %8s %-7s %5s %5s %5s %8s %12s\n", "workload", "mode",
               "unfused ms", "fused ms", "ratio", "rate", "", "share", "kern.", "fused", "compile",
               "peak bytes");
    }
    int status = 0;
    for (unsigned i = 0; i < n_workloads && !status; i++) {
        if (asked.is_quick && !workloads[i].is_quick) continue;
        if (asked.only && !strstr(workloads[i].name, asked.only)) continue;
        status = bench_workload(&workloads[i], &asked, limits);
    }
    return status;
}
