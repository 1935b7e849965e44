/* Recurrent layers, over kiln/graph.h: one scan over time, both directions side by side. Formulas,
 * orders of gates and activations are those of ONNX, PyTorch or Keras, whichever the options say.
 *
 *     kiln_recurrent_options options = {.weights = w, .recurrent = r, .bias = b,
 *                                       .order = KILN_GATES_PYTORCH};
 *     kiln_recurrent_result lstm = kiln_lstm(graph, x, &options); */
#ifndef KILN_RECURRENT_H
#define KILN_RECURRENT_H

#include "kiln/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kiln_direction {
    KILN_DIRECTION_FORWARD,
    KILN_DIRECTION_REVERSE,
    KILN_DIRECTION_BOTH,
} kiln_direction;

/* Order of the gates' rows in weights and biases: input i, output o, forget f, cell c; update z,
 * reset r, hidden h. */
typedef enum kiln_gates {
    KILN_GATES_ONNX,    /* LSTM i o f c; GRU z r h */
    KILN_GATES_PYTORCH, /* LSTM i f c o; GRU r z h */
    KILN_GATES_KERAS,   /* LSTM i f c o; GRU z r h */
} kiln_gates;

typedef enum kiln_activation_kind {
    KILN_ACTIVATION_STANDARD, /* logistic for gates, tanh for the rest */
    KILN_ACTIVATION_LOGISTIC,
    KILN_ACTIVATION_TANH,
    KILN_ACTIVATION_RELU,
    KILN_ACTIVATION_SOFTPLUS,
    KILN_ACTIVATION_SOFTSIGN,
    KILN_ACTIVATION_LEAKY_RELU,       /* alpha below 0 */
    KILN_ACTIVATION_ELU,              /* alpha */
    KILN_ACTIVATION_THRESHOLDED_RELU, /* a above alpha, else 0 */
    KILN_ACTIVATION_HARD_SIGMOID,     /* clamp(alpha a + beta, 0, 1) */
    KILN_ACTIVATION_SCALED_TANH,      /* alpha tanh(beta a) */
    KILN_ACTIVATION_AFFINE,           /* alpha a + beta */
} kiln_activation_kind;
typedef struct kiln_activation {
    kiln_activation_kind kind;
    double alpha, beta;
} kiln_activation;

/* D is 2 for both directions, else 1; G is 1 for an RNN, 3 for a GRU, 4 for an LSTM. Zero values
 * are left out. */
typedef struct kiln_recurrent_options {
    kiln_value weights, recurrent;   /* [D, G hidden, input], [D, G hidden, hidden] */
    kiln_value bias, recurrent_bias; /* [D, G hidden] */
    kiln_value h, c;                 /* first state [D, batch, hidden]; else 0 */
    kiln_value peepholes;            /* LSTM: [D, 3 hidden], for i, o, f in turn */
    kiln_value lengths;              /* integers [batch]: how many steps of each count */
    kiln_direction direction;
    kiln_gates order;
    kiln_activation activations[2][3]; /* by direction: of gates, of the cell or h, of LSTM's c */
    double clip;                       /* what goes into activations is within +-clip; 0: any */
    int is_reset_first; /* GRU: r times h before the product; else r times the product and bias */
    int is_coupled;     /* LSTM: f is 1 - i */
} kiln_recurrent_options;

/* All rows [length, batch, D hidden], 0 beyond a length; the last states [D, batch, hidden]. */
typedef struct kiln_recurrent_result {
    kiln_value y, h, c;
} kiln_recurrent_result;
/* x is [length, batch, input]. */
KILN_API kiln_recurrent_result kiln_rnn(kiln_graph *graph, kiln_value x,
                                        const kiln_recurrent_options *options);
KILN_API kiln_recurrent_result kiln_gru(kiln_graph *graph, kiln_value x,
                                        const kiln_recurrent_options *options);
KILN_API kiln_recurrent_result kiln_lstm(kiln_graph *graph, kiln_value x,
                                         const kiln_recurrent_options *options);

#ifdef __cplusplus
}
#endif
#endif
