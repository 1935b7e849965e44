/* What this processor and its operating system can run, as KILN_CPU_ bits. */
#ifndef KILN_RUNTIME_CPU_H
#define KILN_RUNTIME_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Asks the processor once a process: in a virtual machine that takes some 50 microseconds. */
uint64_t kiln_cpu_detect(void);

/* Those of `features` that make programs faster here. Intel's cores take two cycles for a dot of
 * bf16 pairs (measured), in which they do four fma; AMD's one (by its tables), as for an fma. */
uint64_t kiln_cpu_worthwhile(uint64_t features);

/* Gets what `features` need before their first use: AMX, the permission of the kernel, once a
 * process. False when it is refused. */
bool kiln_cpu_enable(uint64_t features);

/* Writes the names of a set of features, "avx2, fma", cut where `bytes` end. */
void kiln_cpu_names(uint64_t features, char *out_text, size_t bytes);
#endif
