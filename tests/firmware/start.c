/* From reset to main, on a Cortex-M under qemu: the arguments, files and the result go by semihosting, newlib's
 * rdimon.specs. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern char stack_top[];
extern void initialise_monitor_handles(void);
extern int main(int argc, char **argv);

/* newlib calls them before and after main. */
void _init(void)
{
}
void _fini(void)
{
}

static void semihosting(uint32_t operation, void *arguments)
{
    register uint32_t r0 __asm__("r0") = operation;
    register void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

enum { SYS_GET_CMDLINE = 0x15, SYS_EXIT = 0x18 };

static void reset(void)
{
    static char line[256], *argv[16];
    struct {
        char *text;
        size_t size;
    } command = {line, sizeof line};
    int argc = 0;
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20; /* CPACR: turn the FPU, and with it the vector unit, on */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
    initialise_monitor_handles();
    semihosting(SYS_GET_CMDLINE, &command);
    for (char *word = strtok(line, " "); word != NULL && argc < 15; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    exit(main(argc, argv));
}

static void fault(void)
{
    semihosting(SYS_EXIT, (void *)0x20022); /* an exception: qemu ends with 1 */
}

__attribute__((section(".vectors"))) void *const vectors[16] = {
    stack_top, (void *)reset, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault};
