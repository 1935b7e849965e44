/* Feeds damaged ONNX files to the importer: every one gives a status, an accepted one verifies, and
 * nothing leaks or reads outside (run it with sanitizers). Under libFuzzer (-DKILN_LIBFUZZER) the
 * inputs are libFuzzer's; alone it damages models of its own and the files given, from a seed.
 *
 *     fuzz-onnx [--runs N] [--seed S] [FILE...] */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "graph/graph.h"
#include "kiln/kiln.h"
#include "tests/unit/onnx_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static kiln_context *context;

/* Small enough to be evaluated too. */
static bool is_small(const kiln_graph *graph)
{
    int64_t elements = 0;
    for (uint32_t i = 1; i < graph->nodes.n && elements < 20000; i++) {
        elements += graph->nodes.at[i]->type->n_elements;
        if (kiln_op_rows[graph->nodes.at[i]->op].class_ == KILN_CONTRACT) elements += 5000;
        if (kiln_op_rows[graph->nodes.at[i]->op].class_ == KILN_WINDOW) elements += 5000;
    }
    return elements < 20000;
}

static void evaluate(const kiln_graph *graph)
{
    kiln_tensor ports[2][64];
    uint32_t counts[2] = {graph->inputs.n, graph->outputs.n};
    for (uint32_t side = 0; side < 2; side++) {
        for (uint32_t i = 0; i < counts[side]; i++) {
            kiln_value value = side ? graph->outputs.at[i].value : graph->inputs.at[i];
            const kiln_type *type = kiln_graph_type(graph, value);
            void *data = calloc((size_t)type->bytes + 8, 1);
            ports[side][i] =
                (kiln_tensor){type->dtype, type->rank, type->dims, data, (size_t)type->bytes};
        }
    }
    kiln_evaluate(graph, ports[0], counts[0], ports[1], counts[1]);
    for (uint32_t side = 0; side < 2; side++) {
        for (uint32_t i = 0; i < counts[side]; i++) free(ports[side][i].data);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t none = 0;
    kiln_graph *graph = NULL;
    if (!context &&
        kiln_context_create(&(kiln_context_options){sizeof(kiln_context_options), .threads = 1},
                            &context))
        return 0;
    kiln_status status = kiln_import_onnx_memory(context, data ? data : &none, size, NULL, &graph);
    if (status == KILN_INTERNAL || (status == KILN_OK) != (graph != NULL)) abort();
    if (!graph) return 0;
    kiln_error error = {0};
    if (kiln_graph_verify(graph, "after import", &error)) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
    if (graph->inputs.n < 64 && graph->outputs.n < 64 && is_small(graph)) evaluate(graph);
    kiln_graph_destroy(graph);
    return 0;
}

#ifndef KILN_LIBFUZZER
#define DIMS(...)                                                                                  \
    (const int64_t[])                                                                              \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

typedef struct sample {
    uint8_t *at;
    size_t n;
} sample;

static sample sample_copy(const void *data, size_t n)
{
    sample made = {malloc(n + 1), n};
    if (made.at && n) memcpy(made.at, data, n);
    return made;
}

static sample sample_read(const char *path)
{
    FILE *file = fopen(path, "rb");
    sample made = {malloc(1 << 20), 0};
    if (file && made.at) made.n = fread(made.at, 1, 1 << 20, file);
    if (file) fclose(file);
    return made;
}

static sample sample_make(uint32_t which)
{
    static const float weights[36] = {1, -2, 3};
    static const int64_t shape[4] = {2, -1, 1, 0};
    one_node nodes[] = {
        {.op = "Gemm", .inputs = "x,w,b", .rank = 2, .dims = {2, 3}},
        {.op = "Conv", .inputs = "x,k", .rank = 4, .dims = {1, 1, 3, 3}},
        {.op = "Reshape", .inputs = "x,s", .rank = 2, .dims = {2, 3}},
        {.op = "Slice", .inputs = "x,s,s", .rank = 4, .dims = {2, 3, 1, 2}},
        {.op = "Resize", .inputs = "x,,b", .rank = 2, .dims = {2, 3}},
        {.op = "LSTM", .inputs = "x,r,r", .rank = 3, .dims = {3, 1, 1}},
        {.op = "Pad", .inputs = "x,s", .rank = 2, .dims = {2, 3}},
        {.op = "Gather", .inputs = "x,s", .rank = 1, .dims = {4}},
        {.op = "MaxPool", .inputs = "x", .rank = 4, .dims = {1, 1, 3, 3}},
        {.op = "ReduceSum", .inputs = "x,s", .rank = 2, .dims = {2, 3}},
    };
    one_node *one = &nodes[which % (sizeof nodes / sizeof *nodes)];
    one->outputs = "y";
    one->opset = 13 + which % 7;
    one->n_initializers = 5;
    one->initializers[0] = tensor("w", FLOAT, 2, DIMS(3, 2), weights, 24);
    one->initializers[1] = tensor("b", FLOAT, 1, DIMS(2), weights, 8);
    one->initializers[2] = tensor("k", FLOAT, 4, DIMS(1, 1, 2, 2), weights, 16);
    one->initializers[3] = tensor("s", INT64, 1, DIMS(4), shape, 32);
    one->initializers[4] = tensor("r", FLOAT, 3, DIMS(1, 4, 1), weights, 16);
    one->attributes[one->n_attributes++] = attribute_int("axis", 1);
    if (which % 3 == 0)
        one->attributes[one->n_attributes++] = attribute_ints("kernel_shape", 2, DIMS(2, 2));
    if (which % 5 == 0) one->attributes[one->n_attributes++] = attribute_text("mode", "linear");
    bytes file = one_node_model(one);
    return sample_copy(file.at, file.n);
}

static uint64_t state;

static uint64_t next(uint64_t below)
{
    state = kiln_hash_u64(state, KILN_HASH_SEED);
    return below ? state % below : 0;
}

/* Flips, overwrites, cuts, repeats, or takes a stretch of another sample. */
static void damage(sample *own, const sample *other)
{
    static const uint8_t bytes_of_interest[] = {0, 1, 0x7f, 0x80, 0xff, 8, 16, 0x12, 0x0a};
    size_t at = next(own->n), n = next(16) + 1;
    if (own->n == 0) return;
    switch (next(6)) {
    case 0:
        own->at[at] ^= (uint8_t)(1u << next(8));
        break;
    case 1:
        own->at[at] = bytes_of_interest[next(sizeof bytes_of_interest)];
        break;
    case 2:
        own->at[at] = (uint8_t)next(256);
        break;
    case 3:
        own->n = next(8) ? own->n : at;
        break;
    case 4:
        if (at + 2 * n < own->n) memmove(own->at + at, own->at + at + n, n);
        break;
    default:
        if (other->n > n && own->n > n) {
            size_t to = next(own->n - n), from = next(other->n - n);
            memcpy(own->at + to, other->at + from, n);
        }
    }
}

int main(int argc, char **argv)
{
    uint64_t runs = 20000;
    uint32_t n = 0, capacity = 40 + (uint32_t)argc;
    sample *samples = calloc(capacity, sizeof *samples);
    for (uint32_t i = 0; i < 40; i++) samples[n++] = sample_make(i);
    for (int i = 1; i < argc; i++) {
        if (i + 1 < argc && !strcmp(argv[i], "--runs"))
            runs = strtoull(argv[++i], NULL, 10);
        else if (i + 1 < argc && !strcmp(argv[i], "--seed"))
            state = strtoull(argv[++i], NULL, 10);
        else
            samples[n++] = sample_read(argv[i]);
    }
    for (uint32_t i = 0; i < n; i++) LLVMFuzzerTestOneInput(samples[i].at, samples[i].n);
    for (uint64_t run = 0; run < runs; run++) {
        const sample *origin = &samples[next(n)];
        sample own = sample_copy(origin->at, origin->n);
        for (uint64_t k = next(5) + 1; k > 0; k--) damage(&own, &samples[next(n)]);
        LLVMFuzzerTestOneInput(own.at, own.n);
        free(own.at);
    }
    for (uint32_t i = 0; i < n; i++) free(samples[i].at);
    free(samples);
    kiln_context_destroy(context);
    printf("%" PRIu64 " damaged models\n", runs);
    return 0;
}
#endif
