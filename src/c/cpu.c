/* What the CPU can do, as far as the operating system saves the registers for it. */
#include "kernels.h"

#if LNORM_X86

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#else
#include <cpuid.h>
#endif

enum { EAX, EBX, ECX, EDX };

/* Where the processor has no such leaf, the registers stay as they are. */
static void cpuid(unsigned leaf, unsigned regs[4])
{
#if defined(_MSC_VER) && !defined(__clang__)
    int out[4];
    __cpuid(out, 0);
    if ((unsigned)out[0] < leaf) {
        return;
    }
    __cpuidex(out, (int)leaf, 0);
    for (int i = 0; i < 4; i++) {
        regs[i] = (unsigned)out[i];
    }
#else
    __get_cpuid_count(leaf, 0, &regs[EAX], &regs[EBX], &regs[ECX], &regs[EDX]);
#endif
}

/* Which register files the operating system saves on a switch of threads. */
static unsigned long long enabled_state(void)
{
#if defined(_MSC_VER) && !defined(__clang__)
    return _xgetbv(0);
#else
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((unsigned long long)high << 32) | low;
#endif
}

static int has(unsigned ecx_of_leaf_1, unsigned ebx_of_leaf_7, unsigned long long state)
{
    const unsigned osxsave = 1u << 27;
    unsigned leaf_1[4] = {0}, leaf_7[4] = {0};
    cpuid(1, leaf_1);
    cpuid(7, leaf_7);
    if ((leaf_1[ECX] & (osxsave | ecx_of_leaf_1)) != (osxsave | ecx_of_leaf_1) ||
        (leaf_7[EBX] & ebx_of_leaf_7) != ebx_of_leaf_7) {
        return 0;
    }
    return (enabled_state() & state) == state;
}

#define AVX_FMA_F16C ((1u << 28) | (1u << 12) | (1u << 29))
#define AVX2 (1u << 5)
#define AVX512F (1u << 16)
#define YMM_STATE 0x06ull
#define ZMM_STATE 0xe6ull

int lnorm_cpu_has_avx2_fma(void)
{
    return has(AVX_FMA_F16C, AVX2, YMM_STATE);
}

int lnorm_cpu_has_avx512f(void)
{
    return has(AVX_FMA_F16C, AVX2 | AVX512F, ZMM_STATE);
}

#else
typedef int lnorm_nothing_to_detect;
#endif
