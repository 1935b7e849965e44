/* What this machine can do at most, measured now: the denominators of "share of the limit". */
#ifndef KILN_BENCHMARKS_LIMITS_H
#define KILN_BENCHMARKS_LIMITS_H

#include <stdint.h>

#include "kiln/kiln.h"

typedef struct machine_limits {
    double
        copy_gb_per_s; /* bytes read + written by a large copy with streaming stores, all threads */
    double f32_gflop_per_s; /* independent FMA chains at the widest vectors, all threads */
} machine_limits;

KILN_API machine_limits measure_limits(uint32_t threads);
/* Nanoseconds of a call of build_nothing's program, the least mean over many. */
KILN_API double call_ns(kiln_workspace *workspace);
double now_ms(void);
#endif
