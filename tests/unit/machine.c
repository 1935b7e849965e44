/* The machine table: names are found, and detection picks the largest model the features cover. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kiln/program.h"
#include "passes/machine.h"

static void every_name_finds_its_row(void **state)
{
    for (const kiln_machine *machine = kiln_machines; machine->name; machine++) {
        assert_ptr_equal(kiln_machine_find(machine->name), machine);
        assert_true(machine->flops_per_ns > 0 && machine->l1_bytes > 0 && machine->launch_ns > 0);
    }
    assert_null(kiln_machine_find("x86-64-v2"));
}

static void best_needs_every_feature(void **state)
{
    const kiln_machine *v3 = kiln_machine_find("x86-64-v3"), *v4 = kiln_machine_find("x86-64-v4");
    assert_string_equal(kiln_machine_best(0)->name, "x86-64");
    assert_ptr_equal(kiln_machine_best(v3->cpu_features), v3);
    assert_ptr_equal(kiln_machine_best(v4->cpu_features), v4);
    assert_ptr_equal(kiln_machine_best(v4->cpu_features & ~KILN_CPU_FMA),
                     kiln_machine_find("x86-64"));
    assert_string_equal(kiln_machine_best(~0ull)->name, "x86-64-amx");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_finds_its_row),
        cmocka_unit_test(best_needs_every_feature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
