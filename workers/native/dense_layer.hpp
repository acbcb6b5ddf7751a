// One Dense layer and its ReLU, for a register of pairs; see dense_chain.hpp.
#pragma once

#include <limits>

#include "arc_cosine.hpp"

namespace kipper {

// Standard deviations of one image of batch 1, or of a register of images of batch 2. The shares
// are cosine and sine of one angle; of an image of deviation 0 they are 0 and 1.
template <class Value>
struct Deviations {
    Value sigma;
    Value inverse;  // 1 / sigma, or 0 for 0
    Value weights;  // the deviation before the bias is added, over sigma
    Value bias;     // the deviation of the bias, over sigma
};

template <class T>
struct DenseLayer {
    Lanes<T> gap;      // 1 - c, 0 where the images coincide
    Lanes<T> k0;       // kappa_0(c)
    Lanes<T> tangent;  // over the product of the standard deviations
    Lanes<T> deficit;  // 1 - kappa_1(c)
};

// 1 - c behind a Dense layer, from the `deficit` in front of it; the bias makes it smaller.
template <class T>
KIPPER_INLINE Lanes<T> gap_behind(const Deviations<T>& one, const Deviations<Lanes<T>>& two,
                                  Lanes<T> deficit) {
    const Lanes<T> apart = one.weights - two.weights, bias_apart = one.bias - two.bias;
    return one.weights * two.weights * deficit + T(0.5) * (apart * apart + bias_apart * bias_apart);
}

// Directions closer than 16 epsilons count as equal.
template <class T>
constexpr T kCoincidentGap =
    T(128) * std::numeric_limits<T>::epsilon() * std::numeric_limits<T>::epsilon();

template <class T>
KIPPER_INLINE DenseLayer<T> dense_layer(const Deviations<T>& one, const Deviations<Lanes<T>>& two,
                                        Lanes<T> deficit, Lanes<T> carried) {
    Lanes<T> gap = gap_behind<T>(one, two, deficit);
    gap = gap > T(2) ? all_lanes<T>(2) : gap;
    gap = gap <= kCoincidentGap<T> ? Lanes<T>{} : gap;
    const auto acute = gap <= T(1);
    const Lanes<T> folded = acute ? gap : T(2) - gap;  // 1 - |c|
    const auto [angle, rest] = angle_and_rest(T(1) - folded, folded);
    DenseLayer<T> layer;
    layer.gap = gap;
    layer.k0 = acute ? T(1) - angle : angle;
    layer.tangent = one.weights * two.weights * carried + (T(1) - gap);
    layer.deficit = (acute ? gap : all_lanes<T>(1)) - rest;
    return layer;
}

}  // namespace kipper
