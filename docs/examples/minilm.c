/* usage: minilm MODEL.safetensors IDS.npy MASK.npy [EXPECTED.npy]
 * Sentence embeddings by the encoder all-MiniLM-L6-v2, built through the C API from its weights:
 * six layers of BERT, the mean over a sentence's tokens, length 1. IDS and MASK are i64[batch,
 * length], as the model's tokenizer makes them. Prints how alike the sentences are; with EXPECTED
 * (f32[batch, 384]) exit 1 when an embedding differs by more than 1e-4. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kiln/kiln.h"

enum { N_LAYERS = 6, N_HEADS = 12, WIDTH = 384, INNER = 1536, N_WORDS = 30522, N_PLACES = 512 };

typedef struct encoder {
    kiln_graph *graph;
    const kiln_safetensors *file;
    const char *prefix; /* of the names at work */
    int64_t batch, length;
} encoder;

/* The tensor prefix.name, which must have these dims. */
static kiln_value weight(const encoder *e, const char *name, uint32_t rank, const int64_t *dims)
{
    char whole[128];
    kiln_tensor like = {KILN_f32, rank, dims, NULL, 0};
    snprintf(whole, sizeof whole, "%s.%s", e->prefix, name);
    return kiln_constant_safetensor(e->graph, e->file, whole, &like);
}

/* PyTorch keeps weights as [out, in]. */
static kiln_value dense(const encoder *e, const char *name, kiln_value x, const int64_t *out_in)
{
    char weights[96], bias[96];
    snprintf(weights, sizeof weights, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    kiln_value w = kiln_transpose(e->graph, weight(e, weights, 2, out_in), NULL);
    return kiln_linear(e->graph, x, w, weight(e, bias, 1, out_in));
}

static kiln_value norm(const encoder *e, const char *name, kiln_value x)
{
    static const int64_t dims[] = {WIDTH};
    char scale[96], offset[96];
    snprintf(scale, sizeof scale, "%s.weight", name);
    snprintf(offset, sizeof offset, "%s.bias", name);
    return kiln_layer_norm(e->graph, x, weight(e, scale, 1, dims), weight(e, offset, 1, dims),
                           1e-12);
}

/* [batch, length, width] -> [batch, heads, length, width of a head] */
static kiln_value split(const encoder *e, kiln_value x)
{
    int64_t dims[] = {e->batch, e->length, N_HEADS, WIDTH / N_HEADS};
    return kiln_transpose(e->graph, kiln_reshape(e->graph, x, 4, dims), (int64_t[]){0, 2, 1, 3});
}

static kiln_value layer(encoder *e, int number, kiln_value x, kiln_value mask)
{
    static const int64_t square[] = {WIDTH, WIDTH}, wide[] = {INNER, WIDTH},
                         back[] = {WIDTH, INNER};
    char prefix[64];
    snprintf(prefix, sizeof prefix, "encoder.layer.%d", number);
    e->prefix = prefix;
    kiln_graph *g = e->graph;
    kiln_value q = split(e, dense(e, "attention.self.query", x, square));
    kiln_value k = split(e, dense(e, "attention.self.key", x, square));
    kiln_value v = split(e, dense(e, "attention.self.value", x, square));
    kiln_attention_options options = {.mask = mask};
    kiln_value y = kiln_attention(g, q, k, v, &options);
    y = kiln_reshape(g, kiln_transpose(g, y, (int64_t[]){0, 2, 1, 3}), 3,
                     (int64_t[]){e->batch, e->length, WIDTH});
    y = dense(e, "attention.output.dense", y, square);
    x = norm(e, "attention.output.LayerNorm", kiln_add(g, y, x));
    y = kiln_gelu(g, dense(e, "intermediate.dense", x, wide), 0);
    return norm(e, "output.LayerNorm", kiln_add(g, dense(e, "output.dense", y, back), x));
}

static kiln_value embed(encoder *e, kiln_value ids)
{
    kiln_graph *g = e->graph;
    int64_t starts[] = {0, 0}, limits[] = {e->length, WIDTH};
    kiln_slice_options first = {starts, limits, NULL}, type = {starts, (int64_t[]){1, WIDTH}, NULL};
    e->prefix = "embeddings";
    kiln_value words = weight(e, "word_embeddings.weight", 2, (int64_t[]){N_WORDS, WIDTH});
    kiln_value places = weight(e, "position_embeddings.weight", 2, (int64_t[]){N_PLACES, WIDTH});
    kiln_value types = weight(e, "token_type_embeddings.weight", 2, (int64_t[]){2, WIDTH});
    kiln_value x = kiln_add(g, kiln_take(g, words, ids, 0), kiln_slice(g, places, &first));
    return norm(e, "LayerNorm", kiln_add(g, x, kiln_slice(g, types, &type)));
}

static void build(encoder *e)
{
    kiln_graph *g = e->graph;
    int64_t dims[] = {e->batch, e->length}, last = 1;
    kiln_value ids = kiln_input(g, "ids", KILN_i64, 2, dims);
    kiln_value mask = kiln_input(g, "mask", KILN_i64, 2, dims);
    kiln_value is_word = kiln_ne(g, mask, kiln_scalar(g, KILN_i64, 0));
    is_word = kiln_reshape(g, is_word, 4, (int64_t[]){e->batch, 1, 1, e->length});
    kiln_value x = embed(e, ids);
    for (int i = 0; i < N_LAYERS; i++) x = layer(e, i, x, is_word);
    kiln_value share = kiln_convert(g, mask, KILN_f32);
    share = kiln_reshape(g, share, 3, (int64_t[]){e->batch, e->length, 1});
    kiln_value sum = kiln_reduce_sum(g, kiln_mul(g, x, share), 1, &last);
    kiln_value count = kiln_reduce_sum(g, share, 1, &last);
    kiln_value mean = kiln_div(g, sum, kiln_max(g, count, kiln_scalar(g, KILN_f32, 1e-9)));
    kiln_value size = kiln_sqrt(g, kiln_reduce_sum(g, kiln_square(g, mean), 1, &last));
    size = kiln_reshape(g, size, 2, (int64_t[]){e->batch, 1});
    size = kiln_max(g, size, kiln_scalar(g, KILN_f32, 1e-12));
    kiln_output(g, "embedding", kiln_div(g, mean, size));
}

static int fail(const char *message)
{
    fprintf(stderr, "minilm: %s\n", message);
    return 1;
}

static int compare(kiln_context *context, const char *path, const float *found, int64_t n)
{
    kiln_tensor expected;
    double worst = 0;
    if (kiln_read_npy(context, path, &expected)) return fail(kiln_context_message(context));
    if (expected.bytes != (size_t)n * sizeof *found) return fail("EXPECTED has another shape");
    for (int64_t i = 0; i < n; i++) {
        double apart = fabs((double)found[i] - ((const float *)expected.data)[i]);
        if (!(apart <= worst)) worst = apart;
    }
    kiln_tensor_free(&expected);
    printf("minilm: largest difference %.2g: %s\n", worst, worst <= 1e-4 ? "ok" : "TOO LARGE");
    return worst <= 1e-4 ? 0 : 1;
}

static void print_likeness(const float *embeddings, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        printf("minilm: sentence %d:", (int)i);
        for (int64_t k = 0; k < n; k++) {
            double dot = 0;
            for (int j = 0; j < WIDTH; j++)
                dot += (double)embeddings[i * WIDTH + j] * embeddings[k * WIDTH + j];
            printf(" %5.2f", dot);
        }
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    kiln_context *context;
    kiln_safetensors *file;
    kiln_executable *executable;
    kiln_workspace *workspace;
    kiln_tensor inputs[2];
    encoder e = {0};
    if (argc < 4) return fail("expected MODEL.safetensors IDS.npy MASK.npy [EXPECTED.npy]");
    if (kiln_context_create(NULL, &context)) return fail("no context");
    for (int i = 0; i < 2; i++) {
        if (kiln_read_npy(context, argv[2 + i], &inputs[i]))
            return fail(kiln_context_message(context));
        if (inputs[i].rank != 2) return fail("IDS and MASK are [batch, length]");
    }
    if (kiln_safetensors_open(context, argv[1], &file)) return fail(kiln_context_message(context));
    kiln_graph_create(context, "minilm", &e.graph);
    e.file = file;
    e.batch = inputs[0].dims[0];
    e.length = inputs[0].dims[1];
    build(&e);
    if (kiln_compile(e.graph, NULL, &executable)) return fail(kiln_graph_message(e.graph));
    if (kiln_workspace_create(executable, &workspace)) return fail(kiln_context_message(context));

    int64_t dims[] = {e.batch, WIDTH}, n = e.batch * WIDTH;
    kiln_tensor output = {KILN_f32, 2, dims, malloc((size_t)n * sizeof(float)),
                          (size_t)n * sizeof(float)};
    if (!output.data || kiln_run(workspace, inputs, 2, &output, 1))
        return fail(kiln_workspace_message(workspace));
    print_likeness(output.data, e.batch);
    int exit_code = argc > 4 ? compare(context, argv[4], output.data, n) : 0;
    free(output.data);
    kiln_tensor_free(&inputs[0]);
    kiln_tensor_free(&inputs[1]);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(e.graph);
    kiln_safetensors_close(file);
    kiln_context_destroy(context);
    return exit_code;
}
