/* Interrupts while files are written: noted, and obeyed once nothing is half-written. */
#include <signal.h>

#include "codegen/cli/cli.h"

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
static volatile sig_atomic_t noted;

static void note(int number)
{
    noted = number;
}

static void set_all(void (*handler)(int number))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction before;
        if (sigaction(signals[i], NULL, &before)) continue;
        if (before.sa_handler != SIG_IGN) sigaction(signals[i], &action, NULL); /* nohup stays */
    }
}

void cli_guard_begin(void)
{
    set_all(note);
}

void cli_guard_end(void)
{
    set_all(SIG_DFL);
    if (noted) raise(noted);
}
