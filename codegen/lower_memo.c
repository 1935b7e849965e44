/* Values at hand while lowering: what made them -> value. A stack with hash chains through it, so
 * that what was made inside a loop is forgotten at its end, and the index arithmetic and the shared
 * nodes of one loop body are emitted once. */
#include "codegen/lower.h"

#include "base/hash.h"

#define MEMO_BUCKETS 1024u

typedef struct memo_entry {
    kiln_memo_key key;
    kiln_kv value;
    uint32_t bucket;
    uint32_t next; /* 1 + position of the next older entry of the bucket, or 0 */
} memo_entry;

struct kiln_memo {
    kiln_scope *scope;
    kiln_vec(memo_entry) entries;
    uint32_t heads[MEMO_BUCKETS];
};

kiln_memo *kiln_memo_create(kiln_scope *scope)
{
    kiln_memo *memo = kiln_new(&scope->arena, kiln_memo);
    memo->scope = scope;
    return memo;
}

static uint32_t key_bucket(kiln_memo_key key)
{
    uint64_t hash =
        kiln_hash_u64(kiln_hash_u64(kiln_hash_u64(KILN_HASH_SEED, key.what), key.a), key.b);
    return (uint32_t)(hash % MEMO_BUCKETS);
}

kiln_kv kiln_memo_find(const kiln_memo *memo, kiln_memo_key key)
{
    uint32_t at = memo->heads[key_bucket(key)];
    while (at) {
        const memo_entry *entry = &memo->entries.at[at - 1];
        if (entry->key.what == key.what && entry->key.a == key.a && entry->key.b == key.b)
            return entry->value;
        at = entry->next;
    }
    return 0;
}

void kiln_memo_add(kiln_memo *memo, kiln_memo_key key, kiln_kv value)
{
    uint32_t bucket = key_bucket(key);
    memo_entry entry = {key, value, bucket, memo->heads[bucket]};
    kiln_vec_push(&memo->entries, &memo->scope->arena, entry);
    memo->heads[bucket] = memo->entries.n;
}

uint32_t kiln_lower_mark(const kiln_lower *lower)
{
    return lower->memo->entries.n;
}

void kiln_lower_cut(kiln_lower *lower, uint32_t mark)
{
    kiln_memo *memo = lower->memo;
    while (memo->entries.n > mark) {
        const memo_entry *entry = &memo->entries.at[--memo->entries.n];
        memo->heads[entry->bucket] = entry->next;
    }
}
