/* From reset to run() on a Cortex-M, under a debugger or qemu: output and exit go by semihosting. */
#include <stddef.h>
#include <stdint.h>

#include "board.h"
#include "cortex_m.h"

extern uint32_t stack_top[];

int semihosting(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (int)r0;
}

void board_print(const char *text)
{
    semihosting(SYS_WRITE0, text);
}

/* ---- Measuring ---- */

#define SYSTICK_CONTROL (*(volatile uint32_t *)0xe000e010)
#define SYSTICK_RELOAD (*(volatile uint32_t *)0xe000e014)
#define SYSTICK_VALUE (*(volatile uint32_t *)0xe000e018)
#define SYSTICK_MOST 0xffffffu

enum { PAINT = 0x5a5a5a5a, PAINTED_WORDS = 65536, LOOPS = 100000 };

static uint32_t ticks(void (*call)(void))
{
    SYSTICK_RELOAD = SYSTICK_MOST;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = 5; /* from the processor's clock, without an interrupt */
    call();
    return SYSTICK_MOST - SYSTICK_VALUE;
}

/* 2 * LOOPS instructions, by which ticks become instructions. */
static void known_loop(void)
{
    uint32_t n = LOOPS;
    __asm__ volatile("1: subs %0, %0, #1\n\tbne 1b" : "+r"(n)::"cc");
}

static void print_number(const char *name, uint32_t number)
{
    char text[11] = {0}, *digit = text + sizeof text - 1;
    do {
        *--digit = (char)('0' + number % 10);
    } while ((number /= 10) != 0);
    board_print(name);
    board_print(digit);
}

void board_measure(void (*call)(void))
{
    uint32_t *const here = (uint32_t *)__builtin_frame_address(0) - 32; /* below what this function itself keeps */
    uint32_t *lowest = here - PAINTED_WORDS;
    for (volatile uint32_t *word = lowest; word < here; word++) {
        *word = PAINT;
    }
    const uint32_t taken = ticks(call);
    while (*(volatile uint32_t *)lowest == PAINT) {
        lowest++;
    }
    print_number("stack ", (uint32_t)(here - lowest) * 4);
    print_number(" instructions ", (uint32_t)((uint64_t)taken * (2 * LOOPS) / ticks(known_loop)));
    board_print("\n");
}

/* ---- Starting ---- */

static void leave(int result)
{
    semihosting(SYS_EXIT, (const void *)(result == 0 ? 0x20026u : 0x20022u)); /* the application's end; an error */
}

static void reset(void)
{
    *(volatile uint32_t *)0xe000ed88 |=
        0xfu << 20; /* CPACR: turn the FPU, where there is one, and with it the vector unit, on */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
    leave(run());
}

static void fault(void)
{
    leave(1);
}

__attribute__((section(".vectors")))
const void *const vectors[16] = {stack_top,           (const void *)reset, (const void *)fault, (const void *)fault,
                                 (const void *)fault, (const void *)fault, (const void *)fault};
