/* Three kernels of ocean models as graphs, in f64 over a grid [x, y, z]: what the pyhpc benchmarks
 * time. benchmarks/ocean.py is the same over NumPy, JAX and PyTorch, line by line; inputs carry the
 * names of its arguments. Metrics along one axis have dim 1 on the others. */
#ifndef KILN_BENCHMARKS_OCEAN_H
#define KILN_BENCHMARKS_OCEAN_H

#include "kiln/kiln.h"

/* `size` is the number of grid points, about. */
KILN_API void build_equation_of_state(kiln_graph *graph, int64_t size);
KILN_API void build_isoneutral_mixing(kiln_graph *graph, int64_t size);
KILN_API void build_turbulent_energy(kiln_graph *graph, int64_t size);

/* ocean.c: shorthands over grids; lists have one entry per axis. */
typedef struct planes {
    int64_t of[3];
} planes;

#define NONE ((planes){{0, 0, 0}})

typedef struct grid {
    int64_t dims[3];
} grid;

grid grid_of(int64_t size);
kiln_value field(kiln_graph *g, const char *name, grid shape);
/* [x, y, z, 3] */
kiln_value field_of_three(kiln_graph *g, const char *name, grid shape);
kiln_value metric(kiln_graph *g, const char *name, grid shape, int axis);

kiln_value number(kiln_graph *g, double value);
kiln_value scale(kiln_graph *g, double factor, kiln_value x);
kiln_value plus(kiln_graph *g, kiln_value x, double term);
kiln_value at_least(kiln_graph *g, kiln_value x, double bound);
kiln_value at_most(kiln_graph *g, kiln_value x, double bound);

/* Without the first and last planes; axes of one element stand for all and stay. */
kiln_value trim(kiln_graph *g, kiln_value x, planes low, planes high);
/* Zeros around. */
kiln_value widen(kiln_graph *g, kiln_value x, planes low, planes high);
/* `base` with `block` written over it at `starts`, one per axis of it. */
kiln_value put(kiln_graph *g, kiln_value base, const int64_t *starts, kiln_value block);
/* Element `index` of the last axis. */
kiln_value part(kiln_graph *g, kiln_value x, int64_t index);
/* With further axes of 1 behind. */
kiln_value deepen(kiln_graph *g, kiln_value x, uint32_t n);

planes along(int axis, int64_t planes_of_axis);
/* Without two planes on every side of the horizontal axes, `top` and `bottom` ones of z. */
kiln_value inner(kiln_graph *g, kiln_value x, int64_t top, int64_t bottom);
/* The inner box, but from plane `low` to `high` planes before the end along a horizontal axis; all
 * of z. */
kiln_value around(kiln_graph *g, kiln_value x, int axis, int64_t low, int64_t high);
/* x[i + 1] - x[i] */
kiln_value step_along(kiln_graph *g, kiln_value x, int axis);
#endif
