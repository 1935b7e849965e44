/* Dumps: every stage of a compile as a numbered file, so that two compiles can be compared by name.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "passes/pass.h"

void kiln_pipeline_dump(kiln_pipeline *pipeline, const char *stage, const char *text)
{
    if (!pipeline->dump_dir) return;
    if (mkdir(pipeline->dump_dir, 0777) && errno != EEXIST) {
        kiln_fail(pipeline->scope, KILN_IO, "dump: the folder %s was not made: %s",
                  pipeline->dump_dir, strerror(errno));
    }
    const char *path = kiln_arena_format(&pipeline->scope->arena, "%s/%03u-%s", pipeline->dump_dir,
                                         pipeline->n_dumps++, stage);
    FILE *file = fopen(path, "w");
    bool is_written = file && fputs(text, file) >= 0;
    if (file && fclose(file)) is_written = false;
    if (!is_written) {
        kiln_fail(pipeline->scope, KILN_IO, "dump: %s was not written: %s", path, strerror(errno));
    }
}
