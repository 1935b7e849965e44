/* Every public function with nothing but NULL and zero, and again with a live context and graph: a
 * status, the zero value or an empty answer, never a crash. The lists are checked against the
 * headers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/kiln.h"

#define VALUE_CALLS(CALL) \
    CALL(kiln_input(graph, NULL, KILN_NO_DTYPE, 0, NULL)) \
    CALL(kiln_input_donated(graph, NULL, KILN_NO_DTYPE, 0, NULL)) \
    CALL(kiln_label(graph, none, NULL)) CALL(kiln_constant(graph, KILN_NO_DTYPE, 0, NULL, NULL)) \
    CALL(kiln_constant_tensor(graph, NULL)) CALL(kiln_constant_borrowed(graph, NULL)) \
    CALL(kiln_scalar(graph, KILN_NO_DTYPE, 0)) CALL(kiln_splat(graph, KILN_NO_DTYPE, 0, NULL, 0)) \
    CALL(kiln_iota(graph, KILN_NO_DTYPE, 0, NULL, 0)) CALL(kiln_neg(graph, none)) \
    CALL(kiln_abs(graph, none)) CALL(kiln_sign(graph, none)) CALL(kiln_floor(graph, none)) \
    CALL(kiln_ceil(graph, none)) CALL(kiln_trunc(graph, none)) CALL(kiln_round_even(graph, none)) \
    CALL(kiln_exp(graph, none)) CALL(kiln_expm1(graph, none)) CALL(kiln_log(graph, none)) \
    CALL(kiln_log1p(graph, none)) CALL(kiln_sqrt(graph, none)) CALL(kiln_rsqrt(graph, none)) \
    CALL(kiln_sin(graph, none)) CALL(kiln_cos(graph, none)) CALL(kiln_tan(graph, none)) \
    CALL(kiln_atan(graph, none)) CALL(kiln_tanh(graph, none)) CALL(kiln_erf(graph, none)) \
    CALL(kiln_logistic(graph, none)) CALL(kiln_is_finite(graph, none)) \
    CALL(kiln_selu(graph, none)) CALL(kiln_relu6(graph, none)) CALL(kiln_softsign(graph, none)) \
    CALL(kiln_log_sigmoid(graph, none)) CALL(kiln_tanh_shrink(graph, none)) \
    CALL(kiln_sparse_plus(graph, none)) CALL(kiln_sparse_sigmoid(graph, none)) \
    CALL(kiln_swish(graph, none, 0)) CALL(kiln_softplus_beta(graph, none, 0)) \
    CALL(kiln_squareplus(graph, none, 0)) CALL(kiln_celu(graph, none, 0)) \
    CALL(kiln_hard_tanh(graph, none, 0, 0)) CALL(kiln_threshold(graph, none, 0, 0)) \
    CALL(kiln_hard_shrink(graph, none, 0)) CALL(kiln_soft_shrink(graph, none, 0)) \
    CALL(kiln_prelu(graph, none, none)) CALL(kiln_rrelu(graph, none, none, 0, 0)) \
    CALL(kiln_glu(graph, none, 0)) CALL(kiln_softmin(graph, none, 0)) \
    CALL(kiln_sparsemax(graph, none, 0)) CALL(kiln_group_norm(graph, none, NULL)) \
    CALL(kiln_instance_norm(graph, none, none, none, 0)) CALL(kiln_local_norm(graph, none, NULL)) \
    CALL(kiln_normalize(graph, none, 0, 0)) CALL(kiln_embedding(graph, none, none)) \
    CALL(kiln_one_hot(graph, none, 0, 0, KILN_NO_DTYPE)) \
    CALL(kiln_rotary(graph, none, none, none, 0)) \
    CALL(kiln_attention_varlen(graph, none, none, none, NULL)) \
    CALL(kiln_l1_loss(graph, none, none, 0)) CALL(kiln_mse_loss(graph, none, none, 0)) \
    CALL(kiln_smooth_l1_loss(graph, none, none, 0, 0)) \
    CALL(kiln_huber_loss(graph, none, none, 0, 0)) \
    CALL(kiln_log_cosh_loss(graph, none, none, 0)) \
    CALL(kiln_hinge_loss(graph, none, none, 0, 0)) \
    CALL(kiln_soft_margin_loss(graph, none, none, 0)) \
    CALL(kiln_hinge_embedding_loss(graph, none, none, 0, 0)) \
    CALL(kiln_binary_cross_entropy(graph, none, none, NULL)) \
    CALL(kiln_binary_cross_entropy_logits(graph, none, none, NULL)) \
    CALL(kiln_kl_divergence(graph, none, none, 0, 0)) \
    CALL(kiln_poisson_loss(graph, none, none, 0)) \
    CALL(kiln_gaussian_loss(graph, none, none, none, NULL)) \
    CALL(kiln_cross_entropy(graph, none, none, NULL)) \
    CALL(kiln_nll_loss(graph, none, none, NULL)) \
    CALL(kiln_multi_margin_loss(graph, none, none, NULL)) \
    CALL(kiln_multilabel_loss(graph, none, none, 0)) \
    CALL(kiln_margin_ranking_loss(graph, NULL, none, 0, 0)) \
    CALL(kiln_cosine_embedding_loss(graph, NULL, none, 0, 0)) \
    CALL(kiln_triplet_loss(graph, NULL, NULL)) CALL(kiln_ctc_loss(graph, none, none, NULL)) \
    CALL(kiln_rnn(graph, none, NULL).y) CALL(kiln_gru(graph, none, NULL).y) \
    CALL(kiln_lstm(graph, none, NULL).y) \
    CALL(kiln_pixel_shuffle(graph, none, 0)) CALL(kiln_pixel_unshuffle(graph, none, 0)) \
    CALL(kiln_channel_shuffle(graph, none, 0)) CALL(kiln_resize(graph, none, NULL)) \
    CALL(kiln_grid_sample(graph, none, none, NULL)) \
    CALL(kiln_rfft(graph, none, 0, NULL)) CALL(kiln_irfft(graph, none, 0, NULL, 0)) \
    CALL(kiln_not(graph, none)) CALL(kiln_popcnt(graph, none)) CALL(kiln_clz(graph, none)) \
    CALL(kiln_convert(graph, none, KILN_NO_DTYPE)) CALL(kiln_bitcast(graph, none, KILN_NO_DTYPE)) \
    CALL(kiln_add(graph, none, none)) CALL(kiln_sub(graph, none, none)) \
    CALL(kiln_mul(graph, none, none)) CALL(kiln_div(graph, none, none)) \
    CALL(kiln_rem(graph, none, none)) CALL(kiln_max(graph, none, none)) \
    CALL(kiln_min(graph, none, none)) CALL(kiln_pow(graph, none, none)) \
    CALL(kiln_atan2(graph, none, none)) CALL(kiln_and(graph, none, none)) \
    CALL(kiln_or(graph, none, none)) CALL(kiln_xor(graph, none, none)) \
    CALL(kiln_shift_left(graph, none, none)) CALL(kiln_shift_right_logical(graph, none, none)) \
    CALL(kiln_shift_right_arithmetic(graph, none, none)) CALL(kiln_eq(graph, none, none)) \
    CALL(kiln_ne(graph, none, none)) CALL(kiln_lt(graph, none, none)) \
    CALL(kiln_le(graph, none, none)) CALL(kiln_gt(graph, none, none)) \
    CALL(kiln_ge(graph, none, none)) CALL(kiln_select(graph, none, none, none)) \
    CALL(kiln_clamp(graph, none, none, none)) CALL(kiln_reduce_sum(graph, none, 0, NULL)) \
    CALL(kiln_reduce_prod(graph, none, 0, NULL)) CALL(kiln_reduce_max(graph, none, 0, NULL)) \
    CALL(kiln_reduce_min(graph, none, 0, NULL)) CALL(kiln_reduce_any(graph, none, 0, NULL)) \
    CALL(kiln_reduce_all(graph, none, 0, NULL)) CALL(kiln_argmax(graph, none, 0, 0)) \
    CALL(kiln_argmin(graph, none, 0, 0)) CALL(kiln_window_sum(graph, none, NULL)) \
    CALL(kiln_window_prod(graph, none, NULL)) CALL(kiln_window_max(graph, none, NULL)) \
    CALL(kiln_window_min(graph, none, NULL)) CALL(kiln_broadcast(graph, none, 0, NULL, NULL)) \
    CALL(kiln_reshape(graph, none, 0, NULL)) CALL(kiln_transpose(graph, none, NULL)) \
    CALL(kiln_slice(graph, none, NULL)) CALL(kiln_reverse(graph, none, 0, NULL)) \
    CALL(kiln_pad(graph, none, none, NULL)) CALL(kiln_concat(graph, 0, NULL, 0)) \
    CALL(kiln_take(graph, none, none, 0)) CALL(kiln_dynamic_slice(graph, none, none, NULL)) \
    CALL(kiln_dynamic_update(graph, none, none, none)) \
    CALL(kiln_argsort(graph, none, 0, 0)) CALL(kiln_sort(graph, none, 0, 0)) \
    CALL(kiln_take_along(graph, none, none, 0)) CALL(kiln_top_k(graph, none, 1, 0, 0)) \
    CALL(kiln_cumulative_sum(graph, none, 0, NULL)) \
    CALL(kiln_cumulative_prod(graph, none, 0, NULL)) \
    CALL(kiln_cumulative_max(graph, none, 0, NULL)) \
    CALL(kiln_cumulative_min(graph, none, 0, NULL)) \
    CALL(kiln_cbrt(graph, none)) CALL(kiln_asin(graph, none)) CALL(kiln_acos(graph, none)) \
    CALL(kiln_sinh(graph, none)) CALL(kiln_cosh(graph, none)) CALL(kiln_asinh(graph, none)) \
    CALL(kiln_acosh(graph, none)) CALL(kiln_atanh(graph, none)) CALL(kiln_erfc(graph, none)) \
    CALL(kiln_erf_inv(graph, none)) CALL(kiln_lgamma(graph, none)) \
    CALL(kiln_digamma(graph, none)) CALL(kiln_round_half_away(graph, none)) \
    CALL(kiln_is_nan(graph, none)) CALL(kiln_is_inf(graph, none)) \
    CALL(kiln_next_after(graph, none, none)) CALL(kiln_reduce_precision(graph, none, 1, 1)) \
    CALL(kiln_random_split(graph, none, 1)) CALL(kiln_random_bits(graph, none, 0, NULL)) \
    CALL(kiln_random_uniform(graph, none, NULL)) CALL(kiln_random_normal(graph, none, NULL)) \
    CALL(kiln_dropout(graph, none, none, 0)) CALL(kiln_threefry2x32(graph, none, none)) \
    CALL(kiln_philox4x32(graph, none, none)) CALL(kiln_fft(graph, none, 0, NULL, 0)) \
    CALL(kiln_batch_norm_training(graph, none, NULL, 0, 0)) \
    CALL(kiln_batch_norm_grad(graph, none, NULL, 0, 0)) \
    CALL(kiln_batch_norm_grad_scale(graph, none, NULL, 0, 0)) \
    CALL(kiln_window_max_grad(graph, none, none, NULL)) \
    CALL(kiln_cholesky(graph, none, 1)) CALL(kiln_forward_solve(graph, none, none, 0)) \
    CALL(kiln_triangular_solve(graph, none, none, NULL)) \
    CALL(kiln_gather(graph, none, none, NULL)) \
    CALL(kiln_scatter(graph, none, none, none, NULL)) \
    CALL(kiln_scatter_add(graph, none, none, none, NULL)) \
    CALL(kiln_scatter_mul(graph, none, none, none, NULL)) \
    CALL(kiln_scatter_max(graph, none, none, none, NULL)) \
    CALL(kiln_scatter_min(graph, none, none, none, NULL)) \
    CALL(kiln_dot_general(graph, none, none, NULL)) CALL(kiln_matmul(graph, none, none)) \
    CALL(kiln_convolution(graph, none, none, NULL)) CALL(kiln_barrier(graph, none)) \
    CALL(kiln_item(graph, none, 0)) CALL(kiln_call(graph, NULL, NULL)) \
    CALL(kiln_if(graph, none, NULL, NULL, NULL)) CALL(kiln_case(graph, none, 0, NULL, NULL)) \
    CALL(kiln_while(graph, NULL)) CALL(kiln_scan(graph, NULL)) \
    CALL(kiln_custom_call(graph, NULL, NULL, 0, NULL)) \
    CALL(kiln_map(graph, NULL, NULL)) CALL(kiln_reduce(graph, NULL)) \
    CALL(kiln_reduce_window(graph, NULL)) CALL(kiln_select_and_scatter(graph, none, NULL)) \
    CALL(kiln_scatter_with(graph, NULL, NULL, NULL)) CALL(kiln_sort_by(graph, NULL, NULL, 0)) \
    CALL(kiln_real(graph, none)) CALL(kiln_imag(graph, none)) CALL(kiln_conj(graph, none)) \
    CALL(kiln_complex(graph, none, none)) CALL(kiln_square(graph, none)) \
    CALL(kiln_reciprocal(graph, none)) \
    CALL(kiln_relu(graph, none)) CALL(kiln_leaky_relu(graph, none, 0)) \
    CALL(kiln_elu(graph, none, 0)) CALL(kiln_gelu(graph, none, 0)) CALL(kiln_silu(graph, none)) \
    CALL(kiln_softplus(graph, none)) CALL(kiln_mish(graph, none)) \
    CALL(kiln_hard_sigmoid(graph, none, 0, 0)) CALL(kiln_hard_swish(graph, none)) \
    CALL(kiln_mean(graph, none, 0, NULL)) CALL(kiln_variance(graph, none, 0, NULL)) \
    CALL(kiln_softmax(graph, none, 0)) CALL(kiln_log_softmax(graph, none, 0)) \
    CALL(kiln_layer_norm(graph, none, none, none, 0)) CALL(kiln_rms_norm(graph, none, none, 0)) \
    CALL(kiln_batch_norm(graph, none, NULL, 0, 0)) CALL(kiln_linear(graph, none, none, none)) \
    CALL(kiln_attention(graph, none, none, none, NULL)) \
    CALL(kiln_constant_safetensor(graph, NULL, NULL, NULL))

#define STATUS_CALLS(CALL) \
    CALL(kiln_context_create(NULL, NULL)) CALL(kiln_executable_load(context, NULL, NULL, NULL)) \
    CALL(kiln_executable_create(context, NULL, NULL)) CALL(kiln_workspace_create(NULL, NULL)) \
    CALL(kiln_context_register(context, NULL, NULL, NULL, NULL)) \
    CALL(kiln_run(NULL, NULL, 0, NULL, 0)) CALL(kiln_graph_create(context, NULL, NULL)) \
    CALL(kiln_graph_status(graph)) CALL(kiln_import_onnx(context, NULL, NULL, NULL)) \
    CALL(kiln_import_onnx_memory(context, NULL, 0, NULL, NULL)) \
    CALL(kiln_read_text(context, NULL, NULL)) CALL(kiln_parse_text(context, NULL, 0, NULL)) \
    CALL(kiln_print_text(graph, NULL)) CALL(kiln_cache_inspect(NULL, NULL)) \
    CALL(kiln_read_npy(context, NULL, NULL)) \
    CALL(kiln_write_npy(context, NULL, NULL)) \
    CALL(kiln_safetensors_open(context, NULL, NULL)) CALL(kiln_export_onnx(graph, NULL, NULL)) \
    CALL(kiln_write_text(graph, NULL, NULL)) CALL(kiln_write_binary(graph, NULL, NULL)) \
    CALL(kiln_read_binary(context, NULL, NULL)) CALL(kiln_write_weights(graph, NULL)) \
    CALL(kiln_safetensors_read(NULL, NULL, NULL, 0)) \
    CALL(kiln_write_safetensors(context, NULL, 1, NULL)) CALL(kiln_compile(graph, NULL, NULL)) \
    CALL(kiln_compile_library(graph, NULL, NULL, NULL, NULL)) \
    CALL(kiln_explain(graph, NULL, NULL)) CALL(kiln_print_passes(graph, NULL, NULL, NULL)) \
    CALL(kiln_evaluate(graph, NULL, 0, NULL, 0)) \
    CALL(kiln_function_create(context, NULL, NULL, NULL, NULL)) \
    CALL(kiln_function_open_onnx(context, NULL, NULL, NULL, NULL)) \
    CALL(kiln_function_prepare(NULL, NULL, 0, NULL, NULL)) \
    CALL(kiln_function_run(NULL, NULL, 0, NULL, 0)) \
    CALL(kiln_function_compile_library(NULL, NULL, 0, NULL))

#define OTHER_CALLS(CALL) \
    CALL(kiln_gradient(graph, none, none, NULL, NULL)) \
    CALL(kiln_status_name(KILN_OK)) CALL(kiln_status_meaning(KILN_OK)) \
    CALL(kiln_dtype_bits(KILN_NO_DTYPE)) CALL(kiln_dtype_bytes(KILN_NO_DTYPE)) \
    CALL(kiln_dtype_name(KILN_NO_DTYPE)) \
    CALL(kiln_dtype_parse(NULL)) CALL(kiln_context_destroy(context)) \
    CALL(kiln_context_retain(context)) CALL(kiln_context_message(context)) \
    CALL(kiln_context_threads(context)) CALL(kiln_cpu_features()) \
    CALL(kiln_executable_destroy(NULL)) CALL(kiln_executable_program(NULL)) \
    CALL(kiln_executable_find_input(NULL, NULL)) CALL(kiln_executable_find_output(NULL, NULL)) \
    CALL(kiln_executable_output_dims(NULL, 0, NULL, NULL)) \
    CALL(kiln_graph_output_dims(graph, 0, NULL, NULL)) \
    CALL(kiln_executable_peak_bytes(NULL, 0)) CALL(kiln_workspace_destroy(NULL)) \
    CALL(kiln_workspace_message(NULL)) CALL(kiln_workspace_set_deadline(NULL, 0)) \
    CALL(kiln_workspace_cancel(NULL)) CALL(kiln_workspace_set_profile(NULL, 0)) \
    CALL(kiln_workspace_step_times(NULL)) CALL(kiln_graph_destroy(graph)) \
    CALL(kiln_graph_message(graph)) CALL(kiln_output(graph, NULL, none)) \
    CALL(kiln_require_zero(graph, none, NULL)) CALL(kiln_value_dtype(graph, none)) \
    CALL(kiln_value_rank(graph, none)) CALL(kiln_value_dims(graph, none)) \
    CALL(kiln_tensor_free(NULL)) CALL(kiln_tensor_get(NULL, 0)) \
    CALL(kiln_tensor_set(NULL, 0, 0)) CALL(kiln_safetensors_close(NULL)) \
    CALL(kiln_safetensors_count(NULL)) CALL(kiln_safetensors_at(NULL, 0)) \
    CALL(kiln_safetensors_find(NULL, NULL)) CALL(kiln_safetensors_metadata(NULL, NULL)) \
    CALL(kiln_free(NULL)) CALL(kiln_executable_report(NULL, NULL)) \
    CALL(kiln_function_destroy(NULL)) CALL(kiln_function_inputs(NULL, NULL)) \
    CALL(kiln_function_inspect(NULL, NULL))

static const char *const names[] = {
#define CALL(call) #call,
    VALUE_CALLS(CALL) STATUS_CALLS(CALL) OTHER_CALLS(CALL)
#undef CALL
};

static const kiln_value none;

static kiln_context *open_context(void)
{
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 1};
    kiln_context *context = NULL;
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    return context;
}

/* A mistake is sticky, so each call has a graph of its own. */
static kiln_graph *open_graph(kiln_context *context)
{
    kiln_graph *graph = NULL;
    assert_int_equal(kiln_graph_create(context, "nulls", &graph), KILN_OK);
    return graph;
}

static void check_value(const kiln_graph *graph, kiln_value value, const char *call)
{
    bool is_said = !graph || (kiln_graph_status(graph) != KILN_OK && *kiln_graph_message(graph));
    if (value.id || !is_said)
        fail_msg("%s gives value %u, \"%s\"", call, value.id, kiln_graph_message(graph));
}

/* A graph's status is not a mistake, and evaluating a graph without ports needs nothing. */
static void check_status(kiln_status status, const char *call)
{
    if (strncmp(call, "kiln_graph_status(", 18) == 0) return;
    if (strncmp(call, "kiln_evaluate(", 14) == 0 && status == KILN_OK) return;
    if (status != KILN_INVALID)
        fail_msg("%s gives %s; expected INVALID", call, kiln_status_name(status));
}

static void test_builder_calls_take_nothing(void **state)
{
    (void)state;
    kiln_context *context = open_context();
    for (int is_live = 0; is_live < 2; is_live++) {
        kiln_graph *graph;
#define CALL(call) \
    graph = is_live ? open_graph(context) : NULL; \
    check_value(graph, call, #call); \
    kiln_graph_destroy(graph);
        VALUE_CALLS(CALL)
#undef CALL
    }
    kiln_context_destroy(context);
}

static void test_status_calls_take_nothing(void **state)
{
    (void)state;
    kiln_context *live = open_context();
    for (int is_live = 0; is_live < 2; is_live++) {
        kiln_context *context = is_live ? live : NULL;
        kiln_graph *graph = is_live ? open_graph(live) : NULL;
#define CALL(call) check_status(call, #call);
        STATUS_CALLS(CALL)
#undef CALL
        assert_int_equal(kiln_graph_status(graph), is_live ? KILN_OK : KILN_INVALID);
        kiln_graph_destroy(graph);
    }
    kiln_context_destroy(live);
}

static void test_other_calls_take_nothing(void **state)
{
    (void)state;
    kiln_context *context = NULL;
    kiln_graph *graph = NULL;
#define CALL(call) (void)(call);
    OTHER_CALLS(CALL)
#undef CALL
    assert_non_null(kiln_context_message(NULL));
    assert_non_null(kiln_graph_message(NULL));
    assert_non_null(kiln_workspace_message(NULL));
    assert_int_equal(kiln_executable_find_input(NULL, NULL), -1);
    assert_int_equal(kiln_executable_peak_bytes(NULL, 0), 0);
}

static bool is_listed(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strncmp(names[i], name, n) == 0 && names[i][n] == '(') return true;
    }
    return false;
}

/* Every "KILN_API … kiln_name(" of a header has its call above. */
static void check_header(const char *path)
{
    static char text[1 << 18];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    for (const char *at = text; (at = strstr(at, "\nKILN_API "));) {
        const char *open = strchr(at += 9, '('), *name = open;
        assert_non_null(open);
        while (strchr("abcdefghijklmnopqrstuvwxyz0123456789_", name[-1])) name--;
        if (!is_listed(name, (size_t)(open - name)))
            fail_msg("%s: %.*s is not called here", path, (int)(open - name), name);
    }
}

static void test_the_lists_are_complete(void **state)
{
    (void)state;
    static const char *const headers[] = {"status", "types", "runtime",
                                          "graph",  "model", "compile", "function",
                                          "images", "layers", "losses", "recurrent"};
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/include/kiln/%s.h", SOURCE_ROOT, headers[i]);
        check_header(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_builder_calls_take_nothing),
        cmocka_unit_test(test_status_calls_take_nothing),
        cmocka_unit_test(test_other_calls_take_nothing),
        cmocka_unit_test(test_the_lists_are_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
