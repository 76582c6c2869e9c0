/* The vocabulary of the kernels. TYPE is the type of the elements in memory, f32, f64, f16 or bf16, and ELEMENT its C
 * type; what is computed with has the name REAL_NAME, f32 or f64, and the C type REAL. TYPED(name) and REALED(name)
 * stand for the function of the one and the other, for the instruction set ISA; its vec_*.h defines vec_add_f32,
 * vec_add_f64 and so on.
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
#define TYPED(name) LNORM_PASTE(LNORM_PASTE(name, TYPE), ISA)
#define REALED(name) LNORM_PASTE(LNORM_PASTE(name, REAL_NAME), ISA)
#define WORD(name) LNORM_PASTE(name, REAL_NAME)
#define LNORM_OF(name, type) LNORM_PASTE(name##_##type, ISA) /* as TYPED, for tables */

#define vec WORD(vec)
#define vec_set1 WORD(vec_set1)
#define vec_load WORD(vec_load)
#define vec_load_first WORD(vec_load_first)
#define vec_store WORD(vec_store)
#define vec_store_first WORD(vec_store_first)
#define vec_keep_first WORD(vec_keep_first)
#define vec_add WORD(vec_add)
#define vec_sub WORD(vec_sub)
#define vec_mul WORD(vec_mul)
#define vec_fma WORD(vec_fma)
#define vec_fnma WORD(vec_fnma)
#define vec_fms WORD(vec_fms)
#define vec_div WORD(vec_div)
#define vec_sqrt WORD(vec_sqrt)
#define vec_if_less WORD(vec_if_less)
#define vec_min WORD(vec_min)
#define vec_max WORD(vec_max)
#define vec_even WORD(vec_even)
#define vec_odd WORD(vec_odd)

#define vec_widen LNORM_PASTE(vec_widen, TYPE)
#define vec_narrow LNORM_PASTE(vec_narrow, TYPE)

#ifndef LANES
#define LANES (64 / sizeof(REAL))
#endif

/* Of the canonical order of sums: vectors of a step, and steps of a block. */
#define STEP_VECS ((size_t)8)
#define BLOCK_STEPS ((size_t)8)

/* What the statistics of a row say of how to go on: they will do, and its centre and rstd_lost are 0 or not, or x -
 * centre may overflow in backward; it is to be summed again around its mean; its squares vanish or overflow, or it is
 * not finite. */
enum { DIRECT, CENTRED, FAR, OFF_CENTRE, OUT_OF_RANGE };

/* gamma and beta of a span: those of each element where there are such, or one of each for all. The second passes are
 * numbered by which of them there are; the last is that of runs. */
enum { EACH_ITS_OWN = 1, ONE_FOR_ALL = 2, RUNS = 4 };

#endif
