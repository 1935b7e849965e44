/* NVRTC keeps a block of its own when it is closed: no leak of ours. A program that used it asks
 * the leak sanitizer, which calls the function below, to look away. Include in one file of a
 * program. */
#ifndef KILN_TESTS_NVRTC_LEAK_H
#define KILN_TESTS_NVRTC_LEAK_H

static int has_used_nvrtc;
int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void)
{
    return has_used_nvrtc;
}
#endif
