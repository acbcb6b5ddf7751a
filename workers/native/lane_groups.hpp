// Groups of as many lanes as the widest vector has. Sums over images are taken by groups, so that
// the width of a vector changes no bit.
#pragma once

#include "lanes.hpp"

namespace kipper {

constexpr int kGroupBytes = 64;
constexpr int kGroupVectors = kGroupBytes / kVectorBytes;

// Adds up the lanes of a group, in order: out[i] is the sum over vectors[i], vectors[size + i], …
template <class T>
void sum_over_groups(const Lanes<T>* vectors, std::size_t size, T* out) {
    for (std::size_t i = 0; i < size; ++i) {
        T sum = 0;
        for (int vector = 0; vector < kGroupVectors; ++vector)
            for (int lane = 0; lane < kLanes<T>; ++lane) sum += vectors[vector * size + i][lane];
        out[i] = sum;
    }
}

}  // namespace kipper
