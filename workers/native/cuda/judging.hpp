// Whether a pair's kernel in float32 would suffer from patches that nearly coincide: the judgement
// of ../nearness.hpp.
#pragma once

#include "march.hpp"
#include "near_patches.hpp"

namespace kipper {

// Over the lanes of each segment of that size, in all of them.
template <class Vector>
KIPPER_INLINE Vector sum_over(Vector values, int segment) {
    KIPPER_UNROLL
    for (int bit = kWarp / 2; bit > 0; bit /= 2)
        if (bit < segment) values += exchanged(values, bit);
    return values;
}

// Of a group's offsets: the lost part of what is judged, all of it, and near patches of the top
// level.
template <class T>
class Judge {
  public:
    KIPPER_INLINE Judge()
        : lost_(all_lanes<T>(0)), total_(all_lanes<T>(0)), near_(all_lanes<T>(0)), rows_{} {}

    // The pre-activations of row h of a level; the march has come to row h + level.
    template <bool kTangent, class StageType>
    KIPPER_INLINE void take(const StageType& stage,
                            const ForwardMarch<kTangent, T, StageType>& forward, int level, int h,
                            const Row<T, StageType>& row) {
        if (stage.judged_rows == 0) return;
        const OffsetGroup& group = forward.group;
        // At offset (0, 0) and at others.
        const bool centre = group.dh == 0;
        const bool others = level == stage.convs && judges_others(stage, h);
        if (!centre && !others) return;
        const Mask judged = (group.dw == 0) | (others ? -1 : 0);
        rows_ += where(judged, LaneInt{} + 1, LaneInt{});
        KIPPER_UNROLL
        for (int c = 0; c < stage.columns; ++c) {
            const Mask valid = judged & group.valid(c);
            if (!taken(valid)) continue;
            Lanes<T> inverses1, inverses2;
            forward.inverses(stage, level, c, inverses1, inverses2);
            const Lanes<T> zero = all_lanes<T>(0), k = row.nngp.at[c];
            const Lanes<T> gap = positive_part<T>(T(1) - likeness<T>(k, inverses1, inverses2));
            const Mask near = valid & mask_of(gap < T(kNearGap));
            total_ += where(valid, magnitude<T>(k), zero);
            if (!taken(near)) continue;
            const Mask counts = near & mask_of(gap < T(near_gap(stage.only_offset)));
            if (level == stage.convs) near_ += where(counts, all_lanes<T>(1), zero);
            lost_ += where(near, lost_share<T>(gap) * magnitude<T>(k), zero);
        }
    }

    // Writes the means over judged patches, and the share of near ones at offset (0, 0).
    template <class StageType>
    KIPPER_INLINE void finish(const StageType& stage, const OffsetGroup& group,
                              Memory<T>& workspace) const {
        if (stage.judged_rows == 0) return;
        const LaneInt width = stage.width - larger(group.dw, 0) + smaller(group.dw, 0);
        const Lanes<T> count = numbers_from<T>(larger(width * rows_, 1));
        const LaneInt offset = group.dw + stage.band_columns +
                               (group.dh + stage.band_rows) * (2 * stage.band_columns + 1);
        const Mask writes = group.present & (lane_index() % stage.segment == 0);
        const Lanes<T> lost = sum_over(lost_, stage.segment);
        const Lanes<T> total = sum_over(total_, stage.segment);
        workspace.store(offset + stage.lost, quotient(lost, count), writes);
        workspace.store(offset + stage.total, quotient(total, count), writes);
        if (group.dh != 0) return;
        const Lanes<T> near = sum_over(near_, stage.segment);
        workspace.store(LaneInt{} + stage.nearest,
                        quotient(near, all_lanes<T>(T(stage.height * stage.width))),
                        writes & (group.dw == 0));
    }

  private:
    // Without a sign, the remainder of a power of 2 takes one instruction.
    template <class StageType>
    KIPPER_INLINE static bool judges_others(const StageType& stage, int row) {
        return unsigned(row) % unsigned(stage.judged_rows) == unsigned(stage.judged_rows / 2);
    }

    Lanes<T> lost_, total_, near_;
    LaneInt rows_;
};

// Writes the verdict from all offsets' judgements, in one warp. `weights` are the offsets' shares
// of what the read-out averages.
template <class T, class Plan, class Stages>
KIPPER_INLINE Lanes<T> verdict(const Plan& plan, const Stages& stages, const Input<T>& weights,
                               Memory<T>& workspace) {
    const Lanes<T> zero = all_lanes<T>(0);
    Lanes<T> lost = zero, nearest = zero;
    int only_offset = 0;
    stages.forward([&](const auto& stage) {
        if (plan.judged == 0) return;
        Lanes<T> stage_lost = zero, stage_total = zero;
        const int offsets = (2 * stage.band_rows + 1) * (2 * stage.band_columns + 1);
        for (int start = 0; start < offsets; start += kWarp) {
            const LaneInt index = lane_index() + start;
            const Mask present = index < offsets;
            const Cursor<T> weight = weights.cursor(index + stage.first_weight);
            add_product(stage_lost, workspace, index + stage.lost, weight, present);
            add_product(stage_total, workspace, index + stage.total, weight, present);
        }
        const Lanes<T> total = sum_over(stage_total, kWarp);
        const Lanes<T> share = quotient(sum_over(stage_lost, kWarp), total);
        lost += where(mask_of(total > T(0)), share * T(stage.convs), zero);
        const Lanes<T> near = workspace.load(LaneInt{} + stage.nearest);
        nearest = where(mask_of(near > nearest), near, nearest);
        only_offset = stage.only_offset;
    });
    const Mask endangered =
        mask_of(lost > T(most_lost(only_offset))) | mask_of(nearest > T(kMostNear));
    const Lanes<T> value = where(endangered, all_lanes<T>(1), zero);
    workspace.store(LaneInt{} + plan.verdict, value, lane_index() == 0);
    return value;
}

}  // namespace kipper
