/* Hash tables of numbers: growing and inserting. */
#include "graph/table.h"

void kiln_slots_insert(kiln_slots *slots, uint64_t hash, uint32_t number)
{
    uint32_t at = kiln_slots_first(slots, hash);
    while (slots->at[at].number) at = (at + 1) & (slots->capacity - 1);
    slots->at[at] = (kiln_slot){(uint32_t)hash, number};
    slots->n++;
}

void kiln_slots_reserve(kiln_slots *slots, kiln_arena *arena)
{
    if (slots->n + 1 <= slots->capacity / 2) return;
    kiln_slots grown = {.capacity = slots->capacity ? slots->capacity * 2 : 16};
    grown.at = kiln_new_array(arena, kiln_slot, grown.capacity);
    for (uint32_t i = 0; i < slots->capacity; i++) {
        if (slots->at[i].number) kiln_slots_insert(&grown, slots->at[i].hash, slots->at[i].number);
    }
    *slots = grown;
}
