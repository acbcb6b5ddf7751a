// One Dense layer and its ReLU, for a register of pairs; see dense_chain.hpp.
#pragma once

#include <limits>

#include "arc_cosine.hpp"

namespace kipper {

// Of images alone: of one for batch 1, of a register of them for batch 2.
template <class Value>
struct Deviations {
    Value into;     // standard deviation before the bias is added
    Value sigma;    // and after
    Value inverse;  // 1 / sigma, or 0 for 0
};

template <class T>
struct DenseLayer {
    Lanes<T> gap;      // 1 - c, 0 where the images coincide
    Lanes<T> half_k0;  // kappa_0(c) / 2
    Lanes<T> tangent;
    Lanes<T> deficit;  // 1 - kappa_1(c)
};

template <class T>
struct AngleAndRest {
    Lanes<T> angle_over_pi;  // acos t
    Lanes<T> rest_over_pi;   // sqrt(1 - t^2) - t acos t
};

// Of t = 1 - gap, 0 <= gap <= 1.
KIPPER_INLINE AngleAndRest<float> angle_and_rest(Lanes<float> gap) {
    const Lanes<float> t = 1 - gap, root = square_root<float>(gap);
    return {root * over_pi(kAngle, t), root * gap * over_pi(kRest, t)};
}

// asin x = x + x z R(z) / S(z) with z = x^2, x <= 1/2, as in workers/arc_cosine.py.
KIPPER_INLINE AngleAndRest<double> angle_and_rest(Lanes<double> gap) {
    const Lanes<double> t = 1 - gap, root = square_root<double>(gap);
    const auto large = gap < 0.5;
    const Lanes<double> x = large ? 0.70710678118654752440 * root : t;
    const Lanes<double> z = large ? 0.5 * gap : t * t;
    const Lanes<double> numerator =
        1.66666666666666657415e-01 +
        z * (-3.25565818622400915405e-01 +
             z * (2.01212532134862925881e-01 +
                  z * (-4.00555345006794114027e-02 +
                       z * (7.91534994289814532176e-04 + z * 3.47933107596021167570e-05))));
    const Lanes<double> denominator =
        1 + z * (-2.40339491173441421878e+00 +
                 z * (2.02094576023350569471e+00 +
                      z * (-6.88283971605453293030e-01 + z * 7.70381505559019352791e-02)));
    const Lanes<double> asin = x + x * z * numerator / denominator;
    const Lanes<double> acos = large ? 2 * asin : 1.57079632679489661923 - asin;
    return {acos * kOneOverPi, (root * square_root<double>(2 - gap) - t * acos) * kOneOverPi};
}

// 1 - c behind a Dense layer, of 1 - c in front of it; the bias brings directions together.
template <class T>
KIPPER_INLINE Lanes<T> gap_behind(const Deviations<T>& one, const Deviations<Lanes<T>>& two, T b2,
                                  Lanes<T> deficit) {
    const Lanes<T> p = one.into * two.into, s = one.sigma * two.sigma;
    const Lanes<T> apart = one.into - two.into, sum = s + p + b2;
    constexpr T kTiny = std::numeric_limits<T>::min();
    const Lanes<T> between = b2 * apart * apart / (sum < kTiny ? all_lanes<T>(kTiny) : sum);
    const Lanes<T> gap = (p * deficit + between) * (one.inverse * two.inverse);
    return s > T(0) ? gap : all_lanes<T>(1);
}

// Directions closer than 16 epsilons are taken for equal.
template <class T>
constexpr T kCoincidentGap =
    T(128) * std::numeric_limits<T>::epsilon() * std::numeric_limits<T>::epsilon();

template <class T>
KIPPER_INLINE DenseLayer<T> dense_layer(const Deviations<T>& one, const Deviations<Lanes<T>>& two,
                                        T b2, Lanes<T> deficit, Lanes<T> carried) {
    Lanes<T> gap = gap_behind<T>(one, two, b2, deficit);
    gap = gap > T(2) ? all_lanes<T>(2) : gap;
    gap = gap <= kCoincidentGap<T> ? Lanes<T>{} : gap;
    const auto acute = gap <= T(1);
    const auto [angle, rest] = angle_and_rest(acute ? gap : T(2) - gap);
    DenseLayer<T> layer;
    layer.gap = gap;
    layer.half_k0 = T(0.5) * (acute ? T(1) - angle : angle);
    layer.tangent = carried + one.sigma * two.sigma * (T(1) - gap);
    layer.deficit = (acute ? gap : all_lanes<T>(1)) - rest;
    return layer;
}

}  // namespace kipper
