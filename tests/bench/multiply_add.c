/* Multiply-adds in registers on every core: multiply_add float32|bfloat16 THREADS -> GFLOP/s. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#define CHAINS 16 /* more than latency times throughput of any core */
#define LANES 16  /* floats of 512 bits; narrower machines split them */
#define STEPS 20000000L

typedef float lanes __attribute__((vector_size(4 * LANES)));
static double operations; /* of one thread */

static void *in_float32(void *sum) {
    lanes a[CHAINS], x = {0}, y = {0};
    for (int i = 0; i < CHAINS; i++) a[i] = (lanes){1.0f};
    x += 0.999f, y += 1e-3f;
    for (long step = 0; step < STEPS; step++)
        for (int i = 0; i < CHAINS; i++) a[i] = a[i] * x + y;
    for (int i = 0; i < CHAINS; i++) *(lanes *)sum += a[i];
    operations = 2.0 * LANES * CHAINS * STEPS;
    return NULL;
}

#ifdef __AVX512BF16__
static void *in_bfloat16(void *sum) {
    __m512 a[CHAINS];
    __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1e-3f), _mm512_set1_ps(1e-3f)), y = x;
    for (int i = 0; i < CHAINS; i++) a[i] = _mm512_setzero_ps();
    for (long step = 0; step < STEPS; step++)
        for (int i = 0; i < CHAINS; i++) a[i] = _mm512_dpbf16_ps(a[i], x, y);
    for (int i = 0; i < CHAINS; i++) *(lanes *)sum += (lanes)a[i];
    operations = 4.0 * LANES * CHAINS * STEPS;
    return NULL;
}
#else
#define in_bfloat16 NULL
#endif

int main(int count, char **given) {
    void *(*work)(void *) = strcmp(given[1], "float32") ? in_bfloat16 : in_float32;
    int threads = atoi(given[2]);
    pthread_t thread[256];
    static lanes sums[256];
    struct timespec began, ended;
    if (count < 3 || !work || threads > 256) {
        puts("0"); /* this processor has no such arithmetic */
        return 0;
    }
    clock_gettime(CLOCK_MONOTONIC, &began);
    for (int i = 0; i < threads; i++) pthread_create(&thread[i], NULL, work, &sums[i]);
    for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    double seconds = (ended.tv_sec - began.tv_sec) + 1e-9 * (ended.tv_nsec - began.tv_nsec);
    volatile float used = sums[0][0]; /* or the compiler leaves the work out */
    (void)used;
    printf("%.1f\n", 1e-9 * threads * operations / seconds);
    return 0;
}
