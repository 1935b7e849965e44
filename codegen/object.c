/* ELF objects in memory: bounds-checked reading (they may come from a cache on disk), then a layout
 * of all code followed by all constants, copying, and the few relocations that position-independent
 * code without imports has. */
#include "codegen/object.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"

#define FAIL(status, ...) kiln_error_set(error, status, __VA_ARGS__)

struct kiln_code {
    char *memory;
    size_t bytes;
    uint32_t n;
    kiln_kernel_fn *functions[];
};

/* An object being read. Everything here has been checked to lie within the bytes. */
typedef struct elf {
    const char *data;
    size_t bytes;
    const Elf64_Shdr *sections;
    uint32_t n_sections;
    const Elf64_Sym *symbols;
    uint32_t n_symbols;
    const char *strings;
    size_t string_bytes;
    int64_t *places; /* of sections in the loaded stretch, or -1 */
} elf;

static bool is_within(const elf *o, uint64_t offset, uint64_t bytes)
{
    return offset <= o->bytes && bytes <= o->bytes - offset;
}

static const char *symbol_name(const elf *o, const Elf64_Sym *symbol)
{
    if (symbol->st_name >= o->string_bytes) return "";
    return o->strings + symbol->st_name; /* the table ends in NUL: elf_open */
}

static kiln_status open_symbols(elf *o, const Elf64_Shdr *table, kiln_error *error)
{
    if (table->sh_link >= o->n_sections || table->sh_entsize != sizeof(Elf64_Sym))
        return FAIL(KILN_CORRUPT, "object: symbol table is malformed");
    const Elf64_Shdr *strings = &o->sections[table->sh_link];
    o->symbols = (const Elf64_Sym *)(o->data + table->sh_offset);
    o->n_symbols = (uint32_t)(table->sh_size / sizeof(Elf64_Sym));
    o->strings = o->data + strings->sh_offset;
    o->string_bytes = strings->sh_size;
    if (strings->sh_type != SHT_STRTAB || !o->string_bytes || o->strings[o->string_bytes - 1])
        return FAIL(KILN_CORRUPT, "object: string table is malformed");
    return KILN_OK;
}

static kiln_status elf_open(elf *o, const kiln_object *object, kiln_error *error)
{
    *o = (elf){.data = object->data, .bytes = object->bytes};
    const Elf64_Ehdr *head = object->data;
    bool is_elf = object->bytes >= sizeof *head && memcmp(head->e_ident, ELFMAG, SELFMAG) == 0 &&
                  head->e_ident[EI_CLASS] == ELFCLASS64 && head->e_type == ET_REL &&
                  head->e_machine == EM_X86_64 && head->e_shentsize == sizeof(Elf64_Shdr);
    if (!is_elf || (uintptr_t)object->data % 8 || head->e_shoff % 8)
        return FAIL(KILN_CORRUPT, "object: not a relocatable x86-64 object");
    if (!is_within(o, head->e_shoff, (uint64_t)head->e_shnum * sizeof(Elf64_Shdr)))
        return FAIL(KILN_CORRUPT, "object: section table is outside the file");
    o->sections = (const Elf64_Shdr *)(o->data + head->e_shoff);
    o->n_sections = head->e_shnum;
    for (uint32_t i = 0; i < o->n_sections; i++) {
        const Elf64_Shdr *section = &o->sections[i];
        bool has_bytes = section->sh_type != SHT_NOBITS && section->sh_type != SHT_NULL;
        if (has_bytes && !is_within(o, section->sh_offset, section->sh_size))
            return FAIL(KILN_CORRUPT, "object: section %u is outside the file", i);
    }
    for (uint32_t i = 0; i < o->n_sections; i++) {
        if (o->sections[i].sh_type != SHT_SYMTAB) continue;
        if (o->sections[i].sh_offset % 8)
            return FAIL(KILN_CORRUPT, "object: symbol table is misaligned");
        return open_symbols(o, &o->sections[i], error);
    }
    return FAIL(KILN_CORRUPT, "object: no symbol table");
}

static const Elf64_Sym *find_symbol(const elf *o, const char *name)
{
    for (uint32_t i = 1; i < o->n_symbols; i++) {
        const Elf64_Sym *symbol = &o->symbols[i];
        bool is_defined = symbol->st_shndx != SHN_UNDEF && symbol->st_shndx < o->n_sections;
        if (is_defined && strcmp(symbol_name(o, symbol), name) == 0) return symbol;
    }
    return NULL;
}

kiln_status kiln_object_check(const kiln_object *object, kiln_error *error)
{
    elf o;
    kiln_status status = elf_open(&o, object, error);
    if (status) return status;
    for (uint32_t i = 1; i < o.n_symbols; i++) {
        if (o.symbols[i].st_shndx != SHN_UNDEF) continue;
        return FAIL(KILN_INTERNAL, "object %s: needs symbol '%s'; expected none from outside",
                    object->symbol, symbol_name(&o, &o.symbols[i]));
    }
    if (find_symbol(&o, object->symbol)) return KILN_OK;
    return FAIL(KILN_INTERNAL, "object %s: does not define its symbol", object->symbol);
}

/* Gives a place to every section of the wanted kind; `at` runs on. Unwind tables are left out:
 * nothing unwinds through a kernel. */
static void place_sections(kiln_scope *scope, elf *o, bool is_code, int64_t *at)
{
    for (uint32_t i = 0; i < o->n_sections; i++) {
        const Elf64_Shdr *section = &o->sections[i];
        bool is_loaded = (section->sh_flags & SHF_ALLOC) && section->sh_type == SHT_PROGBITS;
        if (!is_loaded || !section->sh_size || is_code != !!(section->sh_flags & SHF_EXECINSTR))
            continue;
        if (section->sh_flags & SHF_WRITE)
            kiln_fail(scope, KILN_INTERNAL, "object: section %u is writable data", i);
        int64_t unit = section->sh_addralign ? (int64_t)section->sh_addralign : 1;
        bool fits = unit <= 4096 && kiln_checked_align(*at, unit, at);
        o->places[i] = *at;
        if (!fits || !kiln_checked_add(*at, (int64_t)section->sh_size, at) || *at > INT32_MAX)
            kiln_fail(scope, KILN_LIMIT, "object: code and constants are more than 2 GiB");
    }
}

static bool relocate_one(const elf *o, char *memory, const Elf64_Rela *rela,
                         const Elf64_Shdr *section)
{
    uint32_t type = ELF64_R_TYPE(rela->r_info), number = ELF64_R_SYM(rela->r_info);
    bool is_wide = type == R_X86_64_64 || type == R_X86_64_PC64;
    size_t bytes = is_wide ? 8 : 4;
    if (number >= o->n_symbols || bytes > section->sh_size ||
        rela->r_offset > section->sh_size - bytes)
        return false;
    const Elf64_Sym *symbol = &o->symbols[number];
    if (symbol->st_shndx >= o->n_sections || o->places[symbol->st_shndx] < 0) return false;
    char *place = memory + o->places[section - o->sections] + rela->r_offset;
    uint64_t value = (uint64_t)(uintptr_t)(memory + o->places[symbol->st_shndx]) +
                     symbol->st_value + (uint64_t)rela->r_addend;
    if (type != R_X86_64_64) value -= (uint64_t)(uintptr_t)place;
    if (!is_wide && type != R_X86_64_PC32 && type != R_X86_64_PLT32) return false;
    memcpy(place, &value, bytes);
    return true;
}

static void relocate(kiln_scope *scope, const elf *o, char *memory)
{
    for (uint32_t i = 0; i < o->n_sections; i++) {
        const Elf64_Shdr *table = &o->sections[i];
        if (table->sh_type != SHT_RELA || table->sh_info >= o->n_sections) continue;
        if (o->places[table->sh_info] < 0) continue;
        const Elf64_Rela *rela = (const Elf64_Rela *)(o->data + table->sh_offset);
        size_t n = table->sh_offset % 8 ? 0 : table->sh_size / sizeof *rela;
        bool is_right = n * sizeof *rela == table->sh_size;
        for (size_t j = 0; j < n && is_right; j++)
            is_right = relocate_one(o, memory, &rela[j], &o->sections[table->sh_info]);
        if (!is_right)
            kiln_fail(scope, KILN_CORRUPT, "object: relocation in section %u is not one of ours",
                      i);
    }
}

static void copy_sections(const elf *o, char *memory)
{
    for (uint32_t i = 0; i < o->n_sections; i++) {
        const Elf64_Shdr *section = &o->sections[i];
        if (o->places[i] >= 0)
            memcpy(memory + o->places[i], o->data + section->sh_offset, section->sh_size);
    }
}

static void release_code(void *code)
{
    kiln_code_unload(code);
}

static void open_all(kiln_scope *scope, elf *all, const kiln_object *objects, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        kiln_error error = {0};
        if (kiln_object_check(&objects[i], &error) || elf_open(&all[i], &objects[i], &error))
            kiln_fail_with(scope, &error);
        all[i].places = kiln_new_array(&scope->arena, int64_t, all[i].n_sections);
        for (uint32_t j = 0; j < all[i].n_sections; j++) all[i].places[j] = -1;
    }
}

static kiln_code *code_create(kiln_scope *scope, uint32_t n, size_t bytes)
{
    kiln_code *code = calloc(1, sizeof *code + n * sizeof code->functions[0]);
    if (!code) kiln_fail(scope, KILN_NO_MEMORY, "code: out of memory for %u functions", n);
    code->n = n;
    kiln_scope_defer(scope, release_code, code);
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        kiln_fail(scope, KILN_NO_MEMORY, "code: out of memory for %zu bytes", bytes);
    code->memory = memory;
    code->bytes = bytes;
    return code;
}

/* Names for perf: with $KILN_PERF_MAP set, code is listed where perf looks for it. */
static void write_perf_map(const kiln_code *code, const elf *all, const kiln_object *objects)
{
    char path[64];
    if (!getenv("KILN_PERF_MAP")) return;
    snprintf(path, sizeof path, "/tmp/perf-%ld.map", (long)getpid());
    FILE *file = fopen(path, "ae");
    if (!file) return;
    for (uint32_t i = 0; i < code->n; i++) {
        for (uint32_t j = 0; j < all[i].n_sections; j++) {
            const Elf64_Shdr *section = &all[i].sections[j];
            if (all[i].places[j] < 0 || !(section->sh_flags & SHF_EXECINSTR)) continue;
            fprintf(file, "%zx %zx %s\n", (size_t)(uintptr_t)(code->memory + all[i].places[j]),
                    (size_t)section->sh_size, objects[i].symbol);
        }
    }
    fclose(file);
}

/* Before the first function: a caller built with clang's -fsanitize=function reads 8 bytes there.
 */
#define LEAD_BYTES 64

void kiln_code_load(kiln_scope *scope, const kiln_object *objects, uint32_t n, kiln_code **out_code)
{
    elf *all = kiln_new_array(&scope->arena, elf, n + 1);
    int64_t at = LEAD_BYTES, page = sysconf(_SC_PAGESIZE);
    open_all(scope, all, objects, n);
    for (uint32_t i = 0; i < n; i++) place_sections(scope, &all[i], true, &at);
    int64_t code_bytes = at = kiln_round_up(at, page);
    for (uint32_t i = 0; i < n; i++) place_sections(scope, &all[i], false, &at);
    kiln_code *code = code_create(scope, n, (size_t)kiln_round_up(at + 1, page));
    for (uint32_t i = 0; i < n; i++) {
        copy_sections(&all[i], code->memory);
        relocate(scope, &all[i], code->memory);
        const Elf64_Sym *symbol = find_symbol(&all[i], objects[i].symbol);
        int64_t place = all[i].places[symbol->st_shndx];
        if (place < 0 || place >= code_bytes || symbol->st_value >= (uint64_t)(code_bytes - place))
            kiln_fail(scope, KILN_CORRUPT, "object %s: its symbol is not in code",
                      objects[i].symbol);
        void *function = code->memory + place + symbol->st_value;
        memcpy(&code->functions[i], &function, sizeof function);
    }
    size_t rest = code->bytes - (size_t)code_bytes;
    if ((code_bytes && mprotect(code->memory, (size_t)code_bytes, PROT_READ | PROT_EXEC)) ||
        mprotect(code->memory + code_bytes, rest, PROT_READ))
        kiln_fail(scope, KILN_UNSUPPORTED, "code: the system forbids making memory executable");
    write_perf_map(code, all, objects);
    kiln_scope_keep(scope, code);
    *out_code = code;
}

kiln_kernel_fn *kiln_code_function(const kiln_code *code, uint32_t number)
{
    return number < code->n ? code->functions[number] : NULL;
}

void kiln_code_unload(kiln_code *code)
{
    if (!code) return;
    if (code->memory) munmap(code->memory, code->bytes);
    free(code);
}
