/* Shorthands over grids. */
#include "benchmarks/ocean.h"

#include <math.h>

grid grid_of(int64_t size)
{
    double side = cbrt((double)size);
    int64_t across = (int64_t)ceil(2 * side - 1e-9);
    return (grid){{across, across, (int64_t)ceil(0.25 * side - 1e-9)}};
}

kiln_value field(kiln_graph *g, const char *name, grid shape)
{
    return kiln_input(g, name, KILN_f64, 3, shape.dims);
}

kiln_value field_of_three(kiln_graph *g, const char *name, grid shape)
{
    int64_t dims[] = {shape.dims[0], shape.dims[1], shape.dims[2], 3};
    return kiln_input(g, name, KILN_f64, 4, dims);
}

kiln_value metric(kiln_graph *g, const char *name, grid shape, int axis)
{
    int64_t dims[] = {1, 1, 1};
    dims[axis] = shape.dims[axis];
    return kiln_input(g, name, KILN_f64, 3, dims);
}

kiln_value number(kiln_graph *g, double value)
{
    return kiln_scalar(g, KILN_f64, value);
}

kiln_value scale(kiln_graph *g, double factor, kiln_value x)
{
    return kiln_mul(g, number(g, factor), x);
}

kiln_value plus(kiln_graph *g, kiln_value x, double term)
{
    return kiln_add(g, x, number(g, term));
}

kiln_value at_least(kiln_graph *g, kiln_value x, double bound)
{
    return kiln_max(g, x, number(g, bound));
}

kiln_value at_most(kiln_graph *g, kiln_value x, double bound)
{
    return kiln_min(g, x, number(g, bound));
}

kiln_value trim(kiln_graph *g, kiln_value x, planes low, planes high)
{
    const int64_t *dims = kiln_value_dims(g, x);
    int64_t limits[3];
    for (int i = 0; i < 3 && dims; i++) {
        if (dims[i] == 1) low.of[i] = high.of[i] = 0;
        limits[i] = dims[i] - high.of[i];
    }
    return kiln_slice(g, x, &(kiln_slice_options){.starts = low.of, .limits = limits});
}

kiln_value widen(kiln_graph *g, kiln_value x, planes low, planes high)
{
    kiln_pad_options options = {.low = low.of, .high = high.of};
    return kiln_pad(g, x, number(g, 0), &options);
}

kiln_value put(kiln_graph *g, kiln_value base, const int64_t *starts, kiln_value block)
{
    int64_t rank = kiln_value_rank(g, base);
    return kiln_dynamic_update(g, base, block, kiln_constant(g, KILN_i64, 1, &rank, starts));
}

kiln_value part(kiln_graph *g, kiln_value x, int64_t index)
{
    const int64_t *dims = kiln_value_dims(g, x);
    uint32_t rank = kiln_value_rank(g, x);
    int64_t starts[KILN_MAX_RANK] = {0}, limits[KILN_MAX_RANK] = {0};
    for (uint32_t i = 0; i < rank; i++) limits[i] = dims[i];
    starts[rank - 1] = index;
    limits[rank - 1] = index + 1;
    x = kiln_slice(g, x, &(kiln_slice_options){.starts = starts, .limits = limits});
    return kiln_reshape(g, x, rank - 1, limits);
}

kiln_value deepen(kiln_graph *g, kiln_value x, uint32_t n)
{
    const int64_t *from = kiln_value_dims(g, x);
    uint32_t rank = kiln_value_rank(g, x);
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank + n; i++) dims[i] = i < rank ? from[i] : 1;
    return kiln_reshape(g, x, rank + n, dims);
}

planes along(int axis, int64_t planes_of_axis)
{
    planes result = NONE;
    result.of[axis] = planes_of_axis;
    return result;
}

kiln_value inner(kiln_graph *g, kiln_value x, int64_t top, int64_t bottom)
{
    return trim(g, x, (planes){{2, 2, top}}, (planes){{2, 2, bottom}});
}

kiln_value around(kiln_graph *g, kiln_value x, int axis, int64_t low, int64_t high)
{
    planes first = {{2, 2, 0}}, last = first;
    first.of[axis] = low;
    last.of[axis] = high;
    return trim(g, x, first, last);
}

kiln_value step_along(kiln_graph *g, kiln_value x, int axis)
{
    planes one = along(axis, 1);
    return kiln_sub(g, trim(g, x, one, NONE), trim(g, x, NONE, one));
}
