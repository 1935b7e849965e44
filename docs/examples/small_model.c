/* usage: small_model OUT.onnx
 * Writes a small ONNX model that tells an upright picture from a turned one, input f32[1,3,48,192]:
 * where no network is to be had it takes the place of the real classifier. Average pooling, one
 * linear layer whose weights change sign when the picture is turned, softmax. The file format is
 * written by hand: protocol buffers are tags, numbers and lengths. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { CHANNELS = 3, HEIGHT = 48, WIDTH = 192, POOL = 8, CLASSES = 2 };
enum { ROWS = HEIGHT / POOL, COLUMNS = WIDTH / POOL, FEATURES = CHANNELS * ROWS * COLUMNS };

/* A message under construction. */
typedef struct message {
    unsigned char bytes[16384];
    size_t n;
} message;

static void put_varint(message *to, uint64_t value)
{
    for (; value > 127; value >>= 7) to->bytes[to->n++] = (unsigned char)(value | 128);
    to->bytes[to->n++] = (unsigned char)value;
}

static void put_number(message *to, uint32_t field, uint64_t value)
{
    put_varint(to, field << 3);
    put_varint(to, value);
}

static void put_bytes(message *to, uint32_t field, const void *data, size_t n)
{
    put_varint(to, field << 3 | 2);
    put_varint(to, n);
    memcpy(to->bytes + to->n, data, n);
    to->n += n;
}

static void put_text(message *to, uint32_t field, const char *text)
{
    put_bytes(to, field, text, strlen(text));
}

static void put_message(message *to, uint32_t field, const message *part)
{
    put_bytes(to, field, part->bytes, part->n);
}

/* An input or output: name, type { tensor { f32, shape } }. */
static void put_value(message *graph, uint32_t field, const char *name, const int64_t *dims,
                      int rank)
{
    message shape = {.n = 0}, tensor = {.n = 0}, type = {.n = 0}, value = {.n = 0};
    for (int i = 0; i < rank; i++) {
        message dim = {.n = 0};
        put_number(&dim, 1, (uint64_t)dims[i]);
        put_message(&shape, 1, &dim);
    }
    put_number(&tensor, 1, 1);
    put_message(&tensor, 2, &shape);
    put_message(&type, 1, &tensor);
    put_text(&value, 1, name);
    put_message(&value, 2, &type);
    put_message(graph, field, &value);
}

static void put_weights(message *graph, const char *name, const float *data, const int64_t *dims,
                        int rank)
{
    message tensor = {.n = 0};
    size_t n = sizeof *data;
    for (int i = 0; i < rank; i++) {
        put_number(&tensor, 1, (uint64_t)dims[i]);
        n *= (size_t)dims[i];
    }
    put_number(&tensor, 2, 1);
    put_text(&tensor, 8, name);
    put_bytes(&tensor, 9, data, n);
    put_message(graph, 5, &tensor);
}

static void put_ints(message *node, const char *name, int64_t a, int64_t b)
{
    message attribute = {.n = 0};
    put_text(&attribute, 1, name);
    put_number(&attribute, 8, (uint64_t)a);
    put_number(&attribute, 8, (uint64_t)b);
    put_number(&attribute, 20, 7);
    put_message(node, 5, &attribute);
}

/* `inputs` are separated by blanks. */
static void put_node(message *graph, message *node, const char *op, const char *inputs,
                     const char *output)
{
    char names[64];
    snprintf(names, sizeof names, "%s", inputs);
    for (char *name = strtok(names, " "); name; name = strtok(NULL, " ")) put_text(node, 1, name);
    put_text(node, 2, output);
    put_text(node, 4, op);
    put_message(graph, 1, node);
    node->n = 0;
}

/* The pooled column's place left or right of the middle: the opposite for a turned picture. */
static void put_graph(message *graph)
{
    static float weights[FEATURES][CLASSES], bias[CLASSES];
    for (int i = 0; i < FEATURES; i++) {
        weights[i][1] = ((float)(i % COLUMNS) - (COLUMNS - 1) / 2.0f) / -64;
        weights[i][0] = -weights[i][1];
    }
    message node = {.n = 0};
    put_ints(&node, "kernel_shape", POOL, POOL);
    put_ints(&node, "strides", POOL, POOL);
    put_node(graph, &node, "AveragePool", "x", "pooled");
    put_node(graph, &node, "Flatten", "pooled", "features");
    put_node(graph, &node, "Gemm", "features weights bias", "logits");
    put_node(graph, &node, "Softmax", "logits", "probabilities");
    put_text(graph, 2, "small");
    put_weights(graph, "weights", weights[0], (int64_t[]){FEATURES, CLASSES}, 2);
    put_weights(graph, "bias", bias, (int64_t[]){CLASSES}, 1);
    put_value(graph, 11, "x", (int64_t[]){1, CHANNELS, HEIGHT, WIDTH}, 4);
    put_value(graph, 12, "probabilities", (int64_t[]){1, CLASSES}, 2);
}

int main(int argc, char **argv)
{
    static message model, graph, operators;
    put_number(&model, 1, 8);
    put_text(&model, 2, "small_model");
    put_graph(&graph);
    put_message(&model, 7, &graph);
    put_number(&operators, 2, 13);
    put_message(&model, 8, &operators);
    FILE *file = argc > 1 ? fopen(argv[1], "wb") : NULL;
    if (!file || fwrite(model.bytes, model.n, 1, file) != 1 || fclose(file)) {
        fprintf(stderr, "small_model: the model was not written\n");
        return 1;
    }
    return 0;
}
