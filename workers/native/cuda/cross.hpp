// The kernel of a pair of images, by a block of warps.
//
// In each stage but the last, offsets add to the maps behind the pool in an order that does not
// depend on time: a pooled offset D takes from 2 D - 1, 2 D and 2 D + 1, so those of a class (even,
// 1 modulo 4, 3 modulo 4; in rows and in columns) add to different maps, and a barrier separates
// classes. The last stage is summed offset by offset, and then over offsets.
#pragma once

#include "judging.hpp"

namespace kipper {

// Offsets in one direction: from `first` by `step`.
struct OffsetRange {
    int first, step, count;
};

// A class of offsets that add to different pooled ones, of 3; those of the first add to all.
KIPPER_INLINE OffsetRange offset_class(int band, int index) {
    const int step = index == 0 ? 2 : 4;
    const int residue = index == 0 ? 0 : 2 * index - 1;
    // The lowest offset from -band on with that residue; & works on negative numbers, % does not.
    const int first = -band + ((residue + band) & (step - 1));
    return {first, step, first > band ? 0 : (band - first) / step + 1};
}

KIPPER_INLINE OffsetRange all_offsets(int band) { return {-band, 1, 2 * band + 1}; }

// Sink: adds to the maps behind the stage.
template <bool kTangent, class T, class StageType>
class AddToMaps {
  public:
    // `fresh`: the entries have no value yet.
    KIPPER_INLINE AddToMaps(const StageType& stage, Memory<T>& maps, const OffsetGroup& group,
                            bool even_columns, bool fresh)
        : stage_(stage),
          maps_(maps),
          group_(group),
          even_columns_(stage.pooled && even_columns),
          even_rows_(stage.pooled && group.dh % 2 == 0),
          fresh_(fresh) {}

    KIPPER_INLINE void take(int h, Row<T, StageType>& row) {
        if (even_rows_) {
            // Two rows have the same entries.
            if (h % 2 == 0) {
                upper_ = row;
                return;
            }
            KIPPER_UNROLL
            for (int c = 0; c < stage_.columns; ++c) {
                row.nngp.at[c] += upper_.nngp.at[c];
                if constexpr (kTangent) row.tangent.at[c] += upper_.tangent.at[c];
            }
        }
        KIPPER_UNROLL
        for (int c = 0; c < stage_.columns; ++c) {
            const MapShape shape = output_maps(stage_);
            const MapColumn place(shape, stage_.pooled, group_.dh, group_.column(c), group_.dw,
                                  group_.valid(c));
            if (!place.has_row(h)) return;
            // Two columns too, if offsets are even.
            const Mask writes =
                place.valid() & ((group_.column(c) % 2 == 0) | (even_columns_ ? 0 : -1));
            add(place.entry(h), row.nngp, c, writes);
            if constexpr (kTangent)
                add(place.entry(h) + map_entries(shape), row.tangent, c, writes);
        }
    }

  private:
    KIPPER_INLINE void add(LaneInt entry, const Columns<T, StageType>& row, int c, Mask writes) {
        Lanes<T> sum = row.at[c];
        if (even_columns_) sum += stage_.columns > 1 ? row.at[c ^ 1] : exchanged(row.at[c], 1);
        if (!fresh_) sum += maps_.load(entry, writes);
        maps_.store(entry, sum, writes);
    }

    const StageType& stage_;
    Memory<T>& maps_;
    const OffsetGroup& group_;
    const bool even_columns_, even_rows_, fresh_;
    Row<T, StageType> upper_;
};

// Sink: the sum of what the read-out reads.
template <bool kTangent, class T, class StageType>
class AddUp {
  public:
    KIPPER_INLINE AddUp(const StageType& stage, const OffsetGroup& group)
        : stage_(stage), group_(group), sum_(all_lanes<T>(0)) {}

    KIPPER_INLINE void take(int h, Row<T, StageType>& row) {
        KIPPER_UNROLL
        for (int c = 0; c < stage_.columns; ++c) {
            const MapColumn place(output_maps(stage_), stage_.pooled, group_.dh, group_.column(c),
                                  group_.dw, group_.valid(c));
            if (!place.has_row(h)) return;
            Lanes<T> value = row.nngp.at[c];
            if constexpr (kTangent) value += row.tangent.at[c];
            sum_ += where(place.valid(), value, all_lanes<T>(0));
        }
    }

    // Over the lanes of each segment, in all of them.
    KIPPER_INLINE Lanes<T> total() const { return sum_over(sum_, stage_.segment); }

  private:
    const StageType& stage_;
    const OffsetGroup& group_;
    Lanes<T> sum_;
};

// Calls run(group, first) for each group of a warp; `first` is the index of its first offset among
// all of the ranges.
template <class StageType, class Run>
KIPPER_INLINE void each_group(const StageType& stage, const Warp& warp, const OffsetRange& rows,
                              const OffsetRange& columns, Run run) {
    const int together = kWarp / stage.segment;
    const int groups = (columns.count + together - 1) / together;
    for (int task = warp.index; task < rows.count * groups; task += warp.count) {
        const int row = task / groups, column = task % groups * together;
        const OffsetGroup group(stage, rows.first + row * rows.step,
                                columns.first + column * columns.step, columns.step,
                                columns.count - column);
        run(group, row * columns.count + column);
    }
}

template <class T>
struct Pair {
    const Images<T> images;
    Memory<T>& workspace;
};

// All offsets, or all but (0, 0), whose part of the maps is there already.
template <bool kTangent, bool kAll, class T, class StageType>
KIPPER_INLINE void forward_stage(Block& block, const StageType& stage, const Pair<T>& pair) {
    const int classes = stage.pooled ? 3 : 1;
    for (int index = 0; index < classes * classes; ++index) {
        const int of_rows = index / classes, of_columns = index % classes;
        const OffsetRange rows =
            stage.pooled ? offset_class(stage.band_rows, of_rows) : all_offsets(stage.band_rows);
        const OffsetRange columns = stage.pooled ? offset_class(stage.band_columns, of_columns)
                                                 : all_offsets(stage.band_columns);
        block.each_warp([&](const Warp& warp) {
            each_group(stage, warp, rows, columns, [&](OffsetGroup group, int) {
                if (!kAll && group.dh == 0) group.present = group.present & (group.dw != 0);
                AddToMaps<kTangent, T, StageType> sink(stage, pair.workspace, group,
                                                       of_columns == 0, index == 0);
                Judge<T> judge;
                march<kTangent>(stage, pair.images, pair.workspace, group, sink, judge);
                judge.finish(stage, group, pair.workspace);
            });
        });
        block.barrier();
    }
}

// Writes the sums of the offsets to the workspace, from `sums` on.
template <bool kTangent, class T, class StageType>
KIPPER_INLINE void last_stage(Block& block, const StageType& stage, const Pair<T>& pair, int sums) {
    block.each_warp([&](const Warp& warp) {
        each_group(stage, warp, all_offsets(stage.band_rows), all_offsets(stage.band_columns),
                   [&](const OffsetGroup& group, int first) {
                       AddUp<kTangent, T, StageType> sink(stage, group);
                       Judge<T> judge;
                       march<kTangent>(stage, pair.images, pair.workspace, group, sink, judge);
                       judge.finish(stage, group, pair.workspace);
                       const LaneInt offset = lane_index() / stage.segment + first;
                       pair.workspace.store(offset + sums, sink.total(),
                                            group.present & (lane_index() % stage.segment == 0));
                   });
    });
    block.barrier();
}

// Adds up the sums of all offsets, and calls write(total) in one warp.
template <class T, class Write>
KIPPER_INLINE void read_out(Block& block, Memory<T>& workspace, int sums, int count, Write write) {
    block.each_warp([&](const Warp& warp) {
        if (warp.index > 0) return;
        Lanes<T> total = all_lanes<T>(0);
        for (int start = 0; start < count; start += kWarp) {
            const LaneInt offset = lane_index() + start;
            total += workspace.load(offset + sums, offset < count);
        }
        write(sum_over(total, kWarp));
    });
    block.barrier();
}

// Some of the images that the arrays hold, as `ImageInput` has each.
template <class T>
struct Batch {
    const T *pixels, *factors;
    const int* places;  // of the batch's images in the arrays
    int count;

    template <class Plan>
    KIPPER_INLINE ImageInput<T> image(const Plan& plan, int index) const {
        const std::size_t start = places[index];
        return {Input<T>(pixels + start * plan.pixel_values, plan.pixel_values),
                Input<T>(factors + start * 2 * plan.variances, 2 * plan.variances)};
    }
};

// The results of pairs (batch1.count, batch2.count): the kernel, and 1 for endangered pairs, else
// 0.
template <class T>
struct Judged {
    Memory<T>&kernel, &endangered;
};

// What a launch reads.
template <class T>
struct Batches {
    Batch<T> first, second;

    int pairs() const { return first.count * second.count; }
};

// What the backward passes of pairs need of their forward passes: the outputs of stages, and the
// verdict.
template <class T>
struct Kept {
    T* numbers;         // null to keep nothing
    int first, stride;  // the launch's pair (i, j) is the (first + i * stride + j)-th

    template <class Plan>
    KIPPER_INLINE T* of_pair(const Plan& plan, int row, int column) const {
        return numbers + std::size_t(first + row * stride + column) * count(plan);
    }

    // Calls move(place, kept, present) in lanes, for the places of numbers in the workspace and
    // here.
    template <class Plan, class Move>
    KIPPER_INLINE static void each(Block& block, const Plan& plan, Move move) {
        block.each_warp([&](const Warp& warp) {
            KIPPER_UNROLL_4
            for (int start = warp.index * kWarp; start < count(plan); start += warp.count * kWarp) {
                const LaneInt kept = smaller(lane_index() + start, plan.outputs);
                move(where(kept < plan.outputs, kept, LaneInt{} + plan.verdict), kept,
                     lane_index() + start < count(plan));
            }
        });
        block.barrier();
    }

    template <class Plan>
    KIPPER_INLINE static int count(const Plan& plan) {
        return plan.outputs + 1;
    }
};

// Writes a pair's results, and leaves the outputs of stages and the verdict in the workspace.
template <bool kTangent, class T, class Plan, class Stages>
KIPPER_INLINE void forward_pair(Block& block, const Plan& plan, const Stages& stages,
                                const Pair<T>& pair, const Input<T>& weights,
                                const Judged<T>& results, int index) {
    pair.workspace.forget();
    stages.forward([&](const auto& stage) {
        if (stage.last)
            last_stage<kTangent>(block, stage, pair, plan.sums);
        else
            forward_stage<kTangent, true>(block, stage, pair);
    });
    read_out<T>(block, pair.workspace, plan.sums, plan.offsets, [&](Lanes<T> total) {
        const Lanes<T> value = total * T(plan.readout_scale) + T(plan.bias);
        const LaneInt place = LaneInt{} + index;
        results.kernel.store(place, value, lane_index() == 0);
        results.endangered.store(place, verdict(plan, stages, weights, pair.workspace),
                                 lane_index() == 0);
    });
}

// The work of one block of a launch: every `blocks`-th pair, from `first` on. `stages` calls
// functions with each stage of the network, forward or backward. `weights` are those of offsets,
// see `verdict`.
template <bool kTangent, class T, class Plan, class Stages>
KIPPER_INLINE void cross_block(Block& block, const Plan& plan, const Stages& stages,
                               const Batches<T>& batches, const Input<T>& weights,
                               Memory<T>& workspace, const Judged<T>& results, const Kept<T>& kept,
                               int first, int blocks) {
    const int columns = batches.second.count;
    for (int index = first; index < batches.pairs(); index += blocks) {
        const ImageInput<T> image1 = batches.first.image(plan, index / columns);
        const ImageInput<T> image2 = batches.second.image(plan, index % columns);
        const Pair<T> pair{{image1, image2}, workspace};
        forward_pair<kTangent>(block, plan, stages, pair, weights, results, index);
        if (!kept.numbers) continue;
        Memory<T> numbers(kept.of_pair(plan, index / columns, index % columns), kept.count(plan));
        kept.each(block, plan, [&](LaneInt place, LaneInt to, Mask present) {
            numbers.store(to, workspace.load(place, present), present);
        });
    }
}

}  // namespace kipper
