/* Damaged program tables: every one is refused with the right status and a sentence naming the row,
 * before anything of it is used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/runtime.h"
#include "tests/abi/handmade_program.h"

/* A copy of the hand-made program whose tables can be damaged. */
typedef struct copy {
    kiln_program program;
    kiln_port_row inputs[3], outputs[2];
    kiln_buffer_row buffers[11];
    uint32_t operands[19];
    kiln_step_row steps[9];
    kiln_kernel_fn *kernels[5];
    const char *strings[3];
} copy;

#define COPY_TABLE(name)                                                                           \
    assert_int_equal(program->n_##name, sizeof to->name / sizeof *to->name);                       \
    memcpy(to->name, program->name, sizeof to->name);                                              \
    to->program.name = to->name

static void copy_fill(copy *to)
{
    const kiln_program *program = &handmade_program;
    to->program = *program;
    COPY_TABLE(inputs);
    COPY_TABLE(outputs);
    COPY_TABLE(buffers);
    COPY_TABLE(operands);
    COPY_TABLE(steps);
    COPY_TABLE(kernels);
    COPY_TABLE(strings);
}

typedef struct damage {
    const char *sentence; /* a part of it */
    kiln_status status;
    void (*apply)(copy *copy);
} damage;

#define DAMAGE(name, statement)                                                                    \
    static void name(copy *c)                                                                      \
    {                                                                                              \
        statement;                                                                                 \
    }

static const int64_t negative_dims[] = {-1, 17}, vast_dims[] = {1ll << 62, 4};

DAMAGE(newer_abi, c->program.abi = KILN_PROGRAM_ABI + 1)
DAMAGE(no_abi, c->program.abi = 0)
DAMAGE(short_table, c->program.struct_bytes = 8)
DAMAGE(unknown_feature, c->program.cpu_features = 1ull << 40)
DAMAGE(no_inputs, c->program.inputs = NULL)
DAMAGE(no_steps, c->program.steps = NULL)
DAMAGE(odd_constants, c->program.constants = (const char *)c->program.constants + 4)
DAMAGE(no_constants, c->program.constants = NULL)
DAMAGE(nameless, c->inputs[1].name = NULL)
DAMAGE(deep, c->inputs[1].rank = 17)
DAMAGE(dimless, c->inputs[1].dims = NULL)
DAMAGE(negative, c->inputs[1].dims = negative_dims)
DAMAGE(vast, c->inputs[1].dims = vast_dims)
DAMAGE(no_dtype, c->outputs[0].dtype = 77)
DAMAGE(other_bytes, c->outputs[0].bytes = 8)
DAMAGE(donated_twice, c->inputs[1].donated_to = 0)
DAMAGE(donated_nowhere, c->inputs[0].donated_to = 2)
DAMAGE(donated_unlike, c->inputs[0].donated_to = 1)
DAMAGE(counted_nowhere, c->outputs[0].donated_to = 2)
DAMAGE(counted_unlike, c->outputs[0].donated_to = 1)
DAMAGE(input_index, c->buffers[0].index = 3)
DAMAGE(input_bytes, c->buffers[0].bytes += 1)
DAMAGE(constant_end, c->program.constant_bytes = 64)
DAMAGE(arena_end, c->program.arena_bytes = 64)
DAMAGE(arena_before, c->buffers[7].offset = -64)
DAMAGE(arena_odd, c->buffers[7].offset = 4)
DAMAGE(arena_wraps, c->buffers[7].offset = INT64_MAX - 63)
DAMAGE(kind_of_buffer, c->buffers[7].kind = 9)
DAMAGE(operand, c->operands[4] = 11)
DAMAGE(step_operands, c->steps[5].first_operand = 0xfffffffe)
DAMAGE(step_kernel, c->steps[5].target = 5)
DAMAGE(null_kernel, c->kernels[0] = NULL)
DAMAGE(step_kind, c->steps[5].kind = 0)
DAMAGE(step_label, c->steps[5].label = 3)
DAMAGE(branch_far, c->steps[2].target = 10)
DAMAGE(branch_bare, c->steps[2].n_operands = 0)
DAMAGE(jump_far, c->steps[3].target = 10)
DAMAGE(check_small, c->operands[8] = 4)
DAMAGE(check_sentence, c->steps[4].target = 3)
DAMAGE(null_string, c->strings[1] = NULL)
DAMAGE(copy_unlike, c->buffers[8].bytes -= 1)
DAMAGE(copy_to_input, c->operands[16] = 0)
DAMAGE(copy_overlap, c->buffers[8].offset = c->buffers[7].offset + 64)
DAMAGE(library_step, c->steps[5].kind = KILN_STEP_LIBRARY)
DAMAGE(library_unbound, c->steps[8].kind = KILN_STEP_LIBRARY; c->steps[8].n_tiles = 1;
       c->steps[8].target = 0)
DAMAGE(copy_number, c->steps[7].n_operands = 3; c->operands[17] = 10)
DAMAGE(arena_negative, c->program.arena_bytes = -1)
DAMAGE(scratch_vast, c->program.scratch_bytes = INT64_MAX / 8)

static const damage damages[] = {
    {"abi is 3; expected 1 to 2", KILN_ABI, newer_abi},
    {"abi is 0", KILN_ABI, no_abi},
    {"has 8 bytes", KILN_ABI, short_table},
    {"this machine lacks", KILN_UNSUPPORTED, unknown_feature},
    {"3 inputs, but no table", KILN_CORRUPT, no_inputs},
    {"9 steps, but no table", KILN_CORRUPT, no_steps},
    {"a misaligned address", KILN_CORRUPT, odd_constants},
    {"constants at no address", KILN_CORRUPT, no_constants},
    {"input 1 lacks", KILN_CORRUPT, nameless},
    {"input 1 lacks", KILN_CORRUPT, deep},
    {"input 1 lacks", KILN_CORRUPT, dimless},
    {"input 1 has 68000 bytes", KILN_CORRUPT, negative},
    {"input 1 has 68000 bytes", KILN_CORRUPT, vast},
    {"output 0 has 68000 bytes", KILN_CORRUPT, no_dtype},
    {"output 0 has 8 bytes", KILN_CORRUPT, other_bytes},
    {"input 1 is donated to output 0", KILN_CORRUPT, donated_twice},
    {"input 0 is donated to output 2", KILN_CORRUPT, donated_nowhere},
    {"input 0 is donated to output 1", KILN_CORRUPT, donated_unlike},
    {"output 0 is counted by output 2", KILN_CORRUPT, counted_nowhere},
    {"output 0 is counted by output 1", KILN_CORRUPT, counted_unlike},
    {"buffer 0 (kind 1", KILN_CORRUPT, input_index},
    {"buffer 0 (kind 1", KILN_CORRUPT, input_bytes},
    {"buffer 5 (kind 3", KILN_CORRUPT, constant_end},
    {"buffer 6 (kind 4", KILN_CORRUPT, arena_end},
    {"buffer 7 (kind 4, offset -64", KILN_CORRUPT, arena_before},
    {"buffer 7 (kind 4, offset 4", KILN_CORRUPT, arena_odd},
    {"buffer 7 (kind 4", KILN_CORRUPT, arena_wraps},
    {"buffer 7 (kind 9", KILN_CORRUPT, kind_of_buffer},
    {"operand 4 is buffer 11", KILN_CORRUPT, operand},
    {"step 5", KILN_CORRUPT, step_operands},
    {"step 5", KILN_CORRUPT, step_kernel},
    {"step 5", KILN_CORRUPT, null_kernel},
    {"step 5 (kind 0", KILN_CORRUPT, step_kind},
    {"step 5", KILN_CORRUPT, step_label},
    {"step 2", KILN_CORRUPT, branch_far},
    {"step 2", KILN_CORRUPT, branch_bare},
    {"step 3", KILN_CORRUPT, jump_far},
    {"step 4", KILN_CORRUPT, check_small},
    {"step 4", KILN_CORRUPT, check_sentence},
    {"string 1 is NULL", KILN_CORRUPT, null_string},
    {"step 7", KILN_CORRUPT, copy_unlike},
    {"step 7", KILN_CORRUPT, copy_to_input},
    {"step 7", KILN_CORRUPT, copy_overlap},
    {"step 5 (kind 4", KILN_CORRUPT, library_step},
    {"the context has no such function", KILN_UNSUPPORTED, library_unbound},
    {"step 7 (kind 3", KILN_CORRUPT, copy_number},
    {"buffer 6", KILN_CORRUPT, arena_negative},
    {"scratch of", KILN_CORRUPT, scratch_vast},
};

static void test_damaged_tables_are_refused(void **state)
{
    (void)state;
    kiln_context *context;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    static copy damaged;
    kiln_executable *executable = NULL;
    copy_fill(&damaged);
    assert_int_equal(kiln_executable_create(context, &damaged.program, &executable), KILN_OK);
    kiln_executable_destroy(executable);
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        copy_fill(&damaged);
        damages[i].apply(&damaged);
        kiln_status status = kiln_executable_create(context, &damaged.program, &executable);
        const char *message = kiln_context_message(context);
        if (status != damages[i].status || !strstr(message, damages[i].sentence)) {
            fail_msg("damage %zu: status %s, \"%s\"; expected \"%s\"", i,
                     kiln_status_name(status), message, damages[i].sentence);
        }
    }
    kiln_context_destroy(context);
}

/* Any byte of the integer tables: accepted or refused, never a crash. Pointers are the loader's
 * trust. */
static void test_random_bytes_never_crash(void **state)
{
    (void)state;
    static copy damaged;
    const struct {
        void *table;
        size_t bytes;
    } tables[] = {
        {damaged.buffers, sizeof damaged.buffers},
        {damaged.operands, sizeof damaged.operands},
        {damaged.steps, sizeof damaged.steps},
        {&damaged.inputs[0].dtype, 4},
        {&damaged.outputs[0].bytes, 16},
        {&damaged.program.n_operands, 24}, /* and what follows: steps, kernels, strings, flags */
    };
    kiln_context *context;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    uint32_t random = 1, n_refused = 0;
    for (int i = 0; i < 60000; i++) {
        copy_fill(&damaged);
        random = random * 1664525u + 1013904223u;
        size_t t = (random >> 8) % (sizeof tables / sizeof *tables);
        random = random * 1664525u + 1013904223u;
        unsigned char *byte = (unsigned char *)tables[t].table + (random >> 8) % tables[t].bytes;
        if (t == 5 && byte - (unsigned char *)tables[5].table < 20) {
            *byte = (unsigned char)(*byte ? (random >> 4) % *byte : 0); /* tables only shrink */
        } else {
            *byte ^= (unsigned char)(1u << (random & 7));
        }
        kiln_executable *executable = NULL;
        if (kiln_executable_create(context, &damaged.program, &executable)) n_refused++;
        kiln_executable_destroy(executable);
    }
    assert_in_range(n_refused, 10000, 59000);
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damaged_tables_are_refused),
        cmocka_unit_test(test_random_bytes_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
