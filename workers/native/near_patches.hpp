// Patches that nearly coincide in float32, for CPUs and GPUs: see nearness.hpp.
#pragma once

#include "lanes.hpp"

namespace kipper {

// Patches are near below `kNearGap`, and lose next to nothing above. Below `kLostGap` they lose
// their gradient, and up to 3e-4 of kappa_0; above it, the square of the ratio tells how much
// rounding takes.
constexpr double kNearGap = 1e-3;
constexpr double kLostGap = 5e-7;
// The kernel of a pair is endangered if the lost share of what it averages, summed over its layers,
// is larger than the first, or if the share of near patches at equal places, in any stage, is
// larger than the second.
constexpr double kMostLost = 3e-3;
constexpr double kMostNear = 0.5;
// The same, and the gap below which patches count for `kMostNear`, in networks with pools, which
// average the rounding of their patches.
constexpr double kPooledMostLost = 6e-3;
constexpr double kPooledNearGap = 3e-4;

KIPPER_INLINE constexpr double near_gap(bool only_offset) {
    return only_offset ? kNearGap : kPooledNearGap;
}

KIPPER_INLINE constexpr double most_lost(bool only_offset) {
    return only_offset ? kMostLost : kPooledMostLost;
}

// |c|; 0 where deviations are equal, since patches then coincide exactly or are not near.
template <class T>
KIPPER_INLINE Lanes<T> likeness(Lanes<T> k, Lanes<T> inverses1, Lanes<T> inverses2) {
    const Lanes<T> c = k * (inverses1 * inverses2);
    return inverses1 == inverses2 ? all_lanes<T>(0) : magnitude<T>(c);
}

// The share that near patches lose, of a gap of 1 - |c|.
template <class T>
KIPPER_INLINE Lanes<T> lost_share(Lanes<T> gap) {
    const Lanes<T> ratio = T(kLostGap) / gap;
    return gap < T(kLostGap) ? all_lanes<T>(1) : ratio * ratio;
}

}  // namespace kipper
