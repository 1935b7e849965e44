/* Loading a compiled model: the file is looked over as ELF first, because the dynamic linker dies
 * on a truncated object instead of saying so; then it is opened with local binding and its program
 * table is checked like any other. */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/executable.h"

#define PREFIX_BYTES 31
#define MAX_HEADERS 4096

typedef struct elf_file {
    kiln_context *context;
    const char *path;
    int fd;
    uint64_t bytes;
} elf_file;

static kiln_status corrupt(const elf_file *file, const char *what)
{
    return kiln_context_fail(file->context, KILN_CORRUPT, "%s: %s; expected a shared object made "
                             "by kiln_compile_library", file->path, what);
}

static bool bytes_read(const elf_file *file, void *data, size_t bytes, uint64_t offset)
{
    if (offset > file->bytes || bytes > file->bytes - offset) return false;
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(file->fd, (char *)data + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

static bool stretch_is_inside(const elf_file *file, uint64_t offset, uint64_t bytes)
{
    return offset <= file->bytes && bytes <= file->bytes - offset;
}

static kiln_status check_segments(const elf_file *file, const Elf64_Ehdr *header)
{
    bool has_load = false, has_dynamic = false;
    if (header->e_phentsize != sizeof(Elf64_Phdr)) return corrupt(file, "odd program headers");
    for (uint32_t i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr segment;
        if (!bytes_read(file, &segment, sizeof segment, header->e_phoff + i * sizeof segment)) {
            return corrupt(file, "truncated: its program headers end behind the file");
        }
        if (!stretch_is_inside(file, segment.p_offset, segment.p_filesz)) {
            return corrupt(file, "truncated: a segment ends behind the file");
        }
        if (segment.p_type == PT_LOAD && segment.p_memsz < segment.p_filesz) {
            return corrupt(file, "a segment larger in the file than in memory");
        }
        has_load = has_load || segment.p_type == PT_LOAD;
        has_dynamic = has_dynamic || segment.p_type == PT_DYNAMIC;
    }
    if (!has_load || !has_dynamic) return corrupt(file, "no segments to load");
    return KILN_OK;
}

static kiln_status check_sections(const elf_file *file, const Elf64_Ehdr *header)
{
    if (header->e_shnum == 0) return KILN_OK;
    if (header->e_shentsize != sizeof(Elf64_Shdr)) return corrupt(file, "odd section headers");
    for (uint32_t i = 0; i < header->e_shnum; i++) {
        Elf64_Shdr section;
        if (!bytes_read(file, &section, sizeof section, header->e_shoff + i * sizeof section)) {
            return corrupt(file, "truncated: its section headers end behind the file");
        }
        if (section.sh_type == SHT_NOBITS || section.sh_type == SHT_NULL) continue;
        if (!stretch_is_inside(file, section.sh_offset, section.sh_size)) {
            return corrupt(file, "truncated: a section ends behind the file");
        }
    }
    return KILN_OK;
}

static kiln_status check_elf(const elf_file *file)
{
    Elf64_Ehdr header;
    if (file->bytes == 0) return corrupt(file, "an empty file");
    if (!bytes_read(file, &header, sizeof header, 0) || memcmp(header.e_ident, ELFMAG, SELFMAG)) {
        return corrupt(file, "not an ELF file");
    }
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
        header.e_machine != EM_X86_64) {
        return corrupt(file, "an ELF file for another machine");
    }
    if (header.e_type != ET_DYN) return corrupt(file, "an ELF file, but no shared object");
    if (header.e_phnum > MAX_HEADERS || header.e_shnum > MAX_HEADERS ||
        header.e_phoff > file->bytes || header.e_shoff > file->bytes) {
        return corrupt(file, "truncated: its headers lie behind the file");
    }
    kiln_status status = check_segments(file, &header);
    return status ? status : check_sections(file, &header);
}

static kiln_status check_file(kiln_context *context, const char *path)
{
    elf_file file = {context, path, open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), 0};
    struct stat info;
    if (file.fd < 0 || fstat(file.fd, &info)) {
        int error = errno;
        if (file.fd >= 0) close(file.fd);
        return kiln_context_fail(context, KILN_IO, "%s: %s", path, strerror(error));
    }
    kiln_status status;
    if (S_ISREG(info.st_mode)) {
        file.bytes = (uint64_t)info.st_size;
        status = check_elf(&file);
    } else {
        status = kiln_context_fail(context, KILN_IO, "%s: not a regular file", path);
    }
    close(file.fd);
    return status;
}

static bool prefix_is_right(const char *prefix)
{
    size_t n = strspn(prefix, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return n >= 1 && n <= PREFIX_BYTES && prefix[n] == 0 && prefix[0] >= 'a' && prefix[0] <= 'z';
}

static void library_close(void *library)
{
    dlclose(library);
}

static kiln_status adopt_library(kiln_context *context, const char *path, const char *prefix,
                                 kiln_executable **out_executable)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *reason = dlerror();
        return kiln_context_fail(context, KILN_CORRUPT, "%s: the dynamic linker refuses it: %s",
                                 path, reason ? reason : "no reason given");
    }
    char symbol[PREFIX_BYTES + sizeof "_program"];
    snprintf(symbol, sizeof symbol, "%s_program", prefix);
    const kiln_program *program = dlsym(library, symbol);
    kiln_status status;
    if (program) {
        status = kiln_executable_adopt(context, program, library, library_close, out_executable);
    } else {
        status = kiln_context_fail(context, KILN_INVALID,
                                   "%s: no symbol %s; expected the prefix it was compiled under",
                                   path, symbol);
    }
    if (status) dlclose(library);
    return status;
}

kiln_status kiln_executable_load(kiln_context *context, const char *path, const char *prefix,
                                 kiln_executable **out_executable)
{
    if (!context) return KILN_INVALID;
    if (!path || !*path || !out_executable) {
        return kiln_context_fail(context, KILN_INVALID, "load: a path or the result is missing");
    }
    if (!prefix) prefix = "model";
    if (!prefix_is_right(prefix)) {
        return kiln_context_fail(context, KILN_INVALID,
                                 "load: the prefix does not match [a-z][a-z0-9_]{0,30}");
    }
    /* Without a slash the dynamic linker would search its own folders. */
    bool has_slash = strchr(path, '/') != NULL;
    size_t bytes = strlen(path) + 3;
    char *full = malloc(bytes);
    if (!full) return kiln_context_fail(context, KILN_NO_MEMORY, "load: no memory");
    snprintf(full, bytes, "%s%s", has_slash ? "" : "./", path);
    kiln_status status = check_file(context, full);
    if (!status) status = adopt_library(context, full, prefix, out_executable);
    free(full);
    return status;
}
