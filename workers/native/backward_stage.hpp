// A stage backward. It repeats its forward pass, so that only the stage's inputs must be stored.
//
// With M levels, row h of level l < M goes forward at step h + l. The states of its ReLU are
// kept until step h + 2M - l, when the cotangents of rows h - 1 to h + 1 of level l + 1 are
// available. Level M does both at step h + M. Level 0 is the input of the stage.
#pragma once

#include <vector>

#include "backward_rows.hpp"
#include "forward_stage.hpp"

namespace kipper {

template <class T>
struct BackwardRings {
    explicit BackwardRings(const Network& network) {
        const int width = network.resolutions[0].width;
        int top_level = 1;
        for (const Stage& stage : network.stages) top_level = std::max(top_level, stage.convs);
        for (int level = 0; level <= top_level; ++level) {
            states.emplace_back(2 * (top_level - level) + 1, width);
            cotangents.emplace_back(width);
        }
    }

    void set_width(int width) {
        for (RowRing<T>& ring : cotangents) ring.set_width(width);
    }

    std::vector<StateRing<T>> states;    // of ReLUs, by level
    std::vector<RowRing<T>> cotangents;  // of the pre-activations
};

// Sums of the cotangents of pixels and for those of variances (see VarianceSums), in the layout of
// ImageView. The pointers of batch 2 are null if its cotangents are not wanted.
template <class T>
struct CotangentSums {
    Lanes<T>* pixels1;
    Lanes<T>* variances1;
    Lanes<T>* pixels2;
    Lanes<T>* variances2;
};

template <class T, class First, bool kTangent, bool kBoth>
class BackwardOffset {
  public:
    // `above` holds the cotangents of the stage's outputs; `below` takes those of its inputs, and
    // is null for the first stage, which adds to `sums` instead.
    BackwardOffset(const StageInput<T, First>& input, int dh, int dw,
                   ForwardRings<T>& forward_rings, BackwardRings<T>& rings, OffsetMaps<T>& above,
                   OffsetMaps<T>* below, const CotangentSums<T>& sums)
        : input_(input),
          forward_(input, Overlap(input.resolution(), dh, dw), forward_rings),
          zeros_(forward_rings.zeros.row(0)),
          rings_(rings),
          above_(above),
          below_(below),
          sums_(sums) {
        rings_.set_width(forward_.overlap().width);
    }

    void run() {
        const Overlap& overlap = forward_.overlap();
        const int top_level = input_.convs();
        for (int step = overlap.top; step < overlap.bottom + 2 * top_level; ++step) {
            if (!below_ && step < overlap.bottom) forward_.read_images(step);
            for (int level = 1; level < top_level; ++level) {
                const int h = step - level;
                if (overlap.has_row(h)) forward_.store_and_keep_row(level, h, states(level, h));
            }
            if (overlap.has_row(step - top_level)) turn_row(step - top_level);
            for (int level = top_level - 1; level >= 0; --level) {
                const int h = step - 2 * top_level + level;
                if (!overlap.has_row(h)) continue;
                level == 0 ? input_row(h) : kept_row(level, h);
            }
        }
    }

  private:
    // The top level, forward and then backward.
    void turn_row(int h) {
        const int level = input_.convs();
        const PoolWindow<T> window(above_, input_.pooled(), forward_.overlap(), h);
        if (!window.width()) return clear_row(level, h);
        window.with_entries([&](auto entries) KIPPER_INLINED {
            forward_.with_preactivations(level, h, [&](auto source, auto kinds) KIPPER_INLINED {
                using Kinds = decltype(kinds);
                const RowFactors<T, First> factors = forward_.factors(level, h);
                row_vjp<Kinds>(
                    Evaluated<T, First, Kinds, decltype(source)>{source, factors},
                    PooledCotangents<T, Kinds, decltype(entries)>{entries, window.width()}, level,
                    h);
            });
        });
    }

    // The cotangents of a row of which the pool reads nothing.
    void clear_row(int level, int h) {
        const Row<T> row = rings_.cotangents[level].row(h);
        const int width = forward_.overlap().width;
        std::fill_n(row.nngp + 1, width, Lanes<T>{});
        std::fill_n(row.tangent + 1, width, Lanes<T>{});
    }

    void kept_row(int level, int h) {
        const Window<T> window = cotangent_window(level + 1, h);
        auto run = [&](auto kinds) KIPPER_INLINED {
            using Kinds = decltype(kinds);
            row_vjp<Kinds>(Kept<T, Kinds>{{states(level, h)}},
                           ConvolvedCotangents<T, Kinds>(window), level, h);
        };
        if (kTangent && !input_.is_first_layer(level)) return run(Kinds<kTangent, kTangent>{});
        return run(Kinds<false, kTangent>{});
    }

    template <class Kinds, class Source, class Cotangents>
    KIPPER_INLINE void row_vjp(Source source, Cotangents cotangents, int level, int h) {
        const Overlap& overlap = forward_.overlap();
        const std::size_t map = input_.network.map_start(input_.stage, level);
        const VarianceSums<T> sums{sums_.variances1 + map + overlap.pixel1(h),
                                   kBoth ? sums_.variances2 + map + overlap.pixel2(h) : nullptr};
        relu_row_vjp<kBoth, Kinds, T>(source, cotangents, overlap.width, forward_.factors(level, h),
                                      rings_.cotangents[level].row(h), sums);
    }

    // Level 0.
    void input_row(int h) {
        const Overlap& overlap = forward_.overlap();
        const Window<T> window = cotangent_window(1, h);
        const BoxSum<T> nngp(window.above.nngp, window.here.nngp, window.below.nngp);
        if (below_) {
            const Row<T> out = below_->row(overlap.dh, overlap.dw, h);
            box_row(nngp, overlap.width, out.nngp + 1);
            if (!kTangent) return;
            const BoxSum<T> tangent(window.above.tangent, window.here.tangent,
                                    window.below.tangent);
            box_row(tangent, overlap.width, out.tangent + 1);
        } else {
            const int channels = input_.network.channels;
            const std::size_t value1 = overlap.pixel1(h) * channels;
            const std::size_t value2 = overlap.pixel2(h) * channels;
            pixel_product_row_vjp<kBoth, T>(
                nngp, input_.first.pixels + value1, input_.second.pixels + value2, overlap.width,
                channels, sums_.pixels1 + value1, kBoth ? sums_.pixels2 + value2 : nullptr);
        }
    }

    Lanes<T>* states(int level, int h) { return rings_.states[level].row(h); }

    Window<T> cotangent_window(int level, int h) {
        return {cotangent_row(level, h - 1), cotangent_row(level, h), cotangent_row(level, h + 1)};
    }

    Row<T> cotangent_row(int level, int h) {
        return forward_.overlap().has_row(h) ? rings_.cotangents[level].row(h) : zeros_;
    }

    const StageInput<T, First>& input_;
    OffsetPass<T, First, kTangent> forward_;
    const Row<T> zeros_;
    BackwardRings<T>& rings_;
    OffsetMaps<T>& above_;
    OffsetMaps<T>* below_;
    const CotangentSums<T>& sums_;
};

}  // namespace kipper
