/* The prelude of the C and CUDA texts, as a string (codegen/c/print_c.h). */
    .section .rodata
    .globl kiln_prelude
    .hidden kiln_prelude
    .type kiln_prelude, @object
kiln_prelude:
    .incbin KILN_PRELUDE_FILE
    .byte 0
    .size kiln_prelude, .-kiln_prelude
    .section .note.GNU-stack, "", @progbits
