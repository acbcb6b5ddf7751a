// One vector, by the vector extensions of GCC and clang.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#if defined(__FMA__)
#include <immintrin.h>
#elif defined(KIPPER_ONE_REGISTER) && defined(__aarch64__)
#include <arm_neon.h>
#endif

#define KIPPER_INLINED __attribute__((always_inline))
#define KIPPER_INLINE inline KIPPER_INLINED

namespace kipper {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#elif defined(__aarch64__) && defined(__clang__) && !defined(KIPPER_ONE_REGISTER)
// Two registers of NEON. By clang, kernels then take a fifth fewer instructions than with one. By
// GCC 12, which keeps pairs of registers in memory, they take a quarter more.
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct LaneTypes;

template <>
struct LaneTypes<float> {
    typedef float Vector __attribute__((vector_size(kVectorBytes)));
    typedef std::int32_t Bits __attribute__((vector_size(kVectorBytes)));
    static constexpr std::int32_t kAllButSign = INT32_MAX;
};

template <>
struct LaneTypes<double> {
    typedef double Vector __attribute__((vector_size(kVectorBytes)));
    typedef std::int64_t Bits __attribute__((vector_size(kVectorBytes)));
    static constexpr std::int64_t kAllButSign = INT64_MAX;
};

template <class T>
using Lanes = typename LaneTypes<T>::Vector;

template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T>
KIPPER_INLINE Lanes<T> all_lanes(T value) {
    return Lanes<T>{} + value;
}

template <class T>
KIPPER_INLINE Lanes<T> magnitude(Lanes<T> x) {
    using Bits = typename LaneTypes<T>::Bits;
    return (Lanes<T>)((Bits)x & LaneTypes<T>::kAllButSign);
}

// x, or -x in lanes where the sign of `of` is negative.
template <class T>
KIPPER_INLINE Lanes<T> with_sign_of(Lanes<T> x, Lanes<T> of) {
    using Bits = typename LaneTypes<T>::Bits;
    return (Lanes<T>)((Bits)x ^ ((Bits)of & ~LaneTypes<T>::kAllButSign));
}

// Whether `multiply_add` rounds once, which changes bits.
#if defined(__FMA__) || (defined(KIPPER_ONE_REGISTER) && defined(__aarch64__))
constexpr bool kFused = true;
#else
constexpr bool kFused = false;
#endif

// a b + c. Intrinsics, because -ffp-contract=off, which matmul.hpp needs, separates expressions.
KIPPER_INLINE Lanes<float> multiply_add(Lanes<float> a, Lanes<float> b, Lanes<float> c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
    return _mm256_fmadd_ps(a, b, c);
#elif defined(KIPPER_ONE_REGISTER) && defined(__aarch64__)
    return vfmaq_f32(c, a, b);
#else
    return a * b + c;
#endif
}

KIPPER_INLINE Lanes<double> multiply_add(Lanes<double> a, Lanes<double> b, Lanes<double> c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_pd(a, b, c);
#elif defined(__FMA__)
    return _mm256_fmadd_pd(a, b, c);
#elif defined(KIPPER_ONE_REGISTER) && defined(__aarch64__)
    return vfmaq_f64(c, a, b);
#else
    return a * b + c;
#endif
}

// Whether x is 0, but not -0. Of integers, because processors compare floating-point numbers where
// they multiply.
template <class T>
KIPPER_INLINE auto is_zero(Lanes<T> x) {
    return (typename LaneTypes<T>::Bits)x == 0;
}

// A NaN stays one.
template <class T>
KIPPER_INLINE Lanes<T> positive_part(Lanes<T> x) {
    return x < T(0) ? Lanes<T>{} : x;
}

// A loop over lanes that the compiler turns into one instruction.
template <class T>
KIPPER_INLINE Lanes<T> square_root(Lanes<T> x) {
    Lanes<T> root{};
    for (int lane = 0; lane < kLanes<T>; ++lane) root[lane] = std::sqrt(x[lane]);
    return root;
}

}  // namespace kipper
