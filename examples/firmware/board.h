/* What normalize.c needs of the machine that it runs on. */
#ifndef BOARD_H
#define BOARD_H

void board_print(const char *text);

/* Makes a call; on a board whose processor tells, prints the stack that it took, in bytes, and the instructions. */
void board_measure(void (*call)(void));

/* The program: normalize.c's; what it returns is the exit status. */
int run(void);

#endif
