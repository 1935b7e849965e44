/* kiln_explain: the report of a compile without its code: passes, groups, memory, what was
 * refused. */
#include <stdlib.h>
#include <string.h>

#include "codegen/compile.h"

void kiln_explain_compilation(kiln_compilation *compilation, kiln_text *text)
{
    kiln_pipeline *pipeline = &compilation->pipeline;
    pipeline->log = text;
    kiln_text_printf(text, "machine %s, %u threads\n", pipeline->machine->name,
                     pipeline->n_threads);
    compilation->graph = kiln_pipeline_run(pipeline, compilation->source);
    compilation->schedule = kiln_fuse(pipeline, compilation->graph);
    kiln_plan_memory(pipeline, compilation->schedule);
    kiln_schedule_explain(compilation->schedule, text);
}
