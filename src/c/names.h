/* The vocabulary of the kernels. Each name stands for the one of the element type in hand: TYPE is f32 or f64, REAL the
 * C type, and the vec_*.h of the instruction set defines vec_add_f32, vec_add_f64 and so on.
 *
 * A vec is a virtual vector of 64 bytes on every instruction set. vec_sum2 adds up the lanes of two vectors: lane i to
 * lane i + half, half the lanes at a time, and beside the sums what their roundings lost. The *_first forms touch only
 * the first n lanes; loading and keeping give 0 in the others. vec_fma and real_fma round once.
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
#define vec_sum2 TYPED(vec_sum2)
#define real_fma TYPED(real_fma)
#define real_sqrt TYPED(real_sqrt)

#define LANES (64 / sizeof(REAL))

#endif
