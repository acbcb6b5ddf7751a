// The arc-cosine kernels of a ReLU, kappa_0 and kappa_1, at a correlation c, and their derivatives.
//
// Nothing cancels as c approaches 1 (docs/banded_kernel.md): with t = |c|,
//     kappa_1(c) = max(c, 0) + (sqrt(1 - t^2) - t acos t) / pi
//     kappa_0(c) = 1 - acos(t) / pi if c >= 0, else acos(t) / pi
// float32 uses one square root and two minimax polynomials, with relative errors of 1e-7; float64
// uses the angle, which is a square root and a rational function.
#pragma once

#include "lanes.hpp"

namespace kipper {

template <class T>
struct ArcCosine {
    Lanes<T> kappa0;
    Lanes<T> kappa1;
};

// The backward pass does not need kappa_1 itself.
template <class T>
struct ArcCosineVjp {
    Lanes<T> kappa0;        // and the derivative of kappa_1
    Lanes<T> kappa0_slope;  // 1 / (pi sqrt(1 - c^2)); 0 where c counts as 1
    Lanes<T> sine;          // sqrt(1 - c^2) / pi, which is kappa_1 - c kappa_0
};

// Smaller distances of |c| from 1 are rounding and count as 0. The angle has a vertical tangent at
// 1: without this threshold, an image's kernel with itself would lose half of its digits.
template <class T>
constexpr T kCoincidence = T(5e-7);
template <>
constexpr double kCoincidence<double> = 1e-15;

// 1 - t, or 0 if that is rounding; t may exceed 1 by rounding.
template <class T>
KIPPER_INLINE Lanes<T> distance_from_one(Lanes<T> t) {
    const Lanes<T> distance = T(1) - t;
    return distance < kCoincidence<T> ? Lanes<T>{} : distance;
}

template <class T>
KIPPER_INLINE Lanes<T> kappa0_from_angle(Lanes<T> c, Lanes<T> angle_over_pi) {
    return c < T(0) ? angle_over_pi : T(1) - angle_over_pi;
}

constexpr double kOneOverPi = 0.31830988618379067154;

// Minimax polynomials in t, from the highest power down. acos(t) / sqrt(1 - t):
constexpr double kAngle[] = {
    0.0022794196847826242, -0.011096799746155739, 0.026844657957553864, -0.04877406731247902,
    0.08874904364347458,   -0.21458470821380615,  1.5707961320877075,
};
// (sqrt(1 - t^2) - t acos t) / (1 - t)^(3/2):
constexpr double kRest[] = {
    -0.0005327846156433225, 0.0026009585708379745, -0.007156701758503914,
    0.018684444949030876,   -0.07078687101602554,  0.9999998807907104,
};
// acos(t) / sqrt(1 - t^2):
constexpr double kAngleOverSine[] = {
    0.017478657886385918, -0.09726409614086151, 0.25208479166030884,
    -0.42358121275901794, 0.5565553903579712,   -0.660969078540802,
    0.7848809361457825,   -0.9999815225601196,  1.570796251296997,
};

// A polynomial divided by pi, by Horner's rule.
template <std::size_t kCount>
KIPPER_INLINE Lanes<float> over_pi(const double (&coefficients)[kCount], Lanes<float> x) {
    Lanes<float> value = all_lanes<float>(float(coefficients[0] * kOneOverPi));
#pragma GCC unroll 16
    for (std::size_t i = 1; i < kCount; ++i)
        value = value * x + float(coefficients[i] * kOneOverPi);
    return value;
}

template <class T>
struct AngleAndRest {
    Lanes<T> angle_over_pi;  // acos t
    Lanes<T> rest_over_pi;   // sqrt(1 - t^2) - t acos t
};

// For t from 0 to 1 and gap = 1 - t, or gap = 0 where that is rounding. NaNs stay NaNs.
KIPPER_INLINE AngleAndRest<float> angle_and_rest(Lanes<float> t, Lanes<float> gap) {
    const Lanes<float> root = square_root<float>(gap);
    return {root * over_pi(kAngle, t), root * gap * over_pi(kRest, t)};
}

KIPPER_INLINE ArcCosineVjp<float> arc_cosine_vjp(Lanes<float> c) {
    const Lanes<float> t = magnitude<float>(c);
    const Lanes<float> distance = distance_from_one<float>(t);
    const Lanes<float> root = square_root<float>(distance * (1 + t));
    const Lanes<float> slope = distance == 0 ? Lanes<float>{} : float(kOneOverPi) / root;
    return {kappa0_from_angle<float>(c, root * over_pi(kAngleOverSine, t)), slope,
            root * float(kOneOverPi)};
}

// (asin(x) - x) / x as a function of z = x^2 up to 1/4, from the highest power down.
// Coefficients of fdlibm's e_asin.c (Sun Microsystems, 1993), whose error is below 2^-58.
constexpr double kArcsineNumerator[] = {
    3.47933107596021167570e-05, 7.91534994289814532176e-04,  -4.00555345006794114027e-02,
    2.01212532134862925881e-01, -3.25565818622400915405e-01, 1.66666666666666657415e-01,
};
constexpr double kArcsineDenominator[] = {
    7.70381505559019352791e-02,
    -6.88283971605453293030e-01,
    2.02094576023350569471e+00,
    -2.40339491173441421878e+00,
    1.0,
};

// By Horner's rule.
template <std::size_t kCount>
KIPPER_INLINE Lanes<double> polynomial(const double (&coefficients)[kCount], Lanes<double> x) {
    Lanes<double> value = all_lanes<double>(coefficients[0]);
#pragma GCC unroll 16
    for (std::size_t i = 1; i < kCount; ++i) value = value * x + coefficients[i];
    return value;
}

KIPPER_INLINE AngleAndRest<double> angle_and_rest(Lanes<double> t, Lanes<double> gap) {
    // Near 1, acos t = 2 asin sqrt(gap / 2), else pi/2 - asin t: no argument of asin exceeds 1/2.
    const Lanes<double> root = square_root<double>(gap);
    const auto near = gap < 0.5;
    const Lanes<double> x = near ? 0.70710678118654752440 * root : t;
    const Lanes<double> z = near ? 0.5 * gap : t * t;
    const Lanes<double> rest = z * polynomial(kArcsineNumerator, z);
    const Lanes<double> arcsine = x + x * (rest / polynomial(kArcsineDenominator, z));
    const Lanes<double> angle = near ? 2 * arcsine : 1.57079632679489661923 - arcsine;
    return {angle * kOneOverPi, (root * square_root<double>(2 - gap) - t * angle) * kOneOverPi};
}

template <class T>
KIPPER_INLINE ArcCosine<T> arc_cosine(Lanes<T> c) {
    const Lanes<T> t = magnitude<T>(c);
    const auto [angle, rest] = angle_and_rest(t, distance_from_one<T>(t));
    return {kappa0_from_angle<T>(c, angle), positive_part<T>(c) + rest};
}

KIPPER_INLINE ArcCosineVjp<double> arc_cosine_vjp(Lanes<double> c) {
    const Lanes<double> t = magnitude<double>(c);
    const Lanes<double> distance = distance_from_one<double>(t);
    const Lanes<double> sine = square_root<double>(distance * (1 + t));
    const Lanes<double> slope = distance == 0 ? Lanes<double>{} : kOneOverPi / sine;
    const Lanes<double> angle_over_pi = angle_and_rest(t, distance).angle_over_pi;
    return {kappa0_from_angle<double>(c, angle_over_pi), slope, sine * kOneOverPi};
}

}  // namespace kipper
