/* Times of steps: kept by the worker that is the caller, at the waits between steps. */
#include "runtime/workspace.h"

void kiln_workspace_set_profile(kiln_workspace *workspace, int is_on)
{
    if (workspace) workspace->is_profiled = is_on != 0;
}

const uint64_t *kiln_workspace_step_times(const kiln_workspace *workspace)
{
    return workspace && workspace->is_profiled ? workspace->step_times : NULL;
}
