// A program by lnorm.hpp, in C++17 or later: the same bits as by lnorm.h, with threads and without, and errors as
// exceptions, where there are any, and as statuses.
#include <lnorm.hpp>

#include <array>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <vector>
#if __cplusplus >= 202002L
#include <span>
#endif

template <class Container> static bool same(const Container &a, const Container &b)
{
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0;
}

#define REQUIRE(condition)                                                                                             \
    if (!(condition)) {                                                                                                \
        std::printf("line %d: not true: %s\n", __LINE__, #condition);                                                  \
        return 1;                                                                                                      \
    }

template <class Call> static lnorm_status status_of(const Call &call)
{
#ifdef __cpp_exceptions
    try {
        call();
        return LNORM_OK;
    } catch (const lnorm::error &error) {
        return error.status();
    }
#else
    return call();
#endif
}

template <class From, class T> constexpr bool is_view_of = std::is_convertible_v<From, lnorm::view<T>>;

static_assert(is_view_of<std::vector<float> &, float> && is_view_of<const std::vector<float> &, const float>);
static_assert(!is_view_of<const std::vector<float> &, float> && !is_view_of<std::vector<double> &, const float>);
static_assert(is_view_of<lnorm::view<float>, const float> && !is_view_of<lnorm::view<const float>, float>);
static_assert(is_view_of<float (&)[4], float> && !is_view_of<float *, float>);

static int layer_norm()
{
    const size_t rows = 700, cols = 200;
    std::vector<float> x(rows * cols), dy(x.size()), gamma(cols, 1.5f), beta(cols, 0.5f);
    for (size_t i = 0; i < x.size(); i++) {
        x[i] = static_cast<float>(i * i % 1000);
        dy[i] = static_cast<float>(i * 7 % 11) - 5;
    }
    std::vector<float> y(x.size()), mean(rows), rstd(rows), dx(x.size()), dgamma(cols), dbeta(cols);
    auto y2 = y, mean2 = mean, rstd2 = rstd, dx2 = dx, dgamma2 = dgamma, dbeta2 = dbeta;
    std::vector<float> workspace(lnorm_backward_workspace_f32(rows, cols) / sizeof(float) + 1);
    REQUIRE(lnorm_forward_f32(rows, cols, x.data(), gamma.data(), beta.data(), 1e-5, y.data(), mean.data(),
                              rstd.data()) == LNORM_OK);
    REQUIRE(lnorm_backward_f32(rows, cols, dy.data(), x.data(), mean.data(), rstd.data(), gamma.data(), dx.data(),
                               dgamma.data(), dbeta.data(), workspace.data(),
                               workspace.size() * sizeof(float)) == LNORM_OK);

    lnorm::norm<float> norm(rows, cols);
    norm.eps(1e-5);
    norm.forward(x, gamma, beta, y2, mean2, rstd2);
    norm.backward(dy, x, mean2, rstd2, gamma, dx2, dgamma2, dbeta2);
    REQUIRE(same(y, y2) && same(mean, mean2) && same(rstd, rstd2));
    REQUIRE(same(dx, dx2) && same(dgamma, dgamma2) && same(dbeta, dbeta2));

    const auto by = [&](const auto &executor) {
        for (auto *output : {&y2, &mean2, &rstd2, &dx2, &dgamma2, &dbeta2}) {
            output->assign(output->size(), 0);
        }
        norm.on(executor).forward(x, gamma, beta, y2, mean2, rstd2);
        std::vector<std::byte> bytes(norm.backward_workspace());
        norm.backward(dy, x, mean2, rstd2, gamma, dx2, dgamma2, dbeta2, bytes);
        norm.on(nullptr);
        return same(y, y2) && same(dx, dx2) && same(dgamma, dgamma2) && same(dbeta, dbeta2);
    };
    const auto backwards = [](size_t count, auto task) {
        while (count-- > 0) {
            task(count);
        }
    };
    REQUIRE(by(backwards));
    REQUIRE(!by([](size_t, auto) {}));
#ifdef __STDCPP_THREADS__
    REQUIRE(by(lnorm::threads(3)));
#endif
#ifdef _OPENMP
    REQUIRE(by(lnorm::openmp()));
    std::printf("OpenMP, ");
#endif

#if __cplusplus >= 202002L
    const std::span<const float, 200> gamma_span(gamma);
    y2.assign(y2.size(), 0);
    norm.forward(std::span(x), gamma_span, std::span<const float>(beta), std::span(y2), {}, std::span(rstd2));
    REQUIRE(same(y, y2) && same(rstd, rstd2));
    static_assert(is_view_of<std::span<float>, float> && !is_view_of<std::span<const float>, float>);
#endif

    std::vector<float> total(x.size());
    norm.add_forward(x, dy, nullptr, gamma, beta, total, y2);
    norm.forward(total, gamma, beta, y);
    REQUIRE(same(y, y2));

    const lnorm::view<const float> three_of_gamma(gamma.data(), 3);
    y2 = y;
    REQUIRE(status_of([&] { return norm.forward(x, three_of_gamma, beta, y2); }) == LNORM_ERROR_SIZE);
    REQUIRE(status_of([&] { return norm.forward(nullptr, gamma, beta, y2); }) == LNORM_ERROR_NULL);
    REQUIRE(status_of([&] { return norm.eps(-1).forward(x, gamma, beta, y2); }) == LNORM_ERROR_EPS);
    REQUIRE(same(y, y2));
    return 0;
}

static int other_types()
{
    const std::array<float, 8> x = {1, 2, 3, 4, 10, 10, 10, 50};
    std::array<std::int8_t, 8> q{};
    std::array<float, 2> scale{};
    lnorm::norm<float, std::int8_t> quantized(2, 4);
    quantized.flags(LNORM_DYNAMIC_SCALE).quantized_forward(x, nullptr, nullptr, q, scale);
    REQUIRE(q[0] == -127 && q[3] == 127 && q[7] == 127 && scale[0] > 0);

    const std::array<lnorm::bf16, 4> ones = {{{0x3f80}, {0x3f80}, {0x3f80}, {0x4000}}};
    std::array<lnorm::bf16, 4> y{};
    const lnorm::norm<lnorm::bf16, lnorm::bf16, lnorm::bf16, lnorm::returns> norm(1, 4);
    REQUIRE(norm.forward(ones, nullptr, nullptr, y) == LNORM_OK);
    REQUIRE(y[0].bits == y[1].bits && y[3].bits == 0x3fde); /* sqrt(3) */
    REQUIRE(norm.forward(lnorm::view<const lnorm::bf16>(ones.data(), 3), nullptr, nullptr, y) == LNORM_ERROR_SIZE);

    lnorm::norm<double> channels(2, 3, 4); /* rows lie side by side, outer indices 20 apart */
    channels.rms().problem().x_stride = 20;
    std::vector<double> in(32, 2.0), out(24);
    channels.forward(in, nullptr, nullptr, out);
    REQUIRE(out[0] == 1.0 && out[23] == 1.0);
    REQUIRE(status_of([&] {
                return channels.forward(lnorm::view<const double>(in.data(), 31), nullptr, nullptr, out);
            }) == LNORM_ERROR_SIZE);
    return 0;
}

int main()
{
    const int failed = layer_norm() != 0 ? 1 : other_types();
    std::printf("C++ %ld, lnorm %s, %s\n", __cplusplus, lnorm_version(), lnorm_isa());
    return failed;
}
