// The arc-cosine kernel kappa_0 of a ReLU and the sine of the angle, at a correlation c.
//
// They give the other kernel too, kappa_1(c) = c kappa_0(c) + sqrt(1 - c^2) / pi, and all
// derivatives (docs/banded_kernel.md). Nothing cancels as c approaches 1. float32 uses one square
// root and one minimax polynomial; float64 uses the angle, which is a square root and a rational
// function.
#pragma once

#include <array>

#include "lanes.hpp"

namespace kipper {

// An angle up to a right one: that of |c|.
template <class T>
struct Angle {
    Lanes<T> cosine;  // |c|; 1 where it counts as 1
    Lanes<T> sine;    // sqrt(1 - c^2); 0 where |c| counts as 1
};

// Smaller distances of |c| from 1 are rounding and count as 0. The angle has a vertical tangent at
// 1: without this threshold, an image's kernel with itself would lose half of its digits.
template <class T>
constexpr T kCoincidence = T(5e-7);
template <>
constexpr double kCoincidence<double> = 1e-15;

// 1 - c^2; |c| may exceed 1 by rounding. NaNs stay NaNs.
template <class T>
KIPPER_INLINE Lanes<T> square_of_sine(Lanes<T> c) {
    if constexpr (kFused) return multiply_add(-c, c, all_lanes<T>(1));  // rounds once
    return (T(1) - c) * (T(1) + c);
}

template <class T>
KIPPER_INLINE Angle<T> angle_of(Lanes<T> c) {
    const Lanes<T> square = square_of_sine<T>(c);
    const auto coincident = square < 2 * kCoincidence<T>;
    const Lanes<T> sine = square_root<T>(square);
    return {coincident ? all_lanes<T>(1) : magnitude<T>(c), coincident ? Lanes<T>{} : sine};
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

// For an angle phi up to pi/4: phi / (pi sqrt(2) sin phi) as a polynomial in sqrt(2) cos phi, from
// the highest power down. At 1, which is pi/4, it is 1/4. Its error times sqrt(2) sin phi is at
// most 1.1e-8.
constexpr std::array<double, 5> kAngleOverSine = {
    0.0021257158416886509, -0.016252296400136997, 0.058510966270742936,
    -0.14507683535275416,  0.35069244964045957,
};

template <class T>
class ScaledArcCosine;

// kappa_0 carries the factor `scale`, at no cost.
//
// With acos t = pi/4 - phi, the sine s and t give sqrt(2) sin phi = t - s and sqrt(2) cos phi =
// t + s. Near cos phi, phi / sin phi is so smooth that a short polynomial is enough.
template <>
class ScaledArcCosine<float> {
  public:
    explicit ScaledArcCosine(float scale)
        : half_(all_lanes<float>(scale / 2)), quarter_(all_lanes<float>(scale / 4)) {
        // Rounded so that Horner's rule at 1 gives a quarter of the scale exactly.
        float left = scale / 4;
        for (std::size_t i = kAngleOverSine.size(); i-- > 0;) {
            double lower = 0;
            for (std::size_t j = 0; j < i; ++j) lower += scale * kAngleOverSine[j];
            const float coefficient = float(left - lower);
            coefficients_[i] = all_lanes<float>(coefficient);
            left -= coefficient;
        }
    }

    // 1 - acos(c) / pi, times the scale. With the angle's distance from a right one, it is 1/2 plus
    // or minus that. At c = 1 it is the scale, exactly.
    KIPPER_INLINE Lanes<float> kappa0(const Angle<float>& angle, Lanes<float> c) const {
        const Lanes<float> sum = angle.cosine + angle.sine;
        Lanes<float> angle_over_sine = coefficients_[0];
#pragma GCC unroll 16
        for (std::size_t i = 1; i < coefficients_.size(); ++i)
            angle_over_sine = angle_over_sine * sum + coefficients_[i];
        const Lanes<float> from_right = quarter_ + (angle.cosine - angle.sine) * angle_over_sine;
        return half_ + with_sign_of<float>(from_right, c);
    }

  private:
    // In lanes, because the compiler would repeat them in each turn of a loop.
    Lanes<float> half_, quarter_;
    std::array<Lanes<float>, kAngleOverSine.size()> coefficients_;
};

// kappa_0 carries the factor `scale`.
template <>
class ScaledArcCosine<double> {
  public:
    explicit ScaledArcCosine(double scale) : scale_(scale) {}

    KIPPER_INLINE Lanes<double> kappa0(const Angle<double>& angle, Lanes<double> c) const {
        const Lanes<double> over_pi = angle_and_rest(angle.cosine, 1 - angle.cosine).angle_over_pi;
        return scale_ * (c < 0 ? over_pi : 1 - over_pi);
    }

  private:
    double scale_;
};

}  // namespace kipper
