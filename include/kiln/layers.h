/* What networks are made of, over kiln/graph.h: activations, norms, look-up, attention. The same
 * rules hold: calls nest, the first mistake sticks, a zero value gives the zero value.
 *
 *     kiln_group_norm_options norm = {scale, offset, .groups = 32, .epsilon = 1e-5};
 *     kiln_value y = kiln_group_norm(graph, x, &norm);
 *     y = kiln_swish(graph, y, 1.702); */
#ifndef KILN_LAYERS_H
#define KILN_LAYERS_H

#include "kiln/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Activations; kiln/graph.h has relu, leaky_relu, elu, gelu, silu, softplus, mish, hard_sigmoid,
 * hard_swish, tanh, logistic, softmax, log_softmax. NaN stays NaN. */
KILN_API kiln_value kiln_selu(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_relu6(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_softsign(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_log_sigmoid(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_tanh_shrink(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_sparse_plus(kiln_graph *graph, kiln_value a);
/* clamp(a / 2 + 1/2, 0, 1) */
KILN_API kiln_value kiln_sparse_sigmoid(kiln_graph *graph, kiln_value a);
/* a * logistic(beta * a): 1 is silu, 1.702 the quick gelu. */
KILN_API kiln_value kiln_swish(kiln_graph *graph, kiln_value a, double beta);
KILN_API kiln_value kiln_softplus_beta(kiln_graph *graph, kiln_value a, double beta);
KILN_API kiln_value kiln_squareplus(kiln_graph *graph, kiln_value a, double b);
KILN_API kiln_value kiln_celu(kiln_graph *graph, kiln_value a, double alpha);
KILN_API kiln_value kiln_hard_tanh(kiln_graph *graph, kiln_value a, double low, double high);
KILN_API kiln_value kiln_threshold(kiln_graph *graph, kiln_value a, double threshold, double value);
KILN_API kiln_value kiln_hard_shrink(kiln_graph *graph, kiln_value a, double lambda);
KILN_API kiln_value kiln_soft_shrink(kiln_graph *graph, kiln_value a, double lambda);
/* Shapes broadcast: slopes of the features of [batch, feature, y, x] are [feature, 1, 1]. */
KILN_API kiln_value kiln_prelu(kiln_graph *graph, kiln_value a, kiln_value slope);
/* Below 0 times a random slope of each element, evenly drawn from low … high; without a key (the
 * zero value, for inference) their mean. */
KILN_API kiln_value kiln_rrelu(kiln_graph *graph, kiln_value a, kiln_value key, double low,
                               double high);
/* Halves of an even dim: the first times the logistic of the second. */
KILN_API kiln_value kiln_glu(kiln_graph *graph, kiln_value a, int64_t axis);
KILN_API kiln_value kiln_softmin(kiln_graph *graph, kiln_value a, int64_t axis);
KILN_API kiln_value kiln_sparsemax(kiln_graph *graph, kiln_value a, int64_t axis);

/* Norms of [batch, feature, …]; scale and offset [feature], the zero value: 1 and 0. Each group of
 * features of an example has its own mean and variance; in instance_norm each feature. */
typedef struct kiln_group_norm_options {
    kiln_value scale, offset;
    int64_t groups;
    double epsilon;
} kiln_group_norm_options;
KILN_API kiln_value kiln_group_norm(kiln_graph *graph, kiln_value a,
                                    const kiln_group_norm_options *options);
KILN_API kiln_value kiln_instance_norm(kiln_graph *graph, kiln_value a, kiln_value scale,
                                       kiln_value offset, double epsilon);
/* a / (bias + alpha * s)^beta, s the sum of squares from `before` elements before to `after`
 * elements after along the axis. PyTorch and ONNX divide alpha by before + after + 1. */
typedef struct kiln_local_norm_options {
    int64_t axis, before, after;
    double alpha, beta, bias;
} kiln_local_norm_options;
KILN_API kiln_value kiln_local_norm(kiln_graph *graph, kiln_value a,
                                    const kiln_local_norm_options *options);
/* a / max(|a|, epsilon) with the Euclidean length along the axis. */
KILN_API kiln_value kiln_normalize(kiln_graph *graph, kiln_value a, int64_t axis, double epsilon);

/* Rows of `table` at integer indices: kiln_take along axis 0. */
KILN_API kiln_value kiln_embedding(kiln_graph *graph, kiln_value table, kiln_value indices);
/* A new axis of `depth` (counted among the axes of the result) that is 1 at each index, else 0;
 * an index outside of 0 … depth - 1 gives zeros. */
KILN_API kiln_value kiln_one_hot(kiln_graph *graph, kiln_value indices, int64_t depth, int64_t axis,
                                 kiln_dtype dtype);

/* Rotates pairs of the last axis by angles, whose cosine and sine have half as many elements and
 * broadcast: elements i and i + width / 2, or neighbours where `interleaved` is not 0. With fewer
 * angles the rest of the axis stays. */
KILN_API kiln_value kiln_rotary(kiln_graph *graph, kiln_value a, kiln_value cosine, kiln_value sine,
                                int interleaved);
/* Sequences of different lengths one after the other: query [rows, heads, width], key and value
 * [columns, heads, width] (fewer heads repeat). `query_ends`, `key_ends`: integers [n + 1], where
 * sequence i is elements ends[i] … ends[i + 1] - 1. Each attends to its own keys; causal: row i of
 * a sequence of q rows and k columns sees columns up to i + k - q. Rows of no sequence, or that see
 * nothing, are 0. */
typedef struct kiln_varlen_options {
    kiln_value query_ends, key_ends; /* key_ends may be the zero value: as query_ends */
    double scale;                    /* 0 is 1 / sqrt(width) */
    int is_causal;
} kiln_varlen_options;
KILN_API kiln_value kiln_attention_varlen(kiln_graph *graph, kiln_value query, kiln_value key,
                                          kiln_value value, const kiln_varlen_options *options);

#ifdef __cplusplus
}
#endif
#endif
