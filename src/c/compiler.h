/* What differs between compilers, and the guards without which the bits would differ. */
#ifndef LNORM_COMPILER_H
#define LNORM_COMPILER_H

#include <float.h>
#include <stddef.h>
#include <stdint.h>

#include "parts.h"

/* Each multiply-add in the sources is either an explicit fma or two roundings: the compiler must not choose. The flag
 * -ffp-contract=off says so too, but a bare `cc -c` does not pass it. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
/* The vectors of Cortex-M (Helium) take subnormal numbers for 0, and gcc makes them of loops all the same. */
#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE & 2
#pragma GCC optimize("no-tree-loop-vectorize", "no-tree-slp-vectorize")
#endif
#elif defined(_MSC_VER)
#pragma fp_contract(off)
#endif

#if defined(__FAST_MATH__) || defined(_M_FP_FAST)
#error "lnorm must not be compiled with -ffast-math or /fp:fast: its results would not be the documented ones"
#endif
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16 /* 16: _Float16 in its own as well */
#error "lnorm needs float and double evaluated in their own precision (on 32-bit x86: -msse2 -mfpmath=sse)"
#endif

#if defined(__x86_64__) || defined(_M_X64)
#define LNORM_X86 1
#define LNORM_AVX2 (!LNORM_WITHOUT_AVX2)
#define LNORM_AVX512 (!LNORM_WITHOUT_AVX512)
#elif defined(__aarch64__) && defined(__ARM_NEON)
#define LNORM_NEON (!LNORM_WITHOUT_NEON)
#endif
#define LNORM_SCALAR (!LNORM_WITHOUT_SCALAR)
#if !LNORM_SCALAR && !LNORM_AVX2 && !LNORM_AVX512 && !LNORM_NEON
#error "lnorm needs an instruction set: LNORM_WITHOUT_... leaves out all that this machine has"
#endif

#if defined(__GNUC__) || defined(__clang__) /* clang-cl says the latter alone */
#define INLINE inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define PREFETCH(address) __builtin_prefetch(address)
#else
#if defined(_MSC_VER)
#define INLINE __forceinline
#define NOINLINE __declspec(noinline)
#else
#define INLINE inline
#define NOINLINE
#endif
#define LIKELY(condition) (condition)
#define PREFETCH(address) ((void)(address))
#endif

/* Before a function whose unsigned numbers wrap around on purpose: -fsanitize=integer reports all others that do. */
#if defined(__clang__)
#define WRAPS __attribute__((no_sanitize("unsigned-integer-overflow")))
#else
#define WRAPS
#endif

/* Instructions, where there are such, without a C library (-ffreestanding) too. */
#if defined(__GNUC__)
#define ABS_F32 __builtin_fabsf
#define SQRT_F32 __builtin_sqrtf
#define SQRT_F64 __builtin_sqrt
#else
#define ABS_F32 fabsf
#define SQRT_F32 sqrtf
#define SQRT_F64 sqrt
#endif

/* Before a for: a loop that stays one, so that what is in its registers stays there. */
#if defined(__clang__)
#define ROLLED _Pragma("clang loop unroll(disable)")
#elif defined(__GNUC__)
#define ROLLED _Pragma("GCC unroll 1")
#else
#define ROLLED
#endif

/* Functions between BEGIN and END may use the named instructions. System headers belong before BEGIN. */
#define LNORM_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define LNORM_TARGET_BEGIN(names)                                                                                      \
    LNORM_PRAGMA(clang attribute push(__attribute__((target(names))), apply_to = function))
#define LNORM_TARGET_END LNORM_PRAGMA(clang attribute pop)
#elif defined(__GNUC__)
#define LNORM_TARGET_BEGIN(names) LNORM_PRAGMA(GCC push_options) LNORM_PRAGMA(GCC target(names))
#define LNORM_TARGET_END LNORM_PRAGMA(GCC pop_options)
#else
#define LNORM_TARGET_BEGIN(names)
#define LNORM_TARGET_END
#endif

/* These compilers turn 512-bit registers on by a name of their own, which later ones dropped. */
#if (defined(__clang__) && !defined(__apple_build_version__) && __clang_major__ >= 18 && __clang_major__ <= 21) ||     \
    (!defined(__clang__) && defined(__GNUC__) && (__GNUC__ == 14 || __GNUC__ == 15))
#define LNORM_TARGET_AVX512 "avx2,fma,f16c,avx512f,evex512"
#else
#define LNORM_TARGET_AVX512 "avx2,fma,f16c,avx512f"
#endif

#endif
