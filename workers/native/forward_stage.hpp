// A stage forward: for each offset, rows go through all layers together.
//
// Level 0 is the input of the stage, and level l the output of its l-th ReLU. Row h of level l is
// computed at step h + l, as soon as rows h - 1 to h + 1 of level l - 1 are available.
#pragma once

#include <vector>

#include "forward_rows.hpp"
#include "nearness.hpp"

namespace kipper {

// The rows in flight of one thread.
template <class T>
struct ForwardRings {
    explicit ForwardRings(const Network& network) : zeros(1, network.resolutions[0].width) {
        int levels = 1;
        for (const Stage& stage : network.stages) levels = std::max(levels, stage.convs);
        for (int level = 0; level < levels; ++level)
            rings.emplace_back(network.resolutions[0].width);
    }

    void set_width(int width) {
        for (RowRing<T>& ring : rings) ring.set_width(width);
    }

    RowStore<T> zeros;              // replaces rows outside the overlap
    std::vector<RowRing<T>> rings;  // by level
};

// The layers of a stage at one offset, up to the last ReLU, whose outputs each pass uses
// differently.
template <class T, class First, bool kTangent>
class OffsetPass {
  public:
    OffsetPass(const StageInput<T, First>& input, const Overlap& overlap, ForwardRings<T>& rings)
        : input_(input), overlap_(overlap), rings_(rings) {
        rings_.set_width(overlap.width);
    }

    const Overlap& overlap() const { return overlap_; }

    RowFactors<T, First> factors(int level, int h) const {
        return input_.factors(level, overlap_, h);
    }

    // Level 0 of the first stage.
    void read_images(int h) {
        const int channels = input_.network.channels;
        pixel_product_row<T>(input_.first.pixels + overlap_.pixel1(h) * channels,
                             input_.second.pixels + overlap_.pixel2(h) * channels, overlap_.width,
                             channels, rings_.rings[0].row(h).nngp + 1);
    }

    // Calls run(source, kinds) with the source of pre-activations of one row.
    template <class Run>
    KIPPER_INLINE void with_preactivations(int level, int h, Run run) {
        const Window<T> window{row(level - 1, h - 1), row(level - 1, h), row(level - 1, h + 1)};
        const T bias = T(input_.network.b2);
        if (kTangent && !input_.is_first_layer(level)) {
            using K = Kinds<kTangent, kTangent>;
            run(Convolved<T, K>(window, bias), K{});
        } else {
            using K = Kinds<false, kTangent>;
            run(Convolved<T, K>(window, bias), K{});
        }
    }

    void store_row(int level, int h) {
        with_preactivations(level, h, [&](auto source, auto kinds) KIPPER_INLINED {
            const StoreRow<T, decltype(kinds)> sink{rings_.rings[level].row(h)};
            relu_row<T>(source, overlap_.width, factors(level, h), sink);
        });
    }

    void store_and_keep_row(int level, int h, Lanes<T>* states) {
        with_preactivations(level, h, [&](auto source, auto kinds) KIPPER_INLINED {
            const StoreAndKeepRow<T, decltype(kinds)> sink{rings_.rings[level].row(h), {states}};
            relu_row<T>(source, overlap_.width, factors(level, h), sink);
        });
    }

    void pool_row(int h, OffsetMaps<T>& output) {
        const int level = input_.convs();
        const PoolWindow<T> window(output, input_.pooled(), overlap_, h);
        window.with_entries([&](auto entries) KIPPER_INLINED {
            with_preactivations(level, h, [&](auto source, auto kinds) KIPPER_INLINED {
                const AddToPool<T, decltype(kinds), decltype(entries)> sink{entries};
                relu_row<T>(source, window.width(), factors(level, h), sink);
            });
        });
    }

    // Judges the pre-activations of a row.
    void judge_row(int level, int h, Nearness<T>* nearness) {
        if (!nearness || !nearness->judges(input_.stage, overlap_, level, h)) return;
        const BoxSum<T> sums(row(level - 1, h - 1).nngp, row(level - 1, h).nngp,
                             row(level - 1, h + 1).nngp);
        nearness->add_row(sums, T(input_.network.b2), factors(level, h), overlap_.width,
                          level == input_.convs());
    }

  private:
    KIPPER_INLINE Row<T> row(int level, int h) {
        if (!overlap_.has_row(h)) return rings_.zeros.row(0);
        if (level == 0 && input_.maps) return input_.maps->row(overlap_.dh, overlap_.dw, h);
        return rings_.rings[level].row(h);
    }

    const StageInput<T, First>& input_;
    const Overlap overlap_;
    ForwardRings<T>& rings_;
};

template <bool kTangent, class T, class First>
void forward_offset(const StageInput<T, First>& input, int dh, int dw, ForwardRings<T>& rings,
                    OffsetMaps<T>& output, Nearness<T>* nearness = nullptr) {
    OffsetPass<T, First, kTangent> pass(input, Overlap(input.resolution(), dh, dw), rings);
    const Overlap& overlap = pass.overlap();
    const int top_level = input.convs();
    for (int step = overlap.top; step < overlap.bottom + top_level; ++step) {
        if (!input.maps && step < overlap.bottom) pass.read_images(step);
        for (int level = 1; level < top_level; ++level) {
            if (!overlap.has_row(step - level)) continue;
            pass.store_row(level, step - level);
            pass.judge_row(level, step - level, nearness);
        }
        const int h = step - top_level;
        if (!overlap.has_row(h)) continue;
        pass.pool_row(h, output);
        pass.judge_row(top_level, h, nearness);
    }
    if (nearness) nearness->end_offset(input.stage, dh, dw);
}

// `nearness` is null, or judges the pairs.
template <bool kTangent, class T, class First>
void forward_stage(const StageInput<T, First>& input, ForwardRings<T>& rings, OffsetMaps<T>& output,
                   Nearness<T>* nearness) {
    output.clear();
    for_each_offset(input.resolution().band, [&](int dh, int dw) {
        forward_offset<kTangent>(input, dh, dw, rings, output, nearness);
    });
    if (nearness) nearness->end_stage(input.stage);
}

}  // namespace kipper
