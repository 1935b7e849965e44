/* The text form: printing and parsing are inverse, and hostile text has a line and a column. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "kiln/compile.h"
#include "kiln/model.h"
#include "kiln/runtime.h"

static kiln_context *context;

/* A graph with every op, all attribute kinds and awkward numbers and names. */
static const char everything[] =
    "kiln 1\n"
    "graph \"all of it\"(%f: f32[2,3], %\"g 1\": f32[2,3] donated, %i: i32[2,3], %b: bool[2,3], "
    "%image: f32[1,8,8,4], %kernel: f32[3,3,4,6], %starts: i64[2], %m: f32[3,5], %heads: "
    "f32[1,2,7,4], "
    "%row: f32[3], %c: f32[4], %n: i64[]) {\n"
    "  %0: f32[2] = constant {value = [1, -0x1.99999ap-4]}\n"
    "  %1: f32[2,3] = constant {value = splat nan(0x7fc00001)} \"a \\\"label\\\" \\\\ \\x0a\"\n"
    "  %2: f64[5] = constant {value = [inf, -inf, -0, 0x1p-1074, 0.0009765625]}\n"
    "  %3: bf16[2] = constant {value = [nan(0xffc0), 0x1p-133]}\n"
    "  %4: i64[2] = constant {value = [-9223372036854775808, 9223372036854775807]}\n"
    "  %5: u64[] = constant {value = splat 18446744073709551615}\n"
    "  %6: i8[3] = constant {value = [-128, 0, 127]}\n"
    "  %7: bool[2] = constant {value = [true, false]}\n"
    "  %8: u8[4] = constant {value = blob hex \"00ff7f80\"}\n"
    "  %9: f32[8] = constant {value = blob \"weights/w 1.bin\" 64 32}\n"
    "  %10: f16[0,3] = constant {value = []}\n"
    "  %11: i32[2,3] = iota {axis = 1}\n"
    "@U"
    "  %12: bool[2,3] = is_finite %f\n"
    "  %13: i32[2,3] = not %i\n"
    "  %14: i32[2,3] = popcnt %i\n"
    "  %15: i32[2,3] = clz %i\n"
    "  %16: f64[2,3] = convert %f\n"
    "  %17: u32[2,3] = bitcast %f\n"
    "@B@I@C"
    "  %18: f32[2,3] = select %b, %f, %\"g 1\"\n"
    "  %19: f32[2,3] = clamp %f, %\"g 1\", %f\n"
    "  %20: f32[2] = reduce_sum %f {axes = [1]}\n"
    "  %21: f32[] = reduce_prod %f {axes = [0, 1]}\n"
    "  %22: f32[2,3] = reduce_max %f {axes = []}\n"
    "  %23: f32[3] = reduce_min %f {axes = [0]}\n"
    "  %24: bool[3] = reduce_any %b {axes = [0]}\n"
    "  %25: bool[3] = reduce_all %b {axes = [0]}\n"
    "  %26: i64[2] = argmax %f {axis = 1, last = false}\n"
    "  %27: i64[3] = argmin %f {axis = 0, last = true}\n"
    "@W"
    "  %28: f32[4,3] = broadcast %row {axes = [1]}\n"
    "  %29: f32[3,2] = reshape %f\n"
    "  %30: f32[3,2] = transpose %f {permutation = [1, 0]}\n"
    "  %31: f32[1,2] = slice %f {starts = [1, 0], limits = [2, 3], strides = [1, 2]}\n"
    "  %32: f32[2,3] = reverse %f {axes = [0]}\n"
    "  %33: f32[] = constant {value = splat 0.5}\n"
    "  %34: f32[4,4] = pad %f, %33 {low = [1, -1], high = [0, 0], interior = [1, 1]}\n"
    "  %35: f32[4,3] = concat %f, %\"g 1\" {axis = 0}\n"
    "  %36: f32[2,2,3] = take %f, %i {axis = 1}\n"
    "  %37: f32[1,2] = dynamic_slice %f, %starts {sizes = [1, 2]}\n"
    "  %38: f32[2,3] = dynamic_update %f, %37, %starts\n"
    "  %39: f32[2,5] = dot_general %f, %m {lhs_batch = [], rhs_batch = [], lhs_contract = [1], "
    "rhs_contract = [0], accumulate = f32}\n"
    "  %40: f32[1,8,8,6] = convolution %image, %kernel {strides = [1, 1], low = [1, 1], high = [1, "
    "1], "
    "lhs_dilation = [1, 1], rhs_dilation = [1, 1], groups = 1, input_axes = [0, 3, 1, 2], "
    "kernel_axes = [3, 2, 0, 1], output_axes = [0, 3, 1, 2], accumulate = f32}\n"
    "  %41: f32[2,3] = barrier %f {serial = 12}\n"
    "@P"
    "  %42: f32[2,3] = leaky_relu %f {slope = 0x1.47ae147ae147bp-7}\n"
    "  %43: f32[2,3] = elu %f {slope = 1}\n"
    "  %44: f32[2,3] = gelu %f {tanh = true}\n"
    "  %45: f32[2,3] = hard_sigmoid %f {scale = 0x1.999999999999ap-3, offset = 0.5}\n"
    "  %46: f32[2] = mean %f {axes = [1]}\n"
    "  %47: f32[2] = variance %f {axes = [1]}\n"
    "  %48: f32[2,3] = softmax %f {axis = 1}\n"
    "  %49: f32[2,3] = log_softmax %f {axis = 1}\n"
    "  %50: f32[2,3] = layer_norm %f, %row, %row {epsilon = 0x1.4f8b588e368f1p-17}\n"
    "  %51: f32[2,3] = rms_norm %f, %row {epsilon = 0}\n"
    "  %52: f32[1,8,8,4] = batch_norm %image, %c, %c, %c, %c {axis = 3, epsilon = 0.0009765625}\n"
    "  %53: f32[2,5] = linear %f, %m\n"
    "  %54: f32[1,2,7,4] = attention %heads, %heads, %heads {scale = 0, causal = true}\n"
    "  %100: f32[2,3,3] = gather %f, %i {offset_axes = [2], collapsed_axes = [0], operand_batch = "
    "[], indices_batch = [], start_map = [0], index_axis = 2, sizes = [1, 3]}\n"
    "  %101: f32[2,3] = scatter %f, %i, %100 {window_axes = [2], inserted_axes = [0], "
    "operand_batch = [], indices_batch = [], start_map = [0], index_axis = 2}\n"
    "  %102: f32[2,3] = scatter_add %f, %i, %100 {window_axes = [2], inserted_axes = [0], "
    "operand_batch = [], indices_batch = [], start_map = [0], index_axis = 2}\n"
    "  %103: f32[2,3] = scatter_mul %f, %i, %100 {window_axes = [2], inserted_axes = [0], "
    "operand_batch = [], indices_batch = [], start_map = [0], index_axis = 2}\n"
    "  %104: f32[2,3] = scatter_max %f, %i, %100 {window_axes = [2], inserted_axes = [0], "
    "operand_batch = [], indices_batch = [], start_map = [0], index_axis = 2}\n"
    "  %105: f32[2,3] = scatter_min %f, %i, %100 {window_axes = [2], inserted_axes = [0], "
    "operand_batch = [], indices_batch = [], start_map = [0], index_axis = 2}\n"
    "  %110: f32[2,3] = cumulative_sum %f {axis = 0, exclusive = true, reverse = false}\n"
    "  %111: f32[2,3] = cumulative_prod %f {axis = 1, exclusive = false, reverse = false}\n"
    "  %112: f32[2,3] = cumulative_max %f {axis = 0, exclusive = true, reverse = false}\n"
    "  %113: f32[2,3] = cumulative_min %f {axis = 1, exclusive = false, reverse = false}\n"
    "  %114: i64[2,3] = argsort %f {axis = 1, descending = true}\n"
    "  %115: f32[2,3] = sort %f {axis = 0, descending = false}\n"
    "  %116: f32[2,3] = take_along %f, %114 {axis = 1}\n"
    "  %120: bool[2,3] = is_nan %f\n"
    "  %121: bool[2,3] = is_inf %f\n"
    "  %122: f32[2,3] = next_after %f, %\"g 1\"\n"
    "  %123: f32[2,3] = reduce_precision %f {exponent_bits = 5, mantissa_bits = 10}\n"
    "  %124: u32[2] = constant {value = [1, 2]}\n"
    "  %125: u32[2,3] = iota {axis = 0}\n"
    "  %126: u32[4,3] = iota {axis = 0}\n"
    "  %127: u32[2,3] = threefry2x32 %124, %125\n"
    "  %128: u32[4,3] = philox4x32 %124, %126\n"
    "  %129: u32[3,5] = random_bits %124 {sizes = [3, 5]}\n"
    "  %130: u32[3,2] = random_split %124 {n = 3}\n"
    "  %131: f64[2] = random_uniform %124 {dtype = f64, dims = [2], offset = 0, scale = 1}\n"
    "  %132: bf16[2] = random_normal %124 {dtype = bf16, dims = [2], offset = 1, scale = 2}\n"
    "  %133: f32[2,3] = dropout %f, %124 {rate = 0.5}\n"
    "  %134: f32[3,2] = fft %30 {axes = [0], inverse = false}\n"
    "  %140: f32[5,5] = dot_general %m, %m {lhs_batch = [], rhs_batch = [], lhs_contract = [0], "
    "rhs_contract = [0], accumulate = f32}\n"
    "  %141: f32[5,5] = cholesky %140\n"
    "  %142: f32[5,3] = transpose %m {permutation = [1, 0]}\n"
    "  %143: f32[5,3] = forward_solve %141, %142 {unit_diagonal = false}\n"
    "  %144: f32[3,5] = triangular_solve %141, %m {left = false, lower = true, transpose = false, "
    "unit_diagonal = true}\n"
    "  %170: c64[2,3] = complex %f, %\"g 1\"\n"
    "  %171: f32[2,3] = real %170\n"
    "  %172: f32[2,3] = imag %170\n"
    "  %173: c64[2,3] = conj %170\n"
    "  %174: i4[3] = constant {value = [-8, 7, -1]}\n"
    "  %190: i2[5] = constant {value = [-2, 1, -1, 0, 1]}\n"
    "  %191: u2[6] = constant {value = [3, 0, 1, 2, 3, 1]}\n"
    "  %175: u4[4] = constant {value = splat 15}\n"
    "  %176: f4e2m1[2] = constant {value = [-0, 6]}\n"
    "  %177: f8e4m3fn[3] = constant {value = [448, -0.5, nan(0x7f)]}\n"
    "  %178: f8e5m2[2] = constant {value = [inf, 57344]}\n"
    "  %179: f8e4m3fnuz[2] = constant {value = [240, nan(0x80)]}\n"
    "  %180: f8e5m2fnuz[] = constant {value = splat -1.75}\n"
    "  %181: c64[2] = constant {value = [(1, -0.5), (-inf, nan(0x7fc00000))]}\n"
    "  %182: c128[] = constant {value = splat (0.5, 0x1.999999999999ap-4)}\n"
    "  %150: f32[1,8,8,4] = batch_norm_training %image, %c, %c {axis = 3, epsilon = 0.5}\n"
    "  %151: f32[1,8,8,4] = batch_norm_grad %image, %c, %c, %c, %150 {axis = 3, epsilon = 0.5}\n"
    "  %152: f32[4] = batch_norm_grad_scale %image, %c, %c, %c, %150 {axis = 3, epsilon = 0.5}\n"
    "  %153: f32[2,1] = window_max %f {sizes = [1, 2], strides = [1, 2], low = [0, 0], high = [0, "
    "0], dilations = [1, 1]}\n"
    "  %154: f32[2,3] = window_max_grad %f, %153 {sizes = [1, 2], strides = [1, 2], low = [0, "
    "0], high = [0, 0], dilations = [1, 1]}\n"
    "  %200: f32[2,3] = swish %f {slope = 0.5}\n"
    "  %201: f32[2,3] = softplus_beta %f {slope = 2}\n"
    "  %202: f32[2,3] = squareplus %f {slope = 4}\n"
    "  %203: f32[2,3] = celu %f {slope = 0.5}\n"
    "  %204: f32[2,3] = prelu %f, %\"g 1\"\n"
    "  %205: f32[2,3] = hard_tanh %f {low = -1, high = 1}\n"
    "  %206: f32[2,3] = threshold %f {threshold = 0.5, value = -2}\n"
    "  %207: f32[2,3] = hard_shrink %f {slope = 0.5}\n"
    "  %208: f32[2,3] = soft_shrink %f {slope = 0.5}\n"
    "  %209: f32[1,3] = glu %f {axis = 0}\n"
    "  %210: f32[2,3] = sparsemax %f {axis = 1}\n"
    "  %211: f32[2,4] = constant {value = splat 0.5}\n"
    "  %212: f32[2,4] = group_norm %211, %c, %c {groups = 2, epsilon = 0.5}\n"
    "  %213: f32[2,4] = local_norm %211 {axis = 1, before = 1, after = 2, alpha = 0.5, beta = "
    "0.75, bias = 1}\n"
    "  %214: f32[2,4] = rotary %211, %0, %0 {interleaved = true}\n"
    "  check %n \"n: \\\"bad\\\"; expected 0\"\n"
    "  return %53, %48 as \"prob\", %f\n"
    "}\n";

/* Lines that are alike come from the op table: U unary floats, B binary floats, I binary integers,
 * C comparisons, W windows, P plain composites. */
static const char *group_of(const kiln_op_row *row)
{
    static const char *const alone[] = {"is_finite", "not",    "popcnt", "clz",   "convert",
                                        "bitcast",   "select", "clamp",  "linear",
                                        "is_nan",    "is_inf", "next_after",
                                        "threefry2x32", "philox4x32", "real", "imag", "conj",
                                        "complex", "prelu"};
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++) {
        if (strcmp(alone[i], row->name) == 0) return "";
    }
    bool is_plain = row->attrs == KILN_FAMILY_none;
    if (row->class_ == KILN_WINDOW) return "W";
    if (row->class_ == KILN_COMPOSITE) return is_plain ? "P" : "";
    if (row->class_ != KILN_ELEMENTWISE) return "";
    if (row->result == KILN_RESULT_BOOL) return "C";
    if (row->max_inputs == 1) return "U";
    return row->types == KILN_TYPES_BITS || row->types == KILN_TYPES_INTEGER ? "I" : "B";
}

static void append_group(char *out, char group, uint32_t *number)
{
    for (uint32_t op = 1; op < KILN_N_OPS; op++) {
        const kiln_op_row *row = &kiln_op_rows[op];
        if (group_of(row)[0] != group) continue;
        bool is_int = group == 'I', is_binary = group == 'B' || group == 'I' || group == 'C';
        sprintf(out + strlen(out), "  %%%u: %s = %s %s%s%s\n", (*number)++,
                group == 'C'   ? "bool[2,3]"
                : is_int       ? "i32[2,3]"
                : group == 'W' ? "f32[2,2]"
                               : "f32[2,3]",
                row->name, is_int ? "%i" : "%f",
                !is_binary ? ""
                : is_int   ? ", %i"
                           : ", %\"g 1\"",
                group == 'W' ? " {sizes = [1, 2], strides = [1, 1], low = [0, 0], high = [0, 0], "
                               "dilations = [1, 1]}"
                             : "");
    }
}

/* Expands the groups and numbers the nodes anew. */
static char *everything_text(void)
{
    char *out = calloc(1, 65536), *lines = strdup(everything);
    uint32_t number = 0, renumbered[256];
    for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n")) {
        for (; line[0] == '@'; line += 2) append_group(out, line[1], &number);
        unsigned own;
        if (sscanf(line, "  %%%u:", &own) == 1) renumbered[own] = number++;
        for (char *at = line; *at; at++) {
            size_t n = strlen(out);
            if (*at == '%' && at[1] >= '0' && at[1] <= '9') {
                sprintf(out + n, "%%%u", renumbered[strtoul(at + 1, &at, 10)]);
                at--;
            } else {
                out[n] = *at;
            }
        }
        strcat(out, "\n");
    }
    free(lines);
    return out;
}

static kiln_graph *parse(const char *text)
{
    kiln_graph *graph = NULL;
    kiln_status status = kiln_parse_text(context, text, strlen(text), &graph);
    if (status) fail_msg("%s", kiln_context_message(context));
    return graph;
}

static void test_print_and_parse_are_inverse(void **state)
{
    (void)state;
    char *text = everything_text(), *printed, *again;
    kiln_graph *graph = parse(text);
    bool seen[KILN_N_OPS] = {0};
    for (uint32_t id = 1; id < graph->nodes.n; id++) seen[graph->nodes.at[id]->op] = true;
    for (uint32_t op = 1; op < KILN_N_OPS; op++) {
        if (kiln_op_rows[op].class_ == KILN_REGION) continue; /* tests/unit/region.c */
        if (!seen[op]) fail_msg("%s is not in the text", kiln_op_rows[op].name);
    }
    assert_int_equal(kiln_print_text(graph, &printed), KILN_OK);
    assert_string_equal(printed, text);
    kiln_graph *second = parse(printed);
    assert_int_equal(kiln_print_text(second, &again), KILN_OK);
    assert_string_equal(again, printed);
    kiln_error error = {0};
    assert_int_equal(kiln_graph_verify(second, "read", &error), KILN_OK);
    kiln_graph_destroy(graph);
    kiln_graph_destroy(second);
    kiln_free(printed);
    kiln_free(again);
    free(text);
}

static void test_inputs_declared_late_print_first(void **state)
{
    (void)state;
    kiln_graph *graph;
    kiln_graph_create(context, "late", &graph);
    kiln_value a = kiln_exp(graph, kiln_input(graph, "a", KILN_f32, 0, NULL));
    kiln_output(graph, NULL,
                kiln_add(graph, kiln_neg(graph, a), kiln_input(graph, "7", KILN_f32, 0, NULL)));
    char *printed, *again;
    assert_int_equal(kiln_print_text(graph, &printed), KILN_OK);
    assert_string_equal(printed, "kiln 1\ngraph late(%a: f32[], %\"7\": f32[]) {\n"
                                 "  %0: f32[] = exp %a\n  %1: f32[] = neg %0\n"
                                 "  %2: f32[] = add %1, %\"7\"\n  return %2\n}\n");
    kiln_graph *second = parse(printed);
    assert_int_equal(kiln_print_text(second, &again), KILN_OK);
    assert_string_equal(again, printed);
    kiln_graph_destroy(graph);
    kiln_graph_destroy(second);
    kiln_free(printed);
    kiln_free(again);
}

static void test_numbers_do_not_know_the_locale(void **state)
{
    (void)state;
    const char *text = "kiln 1\ngraph n() {\n  %0: f32[2] = constant {value = [1.5, "
                       "0x1.99999ap-4]}\n  return %0\n}\n";
    setlocale(LC_ALL, "de_DE.UTF-8");
    kiln_graph *graph = parse(text);
    char *printed;
    assert_int_equal(kiln_print_text(graph, &printed), KILN_OK);
    setlocale(LC_ALL, "C");
    assert_string_equal(printed, text);
    kiln_graph_destroy(graph);
    kiln_free(printed);
}

#define BODY(line) "kiln 1\ngraph g(%x: f32[2,3], %n: i64[]) {\n  " line "\n  return %x\n}\n"

static const struct {
    const char *text, *sentence;
} hostile[] = {
    {"", "1:1: found the end of the text; expected graph"},
    {"kiln 2\ngraph g() {\n}", "1:6: another version of the text form; expected kiln 1"},
    {"graph g(%x: f32[2,3) {", "1:20: found \")\"; expected ,"},
    {"graph g(%x: f31[2]) {", "1:13: found \"f31\"; expected a dtype such as f32"},
    {"graph g(%x: f32[2], %x: f32[2]) {", "1:21: %\"x\" is defined twice"},
    {"graph g(%1: f32[2]) {", "1:9: an input with a number; expected a name"},
    {"graph g() {\n  return\n", "3:1: found the end of the text; expected }"},
    {"graph g() {\n  return\n} more", "3:3: text after the graph; expected its end"},
    {BODY("%0: f32[2,3] = frobnicate %x"), "3:18: operation frobnicate; expected one of ops.def"},
    {BODY("%0: f32[2,3] = input"),
     "3:18: operation input; expected one of ops.def, inputs in the header"},
    {BODY("%0: f32[2,3] = exp %1"), "3:22: %1 is not defined above"},
    {BODY("%0: f32[2,3] = exp %x\n  %0: f32[2,3] = exp %x"), "4:3: %0 is defined twice"},
    {BODY("%0: f32[3,2] = exp %x"), "3:18: exp gives f32[2,3]; the text says f32[3,2]"},
    {BODY("%0: i64[] = exp %n"), "3:15: exp: operand 0 is i64[]; "
     "expected a float or complex dtype"},
    {BODY("%0: f32[2] = reduce_sum %x {axes = [1]"), "4:3: found \"return\"; expected }"},
    {BODY("%0: f32[2] = reduce_sum %x {axis = [1]}"),
     "3:31: an attribute axis; expected axes"},
    {BODY("%0: i64[2] = argmax %x {at = 1, last = false}"),
     "3:27: an attribute at; expected one of axis, last"},
    {BODY("%0: f32[2] = reduce_sum %x {axes = [7]}"),
     "3:16: reduce_sum: axes is [7]; expected distinct ascending axes below 2"},
    {BODY("%0: f32[2] = reduce_sum %x {axes = [1}"), "3:40: found \"}\"; expected ,"},
    {BODY("%0: f32[2] = reduce_sum %x {axes = [[[[1]]]]}"), "3:39: found \"[\"; expected a number"},
    {BODY("%0: i64[2] = argmax %x {axis = 1, axis = 1}"), "3:37: axis is given twice"},
    {BODY("%0: i64[2] = argmax %x {axis = 1, last = 1}"),
     "3:44: found \"1\"; expected true or false"},
    {BODY("%0: f32[] = constant {value = splat 1e999}"), "3:39: 1e999 is out of range for f32"},
    {BODY("%0: f32[] = constant {value = splat 1,5}"), "3:40: found \",\"; expected }"},
    {BODY("%0: f32[] = constant {value = splat one}"), "3:39: found \"one\"; expected a number"},
    {BODY("%0: f32[] = constant {value = splat nan(0x3f800000)}"),
     "3:39: nan with other bits; expected those of a NaN of f32"},
    {BODY("%0: i8[] = constant {value = splat 128}"), "3:38: a number out of range for i8"},
    {BODY("%0: u8[] = constant {value = splat -1}"), "3:38: a number out of range for u8"},
    {BODY("%0: i64[] = constant {value = splat 9223372036854775808}"),
     "3:39: a number out of range for i64"},
    {BODY("%0: i32[2] = constant {value = [1]}"), "3:36: found \"]\"; expected ,"},
    {BODY("%0: f32[99999,99999,99999] = constant {value = [1]}"),
     "3:7: shape: f32[99999,99999,99999]; expected dims to 2^40 and at most 2^48 elements"},
    {BODY("%0: f32[4611686018427387904,4] = constant {value = splat 1}"),
     "3:7: shape: the size of f32[4611686018427387904,4] overflows; expected at most 2^48 "
     "elements"},
    {BODY("%0: u8[2] = constant {value = blob hex \"00f\"}"),
     "3:42: 3 hex digits for u8[2]; expected two for each of 2 bytes"},
    {BODY("%0: u8[2] = constant {value = blob \"../../etc/passwd\" 0 2}"),
     "3:38: file \"../../etc/passwd\"; expected a relative path without .."},
    {BODY("%0: u8[2] = constant {value = blob \"w\" -5 2}"),
     "3:15: constant: file offset is -5; expected 0 or more"},
    {BODY("%0: f32[2,3] = exp %x \"open"),
     "3:25: a string without an end; expected a closing quote on its line"},
    {BODY("%0: f32[2,3] = exp %x \"\\q\""),
     "3:25: a bad escape in a string; expected \\\", \\\\ or \\x01 to \\xff"},
    {BODY("%0: f32[2,3] = exp %x \"\\x00\""),
     "3:25: a bad escape in a string; expected \\\", \\\\ or \\x01 to \\xff"},
    {BODY("%12345678901234567890: f32[2,3] = exp %x"),
     "3:4: a name that begins with a digit; expected a number or quotes"},
    {BODY("check %x \"x\""), "3:9: check: the value is f32[2,3]; expected i64[]"},
};

/* The message is the sentence, a line of the text and a caret. */
static void check_place(const char *sentence)
{
    const char *message = kiln_context_message(context), *rest = message + strlen(sentence);
    if (strncmp(message, sentence, strlen(sentence)) || *rest != '\n')
        fail_msg("%s\ninstead of\n%s", message, sentence);
    const char *caret = strchr(rest + 1, '\n');
    assert_non_null(caret);
    assert_string_equal(caret + 1 + strspn(caret + 1, " "), "^");
}

static void test_hostile_text_has_a_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        kiln_graph *graph = NULL;
        kiln_status status =
            kiln_parse_text(context, hostile[i].text, strlen(hostile[i].text), &graph);
        check_place(hostile[i].sentence);
        assert_true(status == KILN_MODEL || status == KILN_LIMIT || status == KILN_ABI);
        assert_null(graph);
    }
}

static void test_large_hostile_text_is_quick(void **state)
{
    (void)state;
    size_t n = 1000000;
    char *text = malloc(n + 200);
    kiln_graph *graph = NULL;
    int head = sprintf(text, "graph g() {\n  %%0: i32[] = constant {value = splat ");
    memset(text + head, '9', n);
    assert_int_equal(kiln_parse_text(context, text, (size_t)head + n, &graph), KILN_MODEL);
    check_place("2:39: a number of over 400 bytes");
    memset(text + head, '[', n);
    assert_int_equal(kiln_parse_text(context, text, (size_t)head + n, &graph), KILN_MODEL);
    memset(text, '(', n);
    assert_int_equal(kiln_parse_text(context, text, n, &graph), KILN_MODEL);
    free(text);
}

/* Every cut and many changes of one byte: a status, no crash; what is accepted prints and reads. */
static void test_damaged_text_is_refused_or_sound(void **state)
{
    (void)state;
    char *text = everything_text();
    size_t n = strlen(text);
    uint32_t random = 1;
    for (size_t i = 0; i < 3000; i++) {
        random = random * 1664525u + 1013904223u;
        char *copy = malloc(n);
        memcpy(copy, text, n);
        size_t length = n;
        if (i % 3 == 0) length = random % n;
        copy[random / 7 % n] = "(){}[]%\",=0123456789abcdefxp-.: \n\\\0\xff"[random / 65536 % 36];
        kiln_graph *graph = NULL;
        kiln_status status = kiln_parse_text(context, copy, length, &graph);
        kiln_error error = {0};
        if (status == KILN_OK)
            assert_int_equal(kiln_graph_verify(graph, "damaged", &error), KILN_OK);
        assert_true(status == KILN_OK || status == KILN_MODEL || status == KILN_LIMIT ||
                    status == KILN_ABI);
        kiln_graph_destroy(graph);
        free(copy);
    }
    free(text);
}

static void test_files_are_read(void **state)
{
    (void)state;
    kiln_graph *graph = NULL;
    assert_int_equal(kiln_read_text(context, "no/such/file.kiln", &graph), KILN_IO);
    assert_string_equal(kiln_context_message(context),
                        "\"no/such/file.kiln\": No such file or directory");
    assert_int_equal(kiln_read_text(context, "/", &graph), KILN_IO);
    char path[] = "/tmp/kiln-text-XXXXXX";
    FILE *file = fdopen(mkstemp(path), "w");
    fputs("# a comment\ngraph g(%x: f32[2]) { return %x }", file);
    fclose(file);
    assert_int_equal(kiln_read_text(context, path, &graph), KILN_OK);
    assert_string_equal(graph->name, "g");
    kiln_graph_destroy(graph);
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_print_and_parse_are_inverse),
        cmocka_unit_test(test_inputs_declared_late_print_first),
        cmocka_unit_test(test_numbers_do_not_know_the_locale),
        cmocka_unit_test(test_hostile_text_has_a_place),
        cmocka_unit_test(test_large_hostile_text_is_quick),
        cmocka_unit_test(test_damaged_text_is_refused_or_sound),
        cmocka_unit_test(test_files_are_read),
    };
    kiln_context_create(
        &(kiln_context_options){.struct_bytes = sizeof(kiln_context_options), .threads = 1},
        &context);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kiln_context_destroy(context);
    return failed;
}
