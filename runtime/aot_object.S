/* The object that every compiled model is linked with, as bytes (runtime/aot.h). */
    .section .rodata
    .balign 16
    .globl kiln_aot_object
    .hidden kiln_aot_object
    .type kiln_aot_object, @object
kiln_aot_object:
    .incbin KILN_AOT_OBJECT
kiln_aot_object_end:
    .size kiln_aot_object, kiln_aot_object_end - kiln_aot_object
    .balign 8
    .globl kiln_aot_object_bytes
    .hidden kiln_aot_object_bytes
    .type kiln_aot_object_bytes, @object
kiln_aot_object_bytes:
    .quad kiln_aot_object_end - kiln_aot_object
    .size kiln_aot_object_bytes, 8
    .section .note.GNU-stack, "", @progbits
