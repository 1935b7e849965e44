/* The texts of a compiled model: its tables as assembly, field by field in the order of
 * kiln/program.h, and its header. Names come from models, so they are written as escapes of
 * everything that is not a letter, a digit or one of a few marks. */
#include "codegen/library.h"

/* The assembly below spells these structs out. */
_Static_assert(sizeof(kiln_port_row) == 40, "port row");
_Static_assert(sizeof(kiln_buffer_row) == 24, "buffer row");
_Static_assert(sizeof(kiln_step_row) == 40, "step row");
_Static_assert(sizeof(kiln_program) == 208, "program");

typedef unsigned long long ull;

static bool is_plain(unsigned char c)
{
    bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return is_letter || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-' || c == ' ' ||
           c == ':';
}

static void print_name(kiln_text *text, const char *name)
{
    kiln_text_append(text, "\"");
    for (; *name; name++) {
        unsigned char c = (unsigned char)*name;
        kiln_text_printf(text, is_plain(c) ? "%c" : "\\%03o", c);
    }
    kiln_text_append(text, "\"");
}

/* A string under label .LNAMEi. */
static void print_string(kiln_text *text, const char *label, uint32_t i, const char *string)
{
    kiln_text_printf(text, ".L%s%u: .asciz ", label, i);
    print_name(text, string ? string : "");
    kiln_text_append(text, "\n");
}

/* One size of an open batch, or the whole program; its labels begin with the tag. */
typedef struct sized {
    const kiln_program *program;
    const char *tag;
} sized;

static const char *join(const kiln_text *text, const char *tag, const char *label)
{
    return kiln_arena_format(text->arena, "%s%s", tag, label);
}

static void print_own_strings(kiln_text *text, sized size)
{
    const kiln_program *program = size.program;
    const char *input = join(text, size.tag, "input"), *output = join(text, size.tag, "output");
    for (uint32_t i = 0; i < program->n_inputs; i++)
        print_string(text, input, i, program->inputs[i].name);
    for (uint32_t i = 0; i < program->n_outputs; i++)
        print_string(text, output, i, program->outputs[i].name);
    for (uint32_t i = 0; i < program->n_strings; i++)
        print_string(text, join(text, size.tag, "string"), i, program->strings[i]);
}

static void print_strings(kiln_text *text, const kiln_program *program)
{
    print_string(text, "word", 0, program->name);
    print_string(text, "word", 1, program->target);
    print_string(text, "word", 2, program->producer);
    for (uint32_t i = 0; i < program->n_kernels; i++)
        print_string(text, "kernel", i, program->kernel_names[i]);
}

static void print_dims(kiln_text *text, const char *label, const kiln_port_row *ports, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        kiln_text_printf(text, ".L%sdims%u:\n", label, i);
        for (uint32_t j = 0; j < ports[i].rank; j++)
            kiln_text_printf(text, "\t.quad %lld\n", (long long)ports[i].dims[j]);
    }
}

static void print_plain_tables(kiln_text *text, sized size)
{
    const kiln_program *program = size.program;
    print_dims(text, join(text, size.tag, "input"), program->inputs, program->n_inputs);
    print_dims(text, join(text, size.tag, "output"), program->outputs, program->n_outputs);
    kiln_text_printf(text, ".L%sbuffers:\n", size.tag);
    for (uint32_t i = 0; i < program->n_buffers; i++) {
        const kiln_buffer_row *row = &program->buffers[i];
        kiln_text_printf(text, "\t.long %u, %u\n\t.quad %lld, %lld\n", row->kind, row->index,
                         (long long)row->offset, (long long)row->bytes);
    }
    kiln_text_printf(text, ".L%ssteps:\n", size.tag);
    for (uint32_t i = 0; i < program->n_steps; i++) {
        const kiln_step_row *row = &program->steps[i];
        kiln_text_printf(text, "\t.long %u, %u, %u, %u, %u, %u\n\t.quad %llu\n\t.long %u, %u\n",
                         row->kind, row->target, row->first_operand, row->n_operands, row->n_tiles,
                         row->region, (ull)row->cost, row->label, row->n_written);
    }
    kiln_text_printf(text, ".L%soperands:\n", size.tag);
    for (uint32_t i = 0; i < program->n_operands; i++)
        kiln_text_printf(text, "\t.long %u\n", program->operands[i]);
}

static void print_ports(kiln_text *text, const char *label, const kiln_port_row *ports, uint32_t n)
{
    kiln_text_printf(text, ".L%ss:\n", label);
    for (uint32_t i = 0; i < n; i++) {
        const kiln_port_row *port = &ports[i];
        kiln_text_printf(
            text, "\t.quad .L%s%u\n\t.long %u, %u\n\t.quad .L%sdims%u, %lld\n\t.long %u, %u\n",
            label, i, port->dtype, port->rank, label, i, (long long)port->bytes, port->donated_to,
            port->counted_axis);
    }
}

static void print_pointer_tables(kiln_text *text, sized size)
{
    const kiln_program *program = size.program;
    print_ports(text, join(text, size.tag, "input"), program->inputs, program->n_inputs);
    print_ports(text, join(text, size.tag, "output"), program->outputs, program->n_outputs);
    kiln_text_printf(text, ".L%sstrings:\n", size.tag);
    for (uint32_t i = 0; i < program->n_strings; i++)
        kiln_text_printf(text, "\t.quad .L%sstring%u\n", size.tag, i);
}

static void print_kernel_tables(kiln_text *text, const kiln_library_spec *spec)
{
    const kiln_program *program = spec->program;
    kiln_text_append(text, ".Lkernels:\n");
    for (uint32_t i = 0; i < program->n_kernels; i++) {
        const char *symbol = spec->objects[i].symbol;
        kiln_text_printf(text, "\t.hidden %s\n\t.quad %s\n", symbol, symbol);
    }
    kiln_text_append(text, ".Lkernel_names:\n");
    for (uint32_t i = 0; i < program->n_kernels; i++)
        kiln_text_printf(text, "\t.quad .Lkernel%u\n", i);
}

static void print_struct(kiln_text *text, sized size)
{
    const kiln_program *program = size.program;
    const char *tag = size.tag;
    bool is_head = !*tag;
    kiln_text_printf(text, ".L%sprogram:\n\t.long %u, %zu\n", tag, KILN_PROGRAM_ABI,
                     sizeof(kiln_program));
    kiln_text_printf(text, "\t.quad .Lword0, .Lword1, .Lword2, %llu\n", (ull)program->cpu_features);
    kiln_text_printf(text,
                     "\t.quad .L%sinputs, .L%soutputs, .L%sbuffers, .L%soperands, .L%ssteps\n"
                     "\t.quad .Lkernels, .Lkernel_names, .L%sstrings\n",
                     tag, tag, tag, tag, tag, tag);
    kiln_text_printf(text, "\t.long %u, %u, %u, %u, %u, %u, %u, %u\n", program->n_inputs,
                     program->n_outputs, program->n_buffers, program->n_operands, program->n_steps,
                     program->n_kernels, program->n_strings, program->flags);
    kiln_text_printf(text, "\t.quad .Lconstants, %lld, %lld, %lld\n",
                     (long long)program->constant_bytes, (long long)program->arena_bytes,
                     (long long)program->scratch_bytes);
    kiln_text_append(text, "\t.quad 0\n"); /* device_kernels */
    kiln_text_printf(text, "\t.quad %lld, %s, %s\n\t.long %u, 0\n", (long long)program->rows,
                     is_head && program->rows ? ".Lis_batched" : "0",
                     is_head && program->n_larger ? ".Llarger" : "0", program->n_larger);
}

/* The struct has two labels: the exported one, and one that code here may address directly. */
static void print_program(kiln_text *text, const char *prefix, const kiln_program *program)
{
    kiln_text_printf(text,
                     "\t.globl %s_program\n\t.type %s_program, @object\n\t.size %s_program, %zu\n"
                     "%s_program:\n",
                     prefix, prefix, prefix, sizeof(kiln_program), prefix);
    print_struct(text, (sized){program, ""});
}

static const char *tag_of(const kiln_text *text, uint32_t larger)
{
    return kiln_arena_format(text->arena, "b%u_", larger);
}

/* The tables of all sizes, each kind where it belongs. */
static void print_tables(kiln_text *text, const kiln_library_spec *spec)
{
    const kiln_program *program = spec->program;
    kiln_text_append(text, "\t.section .rodata\n");
    print_strings(text, program);
    print_own_strings(text, (sized){program, ""});
    for (uint32_t i = 0; i < program->n_larger; i++)
        print_own_strings(text, (sized){program->larger[i], tag_of(text, i)});
    if (program->rows) kiln_text_append(text, ".Lis_batched:\n");
    for (uint32_t i = 0; program->rows && i < program->n_inputs + program->n_outputs; i++)
        kiln_text_printf(text, "\t.byte %u\n", program->is_batched[i]);
    kiln_text_append(text, "\t.balign 8\n");
    print_plain_tables(text, (sized){program, ""});
    for (uint32_t i = 0; i < program->n_larger; i++)
        print_plain_tables(text, (sized){program->larger[i], tag_of(text, i)});
    kiln_text_append(text, "\t.section .data.rel.ro, \"aw\", @progbits\n\t.balign 8\n");
    print_pointer_tables(text, (sized){program, ""});
    print_kernel_tables(text, spec);
    for (uint32_t i = 0; i < program->n_larger; i++) {
        sized size = {program->larger[i], tag_of(text, i)};
        print_pointer_tables(text, size);
        print_struct(text, size);
    }
    if (program->n_larger) kiln_text_append(text, ".Llarger:\n");
    for (uint32_t i = 0; i < program->n_larger; i++)
        kiln_text_printf(text, "\t.quad .L%sprogram\n", tag_of(text, i));
}

static void print_entry(kiln_text *text, const char *prefix, const char *name, const char *moves)
{
    kiln_text_printf(
        text,
        "\t.globl %s_%s\n\t.type %s_%s, @function\n\t.hidden kiln_aot_%s\n%s_%s:\n\tendbr64\n%s"
        "\tleaq .Lprogram(%%rip), %%rdi\n\tjmp kiln_aot_%s\n\t.size %s_%s, .-%s_%s\n",
        prefix, name, prefix, name, name, prefix, name, moves, name, prefix, name, prefix, name);
}

bool kiln_library_has_calls(const kiln_program *program)
{
    for (uint32_t i = 0; i < program->n_steps; i++) {
        if (program->steps[i].kind == KILN_STEP_LIBRARY) return true;
    }
    return false;
}

void kiln_library_print_assembly(const kiln_library_spec *spec, const char *constants,
                                 kiln_text *text)
{
    const char *prefix = spec->prefix ? spec->prefix : "model";
    print_tables(text, spec);
    print_program(text, prefix, spec->program);
    kiln_text_append(
        text, "\t.section .rodata.constants, \"a\", @progbits\n\t.balign 64\n.Lconstants:\n");
    if (spec->program->constant_bytes) {
        kiln_text_append(text, "\t.incbin ");
        print_name(text, constants);
    }
    kiln_text_append(text, "\n\t.balign 64\n\t.text\n");
    print_entry(text, prefix, "run", "\tmovq %rdx, %rcx\n\tmovq %rsi, %rdx\n\tmovq %rdi, %rsi\n");
    if (kiln_library_has_calls(spec->program))
        print_entry(text, prefix, "call",
                    "\tmovq %rcx, %r8\n\tmovq %rdx, %rcx\n\tmovq %rsi, %rdx\n"
                    "\tmovq %rdi, %rsi\n");
    if (spec->program->rows)
        print_entry(text, prefix, "run_rows",
                    "\tmovq %rcx, %r8\n\tmovq %rdx, %rcx\n\tmovq %rsi, %rdx\n"
                    "\tmovq %rdi, %rsi\n");
    print_entry(text, prefix, "arena_bytes", "");
    print_entry(text, prefix, "inputs", "\tmovq %rdi, %rsi\n");
    print_entry(text, prefix, "outputs", "\tmovq %rdi, %rsi\n");
    kiln_text_append(text, "\t.section .note.GNU-stack, \"\", @progbits\n");
}

/* The header. */

static const char *upper(kiln_arena *arena, const char *prefix)
{
    char *out = kiln_arena_string(arena, prefix);
    for (char *at = out; *at; at++) {
        if (*at >= 'a' && *at <= 'z') *at = (char)(*at - 'a' + 'A');
    }
    return out;
}

static void print_port_comments(kiln_text *text, const char *word, const kiln_program *program)
{
    bool is_inputs = !strcmp(word, "input");
    const kiln_port_row *ports = is_inputs ? program->inputs : program->outputs;
    uint32_t n = is_inputs ? program->n_inputs : program->n_outputs;
    const unsigned char *is_batched = program->rows ? program->is_batched : NULL;
    if (is_batched && !is_inputs) is_batched += program->n_inputs;
    for (uint32_t i = 0; i < n; i++) {
        kiln_text_printf(text, " *   %s %u ", word, i);
        print_name(text, ports[i].name ? ports[i].name : "");
        kiln_text_append(text, ": ");
        kiln_text_type(text, ports[i].dtype, ports[i].rank, ports[i].dims);
        kiln_text_printf(text, ", %lld bytes", (long long)ports[i].bytes);
        if (is_batched && is_batched[i])
            kiln_text_printf(text, " for %lld %s of the batch", (long long)program->rows,
                             program->rows == 1 ? "row" : "rows");
        if (ports[i].donated_to != KILN_NONE && is_inputs)
            kiln_text_printf(text, "; may be the memory of output %u", ports[i].donated_to);
        if (ports[i].donated_to != KILN_NONE && !is_inputs)
            kiln_text_printf(text, "; axis %u is counted by output %u", ports[i].counted_axis,
                             ports[i].donated_to);
        kiln_text_append(text, "\n");
    }
}

static void print_port_macros(kiln_text *text, const char *upper_prefix, const char *word,
                              const kiln_port_row *ports, uint32_t n)
{
    kiln_text_printf(text, "#define %s_N_%sS %u\n", upper_prefix, word, n);
    for (uint32_t i = 0; i < n; i++)
        kiln_text_printf(text, "#define %s_%s_%u_BYTES %lld\n", upper_prefix, word, i,
                         (long long)ports[i].bytes);
}

/* What the model calls, and how it is given. */
static void print_call(kiln_text *text, const char *prefix, const kiln_program *program)
{
    kiln_text_append(text, "/* This model calls functions of the caller's:\n");
    for (uint32_t i = 0; i < program->n_steps; i++) {
        const kiln_step_row *step = &program->steps[i];
        bool is_new = step->kind == KILN_STEP_LIBRARY;
        for (uint32_t k = 0; is_new && k < i; k++)
            is_new = program->steps[k].kind != step->kind ||
                     program->steps[k].target != step->target;
        if (!is_new) continue;
        kiln_text_append(text, " *   ");
        print_name(text, program->strings[step->target]);
        kiln_text_append(text, "\n");
    }
    kiln_text_printf(
        text,
        " * %s_run returns UNSUPPORTED; this call takes them, as kiln/program.h declares\n"
        " * kiln_custom_functions. A status that one returns ends the run. */\n"
        "struct kiln_custom_functions;\n"
        "int %s_call(const void *const *inputs, void *const *outputs, void *arena,\n"
        "            const struct kiln_custom_functions *functions);\n\n",
        prefix, prefix);
}

void kiln_library_print_header(const kiln_library_spec *spec, kiln_text *text)
{
    const kiln_program *program = spec->program;
    const char *prefix = spec->prefix ? spec->prefix : "model", *macro = upper(text->arena, prefix);
    kiln_text_append(text, "/* ");
    print_name(text, program->name ? program->name : "");
    kiln_text_printf(
        text,
        ", compiled by %s for %s. Tensors are dense and row-major, aligned to the element.\n *\n",
        program->producer, program->target);
    print_port_comments(text, "input", program);
    print_port_comments(text, "output", program);
    kiln_text_printf(text, " */\n#ifndef %s_H\n#define %s_H\n\n#include <stdint.h>\n\n", macro,
                     macro);
    print_port_macros(text, macro, "INPUT", program->inputs, program->n_inputs);
    print_port_macros(text, macro, "OUTPUT", program->outputs, program->n_outputs);
    kiln_text_append(text, "\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
    kiln_text_printf(
        text,
        "/* Runs the model on the calling thread; returns 0 or a kiln_status. `arena` has\n"
        " * %s_arena_bytes(), aligned to 64 bytes, and is this call's alone; with NULL the\n"
        " * call allocates and frees it. */\n"
        "int %s_run(const void *const *inputs, void *const *outputs, void *arena);\n"
        "int64_t %s_arena_bytes(void);\n\n",
        prefix, prefix, prefix);
    if (kiln_library_has_calls(program)) print_call(text, prefix, program);
    if (program->rows)
        kiln_text_printf(
            text,
            "/* The same for any number of rows >= 0, of which %s_run takes %lld: every port of\n"
            " * the batch has as many. Outputs lie apart from inputs. */\n"
            "#define %s_ROWS %lld\n"
            "int %s_run_rows(int64_t rows, const void *const *inputs, void *const *outputs,\n"
            "    void *arena);\n\n",
            prefix, (long long)program->rows, macro, (long long)program->rows, prefix);
    kiln_text_printf(
        text,
        "/* Ports with names, types and dims, and the program itself, as kiln/program.h\n"
        " * declares them; `out_n` may be NULL. */\n"
        "const struct kiln_port_row *%s_inputs(uint32_t *out_n);\n"
        "const struct kiln_port_row *%s_outputs(uint32_t *out_n);\n"
        "extern const struct kiln_program %s_program;\n",
        prefix, prefix, prefix);
    kiln_text_append(text, "\n#ifdef __cplusplus\n}\n#endif\n#endif\n");
}
