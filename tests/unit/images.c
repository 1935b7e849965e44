/* The calls of kiln/images.h against PyTorch's values and those of ONNX's reference, evaluated and
 * compiled; their mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/image_values.h"
#include "tests/unit/layer_bench.h"

#define IN(seed, ...) layer_input(g, seed, DIMS(__VA_ARGS__))
#define BUILD(name) static void build_##name(kiln_graph *g)
#define OUT(value) kiln_output(g, NULL, value)

BUILD(pixel_shuffle)
{
    OUT(kiln_pixel_shuffle(g, IN(0, 1, 8, 2, 3), 2));
}
BUILD(pixel_unshuffle)
{
    OUT(kiln_pixel_unshuffle(g, IN(0, 1, 2, 4, 6), 2));
}
BUILD(channel_shuffle)
{
    OUT(kiln_channel_shuffle(g, IN(0, 1, 6, 1, 2), 3));
}

static void resize_to(kiln_graph *g, kiln_resize_options options, int64_t height, int64_t width)
{
    int64_t sizes[] = {1, 2, height, width};
    options.sizes = sizes;
    OUT(kiln_resize(g, IN(0, 1, 2, 5, 4), &options));
}

#define RESIZE(name, height, width, ...)                                                           \
    BUILD(name)                                                                                    \
    {                                                                                              \
        resize_to(g, (kiln_resize_options){__VA_ARGS__}, height, width);                           \
    }
RESIZE(nearest, 7, 3, .place = KILN_COORDINATE_ASYMMETRIC, .round = KILN_ROUND_FLOOR)
RESIZE(nearest_twice, 10, 8, .place = KILN_COORDINATE_ASYMMETRIC, .round = KILN_ROUND_FLOOR)
RESIZE(linear, 8, 3, .mode = KILN_RESIZE_LINEAR)
RESIZE(linear_aligned, 8, 3, .mode = KILN_RESIZE_LINEAR, .place = KILN_COORDINATE_ALIGN_CORNERS)
RESIZE(cubic, 8, 3, .mode = KILN_RESIZE_CUBIC)
RESIZE(antialias, 3, 2, .mode = KILN_RESIZE_LINEAR, .is_antialias = 1, .is_outside_excluded = 1)
RESIZE(antialias_cubic, 3, 2, .mode = KILN_RESIZE_CUBIC, .is_antialias = 1,
       .is_outside_excluded = 1, .cubic = -0.5)

/* The first feature only. */
static kiln_value picture(kiln_graph *g)
{
    kiln_slice_options first = {.limits = (int64_t[]){1, 1, 5, 4}};
    return kiln_reshape(g, kiln_slice(g, IN(0, 1, 2, 5, 4), &first), DIMS(5, 4));
}

BUILD(crop)
{
    kiln_resize_options options = {.mode = KILN_RESIZE_LINEAR,
                                   .place = KILN_COORDINATE_CROP,
                                   .sizes = (int64_t[]){3, 3},
                                   .from = (double[]){0.2, -0.2},
                                   .to = (double[]){0.9, 0.8},
                                   .outside = 10};
    OUT(kiln_resize(g, picture(g), &options));
}
BUILD(excluded)
{
    kiln_resize_options options = {.mode = KILN_RESIZE_CUBIC,
                                   .is_outside_excluded = 1,
                                   .scales = (double[]){0.8, 0.8},
                                   .cubic = -0.5};
    OUT(kiln_resize(g, picture(g), &options));
}
BUILD(symmetric)
{
    kiln_resize_options options = {.mode = KILN_RESIZE_LINEAR,
                                   .place = KILN_COORDINATE_HALF_SYMMETRIC,
                                   .scales = (double[]){2.3, 1.7}};
    OUT(kiln_resize(g, picture(g), &options));
}

#define NEAREST(name, how)                                                                         \
    BUILD(nearest_##name)                                                                          \
    {                                                                                              \
        kiln_resize_options options = {.round = KILN_ROUND_##how, .scales = (double[]){1.5, 2.5}}; \
        OUT(kiln_resize(g, picture(g), &options));                                                 \
    }
NEAREST(round_prefer_floor, PREFER_FLOOR)
NEAREST(round_prefer_ceil, PREFER_CEIL)
NEAREST(floor, FLOOR)
NEAREST(ceil, CEIL)

BUILD(grid_volume)
{
    kiln_value a = IN(0, 1, 2, 3, 2, 4);
    OUT(kiln_grid_sample(g, a, IN(1, 1, 2, 2, 1, 3), NULL));
}

static void sample(kiln_graph *g, kiln_grid_options options)
{
    kiln_value a = IN(0, 1, 2, 5, 4), grid = IN(1, 1, 3, 3, 2);
    grid = kiln_mul(g, grid, kiln_scalar(g, KILN_f32, 1.3));
    OUT(kiln_grid_sample(g, a, grid, &options));
}

#define SAMPLE(name, mode, padding, is_aligned)                                                    \
    BUILD(grid_##name)                                                                             \
    {                                                                                              \
        sample(g, (kiln_grid_options){KILN_RESIZE_##mode, KILN_GRID_##padding, is_aligned});       \
    }
SAMPLE(linear, LINEAR, ZEROS, 0)
SAMPLE(border, LINEAR, BORDER, 1)
SAMPLE(mirror, LINEAR, REFLECTION, 0)
SAMPLE(nearest, NEAREST, ZEROS, 1)
SAMPLE(cubic, CUBIC, BORDER, 0)

static void test_images_are_those_of_pytorch_and_onnx(void **state)
{
    static const layer_case cases[] = {
        LAYER_CASE(pixel_shuffle),
        LAYER_CASE(pixel_unshuffle),
        LAYER_CASE(channel_shuffle),
        LAYER_CASE(nearest),
        LAYER_CASE(nearest_twice),
        LAYER_CASE(linear),
        LAYER_CASE(linear_aligned),
        LAYER_CASE(cubic),
        LAYER_CASE(antialias),
        LAYER_CASE(antialias_cubic),
        LAYER_CASE(crop),
        LAYER_CASE(excluded),
        LAYER_CASE(symmetric),
        LAYER_CASE(nearest_round_prefer_floor),
        LAYER_CASE(nearest_round_prefer_ceil),
        LAYER_CASE(nearest_floor),
        LAYER_CASE(nearest_ceil),
        LAYER_CASE(grid_linear),
        LAYER_CASE(grid_border),
        LAYER_CASE(grid_mirror),
        LAYER_CASE(grid_nearest),
        LAYER_CASE(grid_cubic),
        LAYER_CASE(grid_volume),
    };
    layer_check(cases, sizeof cases / sizeof *cases);
}

static void expect_mistake(kiln_graph *g, kiln_value value, const char *sentence)
{
    assert_int_equal(value.id, 0);
    if (!strstr(kiln_graph_message(g), sentence))
        fail_msg("\"%s\" lacks \"%s\"", kiln_graph_message(g), sentence);
    kiln_graph_destroy(g);
}

static void test_mistakes_name_the_call(void **state)
{
    kiln_graph *g;
    int64_t none[] = {0, 1}, huge[] = {1 << 30, 1};
    double both[] = {1, 1}, tiny[] = {1e-6, 1};
#define MISTAKE(sentence, ...)                                                                     \
    assert_int_equal(kiln_graph_create(layer_context(), "wrong", &g), KILN_OK);                    \
    expect_mistake(g, __VA_ARGS__, sentence)
#define RESIZED(...) kiln_resize(g, IN(0, 3, 2), &(kiln_resize_options){__VA_ARGS__})
    MISTAKE("pixel_shuffle: operand f32[1,6,2,2], factor 2",
            kiln_pixel_shuffle(g, IN(0, 1, 6, 2, 2), 2));
    MISTAKE("pixel_shuffle: operand f32[3], factor 0", kiln_pixel_shuffle(g, IN(0, 3), 0));
    MISTAKE("pixel_unshuffle: operand f32[1,6,3,2], factor 2",
            kiln_pixel_unshuffle(g, IN(0, 1, 6, 3, 2), 2));
    MISTAKE("channel_shuffle: 4 groups of f32[1,6]", kiln_channel_shuffle(g, IN(0, 1, 6), 4));
    MISTAKE("resize: neither sizes nor scales", RESIZED(.cubic = 1));
    MISTAKE("resize: sizes and scales", RESIZED(.sizes = none, .scales = both));
    MISTAKE("resize: axis 0 of dim 3 to 0", RESIZED(.sizes = none));
    MISTAKE("resize: axis 0 of dim 3 to 0", RESIZED(.scales = tiny));
    MISTAKE("resize: f32[3,2] needs too many weights", RESIZED(.sizes = huge));
    MISTAKE("grid_sample: operands f32[3,2] and f32[3,2]",
            kiln_grid_sample(g, IN(0, 3, 2), IN(1, 3, 2), NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_images_are_those_of_pytorch_and_onnx),
        cmocka_unit_test(test_mistakes_name_the_call),
    };
    return cmocka_run_group_tests(tests, layer_set_up, layer_tear_down);
}
