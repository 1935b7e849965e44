/* kiln_explain: the report of a compile without its code: passes, groups, memory, what was
 * refused. */
#include <stdlib.h>
#include <string.h>

#include "codegen/compile.h"

static void explain_size(kiln_compilation *compilation, kiln_text *text)
{
    compilation->pipeline.log = text;
    if (compilation->rows)
        kiln_text_printf(text, "batch of %lld\n", (long long)compilation->rows);
    kiln_parts_open(compilation);
    kiln_parts_plan(compilation);
    for (uint32_t i = 0; i < compilation->parts.n; i++) {
        const kiln_part *part = &compilation->parts.at[i];
        if (i) kiln_text_printf(text, "region %s\n", part->graph->name);
        kiln_schedule_explain(part->schedule, text);
    }
}

void kiln_explain_compilation(kiln_compilation *compilation, kiln_text *text)
{
    kiln_pipeline *pipeline = &compilation->pipeline;
    kiln_text_printf(text, "machine %s, %u threads\n", pipeline->machine->name,
                     pipeline->n_threads);
    for (uint32_t s = 0; s <= compilation->n_larger; s++)
        explain_size(kiln_compilation_size(compilation, s), text);
}
