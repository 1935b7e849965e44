/* kiln bench: times a model fused and unfused (a .so as it is), rounds of both interleaved so that
 * a noisy neighbour hits both alike; medians over all runs. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codegen/cli/cli.h"

#define MAX_RUNS 20000
#define N_ROUNDS 5

typedef struct variant {
    const char *name;
    cli_model model;
    kiln_compile_report report;
    double *times; /* milliseconds */
    uint32_t n_times;
} variant;

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static int compare_times(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int prepare(variant *one, const cli_options *options, bool is_unfused)
{
    one->times = malloc(MAX_RUNS * sizeof *one->times);
    if (!one->times) return cli_fail(KILN_NO_MEMORY, "%d times were not allocated", MAX_RUNS);
    int exit_code = cli_model_open(options, &one->model);
    if (!exit_code) exit_code = cli_model_compile(&one->model, options, is_unfused);
    if (!exit_code) exit_code = cli_model_fill(&one->model, options);
    if (!exit_code) exit_code = cli_model_run(&one->model);
    if (!exit_code) exit_code = cli_model_run(&one->model);
    if (!exit_code) kiln_executable_report(one->model.executable, &one->report);
    return exit_code;
}

static int measure(variant *one, double budget_ms)
{
    double start = now_ms(), before = start;
    for (uint32_t n = 0; one->n_times < MAX_RUNS && (n == 0 || before - start < budget_ms); n++) {
        int exit_code = cli_model_run(&one->model);
        if (exit_code) return exit_code;
        double after = now_ms();
        one->times[one->n_times++] = after - before;
        before = after;
    }
    return 0;
}

/* Launches of a run; a loaded model has no report. */
static uint32_t count_kernels(const variant *one)
{
    const kiln_program *program = kiln_executable_program(one->model.executable);
    uint32_t n = 0;
    for (uint32_t i = 0; i < program->n_steps; i++) {
        n += program->steps[i].kind == KILN_STEP_KERNEL || program->steps[i].kind == KILN_STEP_PACK;
    }
    return n;
}

static void print_quoted(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            printf("\\%c", c);
        } else if (c < 0x20) {
            printf("\\u%04x", c);
        } else {
            putchar(c);
        }
    }
    putchar('"');
}

static double print_variant(variant *one, const cli_options *options)
{
    qsort(one->times, one->n_times, sizeof *one->times, compare_times);
    double median = one->times[one->n_times / 2], least = one->times[0];
    uint32_t threads = kiln_context_threads(one->model.context);
    int64_t peak = kiln_executable_peak_bytes(one->model.executable, threads);
    uint32_t n_kernels = count_kernels(one);
    if (options->is_json) {
        printf("{\"model\": ");
        print_quoted(options->model);
        printf(", \"variant\": \"%s\", \"threads\": %u, \"compile_s\": %.4f, \"median_ms\": %.6f, "
               "\"min_ms\": %.6f, \"peak_bytes\": %lld, \"kernels\": %u, \"flops\": %lld, "
               "\"bytes\": %lld}\n",
               one->name, threads, one->report.seconds, median, least, (long long)peak, n_kernels,
               (long long)one->report.flops, (long long)one->report.bytes);
    } else {
        printf("%-8s median %10.4f ms  min %10.4f ms  %8.2f GFLOP/s  %8.2f GB/s  kernels %4u  "
               "compile %.3f s"
               "  peak %lld bytes\n",
               one->name, median, least, (double)one->report.flops / median * 1e-6,
               (double)one->report.bytes / median * 1e-6, n_kernels, one->report.seconds,
               (long long)peak);
    }
    return median;
}

int cli_bench(const cli_options *options)
{
    static variant variants[2] = {{.name = "fused"}, {.name = "unfused"}};
    if (cli_has_open_dim(options)) return cli_bench_open(options);
    size_t length = strlen(options->model);
    bool is_library = length > 3 && strcmp(options->model + length - 3, ".so") == 0;
    variant *first = options->is_unfused ? &variants[1] : &variants[0];
    uint32_t n = is_library || options->is_unfused ? 1 : 2;
    if (is_library) first->name = "compiled";
    int exit_code = 0;
    for (uint32_t i = 0; i < n && !exit_code; i++) {
        exit_code = prepare(&first[i], options, options->is_unfused || i == 1);
    }
    double budget = (double)options->milliseconds / (N_ROUNDS * n);
    for (uint32_t i = 0; i < N_ROUNDS * n && !exit_code; i++) {
        cli_show_progress("measure", i, N_ROUNDS * n);
        exit_code = measure(&first[i % n], budget);
    }
    cli_show_progress("measure", 1, 1);
    double medians[2] = {0};
    for (uint32_t i = 0; i < n && !exit_code; i++) medians[i] = print_variant(&first[i], options);
    if (n == 2 && !exit_code && !options->is_json)
        printf("ratio    %.2f\n", medians[1] / medians[0]);
    for (uint32_t i = 0; i < n; i++) {
        cli_model_close(&first[i].model);
        free(first[i].times);
    }
    return exit_code;
}
