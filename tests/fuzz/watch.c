/* Fork, work, wait. The limit is in processor time, so that a busy machine makes no failures; a
 * process that waits for ever is found by the clock on the wall. */
#include "fuzz/watch.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GRAPHS_PER_PROCESS 5000 /* bounds what a process may gather in its memory */
#define WALL_FACTOR 30
#define GRACE_SECONDS 5

static volatile sig_atomic_t is_stopped;

static void stop(int signal)
{
    (void)signal;
    is_stopped = 1;
}

static double clock_seconds(clockid_t clock)
{
    struct timespec now = {0};
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double fuzz_watch_now(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

void *fuzz_watch_alloc(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void fuzz_watch_beat(fuzz_watch *watch)
{
    watch->cpu_start = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
    watch->start = fuzz_watch_now();
}

static void work_on(fuzz_watch *watch, const fuzz_work *work, double end)
{
    fuzz_watch_beat(watch);
    if (!work->open(work->user)) _exit(1);
    for (int i = 0; i < GRAPHS_PER_PROCESS && watch->done < watch->count && !is_stopped; i++) {
        if (end > 0 && fuzz_watch_now() > end) break;
        fuzz_watch_beat(watch);
        bool is_good = work->run(work->user, watch->first + watch->done);
        watch->done++;
        watch->has_failed |= !is_good;
        if (!is_good && !watch->keeps_going) break;
    }
    work->close(work->user);
    _exit(0);
}

/* Why the process has to go, or NULL. */
static const char *overdue(const fuzz_watch *watch, pid_t process, double stopped)
{
    clockid_t clock;
    double now = fuzz_watch_now();
    if (stopped > 0 && now - stopped > GRACE_SECONDS) return "stopped";
    if (now - watch->start > WALL_FACTOR * watch->limit) return "nothing happens";
    if (clock_getcpuclockid(process, &clock)) return NULL;
    return clock_seconds(clock) - watch->cpu_start > watch->limit ? "takes too long" : NULL;
}

/* Waits for the process; says what ended it before its time, NULL: nothing did. */
static const char *wait_for(const fuzz_watch *watch, pid_t process, double *out_stopped)
{
    const char *reason = NULL;
    int status = 0;
    while (waitpid(process, &status, WNOHANG) == 0) {
        nanosleep(&(struct timespec){0, 50 * 1000 * 1000}, NULL);
        if (is_stopped && *out_stopped == 0) {
            *out_stopped = fuzz_watch_now();
            kill(process, SIGTERM);
        }
        const char *late = reason ? NULL : overdue(watch, process, *out_stopped);
        if (!late) continue;
        reason = late;
        kill(process, SIGKILL);
    }
    if (reason) return reason;
    if (WIFSIGNALED(status)) return strsignal(WTERMSIG(status));
    return WEXITSTATUS(status) ? "cannot start" : NULL;
}

void fuzz_watch_run(fuzz_watch *watch, const fuzz_work *work)
{
    double start = fuzz_watch_now(), end = watch->seconds > 0 ? start + watch->seconds : 0;
    double stopped = 0;
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    while (watch->done < watch->count && !stopped && (end == 0 || fuzz_watch_now() < end)) {
        fflush(NULL);
        fuzz_watch_beat(watch);
        watch->cpu_start = 0;
        pid_t parent = getpid(), process = fork();
        if (process == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() == parent) work_on(watch, work, end);
            _exit(1);
        }
        const char *reason = process < 0 ? "cannot fork" : wait_for(watch, process, &stopped);
        if (reason) work->clear(work->user);
        if (reason && !stopped) {
            fprintf(stderr, "seed %llu: %s\n", (unsigned long long)(watch->first + watch->done),
                    reason);
            watch->done++;
            watch->n_lost++;
            watch->has_failed = true;
        }
        if (watch->has_failed && !watch->keeps_going) break;
    }
}
