/* kiln_fuse: graph to groups. Scan, then merge in three steps: what depends on a reduction or
 * contraction joins it (fuse_epilogue.c), reductions over the same rows join each other, producers
 * join what reads them (fuse_producer.c). The clusters left become groups (fuse_group.c), and small
 * ones that can run at the same time share a kernel (fuse_horizontal.c). */
#include "passes/fuse.h"

#include "kiln/program.h"

kiln_schedule *kiln_fuse(kiln_pipeline *pipeline, const kiln_graph *graph)
{
    kiln_arena *arena = &pipeline->scope->arena;
    kiln_schedule *schedule = kiln_new(arena, kiln_schedule);
    *schedule = (kiln_schedule){
        .graph = graph,
        .machine = pipeline->machine,
        .scope = pipeline->scope,
        .is_unfused = pipeline->is_unfused,
        .n_threads = pipeline->n_threads,
    };
    kiln_fusion fusion = {
        .pipeline = pipeline,
        .graph = graph,
        .machine = pipeline->machine,
        .schedule = schedule,
        .arena = arena,
        .n_nodes = graph->nodes.n,
        .known = KILN_NONE,
    };
    kiln_fusion_scan(&fusion);
    kiln_fuse_attention(&fusion);
    kiln_fuse_epilogues(&fusion);
    kiln_fuse_siblings(&fusion);
    kiln_fuse_concats(&fusion, false);
    kiln_fuse_narrow(&fusion);
    kiln_fuse_producers(&fusion);
    kiln_fuse_siblings(&fusion);
    kiln_fuse_concats(&fusion, true);
    kiln_fusion_emit(&fusion);
    kiln_fuse_bands(&fusion);
    kiln_fuse_horizontal(&fusion);
    kiln_fuse_ahead(&fusion);
    kiln_error error = {0};
    if (kiln_schedule_verify(schedule, "after fuse", &error) != KILN_OK) {
        kiln_fail_with(pipeline->scope, &error);
    }
    return schedule;
}
