/* Between the board's start and a test's main: newlib, whose files and output go by semihosting (rdimon.specs), and the
 * arguments. */
#include <stdlib.h>
#include <string.h>

#include "../../examples/firmware/board.h"
#include "../../examples/firmware/cortex_m.h"

extern void initialise_monitor_handles(void);
extern int main(int argc, char **argv);

/* newlib calls them before and after main. */
void _init(void)
{
}
void _fini(void)
{
}

int run(void)
{
    static char line[256], *argv[16];
    struct {
        char *text;
        size_t size;
    } command = {line, sizeof line};
    int argc = 0;
    initialise_monitor_handles();
    semihosting(SYS_GET_CMDLINE, &command);
    for (char *word = strtok(line, " "); word != NULL && argc < 15; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    exit(main(argc, argv));
}
