/* The public builder: losses of pairs and triples of vectors, kiln/losses.h. */
#include "graph/builder_loss.h"

kiln_value kiln_margin_ranking_loss(kiln_graph *graph, const kiln_value *pair, kiln_value t,
                                    double margin, kiln_reduction reduction)
{
    kiln_value in[3] = {{0}, {0}, t};
    for (int i = 0; pair && i < 2; i++) in[i] = pair[i];
    kiln_loss loss = kiln_loss_open(graph, "margin_ranking_loss", 3, in);
    kiln_value y = kiln_mul(graph, loss.in[2], kiln_sub(graph, loss.in[1], loss.in[0]));
    y = kiln_add(graph, y, kiln_loss_number(&loss, margin));
    return kiln_loss_reduce(&loss, kiln_loss_positive(&loss, y), reduction);
}

static kiln_value inner(kiln_graph *graph, kiln_value a, kiln_value b)
{
    int64_t last = -1;
    return kiln_reduce_sum(graph, kiln_mul(graph, a, b), 1, &last);
}

kiln_value kiln_cosine_embedding_loss(kiln_graph *graph, const kiln_value *pair, kiln_value t,
                                      double margin, kiln_reduction reduction)
{
    kiln_value in[3] = {{0}, {0}, t};
    for (int i = 0; pair && i < 2; i++) in[i] = pair[i];
    kiln_loss loss = kiln_loss_open(graph, "cosine_embedding_loss", 3, in);
    kiln_value least = kiln_loss_number(&loss, 1e-12);
    kiln_value a = kiln_add(graph, inner(graph, loss.in[0], loss.in[0]), least);
    kiln_value b = kiln_add(graph, inner(graph, loss.in[1], loss.in[1]), least);
    kiln_value size = kiln_mul(graph, kiln_sqrt(graph, a), kiln_sqrt(graph, b));
    kiln_value cosine = kiln_div(graph, inner(graph, loss.in[0], loss.in[1]), size);
    kiln_value near = kiln_sub(graph, kiln_loss_number(&loss, 1), cosine);
    kiln_value far = kiln_sub(graph, cosine, kiln_loss_number(&loss, margin));
    kiln_value is_near = kiln_gt(graph, loss.in[2], kiln_loss_number(&loss, 0));
    kiln_value y = kiln_select(graph, is_near, near, kiln_loss_positive(&loss, far));
    return kiln_loss_reduce(&loss, y, reduction);
}

static kiln_value length(const kiln_loss *loss, const kiln_value *ends,
                         const kiln_triplet_options *options)
{
    kiln_graph *graph = loss->graph;
    int64_t last = -1;
    double epsilon = options->epsilon != 0 ? options->epsilon : 1e-6;
    kiln_value d = kiln_sub(graph, ends[0], ends[1]);
    d = kiln_add(graph, d, kiln_loss_number(loss, epsilon));
    if (options->power == 1) return kiln_reduce_sum(graph, kiln_abs(graph, d), 1, &last);
    return kiln_sqrt(graph, kiln_reduce_sum(graph, kiln_square(graph, d), 1, &last));
}

kiln_value kiln_triplet_loss(kiln_graph *graph, const kiln_value *triple,
                             const kiln_triplet_options *options)
{
    static const kiln_triplet_options none;
    static const kiln_value missing[3];
    kiln_loss loss = kiln_loss_open(graph, "triplet_loss", 3, triple ? triple : missing);
    if (!options) options = &none;
    kiln_value a = loss.in[0], p = loss.in[1], n = loss.in[2];
    kiln_value near = length(&loss, (kiln_value[]){a, p}, options);
    kiln_value far = length(&loss, (kiln_value[]){a, n}, options);
    if (options->swap) far = kiln_min(graph, far, length(&loss, (kiln_value[]){p, n}, options));
    kiln_value y = kiln_sub(graph, near, far);
    double margin = options->margin != 0 ? options->margin : 1;
    y = kiln_loss_positive(&loss, kiln_add(graph, y, kiln_loss_number(&loss, margin)));
    return kiln_loss_reduce(&loss, y, options->reduction);
}
