// Rows of a pair kernel at a fixed offset, and the 3x3 box sums over them.
//
// Entry w + 1 of a row belongs to the w-th valid pixel; the entries before the first and after the
// last are zero padding.
#pragma once

#include <type_traits>
#include <vector>

#include "aligned_array.hpp"
#include "lanes.hpp"

namespace kipper {

// The kernels of a network's outputs (NNGP) and of its linearisation (NTK) at one pixel pair.
template <class T>
struct Entry {
    Lanes<T> nngp;
    Lanes<T> tangent;
};

template <class T>
struct Row {
    Lanes<T>* nngp;
    Lanes<T>* tangent;
};

// What the backward pass of a ReLU layer needs of the forward pass.
template <class T>
struct ReluState {
    Lanes<T> correlation;
    Lanes<T> slope;   // n / (s sqrt(1 - c^2)), 0 where |c| counts as 1; of n times kappa_0, by k
    Lanes<T> kappa0;  // times the layer's scale
    Lanes<T> sine;
};

// Rows h - 1, h and h + 1.
template <class T>
struct Window {
    Row<T> above, here, below;
};

template <class T>
class RowStore {
  public:
    RowStore(int count, int max_width)
        : count_(count), stride_(max_width + 2), entries_(2 * count * stride_) {}

    int count() const { return count_; }

    Row<T> row(int index) {
        Lanes<T>* nngp = entries_.data() + 2 * stride_ * index;
        return {nngp, nngp + stride_};
    }

    // Sets the right padding of all rows to zero.
    void set_width(int width) {
        for (int i = 0; i < 2 * count_; ++i) entries_[i * stride_ + width + 1] = Lanes<T>{};
    }

  private:
    int count_;
    std::size_t stride_;
    AlignedArray<Lanes<T>> entries_;
};

// Three rows, where row h replaces row h - 3, so that a pass over an offset stays in L1.
template <class T>
class RowRing {
  public:
    explicit RowRing(int max_width) : rows_(3, max_width) {}

    Row<T> row(int h) { return rows_.row(h % 3); }
    void set_width(int width) { rows_.set_width(width); }

  private:
    RowStore<T> rows_;
};

// What is kept of the states of a few rows of a layer, see KeptStates: row h replaces row h -
// count.
template <class T>
class StateRing {
  public:
    StateRing(int count, int max_width)
        : count_(count), stride_(3 * max_width), vectors_(count * stride_) {}

    Lanes<T>* row(int h) { return vectors_.data() + (h % count_) * stride_; }

  private:
    int count_;
    std::size_t stride_;
    AlignedArray<Lanes<T>> vectors_;
};

// Whether a pixel of a row is odd, where loops know it when compiled.
using Even = std::false_type;
using Odd = std::true_type;
template <class Parity>
using OtherThan = std::bool_constant<!Parity::value>;

// Calls visit(0, Even), visit(1, Odd), ... for `count` pixels, written out twice in the loop: what
// passes from one pixel to the next then changes registers without being copied.
template <class Visit>
KIPPER_INLINE void for_each_of(int count, Visit visit) {
    int i = 0;
    for (; i + 1 < count; i += 2) {
        visit(i, Even{});
        visit(i + 1, Odd{});
    }
    if (i < count) visit(i, Even{});
}

// 3x3 box sums from left to right, which sum each column once.
template <class T>
class BoxSum {
  public:
    KIPPER_INLINE BoxSum(const Lanes<T>* above, const Lanes<T>* here, const Lanes<T>* below)
        : above_(above), here_(here), below_(below), current_(column(1)), pair_(current_) {}

    // The sum around pixel w; call it for w = 0, 1, 2, ...
    KIPPER_INLINE Lanes<T> next(int w) {
        const Lanes<T> following = column(w + 2);
        const Lanes<T> sum = pair_ + following;
        pair_ = current_ + following;
        current_ = following;
        return sum;
    }

  private:
    KIPPER_INLINE Lanes<T> column(int entry) const {
        return above_[entry] + here_[entry] + below_[entry];
    }

    const Lanes<T>* __restrict above_, * __restrict here_, * __restrict below_;
    Lanes<T> current_;  // the column of the next pixel
    Lanes<T> pair_;     // the sum of it and the column before it
};

}  // namespace kipper
