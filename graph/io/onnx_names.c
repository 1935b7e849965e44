/* Names of a model's graph -> places, and the order of its nodes. Every lookup is a hash away, so a
 * chain of n nodes costs O(n). */
#include <string.h>

#include "base/hash.h"
#include "graph/io/onnx.h"

static uint32_t slot_of(const kiln_onnx_frame *frame, const char *name)
{
    uint64_t hash = kiln_hash_bytes(KILN_HASH_SEED, name, strlen(name));
    uint32_t at = (uint32_t)hash & (frame->n_slots - 1);
    while (frame->slots[at] && strcmp(frame->names.at[frame->slots[at] - 1].name, name)) {
        at = (at + 1) & (frame->n_slots - 1);
    }
    return at;
}

static kiln_onnx_name *find_here(kiln_onnx_frame *frame, const char *name)
{
    if (frame->n_slots == 0) return NULL;
    uint32_t slot = frame->slots[slot_of(frame, name)];
    return slot ? &frame->names.at[slot - 1] : NULL;
}

kiln_onnx_name *kiln_onnx_name_find(kiln_onnx_frame *frame, const char *name)
{
    kiln_onnx_name *found = NULL;
    for (; frame && !found; frame = frame->parent) found = find_here(frame, name);
    return found;
}

static void grow(kiln_onnx_frame *frame)
{
    frame->n_slots = frame->n_slots ? frame->n_slots * 2 : 64;
    frame->slots = kiln_new_array(frame->arena, uint32_t, frame->n_slots);
    for (uint32_t i = 0; i < frame->names.n; i++) {
        frame->slots[slot_of(frame, frame->names.at[i].name)] = i + 1;
    }
}

static const char *place_string(kiln_arena *arena, const kiln_onnx_name *name)
{
    static const char *const words[] = {"input", "initializer", "node", "output"};
    return kiln_arena_format(arena, "%s %u", words[name->origin], name->index);
}

kiln_onnx_name *kiln_onnx_name_add(kiln_onnx *onnx, kiln_onnx_frame *frame,
                                   const kiln_onnx_name *name)
{
    const kiln_onnx_name *old = find_here(frame, name->name);
    if (old) {
        kiln_arena *arena = &onnx->scope->arena;
        kiln_fail(onnx->graph->scope, KILN_MODEL,
                  "%s: %s is defined by %s and by %s; expected one definition", onnx->source->where,
                  kiln_onnx_quote(arena, name->name), place_string(arena, old),
                  place_string(arena, name));
    }
    if (frame->names.n * 2 >= frame->n_slots) grow(frame);
    frame->slots[slot_of(frame, name->name)] = frame->names.n + 1;
    kiln_vec_push(&frame->names, frame->arena, *name);
    return &frame->names.at[frame->names.n - 1];
}

/* Whether a node names values in its attributes, too. */
static bool is_gradient(const Kiln__Onnx__Node *node)
{
    return node->op_type && !strcmp(node->op_type, "Gradient") && node->domain &&
           !strcmp(node->domain, KILN_ONNX_TRAINING);
}

static const char *text_of(kiln_arena *arena, const ProtobufCBinaryData *bytes)
{
    char *text = kiln_new_array(arena, char, bytes->len + 1);
    if (bytes->len) memcpy(text, bytes->data, bytes->len);
    return text;
}

/* Name i that a node needs: operands, then what attributes name; NULL after the last. */
static const char *need_at(kiln_arena *arena, const Kiln__Onnx__Node *node, size_t i)
{
    if (i < node->n_input) return node->input[i];
    i -= node->n_input;
    for (size_t k = 0; is_gradient(node) && k < node->n_attribute; k++) {
        const Kiln__Onnx__Attribute *attribute = node->attribute[k];
        if (i < attribute->n_strings) return text_of(arena, &attribute->strings[i]);
        i -= attribute->n_strings;
        if (attribute->has_s && i-- == 0) return text_of(arena, &attribute->s);
    }
    return NULL;
}

/* The node of this frame that must come before the user of a name, or -1. */
static int64_t needed_node(kiln_onnx_frame *frame, const char *name)
{
    const kiln_onnx_name *found = *name ? find_here(frame, name) : NULL;
    return found && found->origin == KILN_ONNX_NODE ? (int64_t)found->index : -1;
}

static bool is_ordered(kiln_onnx_frame *frame)
{
    for (uint32_t node = 0; node < frame->n_nodes; node++) {
        const char *name;
        for (size_t i = 0; (name = need_at(frame->arena, frame->nodes[node], i)); i++) {
            if (needed_node(frame, name) >= (int64_t)node) return false;
        }
    }
    return true;
}

typedef struct order_step {
    uint32_t node;
    size_t operand;
} order_step;

_Noreturn static void fail_cycle(kiln_onnx *onnx, kiln_onnx_frame *frame, const order_step *stack,
                                 uint32_t n)
{
    kiln_arena *arena = &onnx->scope->arena;
    kiln_text text = {.arena = arena};
    for (uint32_t i = 0; i < n && i < 8; i++) {
        const Kiln__Onnx__Node *node = frame->nodes[stack[i].node];
        kiln_text_printf(&text, "%s%u %s", i ? " -> " : "", stack[i].node,
                         kiln_onnx_quote(arena, node->name ? node->name : ""));
    }
    if (n > 8) kiln_text_printf(&text, " -> %u more", n - 8);
    kiln_fail(onnx->graph->scope, KILN_MODEL,
              "%s: cycle through nodes %s; expected a graph without cycles", onnx->source->where,
              kiln_text_string(&text));
}

/* Depth first from each node in the file's order, with an explicit stack. */
const uint32_t *kiln_onnx_order(kiln_onnx *onnx, kiln_onnx_frame *frame)
{
    enum { NEW, OPEN, DONE };
    kiln_arena *arena = frame->arena;
    uint32_t *order = kiln_new_array(arena, uint32_t, frame->n_nodes + 1), n_order = 0;
    for (uint32_t i = 0; i < frame->n_nodes; i++) order[i] = i;
    if (is_ordered(frame)) return order;
    uint8_t *state = kiln_new_array(arena, uint8_t, frame->n_nodes);
    kiln_vec(order_step) stack = {0};
    for (uint32_t root = 0; root < frame->n_nodes; root++) {
        if (state[root] == NEW) kiln_vec_push(&stack, arena, ((order_step){root, 0}));
        while (stack.n) {
            order_step *top = &stack.at[stack.n - 1];
            state[top->node] = OPEN;
            const char *name = need_at(arena, frame->nodes[top->node], top->operand++);
            if (!name) {
                state[top->node] = DONE;
                order[n_order++] = top->node;
                stack.n--;
                continue;
            }
            int64_t needed = needed_node(frame, name);
            if (needed < 0 || state[needed] == DONE) continue;
            if (state[needed] == OPEN) {
                uint32_t from = 0;
                while (stack.at[from].node != (uint32_t)needed) from++;
                fail_cycle(onnx, frame, stack.at + from, stack.n - from);
            }
            kiln_vec_push(&stack, arena, ((order_step){(uint32_t)needed, 0}));
        }
    }
    return order;
}
