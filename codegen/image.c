/* Program to image and back: fields in the order of kiln/program.h, a count before every table, a
 * length before every string. Reading checks every length against what is left. */
#include "codegen/image.h"

#include <string.h>

#include "base/checked.h"

/* What stands here field by field: a change there is a change here. */
_Static_assert(sizeof(kiln_program) == 208, "program");
_Static_assert(sizeof(kiln_port_row) == 40, "port row");

static void write_bytes(kiln_text *text, const void *data, size_t bytes)
{
    kiln_text_append_n(text, data, bytes);
}

static void write_u64(kiln_text *text, uint64_t value)
{
    write_bytes(text, &value, sizeof value);
}

/* Strings keep their zero, so that reading can lend them. */
static void write_string(kiln_text *text, const char *string)
{
    size_t bytes = strlen(string) + 1;
    write_u64(text, bytes);
    write_bytes(text, string, bytes);
}

static void write_table(kiln_text *text, const void *rows, uint32_t n, size_t row_bytes)
{
    write_u64(text, n);
    write_bytes(text, rows, n * row_bytes);
}

static void write_strings(kiln_text *text, const char *const *strings, uint32_t n)
{
    write_u64(text, n);
    for (uint32_t i = 0; i < n; i++) write_string(text, strings[i]);
}

static void write_ports(kiln_text *text, const kiln_port_row *ports, uint32_t n)
{
    write_u64(text, n);
    for (uint32_t i = 0; i < n; i++) {
        write_bytes(text, &ports[i], sizeof ports[i]); /* its two pointers are filled when read */
        write_string(text, ports[i].name);
        write_bytes(text, ports[i].dims, ports[i].rank * sizeof *ports[i].dims);
    }
}

/* What each size of an open batch has of its own. */
static void write_size(kiln_text *text, const kiln_program *program)
{
    write_u64(text, (uint64_t)program->rows);
    write_u64(text, (uint64_t)program->arena_bytes);
    write_u64(text, (uint64_t)program->scratch_bytes);
    write_ports(text, program->inputs, program->n_inputs);
    write_ports(text, program->outputs, program->n_outputs);
    write_table(text, program->buffers, program->n_buffers, sizeof *program->buffers);
    write_table(text, program->operands, program->n_operands, sizeof *program->operands);
    write_table(text, program->steps, program->n_steps, sizeof *program->steps);
    write_strings(text, program->strings, program->n_strings);
}

void kiln_image_write(const kiln_artifact *artifact, kiln_text *text)
{
    const kiln_program *program = &artifact->program;
    uint32_t n_batched = program->rows ? program->n_inputs + program->n_outputs : 0;
    write_bytes(text, &artifact->report, sizeof artifact->report);
    write_string(text, program->name);
    write_string(text, program->target);
    write_u64(text, program->cpu_features);
    write_u64(text, program->flags);
    write_u64(text, (uint64_t)program->constant_bytes);
    write_size(text, program);
    write_table(text, program->is_batched, n_batched, 1);
    write_u64(text, program->n_larger);
    for (uint32_t i = 0; i < program->n_larger; i++) write_size(text, program->larger[i]);
    write_strings(text, program->kernel_names, program->n_kernels);
    for (uint32_t i = 0; i < program->n_kernels; i++) {
        const kiln_object *object = &artifact->objects[i];
        write_u64(text, object->bytes);
        write_bytes(text, object->data, object->bytes);
        write_string(text, object->symbol);
    }
}

typedef struct image_reader {
    kiln_scope *scope;
    kiln_arena *arena;
    const char *at;
    size_t left;
} image_reader;

static const void *take(image_reader *reader, size_t bytes)
{
    if (bytes > reader->left)
        kiln_fail(reader->scope, KILN_CORRUPT, "image: it ends %zu bytes early",
                  bytes - reader->left);
    const char *at = reader->at;
    reader->at += bytes;
    reader->left -= bytes;
    return at;
}

static uint64_t take_u64(image_reader *reader)
{
    uint64_t value;
    memcpy(&value, take(reader, sizeof value), sizeof value);
    return value;
}

static char *take_string(image_reader *reader)
{
    size_t bytes = take_u64(reader);
    const char *string = take(reader, bytes);
    if (!bytes || string[bytes - 1])
        kiln_fail(reader->scope, KILN_CORRUPT, "image: a string has no end");
    return kiln_arena_copy(reader->arena, string, bytes);
}

/* A count of things of at least `bytes` each. */
static uint32_t take_count(image_reader *reader, size_t bytes)
{
    uint64_t n = take_u64(reader);
    if (n > UINT32_MAX || n > reader->left / bytes)
        kiln_fail(reader->scope, KILN_CORRUPT, "image: a table of %llu rows; %zu bytes are left",
                  (unsigned long long)n, reader->left);
    return (uint32_t)n;
}

static const void *take_table(image_reader *reader, size_t row_bytes, uint32_t *out_n)
{
    *out_n = take_count(reader, row_bytes);
    return kiln_arena_copy(reader->arena, take(reader, *out_n * row_bytes), *out_n * row_bytes);
}

static const char *const *take_strings(image_reader *reader, uint32_t *out_n)
{
    *out_n = take_count(reader, sizeof(uint64_t));
    const char **strings = kiln_new_array(reader->arena, const char *, *out_n);
    for (uint32_t i = 0; i < *out_n; i++) strings[i] = take_string(reader);
    return strings;
}

static const kiln_port_row *take_ports(image_reader *reader, uint32_t *out_n)
{
    *out_n = take_count(reader, sizeof(kiln_port_row));
    kiln_port_row *ports = kiln_new_array(reader->arena, kiln_port_row, *out_n);
    for (uint32_t i = 0; i < *out_n; i++) {
        memcpy(&ports[i], take(reader, sizeof ports[i]), sizeof ports[i]);
        ports[i].name = take_string(reader);
        size_t bytes;
        if (ports[i].rank > KILN_MAX_RANK)
            kiln_fail(reader->scope, KILN_CORRUPT, "image: a port of rank %u", ports[i].rank);
        bytes = ports[i].rank * sizeof *ports[i].dims;
        ports[i].dims = kiln_arena_copy(reader->arena, take(reader, bytes), bytes);
    }
    return ports;
}

static void take_objects(image_reader *reader, kiln_artifact *artifact)
{
    uint32_t n = artifact->program.n_kernels;
    artifact->objects = kiln_new_array(reader->arena, kiln_object, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        kiln_object *object = &artifact->objects[i];
        object->bytes = take_u64(reader);
        object->data = kiln_arena_copy(reader->arena, take(reader, object->bytes), object->bytes);
        object->symbol = take_string(reader);
    }
}

static void take_size(image_reader *reader, kiln_program *program)
{
    program->rows = (int64_t)take_u64(reader);
    program->arena_bytes = (int64_t)take_u64(reader);
    program->scratch_bytes = (int64_t)take_u64(reader);
    program->inputs = take_ports(reader, &program->n_inputs);
    program->outputs = take_ports(reader, &program->n_outputs);
    program->buffers = take_table(reader, sizeof *program->buffers, &program->n_buffers);
    program->operands = take_table(reader, sizeof *program->operands, &program->n_operands);
    program->steps = take_table(reader, sizeof *program->steps, &program->n_steps);
    program->strings = take_strings(reader, &program->n_strings);
}

/* The larger sizes begin as copies of the smallest, whose kernels and constants they get when those
 * are there. */
static void take_larger(image_reader *reader, kiln_artifact *artifact)
{
    kiln_program *program = &artifact->program;
    uint32_t n_batched, n_ports = program->n_inputs + program->n_outputs;
    const unsigned char *is_batched = take_table(reader, 1, &n_batched);
    if (n_batched != (program->rows ? n_ports : 0))
        kiln_fail(reader->scope, KILN_CORRUPT, "image: %u of %u ports are known", n_batched,
                  n_ports);
    program->is_batched = n_batched ? is_batched : NULL;
    uint32_t n = take_count(reader, sizeof(uint64_t));
    kiln_program **larger = kiln_new_array(reader->arena, kiln_program *, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        larger[i] = kiln_arena_copy(reader->arena, program, sizeof *program);
        take_size(reader, larger[i]);
    }
    artifact->larger = larger;
    program->larger = (const kiln_program *const *)larger;
    program->n_larger = n;
}

void kiln_image_read(kiln_scope *scope, const void *image, size_t bytes, kiln_artifact *artifact)
{
    image_reader reader = {scope, &artifact->arena, image, bytes};
    kiln_program *program = &artifact->program;
    memcpy(&artifact->report, take(&reader, sizeof artifact->report), sizeof artifact->report);
    *program = (kiln_program){
        .abi = KILN_PROGRAM_ABI,
        .struct_bytes = sizeof *program,
        .producer = "kiln " KILN_VERSION,
    };
    program->name = take_string(&reader);
    program->target = take_string(&reader);
    program->cpu_features = take_u64(&reader);
    program->flags = (uint32_t)take_u64(&reader);
    program->constant_bytes = (int64_t)take_u64(&reader);
    take_size(&reader, program);
    take_larger(&reader, artifact);
    program->kernel_names = take_strings(&reader, &program->n_kernels);
    take_objects(&reader, artifact);
    if (reader.left) kiln_fail(scope, KILN_CORRUPT, "image: %zu bytes too many", reader.left);
}
