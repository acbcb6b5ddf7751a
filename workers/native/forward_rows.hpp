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

// The slope of `ReluState`, from n / s.
template <class T>
KIPPER_INLINE Lanes<T> slope_of(Lanes<T> tangent, Lanes<T> sine) {
    const Lanes<T> slope = tangent / sine;
    return is_zero<T>(sine) ? Lanes<T>{} : slope;
}

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
template <class T, class KindsOfLayer>
struct StoreRow {
    using Kinds = KindsOfLayer;
    template <class Parity>
    static constexpr bool kWants = true;

    template <class Parity>
    KIPPER_INLINE void put(int w, Parity, const Relu<T>& relu) const {
        row.nngp[w + 1] = relu.output.nngp;
        if constexpr (Kinds::tangent_out) row.tangent[w + 1] = relu.output.tangent;
    }

    Row<T> row;
};

// What is kept of a row's states for the backward pass. To take the root and the quotient of the
// rest again costs less than to read them, because the first-level cache does not hold all rows.
template <class T, class Kinds>
struct KeptStates {
    static constexpr int kVectors = Kinds::tangent_in ? 3 : 2;

    KIPPER_INLINE void put(int w, const ReluState<T>& state) const {
        vectors[kVectors * w] = state.correlation;
        vectors[kVectors * w + 1] = state.kappa0;
        if constexpr (Kinds::tangent_in) vectors[kVectors * w + 2] = state.slope;
    }

    KIPPER_INLINE ReluState<T> state(int w) const {
        const Lanes<T> correlation = vectors[kVectors * w];
        const Lanes<T> sine = angle_of<T>(correlation).sine;
        ReluState<T> state{correlation, {}, vectors[kVectors * w + 1], sine};
        if constexpr (Kinds::tangent_in)
            state.slope = vectors[kVectors * w + 2];
        else  // n = k
            state.slope = slope_of<T>(correlation, sine);
        return state;
    }

    Lanes<T>* __restrict vectors;
};

// Sink: a row for the next convolution, and the states for the backward pass.
template <class T, class KindsOfLayer>
struct StoreAndKeepRow {
    using Kinds = KindsOfLayer;
    template <class Parity>
    static constexpr bool kWants = true;

    template <class Parity>
    KIPPER_INLINE void put(int w, Parity, const Relu<T>& relu) const {
        row.nngp[w + 1] = relu.output.nngp;
        if constexpr (Kinds::tangent_out) row.tangent[w + 1] = relu.output.tangent;
        states.put(w, relu.state);
    }

    Row<T> row;
    KeptStates<T, Kinds> states;
};

// Sink: the sums of a pool. Two pixels that share an entry are added before they are stored.
template <class T, class KindsOfLayer, class Entries>
struct AddToPool {
    using Kinds = KindsOfLayer;
    template <class Parity>
    static constexpr bool kWants = Entries::template kWants<Parity>;

    template <class Parity>
    KIPPER_INLINE void put(int w, Parity, const Relu<T>& relu) {
        if constexpr (Entries::kShared && !Parity::value) {
            even = relu.output;
        } else {
            const Entry<T>& output = relu.output;
            const Row<T>& sums = entries.row(Parity{});
            const int index = Entries::index(w);
            sums.nngp[index] += Entries::kShared ? even.nngp + output.nngp : output.nngp;
            if constexpr (Kinds::tangent_out)
                sums.tangent[index] +=
                    Entries::kShared ? even.tangent + output.tangent : output.tangent;
        }
    }

    Entries entries;
    Entry<T> even{};  // the outputs of the pixel before, where they share an entry
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
template <class Kinds, class T, class First>
KIPPER_INLINE Relu<T> relu(const Correlated<T>& pixel, int w, const RowFactors<T, First>& factors,
                           const ScaledArcCosine<T>& arc_cosine) {
    const auto& [input, inverses, correlation, angle] = pixel;
    const Lanes<T> kappa0 = arc_cosine.kappa0(angle, correlation);
    const Lanes<T> deviations = factors.deviations1[w] * factors.deviations2[w];
    const Lanes<T> tangent = input.tangent * kappa0;
    const Lanes<T> nngp = Kinds::tangent_in ? input.nngp * kappa0 : tangent;
    const Lanes<T> slope = slope_of<T>(input.tangent * inverses, angle.sine);
    return {{nngp + deviations * angle.sine, tangent}, {correlation, slope, kappa0, angle.sine}};
}

// The correlation of a pixel is computed before the ReLU of the pixel before it: the two do not
// wait for each other, and the sequence for one pixel is longer than processors look ahead.
template <class T, class First, class Source, class Sink>
KIPPER_INLINE void relu_row(Source source, int width, const RowFactors<T, First> factors,
                            Sink sink) {
    if (width <= 0) return;
    const ScaledArcCosine<T> arc_cosine = *factors.arc_cosine;
    const Entry<T> first = source.next(0);
    Correlated<T> pixel{};
    if constexpr (Sink::template kWants<Even>) pixel = correlate<T, First>(first, 0, factors);
    const auto put = [&](int w, auto parity) KIPPER_INLINED {
        if constexpr (Sink::template kWants<decltype(parity)>)
            sink.put(w, parity,
                     relu<typename Sink::Kinds, T, First>(pixel, w, factors, arc_cosine));
    };
    for_each_of(width - 1, [&](int w, auto parity) KIPPER_INLINED {
        const Entry<T> input = source.next(w + 1);
        Correlated<T> next_pixel{};
        if constexpr (Sink::template kWants<OtherThan<decltype(parity)>>)
            next_pixel = correlate<T, First>(input, w + 1, factors);
        put(w, parity);
        pixel = next_pixel;
    });
    width % 2 ? put(width - 1, Even{}) : put(width - 1, Odd{});
}

}  // namespace kipper
