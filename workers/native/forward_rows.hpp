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

template <class T>
struct Relu {
    Entry<T> output;
    ReluState<T> state;
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
    KIPPER_INLINE int place(int w) const { return w; }
    KIPPER_INLINE bool wants(int) const { return true; }

    KIPPER_INLINE void put(int w, const Relu<T>& relu) const {
        row.nngp[w + 1] = relu.output.nngp;
        if constexpr (Kinds::tangent_out) row.tangent[w + 1] = relu.output.tangent;
    }

    Row<T> row;
};

// Sink: a row for the next convolution, and the states for the backward pass.
template <class T, class Kinds>
struct StoreAndKeepRow {
    KIPPER_INLINE int place(int w) const { return w; }
    KIPPER_INLINE bool wants(int) const { return true; }

    KIPPER_INLINE void put(int w, const Relu<T>& relu) const {
        row.nngp[w + 1] = relu.output.nngp;
        if constexpr (Kinds::tangent_out) row.tangent[w + 1] = relu.output.tangent;
        if constexpr (Kinds::tangent_in) states[w].correlation = relu.state.correlation;
        if constexpr (Kinds::tangent_out) states[w].slope = relu.state.slope;
        states[w].kappa0 = relu.state.kappa0;
        states[w].sine = relu.state.sine;
    }

    Row<T> row;
    ReluState<T>* __restrict states;
};

// Sink: the sums of a pool.
template <class T, class Kinds>
struct AddToPool {
    KIPPER_INLINE Row<T> place(int) { return window.template next<Kinds::tangent_out>(); }
    KIPPER_INLINE bool wants(const Row<T>& sums) const { return sums.nngp; }

    KIPPER_INLINE void put(const Row<T>& sums, const Relu<T>& relu) const {
        *sums.nngp += relu.output.nngp;
        if constexpr (Kinds::tangent_out) *sums.tangent += relu.output.tangent;
    }

    PoolWindow<T> window;
};

// A pixel's pre-activations and the angle of their correlation.
template <class T>
struct Correlated {
    Entry<T> input;
    Lanes<T> inverses;  // 1 / the product of both deviations
    Lanes<T> correlation;
    Angle<T> angle;
};

template <class T, class First>
KIPPER_INLINE Correlated<T> correlate(const Entry<T>& input, int w,
                                      const RowFactors<T, First>& factors) {
    const Lanes<T> inverses = factors.inverses1[w] * factors.inverses2[w];
    const Lanes<T> correlation = input.nngp * inverses;
    return {input, inverses, correlation, angle_of<T>(correlation)};
}

// The ReLU of a pixel's pre-activations. Where the images coincide, c = 1, the output is the input
// times the scale, exactly: an image with itself has the kernels of its variance map.
template <class T, class First>
KIPPER_INLINE Relu<T> relu(const Correlated<T>& pixel, int w, const RowFactors<T, First>& factors,
                           const ScaledArcCosine<T>& arc_cosine) {
    const auto& [input, inverses, correlation, angle] = pixel;
    const Lanes<T> kappa0 = arc_cosine.kappa0(angle, correlation);
    const Lanes<T> deviations = factors.deviations1[w] * factors.deviations2[w];
    return {{input.nngp * kappa0 + deviations * angle.sine, input.tangent * kappa0},
            {correlation, input.tangent * inverses / angle.divisor, kappa0, angle.sine}};
}

// The correlation of a pixel is computed before the ReLU of the pixel before it: the two do not
// wait for each other, and the sequence for one pixel is longer than processors look ahead.
template <class T, class First, class Source, class Sink>
KIPPER_INLINE void relu_row(Source source, int width, const RowFactors<T, First> factors,
                            Sink sink) {
    if (width <= 0) return;
    const ScaledArcCosine<T> arc_cosine = *factors.arc_cosine;
    auto place = sink.place(0);
    Correlated<T> pixel = correlate<T, First>(source.next(0), 0, factors);
    for_each_of(width - 1, [&](int w) KIPPER_INLINED {
        const Entry<T> input = source.next(w + 1);
        auto next_place = sink.place(w + 1);
        Correlated<T> next_pixel{};
        if (sink.wants(next_place)) next_pixel = correlate<T, First>(input, w + 1, factors);
        if (sink.wants(place)) sink.put(place, relu<T, First>(pixel, w, factors, arc_cosine));
        place = next_place;
        pixel = next_pixel;
    });
    if (sink.wants(place)) sink.put(place, relu<T, First>(pixel, width - 1, factors, arc_cosine));
}

}  // namespace kipper
