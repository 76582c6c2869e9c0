/* A page has no environment: without getenv the module needs nothing from outside. */
#include <stdlib.h>
#undef getenv
#define getenv(name) ((char *)NULL)
