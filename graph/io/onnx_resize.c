/* Resize and Upsample: attributes and operands to the plan of graph/resize.h. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "graph/io/onnx_op.h"
#include "graph/resize.h"

/* Index of the attribute's word in a list that ends with NULL. */
static int word_read(kiln_onnx_call *call, const char *name, const char *fallback,
                     const char *const *words)
{
    const char *given = kiln_onnx_string(call, name, fallback);
    for (int i = 0; words[i]; i++) {
        if (!strcmp(words[i], given)) return i;
    }
    kiln_onnx_fail(call, "attr '%s' is %s; expected one of the operator's words", name,
                   kiln_onnx_quote(&call->scope->arena, given));
}

static void words_read(kiln_onnx_call *call, kiln_resize_plan *plan)
{
    static const char *const modes[] = {"nearest", "linear", "cubic", NULL};
    static const char *const places[] = {"half_pixel",
                                         "half_pixel_symmetric",
                                         "pytorch_half_pixel",
                                         "align_corners",
                                         "asymmetric",
                                         "tf_crop_and_resize",
                                         NULL};
    static const char *const rounds[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil",
                                         NULL};
    bool is_old = call->opset < 11;
    plan->mode = (kiln_resize_mode)word_read(call, "mode", "nearest", modes);
    plan->place = is_old ? KILN_COORDINATE_ASYMMETRIC
                         : (kiln_resize_coordinate)word_read(call, "coordinate_transformation_mode",
                                                             "half_pixel", places);
    plan->round =
        is_old ? KILN_ROUND_FLOOR
               : (kiln_resize_round)word_read(call, "nearest_mode", "round_prefer_floor", rounds);
    plan->is_antialias = kiln_onnx_flag(call, "antialias", false);
    plan->is_outside_excluded = kiln_onnx_flag(call, "exclude_outside", false);
    plan->cubic = kiln_onnx_float(call, "cubic_coeff_a", -0.75);
    plan->outside = kiln_onnx_float(call, "extrapolation_value", 0);
}

static void scale_set(kiln_onnx_call *call, kiln_resize_plan *plan, uint32_t axis, double scale)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    double out = floor((double)type->dims[axis] * scale);
    if (plan->place == KILN_COORDINATE_CROP)
        out = floor((double)type->dims[axis] * (plan->to[axis] - plan->from[axis]) * scale);
    if (!(scale > 0) || !(out >= 0 && out < (double)KILN_MAX_DIM))
        kiln_onnx_fail(call, "scale %g of axis %u; expected one above 0", scale, axis);
    plan->scale[axis] = (float)scale;
    plan->out[axis] = (int64_t)out;
}

/* sizes of all axes in the list; the policy keeps the aspect ratio of them */
static void sizes_set(kiln_onnx_call *call, kiln_resize_plan *plan, kiln_ints axes, kiln_ints sizes)
{
    static const char *const policies[] = {"stretch", "not_larger", "not_smaller", NULL};
    const kiln_type *type = kiln_onnx_type(call, 0);
    int policy = word_read(call, "keep_aspect_ratio_policy", "stretch", policies);
    float common = policy == 1 ? INFINITY : 0;
    for (uint32_t i = 0; i < axes.n; i++) {
        uint32_t axis = (uint32_t)axes.at[i];
        if (sizes.at[i] < 0 || sizes.at[i] > KILN_MAX_DIM ||
            (type->dims[axis] == 0) != (sizes.at[i] == 0))
            kiln_onnx_fail(call, "size %" PRId64 " of dim %" PRId64 "; expected 1 or more",
                           sizes.at[i], type->dims[axis]);
        plan->out[axis] = sizes.at[i];
        plan->scale[axis] = type->dims[axis] ? (float)sizes.at[i] / (float)type->dims[axis] : 1;
        common = policy == 1 ? fminf(common, plan->scale[axis]) : fmaxf(common, plan->scale[axis]);
    }
    for (uint32_t i = 0; policy && i < axes.n; i++) {
        uint32_t axis = (uint32_t)axes.at[i];
        plan->scale[axis] = common;
        plan->out[axis] = (int64_t)floorf(common * (float)type->dims[axis] + 0.5f);
    }
}

static kiln_ints axes_read(kiln_onnx_call *call, const kiln_type *type)
{
    kiln_ints given;
    int64_t *axes = kiln_onnx_dims(call, type->rank);
    if (!kiln_onnx_ints(call, "axes", &given)) {
        for (uint32_t i = 0; i < type->rank; i++) axes[i] = i;
        return (kiln_ints){type->rank, axes};
    }
    if (given.n > type->rank)
        kiln_onnx_fail(call, "attr 'axes' has %u entries; expected at most %u", given.n,
                       type->rank);
    for (uint32_t i = 0; i < given.n; i++) axes[i] = kiln_onnx_axis(call, given.at[i], type->rank);
    return (kiln_ints){given.n, axes};
}

static void region_read(kiln_onnx_call *call, kiln_resize_plan *plan, kiln_ints axes)
{
    const double *region;
    for (uint32_t i = 0; i < plan->rank; i++) plan->to[i] = 1;
    if (plan->place != KILN_COORDINATE_CROP) return;
    if (kiln_onnx_known_floats(call, 1, &region) != 2 * axes.n)
        kiln_onnx_fail(call, "roi has the wrong length; expected %u", 2 * axes.n);
    for (uint32_t i = 0; i < axes.n; i++) {
        plan->from[axes.at[i]] = region[i];
        plan->to[axes.at[i]] = region[i + axes.n];
    }
}

/* Scales, from the operand or (Upsample 7) the attribute. */
static uint32_t scales_read(kiln_onnx_call *call, uint32_t operand, const double **out)
{
    uint32_t n = 0;
    const float *given = NULL;
    if (operand) return kiln_onnx_known_floats(call, operand, out);
    if (!kiln_onnx_floats(call, "scales", &n, &given))
        kiln_onnx_fail(call, "attr 'scales' is missing; expected it");
    double *scales = kiln_new_array(&call->scope->arena, double, n + 1);
    for (uint32_t i = 0; i < n; i++) scales[i] = given[i];
    *out = scales;
    return n;
}

static void plan_read(kiln_onnx_call *call, kiln_resize_plan *plan)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    bool has_sizes = kiln_onnx_has(call, 3) && kiln_onnx_type(call, 3)->n_elements > 0;
    uint32_t operand = call->opset >= 11 ? 2 : call->opset >= 9 ? 1 : 0;
    plan->rank = type->rank;
    words_read(call, plan);
    kiln_ints axes = axes_read(call, type);
    region_read(call, plan, axes);
    for (uint32_t i = 0; i < type->rank; i++) {
        plan->out[i] = type->dims[i];
        plan->scale[i] = 1;
    }
    if (has_sizes) {
        kiln_ints sizes = kiln_onnx_known_ints(call, 3);
        if (sizes.n != axes.n) kiln_onnx_fail(call, "%u sizes; expected %u", sizes.n, axes.n);
        sizes_set(call, plan, axes, sizes);
        return;
    }
    const double *scales;
    kiln_onnx_ignore(call, "keep_aspect_ratio_policy");
    uint32_t n = scales_read(call, operand, &scales);
    if (n != axes.n) kiln_onnx_fail(call, "%u scales; expected %u", n, axes.n);
    for (uint32_t i = 0; i < n; i++) scale_set(call, plan, (uint32_t)axes.at[i], scales[i]);
}

static kiln_value import_resize(kiln_onnx_call *call)
{
    kiln_resize_plan plan = {0};
    plan_read(call, &plan);
    kiln_value a = kiln_onnx_operand(call, 0);
    if (!kiln_resize_fits(&plan, kiln_onnx_type(call, 0)))
        kiln_onnx_refuse(call, "that many weights: a scale below 1/4096 or a size beyond 2^24");
    return kiln_resize_apply(call->graph, &plan, a);
}

const kiln_onnx_row kiln_onnx_resize_rows[] = {
    {"Upsample", 6, 8, 1, 1, import_resize},
    {"Upsample", 9, 9, 2, 2, import_resize},
    {"Resize", 10, 10, 2, 2, import_resize},
    {"Resize", 11, KILN_ONNX_NEWEST, 1, 4, import_resize},
    {0},
};
