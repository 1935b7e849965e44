/* Losses, over kiln/graph.h. Elementwise ones take operands that broadcast; all end in a reduction.
 * Formulas are PyTorch's; sums are in f32 for narrower floats.
 *
 *     kiln_value loss = kiln_cross_entropy(graph, scores, targets, NULL); */
#ifndef KILN_LOSSES_H
#define KILN_LOSSES_H

#include "kiln/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kiln_reduction {
    KILN_REDUCTION_MEAN,
    KILN_REDUCTION_SUM,
    KILN_REDUCTION_NONE,
    KILN_REDUCTION_BATCH_MEAN, /* the sum over the first dim */
} kiln_reduction;

/* |p - t|, (p - t)^2, and those that are square near 0 and straight beyond. */
KILN_API kiln_value kiln_l1_loss(kiln_graph *graph, kiln_value p, kiln_value t,
                                 kiln_reduction reduction);
KILN_API kiln_value kiln_mse_loss(kiln_graph *graph, kiln_value p, kiln_value t,
                                  kiln_reduction reduction);
/* d^2 / (2 beta) where d = |p - t| < beta, else d - beta / 2. */
KILN_API kiln_value kiln_smooth_l1_loss(kiln_graph *graph, kiln_value p, kiln_value t, double beta,
                                        kiln_reduction reduction);
/* d^2 / 2 where d <= delta, else delta (d - delta / 2). */
KILN_API kiln_value kiln_huber_loss(kiln_graph *graph, kiln_value p, kiln_value t, double delta,
                                    kiln_reduction reduction);
/* log(cosh(p - t)) */
KILN_API kiln_value kiln_log_cosh_loss(kiln_graph *graph, kiln_value p, kiln_value t,
                                       kiln_reduction reduction);
/* max(0, 1 - p t)^power, targets -1 or 1; power 1 is the hinge, 2 its square. */
KILN_API kiln_value kiln_hinge_loss(kiln_graph *graph, kiln_value p, kiln_value t, int power,
                                    kiln_reduction reduction);
/* log(1 + e^(-p t)), targets -1 or 1. */
KILN_API kiln_value kiln_soft_margin_loss(kiln_graph *graph, kiln_value p, kiln_value t,
                                          kiln_reduction reduction);
/* p where t = 1, max(0, margin - p) where t = -1. */
KILN_API kiln_value kiln_hinge_embedding_loss(kiln_graph *graph, kiln_value p, kiln_value t,
                                              double margin, kiln_reduction reduction);

/* Targets in 0 … 1; `weight` of each element and of targets of 1 (zero values: 1). */
typedef struct kiln_binary_options {
    kiln_value weight, positive_weight;
    kiln_reduction reduction;
} kiln_binary_options;
/* -(t log p + (1 - t) log(1 - p)), logarithms at least -100; positive_weight is not read. */
KILN_API kiln_value kiln_binary_cross_entropy(kiln_graph *graph, kiln_value p, kiln_value t,
                                              const kiln_binary_options *options);
/* The same of p = logistic(a), without overflow. */
KILN_API kiln_value kiln_binary_cross_entropy_logits(kiln_graph *graph, kiln_value a, kiln_value t,
                                                     const kiln_binary_options *options);
/* t (log t - a), 0 where t = 0; a is the logarithm of the prediction, with `is_log` t also one. */
KILN_API kiln_value kiln_kl_divergence(kiln_graph *graph, kiln_value a, kiln_value t, int is_log,
                                       kiln_reduction reduction);
/* e^a - t a: a is the logarithm of the expected count. */
KILN_API kiln_value kiln_poisson_loss(kiln_graph *graph, kiln_value a, kiln_value t,
                                      kiln_reduction reduction);
/* (log max(v, epsilon) + (p - t)^2 / max(v, epsilon)) / 2 for a variance v. */
typedef struct kiln_gaussian_options {
    double epsilon; /* 0 is 1e-6 */
    kiln_reduction reduction;
} kiln_gaussian_options;
KILN_API kiln_value kiln_gaussian_loss(kiln_graph *graph, kiln_value p, kiln_value t,
                                       kiln_value variance, const kiln_gaussian_options *options);

/* Classes along axis 1 of [batch, class, …], or axis 0 of [class]. Targets are integers [batch, …],
 * or floats of the operand's dims: probabilities of the classes. A mean is over the weights of the
 * targets; of probabilities, over the batch and what follows the classes. */
typedef struct kiln_class_options {
    kiln_value weights; /* [class], the zero value: 1 */
    int has_ignored;    /* targets `ignored` count nothing */
    int64_t ignored;
    double smoothing; /* cross_entropy: this share of a target goes evenly to all classes */
    kiln_reduction reduction;
} kiln_class_options;
/* Of scores: the negative logarithm of the target's softmax. `options` may be NULL. */
KILN_API kiln_value kiln_cross_entropy(kiln_graph *graph, kiln_value scores, kiln_value targets,
                                       const kiln_class_options *options);
/* Of logarithms of probabilities, targets integers. */
KILN_API kiln_value kiln_nll_loss(kiln_graph *graph, kiln_value logs, kiln_value targets,
                                  const kiln_class_options *options);
/* Mean over the classes of max(0, margin - a[target] + a[class])^power, the target left out;
 * a [batch, class]. */
typedef struct kiln_margin_options {
    double margin; /* 0 is 1 */
    int power;     /* 1 or 2; 0 is 1 */
    kiln_reduction reduction;
} kiln_margin_options;
KILN_API kiln_value kiln_multi_margin_loss(kiln_graph *graph, kiln_value a, kiln_value targets,
                                           const kiln_margin_options *options);
/* Mean over the classes (the last axis) of the binary cross-entropy of scores. */
KILN_API kiln_value kiln_multilabel_loss(kiln_graph *graph, kiln_value a, kiln_value t,
                                         kiln_reduction reduction);

/* Pairs and triples; vectors lie along the last axis. */
/* max(0, -t (a - b) + margin), t is -1 or 1. */
KILN_API kiln_value kiln_margin_ranking_loss(kiln_graph *graph, const kiln_value *pair,
                                             kiln_value t, double margin, kiln_reduction reduction);
/* 1 - cos(a, b) where t = 1, max(0, cos(a, b) - margin) where t = -1. */
KILN_API kiln_value kiln_cosine_embedding_loss(kiln_graph *graph, const kiln_value *pair,
                                               kiln_value t, double margin,
                                               kiln_reduction reduction);
/* max(0, |a - p| - |a - n| + margin) of anchor, positive, negative; lengths are of
 * a - p + epsilon. With `swap` |p - n| counts where it is less than |a - n|. */
typedef struct kiln_triplet_options {
    double margin, epsilon; /* 0 is 1, 1e-6 */
    int power;              /* of the norm: 1 or 2; 0 is 2 */
    int swap;
    kiln_reduction reduction;
} kiln_triplet_options;
KILN_API kiln_value kiln_triplet_loss(kiln_graph *graph, const kiln_value *triple,
                                      const kiln_triplet_options *options);

/* Connectionist temporal classification (Graves and others, 2006): the negative logarithm of the
 * probability of all alignments. `logs` [length, batch, class] are logarithms of probabilities,
 * `targets` [batch, longest] integers, of which the first target_lengths[i] count. A mean divides
 * each loss by its target's length (at least 1) first. */
typedef struct kiln_ctc_options {
    kiln_value input_lengths, target_lengths; /* integers [batch] */
    int64_t blank;
    int is_zero_infinite; /* an impossible target costs 0 instead of infinity */
    kiln_reduction reduction;
} kiln_ctc_options;
KILN_API kiln_value kiln_ctc_loss(kiln_graph *graph, kiln_value logs, kiln_value targets,
                                  const kiln_ctc_options *options);

#ifdef __cplusplus
}
#endif
#endif
