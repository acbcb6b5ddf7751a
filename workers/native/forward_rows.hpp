// One row of a stage forward: inner products of pixels, and convolution + ReLU.
//
// A source gives the pre-activation kernels of the w-th valid pixel of a row, and a sink takes the
// ReLU's outputs; both are inlined into the loop over w. Formulas: docs/banded_kernel.md ("A kernel
// element").
#pragma once

#include "arc_cosine.hpp"
#include "pool_window.hpp"
#include "rows.hpp"
#include "stage_input.hpp"

namespace kipper {

// Inner products of a row's pixels with their partners.
template <int kChannels, class T, class First>
KIPPER_INLINE void pixel_products(const First* first, const Lanes<T>* second, int width,
                                  int channels, Lanes<T>* __restrict out) {
    const int count = kChannels ? kChannels : channels;
    for (int w = 0; w < width; ++w, first += count, second += count) {
        Lanes<T> product = first[0] * second[0];
        for (int channel = 1; channel < count; ++channel)
            product += first[channel] * second[channel];
        out[w] = product;
    }
}

template <class T, class First>
void pixel_product_row(const First* first, const Lanes<T>* second, int width, int channels,
                       Lanes<T>* out) {
    if (channels == 1) return pixel_products<1, T>(first, second, width, channels, out);
    if (channels == 3) return pixel_products<3, T>(first, second, width, channels, out);
    return pixel_products<0, T>(first, second, width, channels, out);
}

// The kernels that a ReLU layer reads and writes. The first layer of a network reads no tangent
// kernel, which equals its NNGP kernel.
template <bool kTangentIn, bool kTangentOut>
struct Kinds {
    static constexpr bool tangent_in = kTangentIn;
    static constexpr bool tangent_out = kTangentOut;
};

// Source: the convolution of the layer below.
template <class T, class Kinds>
class Convolved {
  public:
    KIPPER_INLINE Convolved(const Window<T>& below, T bias)
        : nngp_(below.above.nngp, below.here.nngp, below.below.nngp),
          tangent_(Kinds::tangent_in ? below.above.tangent : below.above.nngp,
                   Kinds::tangent_in ? below.here.tangent : below.here.nngp,
                   Kinds::tangent_in ? below.below.tangent : below.below.nngp),
          bias_(bias) {}

    KIPPER_INLINE Entry<T> next(int w) {
        const Lanes<T> nngp = nngp_.next(w) + bias_;
        if constexpr (Kinds::tangent_in) return {nngp, tangent_.next(w) + nngp};
        return {nngp, nngp};
    }

  private:
    BoxSum<T> nngp_, tangent_;
    T bias_;
};

// Sink: a row, for the next convolution.
template <class T, class Kinds>
struct StoreRow {
    KIPPER_INLINE bool has(int) const { return true; }

    KIPPER_INLINE void put(int w, const Entry<T>&, const Entry<T>& output) const {
        row.nngp[w + 1] = output.nngp;
        if constexpr (Kinds::tangent_out) row.tangent[w + 1] = output.tangent;
    }

    Row<T> row;
};

// Sink: a row for the next convolution, and the pre-activations for the backward pass.
template <class T, class Kinds>
struct StoreAndKeepRow {
    KIPPER_INLINE bool has(int) const { return true; }

    KIPPER_INLINE void put(int w, const Entry<T>& input, const Entry<T>& output) const {
        StoreRow<T, Kinds>{row}.put(w, input, output);
        kept.nngp[w + 1] = input.nngp;
        if constexpr (Kinds::tangent_in) kept.tangent[w + 1] = input.tangent;
    }

    Row<T> row;
    Row<T> kept;
};

// Sink: the sums of a pool.
template <class T, class Kinds>
struct AddToPool {
    KIPPER_INLINE bool has(int w) const { return window.has(w); }

    KIPPER_INLINE void put(int w, const Entry<T>&, const Entry<T>& output) const {
        window.nngp(w) += output.nngp;
        if constexpr (Kinds::tangent_out) window.tangent(w) += output.tangent;
    }

    const PoolWindow<T>& window;
};

template <class T, class First, class Source, class Sink>
KIPPER_INLINE void relu_row(Source source, int width, const RowFactors<T, First>& factors,
                            const Sink& sink) {
    for (int w = 0; w < width; ++w) {
        const Entry<T> input = source.next(w);
        if (!sink.has(w)) continue;
        const ArcCosine<T> relu =
            arc_cosine<T>(input.nngp * (factors.inverses1[w] * factors.inverses2[w]));
        const Lanes<T> deviations =
            factors.deviations2[w] * (factors.deviations1[w] * factors.scale);
        sink.put(w, input, {deviations * relu.kappa1, input.tangent * factors.scale * relu.kappa0});
    }
}

}  // namespace kipper
