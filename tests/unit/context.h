/* The one context of a test program: set-up and tear-down for cmocka_run_group_tests. */
#ifndef TESTS_UNIT_CONTEXT_H
#define TESTS_UNIT_CONTEXT_H

#include "kiln/kiln.h"

static kiln_context *context;

static inline int open_context(void **state)
{
    (void)state;
    return kiln_context_create(NULL, &context);
}

static inline int close_context(void **state)
{
    (void)state;
    kiln_context_destroy(context);
    return 0;
}
#endif
