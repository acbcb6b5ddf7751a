// The variance maps of images, and their cotangents pulled back.
//
// An image is both images of a pair. Within a stage, offset (0, 0) goes first forward and last
// backward, because its kernels are the variances that normalise the other offsets. There k' = v
// / 2.
#pragma once

#include "cross_vjp.hpp"

namespace kipper {

// An image with itself: `scaled` are its pixels with the factor of the first convolution. Its
// factors are in the workspace, for image 1 and then for image 2.
template <class T, class Plan>
class ImageWithItself {
  public:
    KIPPER_INLINE ImageWithItself(const Plan& plan, const T* scaled, const T* pixels, int image,
                                  Memory<T>& workspace)
        : first_{{scaled + std::size_t(image) * plan.pixel_values, plan.pixel_values},
                 {workspace, plan.factors}},
          second_{{pixels + std::size_t(image) * plan.pixel_values, plan.pixel_values},
                  {workspace, plan.factors + 2 * plan.variances}},
          workspace_(workspace) {}

    KIPPER_INLINE Pair<T> pair() const { return {{first_, second_}, workspace_}; }

  private:
    const ImageInput<T> first_, second_;
    Memory<T>& workspace_;
};

// The factor of sqrt(1 - c^2) in a ReLU's output.
template <class StageType>
KIPPER_INLINE double sine_scale(const StageType& stage, int level) {
    return (level == stage.convs ? stage.top_scale : stage.inner_scale) * kOneOverPi;
}

// Offset (0, 0) of a stage, by one warp. Writes variances, from `image` on, and factors.
template <class T, class Plan, class StageType>
KIPPER_INLINE void variances_of_stage(const Plan& plan, const StageType& stage, const Pair<T>& pair,
                                      Memory<T>& variances, int image) {
    const OffsetGroup group(stage, 0, 0, 1, 1);
    ForwardMarch<false, T, StageType> forward(stage, pair.images, group);
    AddToMaps<false, T, StageType> sink(stage, pair.workspace, group, true, true);
    for (int step = 0; step < stage.height + stage.convs; ++step) {
        Row<T, StageType> row;
        forward.read(stage, pair.workspace, step, row);
        KIPPER_UNROLL
        for (int level = 1; level <= stage.convs; ++level) {
            const int h = step - level;
            forward.convolve(stage, level, row);
            if (!group.has_row(h)) {
                forward.clear_row(stage, row);
                continue;
            }
            const int map = stage.first_map + (level - 1) * stage.height * stage.width;
            KIPPER_UNROLL
            for (int c = 0; c < stage.columns; ++c) {
                const Mask valid = group.valid(c);
                const Lanes<T> zero = all_lanes<T>(0), variance = row.nngp.at[c];
                const Lanes<T> deviation = rounded_root(variance);
                const Lanes<T> inverse =
                    where(mask_of(deviation == T(0)), zero, rounded_inverse(deviation));
                const LaneInt place = group.pixel1(h, c) + map;
                variances.store(place + image, variance, valid);
                const LaneInt one = place * 2 + plan.factors, other = one + 2 * plan.variances;
                pair.workspace.store(one, inverse, valid);
                pair.workspace.store(one + 1, deviation * T(sine_scale(stage, level)), valid);
                pair.workspace.store(other, inverse, valid);
                pair.workspace.store(other + 1, deviation, valid);
                const double scale = level == stage.convs ? stage.top_scale : stage.inner_scale;
                row.nngp.at[c] = where(valid, variance * T(scale), zero);
            }
            if (level == stage.convs && !stage.last) sink.take(h, row);
        }
        forward.advance(stage);
    }
}

template <class T, class Plan, class Stages>
KIPPER_INLINE void variances_of_image(Block& block, const Plan& plan, const Stages& stages,
                                      const Pair<T>& pair, Memory<T>& variances, int image) {
    pair.workspace.forget();
    stages.forward([&](const auto& stage) {
        block.each_warp([&](const Warp& warp) {
            if (warp.index == 0) variances_of_stage(plan, stage, pair, variances, image);
        });
        block.barrier();
        if (!stage.last) forward_stage<false, false>(block, stage, pair);
    });
}

// The work of one block of a launch: every `blocks`-th image, from `first` on. Writes the maps
// (count, variances).
template <class T, class Plan, class Stages>
KIPPER_INLINE void variance_block(Block& block, const Plan& plan, const Stages& stages,
                                  const T* scaled, const T* pixels, int count, Memory<T>& workspace,
                                  Memory<T>& variances, int first, int blocks) {
    for (int image = first; image < count; image += blocks) {
        const ImageWithItself<T, Plan> both(plan, scaled, pixels, image, workspace);
        variances_of_image(block, plan, stages, both.pair(), variances, image * plan.variances);
        block.barrier();
    }
}

// The cotangents of a stage's variances: adds what the other offsets have given to those of
// deviations.
template <class T, class Plan, class StageType>
KIPPER_INLINE void add_deviations(Block& block, const Plan& plan, const StageType& stage,
                                  const Pair<T>& pair, const CotangentSums<T>& sums) {
    const int pixels = stage.height * stage.width;
    block.each_warp([&](const Warp& warp) {
        for (int start = warp.index * kWarp; start < stage.convs * pixels;
             start += warp.count * kWarp) {
            const LaneInt index = lane_index() + start;
            const Mask present = index < stage.convs * pixels;
            const LaneInt place = index + stage.first_map;
            const Mask top = index >= (stage.convs - 1) * pixels;
            const Lanes<T> scale = where(top, all_lanes<T>(T(sine_scale(stage, stage.convs))),
                                         all_lanes<T>(T(sine_scale(stage, 0))));
            const Lanes<T> one = sums.numbers.load(place + sums.variances, present);
            const Lanes<T> other =
                sums.numbers.load(place + (sums.second + sums.variances), present);
            const Lanes<T> inverse = pair.workspace.load(place * 2 + plan.factors, present);
            const LaneInt cotangent = place + plan.cotangents;
            const Lanes<T> sum =
                pair.workspace.load(cotangent, present) + (one * scale + other) * inverse * T(0.5);
            pair.workspace.store(cotangent, sum, present);
        }
    });
    block.barrier();
}

// Offset (0, 0) of a stage backward, by one warp: row h of level l, of M, at step h + M - l.
template <class T, class Plan, class StageType>
KIPPER_INLINE void pull_back_variances(const Plan& plan, const StageType& stage,
                                       const Pair<T>& pair, const CotangentSums<T>& sums) {
    const OffsetGroup group(stage, 0, 0, 1, 1);
    MarchingBox<T, StageType> boxes[StageType::kLevels];  // of cotangents of levels 1, 2, ...
    KIPPER_UNROLL
    for (int level = 0; level < stage.convs; ++level) boxes[level].clear(stage);
    for (int step = 0; step < stage.height + stage.convs; ++step) {
        Columns<T, StageType> row;
        clear<T>(stage, row);
        KIPPER_UNROLL
        for (int level = stage.convs; level >= 0; --level) {
            const int h = step - stage.convs + level;
            if (level < stage.convs) boxes[level].next(stage, row);
            if (!group.has_row(h)) {
                clear<T>(stage, row);
                continue;
            }
            const int map = stage.first_map + (level - 1) * stage.height * stage.width;
            const double scale = level == stage.convs ? stage.top_scale : stage.inner_scale;
            KIPPER_UNROLL
            for (int c = 0; c < stage.columns; ++c) {
                const Mask valid = group.valid(c);
                if (level == 0) {
                    add_input(stage, pair, sums, group, h, c, row.at[c]);
                    continue;
                }
                if (level == stage.convs && !stage.last) {
                    const MapColumn place(output_maps(stage), stage.pooled, 0, group.column(c),
                                          group.dw, valid);
                    if (place.has_row(h))
                        row.at[c] = pair.workspace.load(place.entry(h), place.valid());
                }
                const LaneInt cotangent = group.pixel1(h, c) + (map + plan.cotangents);
                row.at[c] = pair.workspace.load(cotangent, valid) +
                            where(valid, row.at[c] * T(scale), all_lanes<T>(0));
            }
        }
    }
}

// The cotangent of a stage's input at offset (0, 0).
template <class T, class StageType>
KIPPER_INLINE void add_input(const StageType& stage, const Pair<T>& pair,
                             const CotangentSums<T>& sums, const OffsetGroup& group, int h, int c,
                             Lanes<T> cotangent) {
    const Mask valid = group.valid(c);
    if (!stage.first) {
        const MapColumn place(input_maps(stage), 0, 0, group.column(c), group.dw, valid);
        pair.workspace.store(place.entry(h), cotangent, place.valid());
        return;
    }
    const LaneInt pixel = group.pixel1(h, c) * stage.channels;
    const Cursor<T> one = pair.images.first.pixels.cursor(pixel);
    const Cursor<T> other = pair.images.second.pixels.cursor(pixel);
    for (int channel = 0; channel < stage.channels; ++channel) {
        const LaneInt place = pixel + channel;
        sums.numbers.store(place, sums.numbers.load(place, valid) + cotangent * other.load(channel),
                           valid);
        const LaneInt second = place + sums.second;
        sums.numbers.store(second, sums.numbers.load(second, valid) + cotangent * one.load(channel),
                           valid);
    }
}

// As variance_block. `cotangents` (count, variances) are those of the maps. Writes the maps, and
// for each image the sums of cotangents of its pixels, as image 1 and as image 2.
template <class T, class Plan, class Stages>
KIPPER_INLINE void variance_vjp_block(Block& block, const Plan& plan, const Stages& stages,
                                      const T* scaled, const T* pixels, int count,
                                      const Input<T>& cotangents, Memory<T>& workspace,
                                      Memory<T>& variances, T* sums, int first, int blocks) {
    const int of_image = plan.pixel_values + plan.variances;
    for (int image = first; image < count; image += blocks) {
        const ImageWithItself<T, Plan> both(plan, scaled, pixels, image, workspace);
        const Pair<T> pair = both.pair();
        variances_of_image(block, plan, stages, pair, variances, image * plan.variances);
        Memory<T> numbers(sums + std::size_t(image) * 2 * of_image, 2 * of_image);
        const CotangentSums<T> all{numbers, 2, plan.pixel_values, of_image};
        clear_sums(block, all);
        block.each_warp([&](const Warp& warp) {
            for (int start = warp.index * kWarp; start < plan.variances;
                 start += warp.count * kWarp) {
                const LaneInt index = lane_index() + start;
                const Mask present = index < plan.variances;
                const LaneInt inside = smaller(index, plan.variances - 1);
                workspace.store(index + plan.cotangents,
                                cotangents.cursor(inside + image * plan.variances).load(0),
                                present);
            }
        });
        block.barrier();
        stages.backward([&](const auto& stage) {
            if (!stage.last) {
                backward_stage<false, false>(block, stage, pair, plan.exchange, all,
                                             all_lanes<T>(0));
                add_deviations(block, plan, stage, pair, all);
            }
            block.each_warp([&](const Warp& warp) {
                if (warp.index == 0) pull_back_variances(plan, stage, pair, all);
            });
            block.barrier();
        });
    }
}

}  // namespace kipper
