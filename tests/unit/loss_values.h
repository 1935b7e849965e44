/* What PyTorch 2 computes in f64 of the operands of losses.c, to seven digits; log_cosh and hinge
 * by their formulas. */
#ifndef KILN_TESTS_LOSS_VALUES_H
#define KILN_TESTS_LOSS_VALUES_H

#include <math.h>

static const double l1_values[] = {
    0.5790485, 6.948582,
};
static const double mse_values[] = {
    0.4216527, 0.7080734, 0.1207195, 0.09609166, 0.6750737, 0.8965174, 0.3928117, 0.0001411079,
    0.3703647, 0.8888869, 0.6949268, 0.1104709, 0.1057544,
};
static const double smooth_l1_values[] = {
    0.3587397, 0.5790485,
};
static const double huber_values[] = {
    0.2036367,
};
static const double log_cosh_values[] = {
    0.99508,
};
static const double hinge_values[] = {
    1.187096, 1.865715,
};
static const double soft_margin_values[] = {
    0.8462837,
};
static const double hinge_embedding_values[] = {
    0.1743058,
};
static const double binary_values[] = {
    1.046892, 8.451742, 50,
};
static const double binary_logits_values[] = {
    1.209837, 0.6712537,
};
static const double kl_values[] = {
    0.1777574, 0.4806674, 0.04443934,
};
static const double poisson_values[] = {
    1.106232,
};
static const double gaussian_values[] = {
    1.564107,
};
static const double cross_entropy_values[] = {
    3.296704, 2.084815, 2.220955, 0.4936555, 3.019807, 1.289389, 5.736622, 5.767928, 3.353445,
};
static const double cross_entropy_shares_values[] = {
    6.091409, 12.80693,
};
static const double nll_values[] = {
    3.56863, 0.1870763, 3.026223, 1.104266, 6.029271, 6.063195, 3.370192,
};
static const double cross_entropy_one_values[] = {
    0.1870763,
};
static const double multi_margin_values[] = {
    0.5961257, 0.2522028, 0.1601825, 0.09856968,
};
static const double multilabel_values[] = {
    0.5969696,
};
static const double ranking_values[] = {
    0.8790485,
};
static const double cosine_values[] = {
    0.4075745, 0.3737544, 0.4072142, 0.4417548,
};
static const double triplet_values[] = {
    0.5152911, 1.163561, 0.7618458, 1.123158,
};
static const double ctc_values[] = {
    6.314798, 1.507541, INFINITY, 0.9529011,
};
static const double ctc_long_values[] = {
    22.04149, 30.32886, 17.91962,
};
#endif
