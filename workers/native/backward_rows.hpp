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
template <class T, class Kinds>
struct Kept {
    static constexpr bool kBeginEarly = false;
    struct Constants {};

    KIPPER_INLINE Constants constants() const { return {}; }
    KIPPER_INLINE ReluState<T> begin(int w) const { return states.state(w); }

    KIPPER_INLINE const ReluState<T>& state(const ReluState<T>& kept, int, Constants) const {
        return kept;
    }

    const KeptStates<T, Kinds> states;
};

// A source of states: pre-activations, of which the ReLU is evaluated here.
template <class T, class First, class Kinds, class Preactivations>
struct Evaluated {
    static constexpr bool kBeginEarly = true;  // see `relu_row`
    KIPPER_INLINE Correlated<T> begin(int w) {
        return correlate<T, First>(preactivations.next(w), w, factors);
    }

    KIPPER_INLINE const ScaledArcCosine<T>& constants() const { return *factors.arc_cosine; }

    KIPPER_INLINE ReluState<T> state(const Correlated<T>& pixel, int w,
                                     const ScaledArcCosine<T>& arc_cosine) const {
        return relu<Kinds, T, First>(pixel, w, factors, arc_cosine).state;
    }

    Preactivations preactivations;
    const RowFactors<T, First> factors;
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

    int used(int width) const { return width; }

    template <class Parity, class PullBack>
    KIPPER_INLINE void next(int w, Parity, PullBack pull_back) {
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
template <class T, class Kinds, class Entries>
struct PooledCotangents {
    int used(int) const { return width; }

    template <class Parity, class PullBack>
    KIPPER_INLINE void next(int w, Parity, PullBack pull_back) {
        if constexpr (Entries::template kWants<Parity>) {
            const Row<T>& above = entries.row(Parity{});
            const int index = Entries::index(w);
            if constexpr (Kinds::tangent_out)
                pull_back(Entry<T>{above.nngp[index], above.tangent[index]});
            else
                pull_back(Entry<T>{above.nngp[index], Lanes<T>{}});
        }
    }

    Entries entries;
    int width;
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
    const auto constants = source.constants();
    const auto pull_back = [&](int w, auto parity, const auto& pixel) KIPPER_INLINED {
        Entry<T> result{};
        cotangents.next(w, parity, [&](const Entry<T>& cotangent) KIPPER_INLINED {
            const ReluState<T> relu = source.state(pixel, w, constants);
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
    const int used = cotangents.used(width);
    for (int w = used; w < width; ++w) {
        out.nngp[w + 1] = Lanes<T>{};
        if constexpr (Kinds::tangent_in) out.tangent[w + 1] = Lanes<T>{};
    }
    if constexpr (Source::kBeginEarly) {
        if (used <= 0) return;
        auto pixel = source.begin(0);
        for_each_of(used - 1, [&](int w, auto parity) KIPPER_INLINED {
            const auto next_pixel = source.begin(w + 1);
            pull_back(w, parity, pixel);
            pixel = next_pixel;
        });
        used % 2 ? pull_back(used - 1, Even{}, pixel) : pull_back(used - 1, Odd{}, pixel);
    } else {
        for_each_of(used, [&](int w, auto parity)
                              KIPPER_INLINED { pull_back(w, parity, source.begin(w)); });
    }
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
