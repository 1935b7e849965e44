/* usage: train [MODEL.onnx]
 * Trains a classifier of two rings: the gradients are nodes of the graph, so a step (forward,
 * backward, Adam) is one executable from old parameters to new ones. These go to a SafeTensors
 * file; a second graph reads them back, classifies, and may be written as ONNX. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kiln/kiln.h"

enum { BATCH = 64, HIDDEN = 32, CLASSES = 2, STEPS = 300, N_PARAMETERS = 4 };

/* What the optimiser keeps: parameters, then the two moments of each. */
enum { N_STATE = 3 * N_PARAMETERS };

static const struct parameter {
    const char *name;
    uint32_t rank;
    int64_t dims[2];
} parameters[N_PARAMETERS] = {
    {"hidden.weight", 2, {2, HIDDEN}},
    {"hidden.bias", 1, {HIDDEN}},
    {"output.weight", 2, {HIDDEN, CLASSES}},
    {"output.bias", 1, {CLASSES}},
};

static size_t count_elements(const struct parameter *parameter)
{
    return (size_t)parameter->dims[0] * (parameter->rank == 2 ? (size_t)parameter->dims[1] : 1);
}

/* In [-1, 1); the same in every run. */
static float draw(void)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / (1 << 23) - 1;
}

static kiln_value build_scores(kiln_graph *graph, kiln_value points, const kiln_value *p)
{
    kiln_value hidden = kiln_tanh(graph, kiln_linear(graph, points, p[0], p[1]));
    return kiln_linear(graph, hidden, p[2], p[3]);
}

/* a * x + (1 - a) * y */
static kiln_value blend(kiln_graph *graph, double a, kiln_value x, kiln_value y)
{
    return kiln_add(graph, kiln_mul(graph, x, kiln_scalar(graph, KILN_f32, a)),
                    kiln_mul(graph, y, kiln_scalar(graph, KILN_f32, 1 - a)));
}

/* Adam without the correction of its first steps: state[i], state[4 + i] and state[8 + i] become
 * the parameter and its moments after the gradient. */
static void update(kiln_graph *graph, kiln_value gradient, kiln_value *state, uint32_t i)
{
    kiln_value *mean = &state[N_PARAMETERS + i], *square = &state[2 * N_PARAMETERS + i];
    *mean = blend(graph, 0.9, *mean, gradient);
    *square = blend(graph, 0.99, *square, kiln_mul(graph, gradient, gradient));
    kiln_value size =
        kiln_add(graph, kiln_sqrt(graph, *square), kiln_scalar(graph, KILN_f32, 1e-8));
    kiln_value step =
        kiln_div(graph, kiln_mul(graph, *mean, kiln_scalar(graph, KILN_f32, 0.01)), size);
    state[i] = kiln_sub(graph, state[i], step);
}

/* Inputs: state, points, classes. Outputs: the state after the step, the loss before it. */
static kiln_graph *build_step(kiln_context *context)
{
    kiln_graph *graph;
    kiln_value state[N_STATE], gradients[N_PARAMETERS];
    char name[64];
    if (kiln_graph_create(context, "step", &graph)) return NULL;
    for (uint32_t i = 0; i < N_STATE; i++) {
        const struct parameter *p = &parameters[i % N_PARAMETERS];
        snprintf(name, sizeof name, "%s.%u", p->name, i / N_PARAMETERS);
        state[i] = kiln_input(graph, name, KILN_f32, p->rank, p->dims);
    }
    kiln_value points = kiln_input(graph, "points", KILN_f32, 2, (int64_t[]){BATCH, 2});
    kiln_value classes = kiln_input(graph, "classes", KILN_i32, 1, (int64_t[]){BATCH});
    kiln_value loss = kiln_cross_entropy(graph, build_scores(graph, points, state), classes, NULL);
    kiln_gradient(graph, loss, (kiln_value){0}, &(kiln_arguments){N_PARAMETERS, state}, gradients);
    for (uint32_t i = 0; i < N_PARAMETERS; i++) update(graph, gradients[i], state, i);
    for (uint32_t i = 0; i < N_STATE; i++) kiln_output(graph, NULL, state[i]);
    kiln_output(graph, "loss", loss);
    return graph;
}

/* The same network with the parameters of a file as constants. */
static kiln_graph *build_classifier(kiln_context *context, const char *path)
{
    kiln_graph *graph;
    kiln_safetensors *file;
    kiln_value p[N_PARAMETERS];
    if (kiln_safetensors_open(context, path, &file)) return NULL;
    if (kiln_graph_create(context, "rings", &graph)) return NULL;
    kiln_value points = kiln_input(graph, "points", KILN_f32, 2, (int64_t[]){BATCH, 2});
    for (uint32_t i = 0; i < N_PARAMETERS; i++)
        p[i] = kiln_constant_safetensor(graph, file, parameters[i].name, NULL);
    kiln_output(graph, "probability", kiln_softmax(graph, build_scores(graph, points, p), 1));
    kiln_safetensors_close(file);
    return graph;
}

static void draw_batch(float *points, int32_t *classes)
{
    for (uint32_t i = 0; i < BATCH; i++) {
        float angle = draw() * 3.14159265f;
        classes[i] = (int32_t)(i % CLASSES);
        float radius = 0.5f + 0.5f * (float)classes[i] + 0.1f * draw();
        points[2 * i] = radius * cosf(angle);
        points[2 * i + 1] = radius * sinf(angle);
    }
}

static kiln_tensor tensor_of(const struct parameter *parameter, float *data)
{
    return (kiln_tensor){KILN_f32, parameter->rank, parameter->dims, data,
                         count_elements(parameter) * sizeof *data};
}

/* A step reads one and writes the other.
 * Returns the last loss, or a NaN after a failure. */
static float train(kiln_executable *executable, float (*state)[CLASSES * HIDDEN],
                   float (*next)[CLASSES * HIDDEN])
{
    float points[2 * BATCH], loss = NAN;
    int32_t classes[BATCH];
    kiln_tensor inputs[N_STATE + 2], outputs[N_STATE + 1];
    kiln_workspace *workspace;
    if (kiln_workspace_create(executable, &workspace)) return NAN;
    for (uint32_t i = 0; i < N_STATE; i++) {
        inputs[i] = tensor_of(&parameters[i % N_PARAMETERS], state[i]);
        outputs[i] = tensor_of(&parameters[i % N_PARAMETERS], next[i]);
    }
    inputs[N_STATE] = (kiln_tensor){KILN_f32, 2, (int64_t[]){BATCH, 2}, points, sizeof points};
    inputs[N_STATE + 1] = (kiln_tensor){KILN_i32, 1, (int64_t[]){BATCH}, classes, sizeof classes};
    outputs[N_STATE] = (kiln_tensor){KILN_f32, 0, NULL, &loss, sizeof loss};
    for (uint32_t step = 0; step < STEPS; step++) {
        draw_batch(points, classes);
        if (kiln_run(workspace, inputs, N_STATE + 2, outputs, N_STATE + 1)) {
            fprintf(stderr, "train: %s\n", kiln_workspace_message(workspace));
            loss = NAN;
            break;
        }
        for (uint32_t i = 0; i < N_STATE; i++) {
            void *old = inputs[i].data;
            inputs[i].data = outputs[i].data;
            outputs[i].data = old;
        }
    }
    kiln_workspace_destroy(workspace);
    return loss;
}

/* The share of new points that the classifier has right. */
static float test(kiln_executable *executable)
{
    float points[2 * BATCH], probability[CLASSES * BATCH];
    int32_t classes[BATCH];
    uint32_t n_right = 0;
    kiln_workspace *workspace;
    if (kiln_workspace_create(executable, &workspace)) return 0;
    draw_batch(points, classes);
    kiln_tensor input = {KILN_f32, 2, (int64_t[]){BATCH, 2}, points, sizeof points};
    kiln_tensor output = {KILN_f32, 2, (int64_t[]){BATCH, CLASSES}, probability,
                          sizeof probability};
    if (!kiln_run(workspace, &input, 1, &output, 1)) {
        for (uint32_t i = 0; i < BATCH; i++)
            n_right += (probability[2 * i + 1] > 0.5f) == classes[i];
    }
    kiln_workspace_destroy(workspace);
    return (float)n_right / BATCH;
}

static int fail(const char *message)
{
    fprintf(stderr, "train: %s\n", message);
    return 1;
}

int main(int argc, char **argv)
{
    /* The moments begin at 0. An even number of steps ends in the first of the two. */
    static float state[2][N_STATE][CLASSES * HIDDEN];
    const char *path = "rings.safetensors";
    kiln_named_tensor saved[N_PARAMETERS];
    kiln_context *context;
    kiln_executable *step, *classifier;
    if (kiln_context_create(NULL, &context)) return fail("no context");
    for (uint32_t i = 0; i < N_PARAMETERS; i++) {
        for (size_t k = 0; k < count_elements(&parameters[i]); k++) state[0][i][k] = draw();
        saved[i] = (kiln_named_tensor){parameters[i].name, tensor_of(&parameters[i], state[0][i])};
    }
    kiln_graph *graph = build_step(context);
    if (!graph || kiln_compile(graph, NULL, &step)) return fail(kiln_graph_message(graph));
    kiln_graph_destroy(graph);
    float loss = train(step, state[0], state[1]);
    kiln_executable_destroy(step);

    if (kiln_write_safetensors(context, path, N_PARAMETERS, saved))
        return fail(kiln_context_message(context));
    graph = build_classifier(context, path);
    if (!graph) return fail(kiln_context_message(context));
    if (kiln_compile(graph, NULL, &classifier)) return fail(kiln_graph_message(graph));
    if (argc > 1 && kiln_export_onnx(graph, argv[1], NULL)) return fail(kiln_graph_message(graph));
    kiln_graph_destroy(graph);
    float right = test(classifier);
    kiln_executable_destroy(classifier);
    kiln_context_destroy(context);
    remove(path);
    int is_ok = loss < 0.1f && right > 0.95f;
    printf("train: loss %.4f after %d steps, %.0f %% of new points right: %s\n", loss, STEPS,
           right * 100, is_ok ? "ok" : "TOO FEW");
    return is_ok ? 0 : 1;
}
