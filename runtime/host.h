/* What the system lets this process use. */
#ifndef KILN_RUNTIME_HOST_H
#define KILN_RUNTIME_HOST_H

#include <stdint.h>

/* Cores that the affinity mask and the cgroup's quota leave; at least 1. */
uint32_t kiln_host_cores(void);

/* Bytes of memory: the machine's, or the cgroup's where that is less. */
int64_t kiln_host_memory(void);
#endif
