/* A program's tables while they are filled: program.c lays out what one part needs,
 * program_region.c what stands around the parts of a region. Buffer rows are made for the parts in
 * their order, so that a region finds those of the part around it; steps the other way around, and
 * a region's are put in where its group stands. Jumps count from the first step of their part until
 * then. */
#ifndef KILN_CODEGEN_TABLES_H
#define KILN_CODEGEN_TABLES_H

#include "codegen/compile.h"

/* Buffer rows of a region; KILN_NONE where there is none. */
typedef struct kiln_region_rows {
    uint32_t trip, next, stop, over, *flags, *items, *results;
} kiln_region_rows;

typedef struct kiln_part_tables {
    int64_t *constant_offsets; /* by place */
    int64_t arena_base;
    uint32_t first_row;        /* of its places */
    kiln_region_rows *regions; /* by group; for regions */
    kiln_vec(kiln_step_row) steps;
} kiln_part_tables;

typedef struct kiln_tables {
    kiln_compilation *compilation;
    kiln_program *program; /* to be filled; of an open batch, of one size */
    kiln_arena *arena;
    kiln_part_tables *parts;
    kiln_vec(kiln_buffer_row) rows;
    kiln_vec(uint32_t) operands;
    kiln_vec(const char *) strings;
    uint32_t zero_row; /* 64 bytes of zeros among the constants; KILN_NONE without loops */
} kiln_tables;

uint32_t kiln_tables_string(kiln_tables *tables, const char *string);
uint32_t kiln_tables_row(kiln_tables *tables, kiln_buffer_row row);
/* The row of a value as its part stores it. */
uint32_t kiln_tables_value(const kiln_tables *tables, uint32_t part, kiln_value value);

/* program_region.c: the row that a region's part has as input or output `port`. */
uint32_t kiln_region_input_row(const kiln_tables *tables, uint32_t part, uint32_t port);
uint32_t kiln_region_output_row(const kiln_tables *tables, uint32_t part, uint32_t port);
/* Rows for what the regions of a part need beside operands. */
void kiln_region_fill_rows(kiln_tables *tables, uint32_t part);
/* Appends the steps of group `g`, a region, to those of its part. */
void kiln_region_fill_steps(kiln_tables *tables, uint32_t part, uint32_t g);
#endif
