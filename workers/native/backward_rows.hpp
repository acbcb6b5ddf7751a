// One row of a stage backward: the cotangents of convolution + ReLU, and of the images.
//
// Rows hold cotangents of a layer's pre-activations: `tangent` of the tangent kernel and `nngp` of
// the NNGP kernel. The latter includes the former, because the tangent kernel contains the NNGP
// kernel. Formulas: docs/banded_kernel.md ("Backward").
#pragma once

#include <type_traits>

#include "forward_rows.hpp"

namespace kipper {

// A source of pre-activations: rows that the forward pass kept.
template <class T, class Kinds>
struct Kept {
    KIPPER_INLINE Entry<T> next(int w) const {
        const Lanes<T> nngp = row.nngp[w + 1];
        if constexpr (Kinds::tangent_in) return {nngp, row.tangent[w + 1]};
        return {nngp, nngp};
    }

    Row<T> row;
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

    KIPPER_INLINE bool has(int) const { return true; }

    KIPPER_INLINE Entry<T> next(int w) {
        const Lanes<T> nngp = nngp_.next(w);
        if constexpr (Kinds::tangent_out) return {nngp, tangent_.next(w)};
        return {nngp, Lanes<T>{}};
    }

  private:
    BoxSum<T> nngp_, tangent_;
};

// A source of cotangents of a ReLU's outputs: the pool above.
template <class T, class Kinds>
struct PooledCotangents {
    KIPPER_INLINE bool has(int w) const { return w < window.width() && window.has(w); }

    KIPPER_INLINE Entry<T> next(int w) const {
        if constexpr (Kinds::tangent_out) return {window.nngp(w), window.tangent(w)};
        return {window.nngp(w), Lanes<T>{}};
    }

    const PoolWindow<T>& window;
};

// Sums s, over offsets and images of batch 2, of cotangents times the partners' deviations. The
// cotangents of variances are s / (2 deviation). `second` may be null.
template <class T>
struct VarianceSums {
    Lanes<T>* __restrict first;
    Lanes<T>* __restrict second;
};

template <bool kBoth, class Kinds, class T, class First, class Preactivations, class Cotangents>
KIPPER_INLINE void relu_row_vjp(Preactivations preactivations, Cotangents cotangents, int width,
                                const RowFactors<T, First>& factors, Row<T> out,
                                const VarianceSums<T>& sums) {
    for (int w = 0; w < width; ++w) {
        const Entry<T> input = preactivations.next(w);
        Entry<T> result{};
        if (cotangents.has(w)) {
            const Entry<T> cotangent = cotangents.next(w);
            const Lanes<T> inverses = factors.inverses1[w] * factors.inverses2[w];
            const Lanes<T> correlation = input.nngp * inverses;
            const ArcCosineVjp<T> relu = arc_cosine_vjp(correlation);
            const Lanes<T> nngp = cotangent.nngp * factors.scale;
            result.nngp = nngp * relu.kappa0;
            Lanes<T> deviation = nngp * relu.sine;
            if constexpr (Kinds::tangent_out) {
                const Lanes<T> tangent = cotangent.tangent * factors.scale;
                const Lanes<T> through_kappa0 =
                    tangent * input.tangent * relu.kappa0_slope * inverses;
                result.tangent = tangent * relu.kappa0;
                result.nngp += through_kappa0 + result.tangent;
                deviation -= through_kappa0 * correlation;
            }
            sums.first[w] += deviation * factors.deviations2[w];
            if constexpr (kBoth) sums.second[w] += deviation * factors.deviations1[w];
        }
        out.nngp[w + 1] = result.nngp;
        if constexpr (Kinds::tangent_out) out.tangent[w + 1] = result.tangent;
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
