/* The same program on a computer with an operating system. */
#include <stdio.h>

#include "board.h"

void board_print(const char *text)
{
    fputs(text, stdout);
}

void board_measure(void (*call)(void))
{
    call();
}

int main(void)
{
    return run();
}
