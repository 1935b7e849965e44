/* Text to object, in a table of chains that lives with the context. Texts are kept whole: a hash
 * alone does not make two kernels one. */
#include "codegen/kernel_memo.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "runtime/context.h"

#define N_CHAINS 1024u
#define MAX_BYTES ((size_t)64 << 20)

typedef struct memo_entry {
    struct memo_entry *next;            /* of its chain */
    struct memo_entry *earlier, *later; /* in the order they were asked for */
    uint64_t hash;
    size_t text_bytes, symbol_bytes, object_bytes; /* strings with their ends */
    char data[];                                   /* text, symbol, object */
} memo_entry;

typedef struct kernel_memo {
    memo_entry *chains[N_CHAINS];
    memo_entry *first, *last;
    size_t bytes;
} kernel_memo;

static void memo_destroy(void *object)
{
    kernel_memo *memo = object;
    for (memo_entry *entry = memo->first; entry;) {
        memo_entry *later = entry->later;
        free(entry);
        entry = later;
    }
    free(memo);
}

/* The context's memory, made when it is first kept in. Call with the lock held. */
static kernel_memo *memo_of(kiln_context *context)
{
    if (!context->memo) {
        context->memo = calloc(1, sizeof(kernel_memo));
        context->memo_release = memo_destroy;
    }
    return context->memo;
}

static memo_entry *find_entry(const kernel_memo *memo, const kiln_unit *unit, uint64_t hash)
{
    memo_entry *entry = memo->chains[hash % N_CHAINS];
    for (; entry; entry = entry->next) {
        if (entry->hash == hash && strcmp(entry->data, unit->text) == 0 &&
            strcmp(entry->data + entry->text_bytes, unit->symbol) == 0) {
            return entry;
        }
    }
    return NULL;
}

static void take_out(kernel_memo *memo, memo_entry *entry)
{
    if (entry->earlier)
        entry->earlier->later = entry->later;
    else
        memo->first = entry->later;
    if (entry->later)
        entry->later->earlier = entry->earlier;
    else
        memo->last = entry->earlier;
}

static void put_last(kernel_memo *memo, memo_entry *entry)
{
    entry->earlier = memo->last;
    entry->later = NULL;
    if (memo->last)
        memo->last->later = entry;
    else
        memo->first = entry;
    memo->last = entry;
}

static uint64_t hash_text(const kiln_unit *unit)
{
    return kiln_hash_bytes(KILN_HASH_SEED, unit->text, strlen(unit->text));
}

bool kiln_kernel_memo_find(kiln_context *context, kiln_arena *arena, kiln_unit *unit)
{
    void *data = NULL;
    size_t bytes = 0;
    pthread_mutex_lock(&context->lock);
    memo_entry *entry = context->memo ? find_entry(context->memo, unit, hash_text(unit)) : NULL;
    if (entry) { /* copied outside an arena: an arena may leave by a jump, with the lock */
        take_out(context->memo, entry);
        put_last(context->memo, entry);
        bytes = entry->object_bytes;
        data = malloc(bytes + 1);
        if (data) memcpy(data, entry->data + entry->text_bytes + entry->symbol_bytes, bytes);
    }
    pthread_mutex_unlock(&context->lock);
    if (!data) return false;
    kiln_scope_defer(arena->scope, free, data);
    unit->object = (kiln_object){.data = data, .bytes = bytes, .symbol = unit->symbol};
    return true;
}

static void drop_oldest(kernel_memo *memo)
{
    memo_entry *entry = memo->first, **at = &memo->chains[entry->hash % N_CHAINS];
    while (*at != entry) at = &(*at)->next;
    *at = entry->next;
    take_out(memo, entry);
    memo->bytes -= sizeof *entry + entry->text_bytes + entry->symbol_bytes + entry->object_bytes;
    free(entry);
}

void kiln_kernel_memo_keep(kiln_context *context, const kiln_unit *unit)
{
    size_t text = strlen(unit->text) + 1, symbol = strlen(unit->symbol) + 1;
    size_t bytes = sizeof(memo_entry) + text + symbol + unit->object.bytes;
    memo_entry *made = bytes <= MAX_BYTES / 4 ? malloc(bytes) : NULL;
    if (!made) return;
    *made = (memo_entry){.hash = hash_text(unit),
                         .text_bytes = text,
                         .symbol_bytes = symbol,
                         .object_bytes = unit->object.bytes};
    memcpy(made->data, unit->text, text);
    memcpy(made->data + text, unit->symbol, symbol);
    memcpy(made->data + text + symbol, unit->object.data, unit->object.bytes);
    pthread_mutex_lock(&context->lock);
    kernel_memo *memo = memo_of(context);
    if (!memo || find_entry(memo, unit, made->hash)) {
        free(made);
    } else {
        made->next = memo->chains[made->hash % N_CHAINS];
        memo->chains[made->hash % N_CHAINS] = made;
        put_last(memo, made);
        memo->bytes += bytes;
        while (memo->bytes > MAX_BYTES) drop_oldest(memo);
    }
    pthread_mutex_unlock(&context->lock);
}
