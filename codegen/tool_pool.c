/* A stack of idle tools in the context: those used last are lent first. More than a few are not
 * kept: a compile of many kernels uses as many as it has threads, the small ones after it one or
 * two. */
#include "codegen/tool_pool.h"

#include <stdlib.h>

#include "runtime/context.h"

#define MAX_IDLE 8u

typedef struct loan {
    struct loan *next; /* idle: the one given back before */
    kiln_context *context;
    const kiln_backend *backend;
    kiln_tools *tools;
} loan;

typedef struct tool_pool {
    loan *idle;
    uint32_t n_idle;
} tool_pool;

static void loan_close(loan *it)
{
    if (it->tools) it->backend->close_tools(it->tools);
    free(it);
}

static void pool_destroy(void *object)
{
    tool_pool *pool = object;
    while (pool->idle) {
        loan *it = pool->idle;
        pool->idle = it->next;
        loan_close(it);
    }
    free(pool);
}

/* The context's pool, made when something is first given back; NULL without memory. Call with the
 * lock held. */
static tool_pool *pool_of(kiln_context *context)
{
    if (!context->tools) {
        context->tools = calloc(1, sizeof(tool_pool));
        context->tools_release = pool_destroy;
    }
    return context->tools;
}

static loan *take_idle(kiln_context *context, const kiln_backend *backend)
{
    pthread_mutex_lock(&context->lock);
    tool_pool *pool = context->tools;
    loan **at = pool ? &pool->idle : NULL, *found = NULL;
    while (at && *at && (*at)->backend != backend) at = &(*at)->next;
    if (at && *at) {
        found = *at;
        *at = found->next;
        pool->n_idle--;
    }
    pthread_mutex_unlock(&context->lock);
    return found;
}

static void give_back(void *object)
{
    loan *it = object;
    bool is_kept = false;
    if (it->context && it->tools) {
        pthread_mutex_lock(&it->context->lock);
        tool_pool *pool = pool_of(it->context);
        is_kept = pool && pool->n_idle < MAX_IDLE;
        if (is_kept) {
            it->next = pool->idle;
            pool->idle = it;
            pool->n_idle++;
        }
        pthread_mutex_unlock(&it->context->lock);
    }
    if (!is_kept) loan_close(it);
}

kiln_tools *kiln_tools_borrow(kiln_scope *scope, kiln_context *context, const kiln_backend *backend)
{
    loan *it = context ? take_idle(context, backend) : NULL;
    bool is_new = !it;
    if (is_new) it = calloc(1, sizeof *it);
    if (!it) kiln_fail(scope, KILN_NO_MEMORY, "tools: %zu bytes", sizeof *it);
    it->context = context;
    it->backend = backend;
    kiln_scope_defer(scope, give_back, it);
    if (is_new) it->tools = backend->open_tools(scope);
    return it->tools;
}
