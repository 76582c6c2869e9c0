/* The vocabulary of the kernels. Each name stands for the one of the element type in hand: TYPE is f32 or f64, REAL the
 * C type, and the vec_*.h of the instruction set defines vec_add_f32, vec_add_f64 and so on.
 *
 * A vec is a virtual vector of 64 bytes on every instruction set. The *_first forms touch only the first n lanes;
 * loading and keeping give 0 in the others. vec_fma is a * b + c rounded once, vec_fnma is c - a * b and vec_fms a * b
 * - c. vec_if_less(a, b, x, y) is a < b ? x : y in each lane. vec_even(a, b, unit) takes the even-numbered units of
 * `unit` lanes: unit 0 of a, unit 0 of b, unit 2 of a, unit 2 of b ...; vec_odd the odd-numbered ones.
 *
 * vec_load_f16, vec_load_bf16, vec_store_f16 and vec_store_bf16 are of 16 16-bit numbers and a vec_f32.
 */
#ifndef LNORM_NAMES_H
#define LNORM_NAMES_H

#define LNORM_PASTE2(a, b) a##_##b
#define LNORM_PASTE(a, b) LNORM_PASTE2(a, b)
#define TYPED(name) LNORM_PASTE(name, TYPE)

#define vec TYPED(vec)
#define vec_set1 TYPED(vec_set1)
#define vec_load TYPED(vec_load)
#define vec_load_first TYPED(vec_load_first)
#define vec_store TYPED(vec_store)
#define vec_store_first TYPED(vec_store_first)
#define vec_keep_first TYPED(vec_keep_first)
#define vec_add TYPED(vec_add)
#define vec_sub TYPED(vec_sub)
#define vec_mul TYPED(vec_mul)
#define vec_fma TYPED(vec_fma)
#define vec_fnma TYPED(vec_fnma)
#define vec_fms TYPED(vec_fms)
#define vec_div TYPED(vec_div)
#define vec_sqrt TYPED(vec_sqrt)
#define vec_if_less TYPED(vec_if_less)
#define vec_even TYPED(vec_even)
#define vec_odd TYPED(vec_odd)

#define LANES (64 / sizeof(REAL))

#endif
