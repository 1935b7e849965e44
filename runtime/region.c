/* A region: neighbouring steps inside one fork. Workers take chunks of a step's tiles until none is
 * left, wait until all tiles so far are done unless the next step may run beside this one, and go
 * on. A step is done when its tiles are, not when every worker has come: one that is late finds
 * nothing to do and follows.
 *
 * A cursor counts the chunks taken of one worker's range. It carries the step's tag, higher for
 * every later step, so nobody resets it and a slow worker cannot take a chunk of another step. */
#include "runtime/workspace.h"

#include <xmmintrin.h>

#define NO_CHUNK 0xffffffffu
#define TAG_SHIFT 16
#define COUNT_MASK 0xffffu

typedef struct region_job {
    kiln_workspace *workspace;
    uint32_t first, last;
    uint64_t tag; /* of the first step */
    _Alignas(64) _Atomic uint64_t n_done; /* tiles, over all steps of the region */
} region_job;

typedef struct range {
    uint32_t begin, end;
} range;

static range worker_range(const kiln_step_plan *plan, uint32_t worker)
{
    uint64_t n = plan->n_tiles, workers = plan->n_workers;
    return (range){(uint32_t)(n * worker / workers), (uint32_t)(n * (worker + 1) / workers)};
}

static uint32_t chunk_take(kiln_cursor *cursor, uint64_t tag, uint32_t n_chunks)
{
    uint64_t seen = atomic_load_explicit(&cursor->taken, memory_order_relaxed);
    for (;;) {
        uint64_t seen_tag = seen >> TAG_SHIFT;
        uint32_t next = seen_tag == tag ? (uint32_t)(seen & COUNT_MASK) : 0;
        if (seen_tag > tag || next >= n_chunks) return NO_CHUNK;
        if (atomic_compare_exchange_weak_explicit(&cursor->taken, &seen,
                                                  (tag << TAG_SHIFT) + next + 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            return next;
        }
    }
}

/* Runs what is left of `owner`'s range; returns the number of tiles. */
static uint32_t range_run(const region_job *job, uint32_t step, uint32_t owner,
                          const kiln_kernel_args *args)
{
    kiln_workspace *workspace = job->workspace;
    const kiln_step_plan *plan = &workspace->now.plans[step];
    uint64_t tag = job->tag + (step - job->first);
    range tiles = worker_range(plan, owner);
    uint32_t n_chunks = (uint32_t)(((uint64_t)(tiles.end - tiles.begin) + plan->chunk - 1) /
                                   plan->chunk);
    uint32_t n_run = 0;
    while (!kiln_run_should_stop(workspace)) {
        uint32_t chunk = chunk_take(&workspace->cursors[owner], tag, n_chunks);
        if (chunk == NO_CHUNK) break;
        uint32_t begin = tiles.begin + chunk * plan->chunk;
        uint32_t end = tiles.end - begin > plan->chunk ? begin + plan->chunk : tiles.end;
        plan->kernel(args, begin, end);
        n_run += end - begin;
    }
    return n_run;
}

/* All tiles on this worker, in chunks between which a stop is seen. */
static uint32_t serial_run(kiln_workspace *workspace, const kiln_step_plan *plan,
                           const kiln_kernel_args *args)
{
    uint32_t done = 0;
    while (done < plan->n_tiles && !kiln_run_should_stop(workspace)) {
        uint32_t left = plan->n_tiles - done;
        uint32_t n = left < plan->serial_chunk ? left : plan->serial_chunk;
        plan->kernel(args, done, done + n);
        done += n;
    }
    return done;
}

/* A worker's part of one step: its own range, then what others have left of theirs. */
static uint32_t share_run(const region_job *job, uint32_t step, uint32_t worker,
                          const kiln_kernel_args *args)
{
    const kiln_step_plan *plan = &job->workspace->now.plans[step];
    if (plan->n_workers == 1) {
        uint64_t tag = job->tag + (step - job->first);
        bool is_mine = plan->is_grouped
                           ? chunk_take(&job->workspace->cursors[0], tag, 1) != NO_CHUNK
                           : worker == 0;
        return is_mine ? serial_run(job->workspace, plan, args) : 0;
    }
    uint32_t owner = worker % plan->n_workers, n_run = 0;
    for (uint32_t i = 0; i < plan->n_workers; i++) {
        n_run += range_run(job, step, owner, args);
        owner = owner + 1 == plan->n_workers ? 0 : owner + 1;
    }
    return n_run;
}

/* Waits until `n` tiles of the region are done; false when the run is to end. */
static bool wait_for_tiles(region_job *job, uint64_t n)
{
    uint32_t turns = 0;
    while (atomic_load_explicit(&job->n_done, memory_order_acquire) < n) {
        if (kiln_run_should_stop(job->workspace)) return false;
        kiln_threads_spin(&turns);
    }
    return true;
}

static void region_body(void *state, uint32_t worker)
{
    region_job *job = state;
    kiln_workspace *workspace = job->workspace;
    if (worker >= workspace->threads) return; /* a parallel function of the caller's that is off */
    uint32_t mxcsr = _mm_getcsr();
    _mm_setcsr(workspace->mxcsr);
    kiln_kernel_args args = {.scratch = workspace->scratch + worker * workspace->scratch_stride};
    uint64_t n_tiles = 0;
    int64_t begin = workspace->is_profiled && worker == 0 ? kiln_clock_ns() : 0;
    for (uint32_t step = job->first; step < job->last; step++) {
        const kiln_step_plan *plan = &workspace->now.plans[step];
        args.buffers = plan->buffers;
        args.sizes = plan->sizes;
        uint32_t n_run = share_run(job, step, worker, &args);
        if (n_run) atomic_fetch_add_explicit(&job->n_done, n_run, memory_order_acq_rel);
        n_tiles += plan->n_tiles;
        bool is_over = step + 1 == job->last || (plan + 1)->is_beside;
        if ((!is_over || workspace->is_profiled) && !wait_for_tiles(job, n_tiles)) break;
        if (begin) {
            int64_t end = kiln_clock_ns();
            workspace->now.step_times[step] += (uint64_t)(end - begin);
            begin = end;
        }
    }
    _mm_setcsr(mxcsr);
}

static void step_run_alone(kiln_workspace *workspace, uint32_t step)
{
    const kiln_step_plan *plan = &workspace->now.plans[step];
    kiln_kernel_args args = {plan->buffers, plan->sizes, workspace->scratch};
    int64_t begin = workspace->is_profiled ? kiln_clock_ns() : 0;
    serial_run(workspace, plan, &args);
    if (begin) workspace->now.step_times[step] += (uint64_t)(kiln_clock_ns() - begin);
}

void kiln_region_run(kiln_workspace *workspace, uint32_t first, uint32_t last)
{
    kiln_context *context = workspace->context;
    if (workspace->now.plans[first].is_forked && (workspace->pool || context->parallel)) {
        region_job job = {.workspace = workspace, .first = first, .last = last};
        job.tag = workspace->tag + 1;
        workspace->tag += last - first;
        if (!workspace->pool) {
            context->parallel(context->parallel_user, workspace->threads, region_body, &job);
            return;
        }
        if (kiln_threads_run(workspace->pool, region_body, &job)) return;
    }
    for (uint32_t step = first; step < last && !kiln_run_should_stop(workspace); step++) {
        step_run_alone(workspace, step);
    }
}
