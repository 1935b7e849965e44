/* Quantised numbers in a graph: (q - zero) * scale, q of i8 or u8. Shared by quantize_match.c (what
 * stands for such a number), quantize.c (contractions of them) and requantize.c (what comes after).
 *
 * Scales and zero points are vectors: a value of rank 0 or 1 that repeats along all other axes. */
#ifndef KILN_PASSES_QUANTIZE_H
#define KILN_PASSES_QUANTIZE_H

#include "passes/rewrite.h"

#define KILN_QUANTIZED_VIEWS 8

/* A value of the source that is repeated along all axes but `axis` (-1: along all). */
typedef struct kiln_spread {
    kiln_value from; /* 0: there is none */
    int64_t axis, n;
} kiln_spread;

typedef struct kiln_quantized {
    kiln_value q;            /* of the source, i8 or u8 */
    kiln_spread zero, scale; /* axes are those of the value matched, views included */
    const kiln_node *views[KILN_QUANTIZED_VIEWS]; /* from the value down to q */
    uint32_t n_views;
} kiln_quantized;

/* Whether `value` is f32 and dequantised, or (is_scaled false) i32 and q - zero. */
bool kiln_match_quantized(const kiln_graph *graph, kiln_value value, bool is_scaled,
                          kiln_quantized *out);
/* Whether `value` is such a vector, conversions of its numbers to wider dtypes apart. */
bool kiln_match_spread(const kiln_graph *graph, kiln_value value, kiln_spread *out);
/* Reads a vector that is a constant, or a conversion or reshape of one: n numbers (n is at least
 * 1). False where it is not known, or longer than 65,536. */
bool kiln_spread_read(kiln_scope *scope, const kiln_graph *graph, kiln_spread spread,
                      double **out_numbers, int64_t *out_n);

/* In the target: q under its views; a vector of rank 0 or 1 in that dtype; the same over dims. */
kiln_value kiln_quantized_build(kiln_rewrite *rewrite, const kiln_quantized *quantized);
kiln_value kiln_spread_build(kiln_rewrite *rewrite, kiln_spread spread, kiln_dtype dtype);
kiln_value kiln_spread_over(kiln_graph *target, kiln_value vector, int64_t axis,
                            const kiln_type *like);

/* Joins the scales after contractions of quantised numbers; quantize calls it. */
kiln_graph *kiln_requantize(kiln_pipeline *pipeline, const kiln_graph *graph);
#endif
