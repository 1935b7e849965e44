/* All families of op cases, for every program that goes through them. */
#include "ops/cases.h"

const op_family op_families[] = {
    {"unary", op_cases_unary},
    {"binary", op_cases_binary},
    {"convert", op_cases_convert},
    {"reduce", op_cases_reduce},
    {"window", op_cases_window},
    {"view", op_cases_view},
    {"move", op_cases_move},
    {"gather", op_cases_gather},
    {"scatter", op_cases_scatter},
    {"order", op_cases_order},
    {"dot", op_cases_dot},
    {"convolution", op_cases_convolution},
    {"band", op_cases_band},
    {"activation", op_cases_activation},
    {"row", op_cases_row},
    {"attention", op_cases_attention},
    {"special", op_cases_special},
    {"random", op_cases_random},
    {"solve", op_cases_solve},
    {"select", op_cases_select},
};

const uint32_t op_n_families = sizeof op_families / sizeof *op_families;
