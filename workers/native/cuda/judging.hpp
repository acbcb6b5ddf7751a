// Whether a pair's kernel in float32 would suffer from patches that nearly coincide: a coarser
// judgement than that of ../nearness.hpp, by the numbers of workers/nearness.py.
#pragma once

#include "march.hpp"

namespace kipper {

// Over the lanes of each segment of that size, in all of them.
template <class Vector>
KIPPER_INLINE Vector sum_over(Vector values, int segment) {
    KIPPER_UNROLL
    for (int bit = kWarp / 2; bit > 0; bit /= 2)
        if (bit < segment) values += exchanged(values, bit);
    return values;
}

// Of a group's offsets.
template <class T>
class Judge {
  public:
    KIPPER_INLINE Judge() : near_(all_lanes<T>(0)), damaged_(all_lanes<T>(0)), rows_(0) {}

    // The pre-activations of row h of the top level; the march has come to row h + convs.
    template <bool kTangent, class StageType>
    KIPPER_INLINE void take(const StageType& stage,
                            const ForwardMarch<kTangent, T, StageType>& forward, int h,
                            const Row<T, StageType>& row) {
        if (stage.judged_rows == 0 || h % stage.judged_rows != stage.judged_rows / 2) return;
        ++rows_;
        KIPPER_UNROLL
        for (int c = 0; c < stage.columns; ++c) {
            Lanes<T> inverses1, inverses2;
            forward.inverses(stage, stage.convs, c, inverses1, inverses2);
            const Lanes<T> correlation = row.nngp.at[c] * (inverses1 * inverses2);
            const Lanes<T> gap = positive_part<T>(T(1) - magnitude<T>(correlation));
            const Mask near = forward.group.valid(c) & mask_of(gap < T(stage.near_gap)) &
                              mask_of(inverses1 != inverses2);
            const Lanes<T> rounding = all_lanes<T>(T(stage.gap_rounding));
            near_ += where(near, all_lanes<T>(1), all_lanes<T>(0));
            damaged_ += where(near, quotient(rounding, rounding + gap), all_lanes<T>(0));
        }
    }

    // Writes the shares of damaged patches, and of near ones at offset (0, 0).
    template <class StageType>
    KIPPER_INLINE void finish(const StageType& stage, const OffsetGroup& group,
                              Memory<T>& workspace) const {
        if (stage.judged_rows == 0) return;
        const LaneInt width = stage.width - larger(group.dw, 0) + smaller(group.dw, 0);
        const Lanes<T> count = numbers_from<T>(larger(width * rows_, 1));
        const LaneInt offset = group.dw + stage.band_columns +
                               (group.dh + stage.band_rows) * (2 * stage.band_columns + 1);
        const Lanes<T> damaged = sum_over(damaged_, stage.segment);
        const Lanes<T> near = sum_over(near_, stage.segment);
        const Mask writes = group.present & (lane_index() % stage.segment == 0);
        workspace.store(offset + stage.judgements, quotient(damaged, count), writes);
        if (group.dh == 0)
            workspace.store(LaneInt{} + stage.nearest, quotient(near, count),
                            writes & (group.dw == 0));
    }

  private:
    Lanes<T> near_, damaged_;
    int rows_;
};

// Writes the verdict from all offsets' judgements, in one warp. `weights` are the offsets' shares
// of what the read-out averages.
template <class T, class Plan>
KIPPER_INLINE Lanes<T> verdict(const Plan& plan, const Input<T>& weights, Memory<T>& workspace) {
    Lanes<T> damage = all_lanes<T>(0), near = all_lanes<T>(0);
    for (int start = 0; start < plan.judged; start += kWarp) {
        const LaneInt index = lane_index() + start;
        const Mask present = index < plan.judged;
        add_product(damage, workspace, index + plan.judgements, weights.cursor(index), present);
    }
    for (int start = 0; plan.judged > 0 && start < plan.stages; start += kWarp) {
        const LaneInt index = lane_index() + start;
        const Lanes<T> share = workspace.load(index + plan.nearest, index < plan.stages);
        near += where(mask_of(share > T(plan.most_near)), all_lanes<T>(1), all_lanes<T>(0));
    }
    const Mask endangered = mask_of(sum_over(damage, kWarp) > T(plan.most_damage)) |
                            mask_of(sum_over(near, kWarp) > T(0));
    const Lanes<T> value = where(endangered, all_lanes<T>(1), all_lanes<T>(0));
    workspace.store(LaneInt{} + plan.verdict, value, lane_index() == 0);
    return value;
}

}  // namespace kipper
