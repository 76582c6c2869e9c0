/* The vocabulary of the kernels. TYPE is the type of the elements in memory, f32, f64, f16 or bf16, and ELEMENT its C
 * type; what is computed with has the name REAL_NAME, f32 or f64, and the C type REAL. TYPED(name) and REALED(name)
 * stand for the function of the one and the other; the vec_*.h of the instruction set defines vec_add_f32, vec_add_f64
 * and so on.
 *
 * A vec is a virtual vector of 64 bytes on every instruction set. The *_first forms touch only the first n lanes;
 * loading and keeping give 0 in the others. vec_fma is a * b + c rounded once, vec_fnma is c - a * b and vec_fms a * b
 * - c. vec_if_less(a, b, x, y) is a < b ? x : y in each lane, vec_min(a, b) is a < b ? a : b, and vec_max(a, b) is
 * a > b ? a : b; so that of a NaN and a number, in whatever order, the second remains. vec_even(a, b, unit) takes the
 * even-numbered units of `unit` lanes: unit 0 of a, unit 0 of b, unit 2 of a, unit 2 of b ...; vec_odd the odd-numbered
 * ones.
 *
 * vec_widen_f16, vec_widen_bf16, vec_narrow_f16 and vec_narrow_bf16 read and write 16 16-bit numbers, as a vec_f32.
 */
#ifndef LNORM_NAMES_H
#define LNORM_NAMES_H

#define LNORM_PASTE2(a, b) a##_##b
#define LNORM_PASTE(a, b) LNORM_PASTE2(a, b)
#define TYPED(name) LNORM_PASTE(name, TYPE)
#define REALED(name) LNORM_PASTE(name, REAL_NAME)

#define vec REALED(vec)
#define vec_set1 REALED(vec_set1)
#define vec_load REALED(vec_load)
#define vec_load_first REALED(vec_load_first)
#define vec_store REALED(vec_store)
#define vec_store_first REALED(vec_store_first)
#define vec_keep_first REALED(vec_keep_first)
#define vec_add REALED(vec_add)
#define vec_sub REALED(vec_sub)
#define vec_mul REALED(vec_mul)
#define vec_fma REALED(vec_fma)
#define vec_fnma REALED(vec_fnma)
#define vec_fms REALED(vec_fms)
#define vec_div REALED(vec_div)
#define vec_sqrt REALED(vec_sqrt)
#define vec_if_less REALED(vec_if_less)
#define vec_min REALED(vec_min)
#define vec_max REALED(vec_max)
#define vec_even REALED(vec_even)
#define vec_odd REALED(vec_odd)

#define LANES (64 / sizeof(REAL))

#endif
