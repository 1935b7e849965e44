/* Limits: each thread runs the loop on memory of its own; the best of several rounds counts. */
#include "benchmarks/limits.h"

#include <immintrin.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define MAX_THREADS 64
#define COPY_BYTES ((size_t)64 << 20)
#define FMA_ROUNDS 2000000

double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

typedef struct worker {
    pthread_t thread;
    pthread_barrier_t *barrier;
    char *from, *to;
    double copy_ms, fma_ms, flops;
    float sink;
} worker;

__attribute__((target("avx2"))) static void copy_avx2(char *to, const char *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 32) {
        _mm256_stream_si256((__m256i *)(to + i), _mm256_load_si256((const __m256i *)(from + i)));
    }
    _mm_sfence();
}

__attribute__((target("avx512f"))) static void copy_avx512(char *to, const char *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) {
        _mm512_stream_si512((__m512i *)(to + i), _mm512_load_si512((const __m512i *)(from + i)));
    }
    _mm_sfence();
}

__attribute__((target("avx512f"))) static float fma_avx512(void)
{
    __m512 sum[16], a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
    for (int j = 0; j < 16; j++) sum[j] = _mm512_set1_ps((float)j);
    for (int i = 0; i < FMA_ROUNDS; i++) {
#pragma GCC unroll 16
        for (int j = 0; j < 16; j++) sum[j] = _mm512_fmadd_ps(sum[j], a, b);
    }
    for (int j = 1; j < 16; j++) sum[0] = _mm512_add_ps(sum[0], sum[j]);
    return _mm512_reduce_add_ps(sum[0]);
}

__attribute__((target("avx2,fma"))) static float fma_avx2(void)
{
    __m256 sum[12], a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
    for (int j = 0; j < 12; j++) sum[j] = _mm256_set1_ps((float)j);
    for (int i = 0; i < FMA_ROUNDS; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < 12; j++) sum[j] = _mm256_fmadd_ps(sum[j], a, b);
    }
    float all[8], total = 0;
    for (int j = 1; j < 12; j++) sum[0] = _mm256_add_ps(sum[0], sum[j]);
    _mm256_storeu_ps(all, sum[0]);
    for (int j = 0; j < 8; j++) total += all[j];
    return total;
}

static void measure_round(worker *one, int has_avx512)
{
    pthread_barrier_wait(one->barrier);
    double start = now_ms();
    if (has_avx512) {
        copy_avx512(one->to, one->from, COPY_BYTES);
    } else {
        copy_avx2(one->to, one->from, COPY_BYTES);
    }
    pthread_barrier_wait(one->barrier);
    double copied = now_ms();
    one->sink += has_avx512 ? fma_avx512() : fma_avx2();
    pthread_barrier_wait(one->barrier);
    double done = now_ms();
    if (copied - start < one->copy_ms) one->copy_ms = copied - start;
    if (done - copied < one->fma_ms) one->fma_ms = done - copied;
    one->flops = 2.0 * FMA_ROUNDS * (has_avx512 ? 16 * 16 : 12 * 8);
}

static void *run_worker(void *argument)
{
    worker *one = argument;
    int has_avx512 = __builtin_cpu_supports("avx512f");
    one->from = mmap(NULL, COPY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    one->to = mmap(NULL, COPY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(one->from, COPY_BYTES, MADV_HUGEPAGE);
    madvise(one->to, COPY_BYTES, MADV_HUGEPAGE);
    memset(one->from, 1, COPY_BYTES);
    memset(one->to, 2, COPY_BYTES);
    one->copy_ms = one->fma_ms = 1e30;
    for (int i = 0; i < 7; i++) measure_round(one, has_avx512);
    munmap(one->from, COPY_BYTES);
    munmap(one->to, COPY_BYTES);
    return NULL;
}

machine_limits measure_limits(uint32_t threads)
{
    static worker workers[MAX_THREADS];
    pthread_barrier_t barrier;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    pthread_barrier_init(&barrier, NULL, threads);
    for (uint32_t i = 0; i < threads; i++) {
        workers[i].barrier = &barrier;
        if (pthread_create(&workers[i].thread, NULL, run_worker, &workers[i])) exit(4);
    }
    for (uint32_t i = 0; i < threads; i++) pthread_join(workers[i].thread, NULL);
    pthread_barrier_destroy(&barrier);
    return (machine_limits){
        .copy_gb_per_s = 2.0 * COPY_BYTES * threads / workers[0].copy_ms * 1e-6,
        .f32_gflop_per_s = workers[0].flops * threads / workers[0].fma_ms * 1e-6,
    };
}

#define CALL_ROUNDS 50
#define CALLS 2000

double call_ns(kiln_workspace *workspace)
{
    int64_t none = 0;
    float nowhere;
    kiln_tensor output = {KILN_f32, 1, &none, &nowhere, 0};
    double least = 1e30;
    for (int round = 0; round < CALL_ROUNDS; round++) {
        double start = now_ms();
        for (int i = 0; i < CALLS; i++)
            if (kiln_run(workspace, NULL, 0, &output, 1)) return -1;
        double ns = (now_ms() - start) * 1e6 / CALLS;
        if (ns < least) least = ns;
    }
    return least;
}
