// One row of a stage backward: the cotangents of convolution + ReLU, and of the images.
//
// Rows hold cotangents of a layer's pre-activations: `tangent` of the tangent kernel and `nngp` of
// the NNGP kernel. The latter includes the former, because the tangent kernel contains the NNGP
// kernel; rows of the first layer hold only the latter. Formulas: docs/banded_kernel.md
// ("Backward").
#pragma once

#include <type_traits>

#include "forward_rows.hpp"

namespace kipper {

// A source of states: those that the forward pass kept.
template <class T>
struct Kept {
    KIPPER_INLINE const ReluState<T>& begin(int w) const { return states[w]; }
    KIPPER_INLINE const ReluState<T>& state(const ReluState<T>& kept, int) const { return kept; }

    const ReluState<T>* __restrict states;
};

// A source of states: pre-activations, of which the ReLU is evaluated here.
template <class T, class First, class Preactivations>
struct Evaluated {
    KIPPER_INLINE Correlated<T> begin(int w) {
        return correlate<T, First>(preactivations.next(w), w, factors);
    }

    KIPPER_INLINE ReluState<T> state(const Correlated<T>& pixel, int w) const {
        return relu<T, First>(pixel, w, factors, arc_cosine).state;
    }

    Preactivations preactivations;
    const RowFactors<T, First> factors;
    const ScaledArcCosine<T> arc_cosine;
};

// A source of cotangents of a ReLU's outputs: the convolution above, which is its own transpose.
template <class T, class Kinds>
class ConvolvedCotangents {
  public:
    KIPPER_INLINE explicit ConvolvedCotangents(const Window<T>& above)
        : nngp_(above.above.nngp, above.here.nngp, above.below.nngp),
          tangent_(Kinds::tangent_out ? above.above.tangent : above.above.nngp,
                   Kinds::tangent_out ? above.here.tangent : above.here.nngp,
                   Kinds::tangent_out ? above.below.tangent : above.below.nngp) {}

    template <class PullBack>
    KIPPER_INLINE void next(int w, PullBack pull_back) {
        const Lanes<T> nngp = nngp_.next(w);
        if constexpr (Kinds::tangent_out)
            pull_back(Entry<T>{nngp, tangent_.next(w)});
        else
            pull_back(Entry<T>{nngp, Lanes<T>{}});
    }

  private:
    BoxSum<T> nngp_, tangent_;
};

// A source of cotangents of a ReLU's outputs: the pool above.
template <class T, class Kinds>
struct PooledCotangents {
    template <class PullBack>
    KIPPER_INLINE void next(int w, PullBack pull_back) {
        if (w >= window.width()) return;
        const Row<T> above = window.template next<Kinds::tangent_out>();
        if (!above.nngp) return;
        if constexpr (Kinds::tangent_out)
            pull_back(Entry<T>{*above.nngp, *above.tangent});
        else
            pull_back(Entry<T>{*above.nngp, Lanes<T>{}});
    }

    PoolWindow<T> window;
};

// Sums over offsets and images of batch 2 of cotangents times the partners' deviations, for the
// cotangents of variances. Those of image 1 lack the factor Network::sine_scale, which the
// deviations of image 1 carry. `second` may be null.
template <class T>
struct VarianceSums {
    Lanes<T>* __restrict first;
    Lanes<T>* __restrict second;
};

template <bool kBoth, class Kinds, class T, class First, class Source, class Cotangents>
KIPPER_INLINE void relu_row_vjp(Source source, Cotangents cotangents, int width,
                                const RowFactors<T, First> factors, Row<T> out,
                                const VarianceSums<T> sums) {
    const auto pull_back = [&](int w, const auto& pixel) KIPPER_INLINED {
        Entry<T> result{};
        cotangents.next(w, [&](const Entry<T>& cotangent) KIPPER_INLINED {
            const ReluState<T> relu = source.state(pixel, w);
            Lanes<T> deviation;
            if constexpr (Kinds::tangent_out) {
                // Through kappa_0, over its constant factor. It cancels where the images coincide.
                const Lanes<T> through_kappa0 = cotangent.tangent * relu.slope;
                result.tangent = cotangent.tangent * relu.kappa0;
                result.nngp = (cotangent.nngp + cotangent.tangent) * relu.kappa0 +
                              through_kappa0 * factors.sine_scale;
                if constexpr (Kinds::tangent_in)
                    deviation = cotangent.nngp * relu.sine - through_kappa0 * relu.correlation;
                else  // n = k, so that the slope times the sine is the correlation
                    deviation = (cotangent.nngp - through_kappa0 * relu.slope) * relu.sine;
            } else {
                deviation = cotangent.nngp * relu.sine;
                result.nngp = cotangent.nngp * relu.kappa0;
            }
            sums.first[w] += deviation * factors.deviations2[w];
            if constexpr (kBoth) sums.second[w] += deviation * factors.deviations1[w];
        });
        out.nngp[w + 1] = result.nngp;
        if constexpr (Kinds::tangent_in) out.tangent[w + 1] = result.tangent;
    };
    for_each_of(width, [&](int w) KIPPER_INLINED { pull_back(w, source.begin(w)); });
}

// Adds the contribution of a row to the cotangents of both images' pixels; `second_sum` may be
// null.
template <bool kBoth, int kChannels, class T, class First>
KIPPER_INLINE void pixel_products_vjp(BoxSum<T> cotangents, const First* first,
                                      const Lanes<T>* second, int width, int channels,
                                      Lanes<T>* __restrict first_sum,
                                      Lanes<T>* __restrict second_sum) {
    const int count = kChannels ? kChannels : channels;
    for (int w = 0; w < width; ++w) {
        const Lanes<T> cotangent = cotangents.next(w);
        for (int channel = 0; channel < count; ++channel) {
            const int value = w * count + channel;
            first_sum[value] += cotangent * second[value];
            if constexpr (kBoth) second_sum[value] += cotangent * first[value];
        }
    }
}

template <bool kBoth, class T, class First>
void pixel_product_row_vjp(const BoxSum<T>& cotangents, const First* first, const Lanes<T>* second,
                           int width, int channels, Lanes<T>* first_sum, Lanes<T>* second_sum) {
    auto run = [&](auto known) {
        pixel_products_vjp<kBoth, decltype(known)::value, T>(cotangents, first, second, width,
                                                             channels, first_sum, second_sum);
    };
    if (channels == 1) return run(std::integral_constant<int, 1>{});
    if (channels == 3) return run(std::integral_constant<int, 3>{});
    return run(std::integral_constant<int, 0>{});
}

// Pulls back the first convolution of a stage; `out` has no padding.
template <class T>
void box_row(BoxSum<T> sums, int width, Lanes<T>* __restrict out) {
    for (int w = 0; w < width; ++w) out[w] = sums.next(w);
}

}  // namespace kipper
