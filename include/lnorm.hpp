/// @file
/// lnorm in C++17, header only: arguments that know their element type and size, errors as exceptions or as statuses,
/// threads. What is computed, and what each argument is, says lnorm.h; arguments have the names and the order that they
/// have there.
///
///     lnorm::norm<float> norm(rows, cols);
///     norm.eps(1e-5).forward(x, gamma, beta, y);
///
/// Element types are float, double, lnorm::f16 and lnorm::bf16 (and std::float16_t, std::bfloat16_t where there are
/// such). An argument is a view: a pointer and a size, anything that has data() and size(), or nullptr where absent.
#ifndef LNORM_HPP
#define LNORM_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>
#ifdef __STDCPP_THREADS__
#include <thread>
#endif
#if defined(__has_include)
#if __has_include(<stdfloat>) && __cplusplus > 202002L
#include <stdfloat>
#endif
#endif

#include "lnorm.h"

/// lnorm in C++17.
namespace lnorm
{

// ---- Element types ----

/// IEEE 754 binary16.
struct f16 {
    std::uint16_t bits; ///< sign, 5 of the exponent, 10 of the fraction
};
/// The upper half of a float.
struct bf16 {
    std::uint16_t bits; ///< sign, 8 of the exponent, 7 of the fraction
};

/// What element says of a type.
template <lnorm_type Type, class Real> struct element_of {
    static constexpr lnorm_type type = Type; ///< the C type's code
    using real = Real; ///< the type of the arithmetic: of mean, rstd, dgamma, dbeta, moments and the workspace
};
/// The types that elements may have: those for which this is defined.
template <class T> struct element;
/// float, computed in float
template <> struct element<float> : element_of<LNORM_F32, float> {
};
/// double, computed in double
template <> struct element<double> : element_of<LNORM_F64, double> {
};
/// binary16, computed in float
template <> struct element<f16> : element_of<LNORM_F16, float> {
};
/// bfloat16, computed in float
template <> struct element<bf16> : element_of<LNORM_BF16, float> {
};
/// only as y of quantized_forward
template <> struct element<std::int8_t> : element_of<LNORM_I8, void> {
};
/// only as y of quantized_forward
template <> struct element<std::uint8_t> : element_of<LNORM_U8, void> {
};
#ifdef __STDCPP_FLOAT16_T__
/// C++23's binary16
template <> struct element<std::float16_t> : element<f16> {
};
#endif
#ifdef __STDCPP_BFLOAT16_T__
/// C++23's bfloat16
template <> struct element<std::bfloat16_t> : element<bf16> {
};
#endif

// ---- Errors ----

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
/// What a call throws: the status, and a sentence.
class error : public std::invalid_argument
{
  public:
    /// What went wrong, in numbers and in words.
    error(lnorm_status status, const std::string &text) : std::invalid_argument("lnorm: " + text), status_(status)
    {
    }
    /// As the C function returned it.
    lnorm_status status() const noexcept
    {
        return status_;
    }

  private:
    lnorm_status status_;
};

/// Calls return nothing, and throw lnorm::error.
struct throws {
    using result = void; ///< of a call
    /// An argument is too short.
    static void refuse(lnorm_status status, const char *argument, std::size_t got, std::size_t needed)
    {
        throw error(status, std::string(argument) + " has " + std::to_string(got) + " elements, " +
                                std::to_string(needed) + " are needed");
    }
    /// What the C function returned.
    static void give(lnorm_status status)
    {
        if (status != LNORM_OK) {
            throw error(status, lnorm_status_text(status));
        }
    }
};
#endif

/// Calls return the status; LNORM_ERROR_SIZE too where an argument is shorter than it must be.
struct returns {
    using result = lnorm_status; ///< of a call
    /// An argument is too short.
    static lnorm_status refuse(lnorm_status status, const char *, std::size_t, std::size_t) noexcept
    {
        return status;
    }
    /// What the C function returned.
    static lnorm_status give(lnorm_status status) noexcept
    {
        return status;
    }
};

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
using default_errors = throws; ///< returns, where the compiler is told to do without exceptions
#else
using default_errors = returns;
#endif

// ---- Arguments ----

/// Elements in a row; of const T for inputs. Like std::span, it owns nothing. Absent is nullptr, or {}.
template <class T> class view
{
  public:
    /// Absent.
    constexpr view() noexcept = default;
    /// Absent.
    constexpr view(std::nullptr_t) noexcept
    {
    }
    /// The elements from data on.
    constexpr view(T *data, std::size_t size) noexcept : data_(data), size_(size)
    {
    }
    /// All elements of what has data() and size(), or is an array.
    template <class Container,
              class = std::enable_if_t<std::is_convertible_v<decltype(std::data(std::declval<Container &>())), T *>>>
    constexpr view(Container &&container) noexcept : data_(std::data(container)), size_(std::size(container))
    {
    }
    /// The first; nullptr where absent.
    constexpr T *data() const noexcept
    {
        return data_;
    }
    /// How many.
    constexpr std::size_t size() const noexcept
    {
        return size_;
    }

  private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

// ---- Executors: what shares the work out (norm::on) ----

#ifdef __STDCPP_THREADS__
/// Threads of its own for each call, at most so many. For many short calls a pool is better: any lambda will do.
class threads
{
  public:
    /// As many as the machine has, unless told otherwise; the calling one is among them.
    explicit threads(unsigned most = std::thread::hardware_concurrency()) : threads_(most > 0 ? most : 1)
    {
    }

    /// Calls the task for each number below count.
    template <class Task> void operator()(std::size_t count, Task task) const
    {
        std::atomic<std::size_t> next{0};
        const auto work = [&] {
            for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
                task(i);
            }
        };
        std::vector<std::thread> others;
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
        try {
            start(others, count, work);
        } catch (const std::exception &) { // no more threads: those that there are do the work
        }
#else
        start(others, count, work);
#endif
        work();
        for (std::thread &other : others) {
            other.join();
        }
    }

  private:
    template <class Work> void start(std::vector<std::thread> &others, std::size_t count, const Work &work) const
    {
        const std::size_t wanted = count < threads_ ? count : threads_;
        others.reserve(wanted);
        while (others.size() + 1 < wanted) {
            others.emplace_back(work);
        }
    }

    unsigned threads_;
};
#endif

#ifdef _OPENMP
/// OpenMP's threads, where the compiler is told to use it.
struct openmp {
    /// Calls the task for each number below count.
    template <class Task> void operator()(std::size_t count, Task task) const
    {
        const auto end = static_cast<std::int64_t>(count);
#pragma omp parallel for
        for (std::int64_t i = 0; i < end; i++) {
            task(static_cast<std::size_t>(i));
        }
    }
};
#endif

// ---- The calls ----

/// Layer normalization, or RMS norm, of x of T, with y of Y and parameters of P: lnorm_problem with its types set.
///
/// Arguments are checked for their size, which must be what shape and strides ask for, or more; where a stride is
/// negative the size is taken on trust.
template <class T, class Y = T, class P = T, class Errors = default_errors> class norm
{
  public:
    using real = typename element<T>::real; ///< the type of the arithmetic
    using result = typename Errors::result; ///< of a call: void, or lnorm_status

    /// The problem's sizes; outer rows of norm_size elements, where inner is 1.
    norm(std::int64_t outer, std::int64_t norm_size, std::int64_t inner = 1) noexcept
    {
        problem_.x_type = element<T>::type;
        problem_.y_type = element<Y>::type;
        problem_.param_type = element<P>::type;
        problem_.outer = outer;
        problem_.norm = norm_size;
        problem_.inner = inner;
    }

    /// What is added to the variance, 0 until then.
    norm &eps(double eps) noexcept
    {
        return problem_.eps = eps, *this;
    }
    /// RMS norm instead of layer normalization.
    norm &rms(bool rms = true) noexcept
    {
        return problem_.operation = rms ? LNORM_RMS_NORM : LNORM_LAYER_NORM, *this;
    }
    /// All of the problem's flags.
    norm &flags(std::uint32_t flags) noexcept
    {
        return problem_.flags = flags, *this;
    }

    /// Shares the work of the following calls out by the executor, which must live as long.
    ///
    /// It is anything that is called with a count and a function, calls that for each number below count, in any order
    /// and on any threads, and returns when all have ended. It must not throw. The result does not depend on it.
    template <class Executor> norm &on(const Executor &executor) noexcept
    {
        problem_.parallel_for = [](void *context, std::size_t count, lnorm_task task, void *argument) noexcept {
            (*static_cast<const Executor *>(context))(count, [=](std::size_t i) { task(argument, i); });
        };
        problem_.parallel_context = const_cast<void *>(static_cast<const void *>(&executor));
        return *this;
    }
    /// From now on all is done on the calling thread, as at first.
    norm &on(std::nullptr_t) noexcept
    {
        problem_.parallel_for = nullptr;
        problem_.parallel_context = nullptr;
        return *this;
    }

    /// Everything else: strides, several gammas, runs of elements.
    lnorm_problem &problem() noexcept
    {
        return problem_;
    }
    /// As it is now.
    const lnorm_problem &problem() const noexcept
    {
        return problem_;
    }

    /// lnorm_forward().
    result forward(view<const T> x, view<const P> gamma, view<const P> beta, view<Y> y, view<real> mean = {},
                   view<real> rstd = {}) const
    {
        const need needs[] = {{"x", x, elements(problem_.x_stride, problem_.x_norm_stride)},
                              {"gamma", gamma, parameters()},
                              {"beta", beta, parameters()},
                              {"y", y, elements(problem_.y_stride, problem_.y_norm_stride)},
                              {"mean", mean, rows()},
                              {"rstd", rstd, rows()}};
        return call(needs, [&] {
            return lnorm_forward(&problem_, x.data(), gamma.data(), beta.data(), y.data(), mean.data(), rstd.data());
        });
    }

    /// lnorm_backward(). Without a workspace, as many bytes as it needs are allocated for the call.
    result backward(view<const Y> dy, view<const T> x, view<const real> mean, view<const real> rstd,
                    view<const P> gamma, view<T> dx, view<real> dgamma = {}, view<real> dbeta = {},
                    view<std::byte> workspace = {}) const
    {
        const need needs[] = {{"dy", dy, elements(problem_.dy_stride, problem_.dy_norm_stride)},
                              {"x", x, elements(problem_.x_stride, problem_.x_norm_stride)},
                              {"mean", mean, rows()},
                              {"rstd", rstd, rows()},
                              {"gamma", gamma, parameters()},
                              {"dx", dx, elements(problem_.dx_stride, problem_.dx_norm_stride)},
                              {"dgamma", dgamma, parameters()},
                              {"dbeta", dbeta, parameters()}};
        return with_workspace(needs, dgamma.data() || dbeta.data(), workspace, [&](void *bytes, std::size_t size) {
            return lnorm_backward(&problem_, dy.data(), x.data(), mean.data(), rstd.data(), gamma.data(), dx.data(),
                                  dgamma.data(), dbeta.data(), bytes, size);
        });
    }

    /// lnorm_add_forward().
    result add_forward(view<const T> x, view<const T> residual, view<const P> input_bias, view<const P> gamma,
                       view<const P> beta, view<T> total, view<Y> y, view<real> mean = {}, view<real> rstd = {}) const
    {
        const need needs[] = {{"x", x, elements(problem_.x_stride, problem_.x_norm_stride)},
                              {"residual", residual, residual_elements()},
                              {"input_bias", input_bias, size(problem_.norm)},
                              {"gamma", gamma, parameters()},
                              {"beta", beta, parameters()},
                              {"total", total, elements(problem_.total_stride, 0)},
                              {"y", y, elements(problem_.y_stride, problem_.y_norm_stride)},
                              {"mean", mean, rows()},
                              {"rstd", rstd, rows()}};
        return call(needs, [&] {
            return lnorm_add_forward(&problem_, x.data(), residual.data(), input_bias.data(), gamma.data(), beta.data(),
                                     total.data(), y.data(), mean.data(), rstd.data());
        });
    }

    /// lnorm_add_backward(), with a workspace as for backward.
    result add_backward(view<const Y> dy, view<const T> dtotal, view<const T> total, view<const real> mean,
                        view<const real> rstd, view<const P> gamma, view<T> dx, view<real> dgamma = {},
                        view<real> dbeta = {}, view<std::byte> workspace = {}) const
    {
        const need needs[] = {{"dy", dy, elements(problem_.dy_stride, problem_.dy_norm_stride)},
                              {"dtotal", dtotal, elements(problem_.total_stride, 0)},
                              {"total", total, elements(problem_.total_stride, 0)},
                              {"mean", mean, rows()},
                              {"rstd", rstd, rows()},
                              {"gamma", gamma, parameters()},
                              {"dx", dx, elements(problem_.dx_stride, problem_.dx_norm_stride)},
                              {"dgamma", dgamma, parameters()},
                              {"dbeta", dbeta, parameters()}};
        return with_workspace(needs, dgamma.data() || dbeta.data(), workspace, [&](void *bytes, std::size_t size) {
            return lnorm_add_backward(&problem_, dy.data(), dtotal.data(), total.data(), mean.data(), rstd.data(),
                                      gamma.data(), dx.data(), dgamma.data(), dbeta.data(), bytes, size);
        });
    }

    /// lnorm_quantized_forward(); Y is std::int8_t or std::uint8_t.
    result quantized_forward(view<const T> x, view<const P> gamma, view<const P> beta, view<Y> y, view<real> scale,
                             view<std::int32_t> zero_point = {}, view<real> mean = {}, view<real> rstd = {}) const
    {
        const std::size_t scales = problem_.flags & LNORM_DYNAMIC_SCALE ? rows() : 1;
        const need needs[] = {{"x", x, elements(problem_.x_stride, problem_.x_norm_stride)},
                              {"gamma", gamma, parameters()},
                              {"beta", beta, parameters()},
                              {"y", y, elements(problem_.y_stride, problem_.y_norm_stride)},
                              {"scale", scale, scales},
                              {"zero_point", zero_point, scales},
                              {"mean", mean, rows()},
                              {"rstd", rstd, rows()}};
        return call(needs, [&] {
            return lnorm_quantized_forward(&problem_, x.data(), gamma.data(), beta.data(), y.data(), scale.data(),
                                           zero_point.data(), mean.data(), rstd.data());
        });
    }

    /// Bytes of workspace that any backward call needs; SIZE_MAX where the problem is refused.
    std::size_t backward_workspace() const noexcept
    {
        std::size_t size = SIZE_MAX;
        return lnorm_backward_workspace(&problem_, &size) == LNORM_OK ? size : SIZE_MAX;
    }

  private:
    struct need {
        template <class E>
        need(const char *argument, const view<E> &given, std::size_t elements) noexcept
            : name(argument), absent(given.data() == nullptr), got(given.size()), needed(elements)
        {
        }
        const char *name;
        bool absent;
        std::size_t got, needed;
    };

    static std::size_t size(std::int64_t n) noexcept
    {
        return n > 0 ? static_cast<std::size_t>(n) : 0;
    }
    static std::size_t size_or_one(std::int64_t n) noexcept
    {
        return n > 0 ? static_cast<std::size_t>(n) : 1;
    }

    std::size_t inner() const noexcept
    {
        return size_or_one(problem_.inner);
    }
    std::size_t rows() const noexcept
    {
        return size(problem_.outer) * inner();
    }
    std::size_t parameters() const noexcept
    {
        return size_or_one(problem_.param_rows) * (size(problem_.norm) / size_or_one(problem_.param_run));
    }
    std::size_t residual_elements() const noexcept
    {
        const std::size_t own = size(problem_.residual_rows);
        return extent(own > 0 ? own : size(problem_.outer), problem_.residual_stride, 0);
    }
    std::size_t elements(std::int64_t stride, std::int64_t norm_stride) const noexcept
    {
        return extent(size(problem_.outer), stride, norm_stride);
    }

    // Elements from the first to the last. What overflows here is refused by the library itself.
    std::size_t extent(std::size_t outer, std::int64_t stride, std::int64_t norm_stride) const noexcept
    {
        if (outer == 0 || problem_.norm <= 0 || (stride < 0 && stride != LNORM_BROADCAST) || norm_stride < 0) {
            return 0;
        }
        const std::size_t step = norm_stride != 0 ? size(norm_stride) : inner();
        const std::size_t one = (size(problem_.norm) - 1) * step + inner();
        return (outer - 1) * (stride != 0 ? size(stride) : size(problem_.norm) * inner()) + one;
    }

    template <std::size_t N, class Call> result call(const need (&needs)[N], const Call &call) const
    {
        for (const need &argument : needs) {
            if (!argument.absent && argument.got < argument.needed) {
                return Errors::refuse(LNORM_ERROR_SIZE, argument.name, argument.got, argument.needed);
            }
        }
        return Errors::give(call());
    }

    template <std::size_t N, class Call>
    result with_workspace(const need (&needs)[N], bool wanted, view<std::byte> given, const Call &backward) const
    {
        std::vector<real> own;
        if (wanted && given.data() == nullptr) {
            const std::size_t bytes = backward_workspace();
            own.resize(bytes != SIZE_MAX ? (bytes + sizeof(real) - 1) / sizeof(real) : 0);
            given = {reinterpret_cast<std::byte *>(own.data()), own.size() * sizeof(real)};
        }
        return call(needs, [&] { return backward(given.data(), given.size()); });
    }

    lnorm_problem problem_ = LNORM_PROBLEM_INIT;
};

} // namespace lnorm

#endif
