/* The multiply-add of machines that have no instruction for it, against this machine's library: numbers of all sizes,
 * and those whose sum cancels, lies half-way between two numbers, or is subnormal. */
#include "test_support.h"

#include "../../src/c/fma.h"

/* With few digits or many, of any exponent in the range given. */
static double random_double(int lowest, int highest, uint64_t *state)
{
    const uint64_t random = next_random(state), digits = random >> (random % 4 == 0 ? 12 + random / 4 % 52 : 12);
    const double value = 1.0 + ldexp((double)(digits & 0xfffffffffffffu), -52);
    const int exponent = lowest + (int)(next_random(state) % (uint64_t)(highest - lowest + 1));
    return ldexp(random & 1 ? value : -value, exponent);
}

static void check_f64(double a, double b, double c)
{
    const double got = software_fma_f64(a, b, c), expected = fma(a, b, c);
    if (!CHECK(value_bits(LNORM_F64, &got, 0) == value_bits(LNORM_F64, &expected, 0))) {
        printf("  fma(%a, %a, %a) is %a, expected %a\n", a, b, c, got, expected);
    }
}

static void check_f32(float a, float b, float c)
{
    const float got = software_fma_f32(a, b, c), expected = fmaf(a, b, c);
    if (!CHECK(value_bits(LNORM_F32, &got, 0) == value_bits(LNORM_F32, &expected, 0))) {
        printf("  fmaf(%a, %a, %a) is %a, expected %a\n", (double)a, (double)b, (double)c, (double)got,
               (double)expected);
    }
}

/* c is anything, or near -a * b, or some digits away from it. */
static void check_range(int lowest, int highest, int cases, uint64_t *state)
{
    for (int i = 0; i < cases; i++) {
        const double a = random_double(lowest, highest, state), b = random_double(lowest, highest, state);
        const int apart = (int)(next_random(state) % 120) - 60;
        check_f64(a, b, random_double(lowest, highest, state));
        check_f64(a, b, -(a * b));
        check_f64(a, b, ldexp(-(a * b), apart));
        check_f64(a, b, ldexp(random_double(0, 0, state), ilogb(a) + ilogb(b) + apart));
        check_f64(a, b, 0.0);
    }
}

static void check_range_f32(int lowest, int highest, int cases, uint64_t *state)
{
    for (int i = 0; i < cases; i++) {
        const float a = (float)random_double(lowest, highest, state), b = (float)random_double(lowest, highest, state);
        const int apart = (int)(next_random(state) % 60) - 30;
        check_f32(a, b, (float)random_double(lowest, highest, state));
        check_f32(a, b, -(a * b));
        check_f32(a, b, (float)ldexp(-(double)a * (double)b, apart));
        check_f32(a, b, (float)ldexp(random_double(0, 0, state), ilogbf(a) + ilogbf(b) + apart));
        check_f32(a, b, 0.0f);
    }
}

int main(int argc, char **argv)
{
    static const double special[] = {0.0,       1.0,    0x1.8p0,   0x1.fffffffffffffp0,    0x1p-52,  0x1p-53,
                                     0x1p-1022, 0x1p52, 0x1p-1074, 0x1.fffffffffffffp1023, 0x1p-537, 0x1.8p-1073,
                                     INFINITY,  NAN,    0x1p-149,  0x1.fffffep127,         0x1p-126, 0x1.000002p0};
    const size_t count = sizeof special / sizeof special[0];
    const int cases = argc > 1 ? atoi(argv[1]) : 200000;
    uint64_t state = 1;
    for (size_t i = 0; i < 8 * count * count * count; i++) {
        const double a = special[i / 8 % count], b = special[i / 8 / count % count], c = special[i / 8 / count / count];
        const double x = i & 1 ? -a : a, y = i & 2 ? -b : b, z = i & 4 ? -c : c;
        check_f64(x, y, z);
        check_f32((float)x, (float)y, (float)z);
    }
    check_range(-20, 20, cases, &state);
    check_range(-1074, 1023, cases, &state);
    check_range(-560, -480, cases, &state); /* products about the smallest normal numbers */
    check_range(480, 540, cases, &state);   /* and about the largest */
    check_range_f32(-10, 10, cases, &state);
    check_range_f32(-149, 127, cases, &state);
    check_range_f32(-80, -55, cases, &state);
    check_range_f32(55, 70, cases, &state);
    return test_result("lnorm_fma");
}
