/* Cores and memory of this process: the affinity mask, and the quotas of its cgroup and of every
 * group above it (version 2, and version 1 where that is mounted). Missing files mean no limit. */
#define _GNU_SOURCE
#include "runtime/host.h"

#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 1024

/* Reads a small file whole; false when it cannot be read. */
static bool file_read(const char *path, char *text, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, bytes - 1);
    close(fd);
    if (n < 0) return false;
    text[n] = 0;
    return true;
}

/* The path of this process in the hierarchy whose line of /proc/self/cgroup has `controller`
 * ("" for version 2), without the newline. */
static bool cgroup_path(const char *controller, char *out_path)
{
    char text[4096];
    if (!file_read("/proc/self/cgroup", text, sizeof text)) return false;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *names = strchr(line, ':');
        char *path = names ? strchr(names + 1, ':') : NULL;
        if (!path || strlen(path + 1) >= PATH_BYTES) continue;
        *path = 0;
        bool is_ours = *controller ? strstr(names + 1, controller) != NULL : names[1] == 0;
        if (!is_ours) continue;
        strcpy(out_path, path + 1);
        return true;
    }
    return false;
}

/* Calls `read_limit` for the group and for every group above it. The first one may be missing: in
 * a container the path is the host's. */
static void cgroup_walk(const char *mount, const char *controller,
                        void (*read_limit)(const char *folder, double *limit), double *limit)
{
    char path[PATH_BYTES], folder[2 * PATH_BYTES];
    if (!cgroup_path(controller, path)) return;
    for (;;) {
        snprintf(folder, sizeof folder, "%s%s", mount, path);
        read_limit(folder, limit);
        char *slash = strrchr(path, '/');
        if (!slash || path[0] == 0) return;
        *slash = 0;
    }
}

static bool number_read(const char *folder, const char *name, double *out_number)
{
    char path[3 * PATH_BYTES], text[64], *end;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!file_read(path, text, sizeof text)) return false;
    *out_number = strtod(text, &end);
    return end != text && *out_number > 0;
}

static void cpu_v2_read(const char *folder, double *limit)
{
    char path[3 * PATH_BYTES], text[64];
    double quota, period;
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (!file_read(path, text, sizeof text)) return;
    if (sscanf(text, "%lf %lf", &quota, &period) != 2 || period <= 0) return;
    if (quota / period < *limit) *limit = quota / period;
}

static void cpu_v1_read(const char *folder, double *limit)
{
    double quota, period;
    if (!number_read(folder, "cpu.cfs_quota_us", &quota)) return;
    if (!number_read(folder, "cpu.cfs_period_us", &period)) return;
    if (quota / period < *limit) *limit = quota / period;
}

static void memory_v2_read(const char *folder, double *limit)
{
    double bytes;
    if (number_read(folder, "memory.max", &bytes) && bytes < *limit) *limit = bytes;
}

static void memory_v1_read(const char *folder, double *limit)
{
    double bytes;
    if (number_read(folder, "memory.limit_in_bytes", &bytes) && bytes < *limit) *limit = bytes;
}

uint32_t kiln_host_cores(void)
{
    cpu_set_t set;
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
    double limit = n < 1 ? 1 : (double)n;
    cgroup_walk("/sys/fs/cgroup", "", cpu_v2_read, &limit);
    cgroup_walk("/sys/fs/cgroup/cpu", "cpu", cpu_v1_read, &limit);
    uint32_t cores = (uint32_t)limit;
    return limit > cores ? cores + 1 : cores;
}

int64_t kiln_host_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    double limit = pages > 0 && page > 0 ? (double)pages * (double)page : 0x1p40;
    cgroup_walk("/sys/fs/cgroup", "", memory_v2_read, &limit);
    cgroup_walk("/sys/fs/cgroup/memory", "memory", memory_v1_read, &limit);
    return (int64_t)limit;
}
