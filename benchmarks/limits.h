/* What this machine can do at most, measured now: the denominators of "share of the limit". */
#ifndef KILN_BENCHMARKS_LIMITS_H
#define KILN_BENCHMARKS_LIMITS_H

#include <stdint.h>

typedef struct machine_limits {
    double
        copy_gb_per_s; /* bytes read + written by a large copy with streaming stores, all threads */
    double f32_gflop_per_s; /* independent FMA chains at the widest vectors, all threads */
} machine_limits;

machine_limits measure_limits(uint32_t threads);
double now_ms(void);
#endif
