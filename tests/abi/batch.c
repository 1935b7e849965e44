/* Open batches by hand: one row, 3 and 8 at once over the same kernel, run for any number of rows,
 * by the runtime and as a compiled model runs itself; what is wrong with tensors and tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/runtime.h"
#include "runtime/aot.h"

#define MOST 64

static int n_chunks, chunk_rows[MOST]; /* what ran */

/* x, k, table, t, y, z: t = x + k; y = t * table; z = {first, last} of the row. A tile is a row. */
static void row_kernel(const kiln_kernel_args *args, uint32_t tile_begin, uint32_t tile_end)
{
    const float *x = args->buffers[0], *k = args->buffers[1], *table = args->buffers[2];
    float *t = args->buffers[3], *y = args->buffers[4], *z = args->buffers[5];
    for (uint32_t row = tile_begin; row < tile_end; row++) {
        for (uint32_t c = 0; c < 4; c++) {
            t[row * 4 + c] = x[row * 4 + c] + k[c];
            y[row * 4 + c] = t[row * 4 + c] * table[c];
        }
        z[2 * row] = y[row * 4];
        z[2 * row + 1] = y[row * 4 + 3];
    }
    if (n_chunks < MOST) chunk_rows[n_chunks++] = (int)(tile_end - tile_begin);
}

static _Alignas(64) const float table[16] = {1, 2, 3, 4};
static kiln_kernel_fn *const kernels[] = {row_kernel};
static const char *const names[] = {"row"};
static const uint32_t operands[] = {0, 1, 2, 3, 4, 5};
static const unsigned char batched[] = {1, 0, 1, 1};

/* The tables of one size. */
typedef struct size {
    kiln_program program;
    int64_t x_dims[2], k_dims[1], z_dims[1];
    kiln_port_row inputs[2], outputs[2];
    kiln_buffer_row buffers[6];
    kiln_step_row steps[1];
} size;

typedef struct batch {
    size sizes[3];
    const kiln_program *larger[2];
    unsigned char batched[4];
} batch;

static void fill_size(size *s, int64_t rows)
{
    *s = (size){.x_dims = {rows, 4}, .k_dims = {4}, .z_dims = {2 * rows}};
    s->inputs[0] = (kiln_port_row){"x", KILN_f32, 2, s->x_dims, 16 * rows, KILN_NONE, 0};
    s->inputs[1] = (kiln_port_row){"k", KILN_f32, 1, s->k_dims, 16, KILN_NONE, 0};
    s->outputs[0] = (kiln_port_row){"y", KILN_f32, 2, s->x_dims, 16 * rows, KILN_NONE, 0};
    s->outputs[1] = (kiln_port_row){"z", KILN_f32, 1, s->z_dims, 8 * rows, KILN_NONE, 0};
    s->buffers[0] = (kiln_buffer_row){KILN_BUFFER_INPUT, 0, 0, 16 * rows};
    s->buffers[1] = (kiln_buffer_row){KILN_BUFFER_INPUT, 1, 0, 16};
    s->buffers[2] = (kiln_buffer_row){KILN_BUFFER_CONSTANT, KILN_NONE, 0, 16};
    s->buffers[3] = (kiln_buffer_row){KILN_BUFFER_ARENA, KILN_NONE, 0, 16 * rows};
    s->buffers[4] = (kiln_buffer_row){KILN_BUFFER_OUTPUT, 0, 0, 16 * rows};
    s->buffers[5] = (kiln_buffer_row){KILN_BUFFER_OUTPUT, 1, 0, 8 * rows};
    s->steps[0] =
        (kiln_step_row){KILN_STEP_KERNEL, 0, 0, 6, (uint32_t)rows, 0, 10, KILN_NONE, 0};
    s->program = (kiln_program){
        .abi = KILN_PROGRAM_ABI, .struct_bytes = sizeof s->program, .name = "rows",
        .target = "x86-64", .producer = "by hand", .inputs = s->inputs, .outputs = s->outputs,
        .buffers = s->buffers, .operands = operands, .steps = s->steps, .kernels = kernels,
        .kernel_names = names, .n_inputs = 2, .n_outputs = 2, .n_buffers = 6, .n_operands = 6,
        .n_steps = 1, .n_kernels = 1, .constants = table, .constant_bytes = sizeof table,
        .arena_bytes = 16 * rows, .rows = rows,
    };
}

static void fill_sizes(batch *b, const int64_t *rows)
{
    for (int i = 0; i < 3; i++) fill_size(&b->sizes[i], rows[i]);
    for (int i = 0; i < 2; i++) b->larger[i] = &b->sizes[i + 1].program;
    memcpy(b->batched, batched, sizeof batched);
    b->sizes[0].program.is_batched = b->batched;
    b->sizes[0].program.larger = b->larger;
    b->sizes[0].program.n_larger = 2;
}

static void fill_batch(batch *b)
{
    fill_sizes(b, (int64_t[]){1, 3, 8});
}

/* From two rows on: fewer are padded, behind the arena of two. */
static void fill_padded(batch *b)
{
    fill_sizes(b, (int64_t[]){2, 5, 8});
    b->sizes[0].program.arena_bytes = 64 + 3 * 64;
}

/* Tensors of a run of `rows` rows. */
typedef struct call {
    int64_t x_dims[2], k_dims[1], z_dims[1];
    float x[MOST * 4], k[4], y[MOST * 4], z[MOST * 2];
    kiln_tensor inputs[2], outputs[2];
} call;

static void fill_call(call *c, int64_t rows)
{
    *c = (call){.x_dims = {rows, 4}, .k_dims = {4}, .z_dims = {2 * rows}, .k = {1, 2, 3, 4}};
    for (int64_t i = 0; i < rows * 4; i++) c->x[i] = (float)i;
    c->inputs[0] = (kiln_tensor){KILN_f32, 2, c->x_dims, c->x, (size_t)rows * 16};
    c->inputs[1] = (kiln_tensor){KILN_f32, 1, c->k_dims, c->k, 16};
    c->outputs[0] = (kiln_tensor){KILN_f32, 2, c->x_dims, c->y, (size_t)rows * 16};
    c->outputs[1] = (kiln_tensor){KILN_f32, 1, c->z_dims, c->z, (size_t)rows * 8};
}

static void check_call(const call *c, int64_t rows)
{
    for (int64_t i = 0; i < rows * 4; i++)
        assert_true(c->y[i] == ((float)i + c->k[i % 4]) * table[i % 4]);
    for (int64_t r = 0; r < rows; r++)
        assert_true(c->z[2 * r] == c->y[4 * r] && c->z[2 * r + 1] == c->y[4 * r + 3]);
    for (int64_t i = rows * 4; i < MOST * 4; i++) assert_true(c->y[i] == 0);
}

/* How many rows, and the chunks they are run in. */
static const struct {
    int64_t rows;
    int n, chunks[9];
} cuts[] = {
    {0, 0, {0}},      {1, 1, {1}},          {2, 2, {1, 1}},    {3, 1, {3}},
    {4, 2, {3, 1}},   {5, 2, {3, 3}},       {7, 3, {3, 3, 1}}, {8, 1, {8}},
    {12, 3, {8, 3, 1}}, {13, 2, {8, 8}},    {37, 5, {8, 8, 8, 8, 8}}, {8, 1, {8}},
};

static void check_cut(size_t i, const call *c)
{
    assert_int_equal(n_chunks, cuts[i].n);
    assert_memory_equal(chunk_rows, cuts[i].chunks, (size_t)n_chunks * sizeof *chunk_rows);
    check_call(c, cuts[i].rows);
}

static kiln_workspace *open_workspace(const kiln_program *program, int64_t peak_bytes)
{
    kiln_context *context;
    kiln_executable *executable;
    kiln_workspace *workspace;
    kiln_context_options options = {sizeof options, .threads = 1};
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    if (kiln_executable_create(context, program, &executable))
        fail_msg("%s", kiln_context_message(context));
    assert_int_equal(kiln_executable_peak_bytes(executable, 1), peak_bytes);
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    kiln_executable_destroy(executable);
    kiln_context_destroy(context);
    return workspace;
}

static void test_any_number_of_rows(void **state)
{
    (void)state;
    static batch b;
    static call c;
    fill_batch(&b);
    kiln_workspace *workspace = open_workspace(&b.sizes[0].program, 128 /* of 8 rows */);
    for (int again = 0; again < 2; again++) {
        for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
            fill_call(&c, cuts[i].rows);
            n_chunks = 0;
            if (kiln_run(workspace, c.inputs, 2, c.outputs, 2))
                fail_msg("%s", kiln_workspace_message(workspace));
            check_cut(i, &c);
        }
    }
    kiln_workspace_destroy(workspace);
}

static void test_a_model_by_itself(void **state)
{
    (void)state;
    static batch b;
    static call c;
    static _Alignas(64) char arena[1024];
    fill_batch(&b);
    const kiln_program *program = &b.sizes[0].program;
    assert_true(kiln_aot_arena_bytes(program) <= (int64_t)sizeof arena);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        fill_call(&c, cuts[i].rows);
        const void *inputs[] = {c.x, c.k};
        void *outputs[] = {c.y, c.z};
        n_chunks = 0;
        void *own = i % 2 ? arena : NULL;
        assert_int_equal(kiln_aot_run_rows(program, cuts[i].rows, inputs, outputs, own), KILN_OK);
        check_cut(i, &c);
    }
    const void *misaligned[] = {(char *)c.x + 1, c.k};
    void *outputs[] = {c.y, c.z};
    assert_int_equal(kiln_aot_run_rows(program, 2, misaligned, outputs, NULL), KILN_INVALID);
    assert_int_equal(kiln_aot_run_rows(program, -1, NULL, NULL, NULL), KILN_INVALID);
    fill_call(&c, 1);
    const void *inputs[] = {c.x, c.k};
    assert_int_equal(kiln_aot_run(program, inputs, outputs, NULL), KILN_OK); /* one row */
    check_call(&c, 1);
    kiln_program closed = *program;
    closed.rows = 0;
    assert_int_equal(kiln_aot_run_rows(&closed, 1, inputs, outputs, NULL), KILN_INVALID);
}

static void refuse(kiln_workspace *workspace, const call *c, const char *sentence)
{
    n_chunks = 0;
    assert_int_equal(kiln_run(workspace, c->inputs, 2, c->outputs, 2), KILN_INVALID);
    if (!strstr(kiln_workspace_message(workspace), sentence))
        fail_msg("%s", kiln_workspace_message(workspace));
    assert_int_equal(n_chunks, 0);
}

static void test_fewer_rows_than_the_smallest_are_padded(void **state)
{
    (void)state;
    static batch b;
    static call c;
    static const struct {
        int64_t rows;
        int n, chunks[4];
    } padded[] = {{1, 1, {2}}, {0, 0, {0}}, {2, 1, {2}}, {3, 2, {2, 2}}, {13, 2, {8, 8}},
                  {6, 2, {5, 2}}, {1, 1, {2}}};
    fill_padded(&b);
    const kiln_program *program = &b.sizes[0].program;
    kiln_workspace *workspace = open_workspace(program, 256);
    for (size_t i = 0; i < 2 * sizeof padded / sizeof *padded; i++) {
        size_t k = i / 2;
        fill_call(&c, padded[k].rows);
        const void *inputs[] = {c.x, c.k};
        void *outputs[] = {c.y, c.z};
        n_chunks = 0;
        kiln_status status = i % 2 ? (kiln_status)kiln_aot_run_rows(program, padded[k].rows, inputs,
                                                                    outputs, NULL)
                                   : kiln_run(workspace, c.inputs, 2, c.outputs, 2);
        assert_int_equal(status, KILN_OK);
        assert_int_equal(n_chunks, padded[k].n);
        assert_memory_equal(chunk_rows, padded[k].chunks, (size_t)n_chunks * sizeof *chunk_rows);
        check_call(&c, padded[k].rows);
    }
    kiln_workspace_destroy(workspace);
    b.sizes[0].program.arena_bytes -= 128;
    kiln_context *context;
    kiln_executable *executable;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    assert_int_equal(kiln_executable_create(context, program, &executable), KILN_CORRUPT);
    assert_non_null(strstr(kiln_context_message(context), "no place for padded rows"));
    kiln_context_destroy(context);
}

static void test_wrong_tensors_are_named(void **state)
{
    (void)state;
    static batch b;
    static call c;
    static const int64_t other[] = {5, 4}, below[] = {-1, 4}, vast[] = {INT64_MAX / 8, 4};
    fill_batch(&b);
    kiln_workspace *workspace = open_workspace(&b.sizes[0].program, 128 /* of 8 rows */);
    fill_call(&c, 6);
    c.outputs[0].dims = other;
    refuse(workspace, &c, "output \"y\": dims are [5,4]; expected [6,4]");
    fill_call(&c, 6);
    c.outputs[1].bytes = 12;
    refuse(workspace, &c, "output \"z\": bytes is 12; expected 48");
    fill_call(&c, 6);
    c.inputs[0].dims = below;
    refuse(workspace, &c, "input \"x\": dims are [-1,4]; expected [0,4]");
    fill_call(&c, 6);
    c.inputs[0].dims = c.outputs[0].dims = vast;
    refuse(workspace, &c, "input \"x\": ");
    fill_call(&c, 6);
    c.inputs[0].rank = 0;
    refuse(workspace, &c, "input \"x\": rank is 0; expected 2");
    fill_call(&c, 6);
    c.inputs[1].bytes = 96;
    refuse(workspace, &c, "input \"k\": bytes is 96; expected 16");
    fill_call(&c, 6);
    c.outputs[0].data = c.x + 20; /* the last row of x only */
    refuse(workspace, &c, "its memory overlaps input \"x\"");
    fill_call(&c, 6);
    assert_int_equal(kiln_run(workspace, c.inputs, 2, c.outputs, 2), KILN_OK);
    check_call(&c, 6);
    kiln_workspace_destroy(workspace);
}

static void test_every_size_has_times(void **state)
{
    (void)state;
    static batch b;
    static call c;
    fill_batch(&b);
    kiln_workspace *workspace = open_workspace(&b.sizes[0].program, 128 /* of 8 rows */);
    kiln_workspace_set_profile(workspace, 1);
    fill_call(&c, 11);
    assert_int_equal(kiln_run(workspace, c.inputs, 2, c.outputs, 2), KILN_OK);
    const uint64_t *times = kiln_workspace_step_times(workspace);
    assert_true(times[0] == 0 && times[1] > 0 && times[2] > 0); /* 8 and 3 rows */
    kiln_workspace_destroy(workspace);
}

#define DAMAGE(name, statement)                                                                    \
    static void name(batch *b)                                                                     \
    {                                                                                              \
        statement;                                                                                 \
    }

DAMAGE(more_rows, b->sizes[0].program.rows = 2)
DAMAGE(minus_rows, b->sizes[0].program.rows = -1)
DAMAGE(no_rows, b->sizes[0].program.rows = 0)
DAMAGE(no_flags, b->sizes[0].program.is_batched = NULL)
DAMAGE(none_batched, b->batched[0] = 0)
DAMAGE(fixed_output, b->batched[3] = 0)
DAMAGE(scalar_batch, b->batched[1] = 1)
DAMAGE(donated, b->sizes[0].inputs[0].donated_to = 0)
DAMAGE(no_table, b->sizes[0].program.larger = NULL)
DAMAGE(many, b->sizes[0].program.n_larger = 65)
DAMAGE(null_size, b->larger[1] = NULL)
DAMAGE(descending, b->larger[1] = b->larger[0])
DAMAGE(nested, b->sizes[1].program.n_larger = 1)
DAMAGE(other_constants, b->sizes[1].program.constants = (const char *)table + 64)
DAMAGE(fewer_kernels, b->sizes[1].program.n_kernels = 0)
DAMAGE(other_port, b->sizes[2].x_dims[0] = 7)
DAMAGE(other_dtype, b->sizes[2].inputs[1].dtype = KILN_i32)
DAMAGE(other_step, b->sizes[2].steps[0].target = 1)
DAMAGE(other_arena, b->sizes[2].program.arena_bytes = 64)
DAMAGE(older, b->sizes[1].program.abi = 1)

static const struct {
    const char *sentence;
    void (*apply)(batch *b);
} damages[] = {
    {"port 0 of an open batch", more_rows},
    {"an open batch of -1 rows", minus_rows},
    {"an open batch of 0 rows", no_rows},
    {"an open batch of 1 rows", no_flags},
    {"without a batched input", none_batched},
    {"port 3 of an open batch", fixed_output},
    {"port 1 of an open batch", scalar_batch},
    {"port 0 of an open batch", donated},
    {"2 larger batches; expected a table", no_table},
    {"65 larger batches", many},
    {"batch 1 does not fit", null_size},
    {"batch 1 does not fit", descending},
    {"batch 0 does not fit", nested},
    {"batch 0 does not fit", other_constants},
    {"batch 0 does not fit", fewer_kernels},
    {"batch 1 does not fit", other_port},
    {"batch 1 does not fit", other_dtype},
    {"step 0", other_step},
    {"buffer 3", other_arena},
    {"batch 0 does not fit", older},
};

static void test_damaged_batches_are_refused(void **state)
{
    (void)state;
    static batch b;
    kiln_context *context;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        kiln_executable *executable;
        fill_batch(&b);
        damages[i].apply(&b);
        assert_int_equal(kiln_executable_create(context, &b.sizes[0].program, &executable),
                         KILN_CORRUPT);
        if (!strstr(kiln_context_message(context), damages[i].sentence))
            fail_msg("damage %zu: %s", i, kiln_context_message(context));
    }
    kiln_context_destroy(context);
}

/* A program of abi 1 ends before the fields of the batch. */
static void test_older_programs_run(void **state)
{
    (void)state;
    static size old;
    static call c;
    kiln_context *context;
    kiln_executable *executable;
    kiln_workspace *workspace;
    fill_size(&old, 3);
    old.program.abi = 1;
    old.program.struct_bytes = offsetof(kiln_program, rows);
    old.program.n_larger = 7; /* not read */
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    if (kiln_executable_create(context, &old.program, &executable))
        fail_msg("%s", kiln_context_message(context));
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    fill_call(&c, 3);
    assert_int_equal(kiln_run(workspace, c.inputs, 2, c.outputs, 2), KILN_OK);
    check_call(&c, 3);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_number_of_rows),
        cmocka_unit_test(test_a_model_by_itself),
        cmocka_unit_test(test_fewer_rows_than_the_smallest_are_padded),
        cmocka_unit_test(test_wrong_tensors_are_named),
        cmocka_unit_test(test_every_size_has_times),
        cmocka_unit_test(test_damaged_batches_are_refused),
        cmocka_unit_test(test_older_programs_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
