/* Semihosting: calls that whoever runs the program, a debugger or qemu, answers. */
#ifndef CORTEX_M_H
#define CORTEX_M_H

#include <stdint.h>

enum { SYS_WRITE0 = 0x04, SYS_GET_CMDLINE = 0x15, SYS_EXIT = 0x18 };

int semihosting(uint32_t operation, const void *argument);

#endif
