// One Dense layer and its ReLU, for a register of pairs; see dense_chain.hpp.
#pragma once

#include <limits>

#include "arc_cosine.hpp"

namespace kipper {

// Of one image of batch 1, or of a register of images of batch 2.
template <class Value>
struct Deviations {
    Value into;     // standard deviation before the bias is added
    Value sigma;    // standard deviation after the bias is added
    Value inverse;  // 1 / sigma, or 0 for 0
};

template <class T>
struct DenseLayer {
    Lanes<T> gap;      // 1 - c, 0 where the images coincide
    Lanes<T> half_k0;  // kappa_0(c) / 2
    Lanes<T> tangent;
    Lanes<T> deficit;  // 1 - kappa_1(c)
};

// 1 - c behind a Dense layer, from the `deficit` in front of it; the bias makes it smaller.
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

// Directions closer than 16 epsilons count as equal.
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
    const Lanes<T> folded = acute ? gap : T(2) - gap;  // 1 - |c|
    const auto [angle, rest] = angle_and_rest(T(1) - folded, folded);
    DenseLayer<T> layer;
    layer.gap = gap;
    layer.half_k0 = T(0.5) * (acute ? T(1) - angle : angle);
    layer.tangent = carried + one.sigma * two.sigma * (T(1) - gap);
    layer.deficit = (acute ? gap : all_lanes<T>(1)) - rest;
    return layer;
}

}  // namespace kipper
