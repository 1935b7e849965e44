/* Groups that are made of groups: BAND and HORIZONTAL. */
#ifndef KILN_PASSES_MEMBERS_H
#define KILN_PASSES_MEMBERS_H

#include "passes/schedule.h"

/* Sets nodes and inputs of a group to those of its members, each once; what one member stores is no
 * input of the group. */
void kiln_group_join_members(kiln_arena *arena, kiln_group *group);

/* Which member of a HORIZONTAL group stores `value` and alone reads `input`; NULL when others read
 * it too. */
const kiln_group *kiln_group_own_member(const kiln_group *group, kiln_value value,
                                        kiln_value input);
#endif
