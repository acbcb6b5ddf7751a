// The cotangent of a pair's kernel pulled back to both images, from what its forward pass kept.
//
// The outputs of a stage are in their maps, and its cotangents replace them, offset by offset.
// All warps of a block march at offsets with the same dh, in the same row at the same time. Each
// writes its cotangents of the row; after a barrier, those of all offsets are multiplied by what
// the other image has there, and added up for each pixel and each variance. So no two warps add to
// the same number, and the order of sums is that of the offsets.
//
// Formulas: docs/banded_kernel.md ("Backward").
#pragma once

#include "cross.hpp"

namespace kipper {

// The states of a level's last rows, from the forward to the backward pass.
template <class T, class StageType>
class StateRing {
  public:
    // Row h replaces the oldest one. Call it for every row, also for those outside the overlap.
    KIPPER_INLINE void keep(const StageType& stage, int level, int h, int c,
                            const ReluState<T>& state) {
        const int count = rows(stage, level), first = start(stage, level);
        if (moves(stage)) {
            KIPPER_UNROLL
            for (int row = count - 1; row > 0; --row)
                states_[first + row].at[c] = states_[first + row - 1].at[c];
            states_[first].at[c] = state;
        } else if (h >= 0) {
            states_[first + h % count].at[c] = state;
        }
    }

    KIPPER_INLINE const ReluState<T>& oldest(const StageType& stage, int level, int h,
                                             int c) const {
        const int count = rows(stage, level), first = start(stage, level);
        return states_[moves(stage) ? first + count - 1 : first + h % count].at[c];
    }

  private:
    // Few states stay in registers, which are not numbered at run time.
    KIPPER_INLINE static bool moves(const StageType& stage) { return stage.convs <= 3; }

    KIPPER_INLINE static int rows(const StageType& stage, int level) {
        return 2 * (stage.convs - level) + 1;
    }

    // The rows of the levels from 1 on: 2 convs - 1, 2 convs - 3, ...
    KIPPER_INLINE static int start(const StageType& stage, int level) {
        return (level - 1) * (2 * stage.convs + 1 - level);
    }

    struct {
        ReluState<T> at[StageType::kColumns];
    } states_[StageType::kLevels * StageType::kLevels];
};

// A march forward and back: row h of level l, of M, goes forward at step h + l and back at step
// h + 2 M - l.
template <bool kTangent, class T, class StageType>
struct TurningMarch {
    ForwardMarch<kTangent, T, StageType> forward;
    // Of the cotangents of the pre-activations of levels 1, 2, ...
    MarchingBox<T, StageType> nngp[StageType::kLevels];
    MarchingBox<T, StageType> tangent[kTangent ? StageType::kLevels : 1];
};

// Where the warps of a block leave their cotangents of a step: two buffers in turn, in each one for
// level 0 and for each level's deviations, and there a row for each offset.
struct Exchange {
    int start;  // in the workspace
    int level, buffer;

    template <class StageType>
    KIPPER_INLINE Exchange(const StageType& stage, int start)
        : start(start),
          level((2 * stage.band_columns + 1) * stage.width),
          buffer(level * (stage.convs + 1)) {}
};

// Sums over offsets of the cotangents of image 1 and, if wanted, of image 2: of pixels and then of
// deviations. Those of image 1 lack the factors that its pixels and deviations carry.
template <class T>
struct CotangentSums {
    Memory<T>& numbers;
    int images;
    int variances, second;  // starts of those of deviations, and of image 2
};

// A stage's pass backward at the offsets of one dh; not at (0, 0) unless `kAll`.
template <bool kTangent, bool kAll, class T, class StageType>
class RowOfOffsets {
  public:
    using March = TurningMarch<kTangent, T, StageType>;

    using States = StateRing<T, StageType>;

    KIPPER_INLINE RowOfOffsets(Block& block, const StageType& stage, const Pair<T>& pair,
                               const Exchange& exchange, const CotangentSums<T>& sums,
                               Lanes<T> seed, PerWarp<March>& marches, PerWarp<States>& states)
        : block_(block),
          stage_(stage),
          pair_(pair),
          exchange_(exchange),
          sums_(sums),
          seed_(seed),
          marches_(marches),
          states_(states) {}

    // `buffer` is the one to use first; returns the one to use next.
    KIPPER_INLINE int run(int dh, int buffer) {
        const int together = kWarp / stage_.segment;
        const int offsets = 2 * stage_.band_columns + 1;
        for (int start = 0; start < offsets; start += together * block_.warps()) {
            const int count = smaller(offsets - start, together * block_.warps());
            block_.each_warp([&](const Warp& warp) {
                const int mine = start + warp.index * together;
                begin(warp, {stage_, dh, mine - stage_.band_columns, 1, start + count - mine});
            });
            const int top = larger(0, -dh), bottom = smaller(stage_.height, stage_.height - dh);
            for (int step = top; step < bottom + 2 * stage_.convs; ++step) {
                block_.each_warp([&](const Warp& warp) {
                    const int mine = start + warp.index * together;
                    if (mine < start + count) advance(warp, step, mine, buffer);
                });
                block_.barrier();
                block_.each_warp([&](const Warp& warp) {
                    add_up(warp, step, dh, top, bottom, start, count, buffer);
                });
                buffer = 1 - buffer;
            }
        }
        return buffer;
    }

  private:
    KIPPER_INLINE void begin(const Warp& warp, const OffsetGroup& group) {
        March& march = marches_[warp];
        march.forward = {stage_, pair_.images, group};
        if (!kAll && group.dh == 0) march.forward.group.present = group.present & (group.dw != 0);
        KIPPER_UNROLL
        for (int level = 0; level < stage_.convs; ++level) {
            march.nngp[level].clear(stage_);
            if constexpr (kTangent) march.tangent[level].clear(stage_);
        }
    }

    KIPPER_INLINE void advance(const Warp& warp, int step, int first_offset, int buffer) {
        March& march = marches_[warp];
        States& states = states_[warp];
        const OffsetGroup& group = march.forward.group;
        const int convs = stage_.convs;
        Row<T, StageType> row;
        ReluState<T> turning[StageType::kColumns] = {};
        march.forward.read(stage_, pair_.workspace, step, row);
        KIPPER_UNROLL
        for (int level = 1; level <= convs; ++level) {
            const int h = step - level;
            march.forward.convolve(stage_, level, row);
            if (group.has_row(h)) {
                march.forward.rectify(stage_, level, row, [&](int c, const ReluState<T>& state) {
                    if (level == convs)
                        turning[c] = state;
                    else
                        states.keep(stage_, level, h, c, state);
                });
            } else {
                march.forward.clear_row(stage_, row);
                KIPPER_UNROLL
                for (int c = 0; c < stage_.columns; ++c)
                    if (level < convs) states.keep(stage_, level, h, c, ReluState<T>{});
            }
        }
        const LaneInt offset = lane_index() / stage_.segment + first_offset;
        KIPPER_UNROLL
        for (int level = convs; level >= 0; --level) {
            const int h = step - 2 * convs + level;
            if (level == convs)
                read_cotangents(group, h, row);
            else
                convolve_back(march, level, row);
            if (!group.has_row(h)) {
                march.forward.clear_row(stage_, row);
                continue;
            }
            KIPPER_UNROLL
            for (int c = 0; c < stage_.columns; ++c) {
                const Mask valid = group.valid(c);
                Lanes<T> left = row.nngp.at[c];
                if (level > 0) {
                    const ReluState<T>& state =
                        level == convs ? turning[c] : states.oldest(stage_, level, h, c);
                    left = pull_back(level, state, row, c);
                    row.nngp.at[c] = where(valid, row.nngp.at[c], all_lanes<T>(0));
                    row.tangent.at[c] = where(valid, row.tangent.at[c], all_lanes<T>(0));
                } else if (!stage_.first) {
                    write_below(group, h, row, c);
                    continue;
                }
                const int start = exchange_.start + buffer * exchange_.buffer;
                pair_.workspace.store(
                    offset * stage_.width + group.column(c) + (start + level * exchange_.level),
                    left, valid);
            }
        }
        march.forward.advance(stage_);
    }

    // The cotangents of a row's outputs of the top level.
    KIPPER_INLINE void read_cotangents(const OffsetGroup& group, int h, Row<T, StageType>& row) {
        const MapShape shape = output_maps(stage_);
        march_clear(row);
        KIPPER_UNROLL
        for (int c = 0; c < stage_.columns; ++c) {
            const MapColumn place(shape, stage_.pooled, group.dh, group.column(c), group.dw,
                                  group.valid(c));
            if (!group.has_row(h) || !place.has_row(h)) return;
            if (stage_.last) {
                row.nngp.at[c] = where(place.valid(), seed_, all_lanes<T>(0));
                row.tangent.at[c] = row.nngp.at[c];
                continue;
            }
            const LaneInt entry = place.entry(h);
            row.nngp.at[c] = pair_.workspace.load(entry, place.valid());
            if constexpr (kTangent)
                row.tangent.at[c] = pair_.workspace.load(entry + map_entries(shape), place.valid());
        }
    }

    KIPPER_INLINE void march_clear(Row<T, StageType>& row) {
        ForwardMarch<kTangent, T, StageType>::clear_row(stage_, row);
    }

    // From the cotangents of the pre-activations of a row of level l + 1 to those of the outputs of
    // the row before of level l. The tangent kernel of the first layer is its NNGP kernel.
    KIPPER_INLINE void convolve_back(March& march, int level, Row<T, StageType>& row) {
        march.nngp[level].next(stage_, row.nngp);
        if (kTangent && !(stage_.first && level == 0))
            march.tangent[level].next(stage_, row.tangent);
    }

    // From cotangents of a ReLU's outputs to those of its inputs; returns that of the product of
    // deviations. The cotangent of the NNGP kernel includes that of the tangent kernel.
    KIPPER_INLINE Lanes<T> pull_back(int level, const ReluState<T>& state, Row<T, StageType>& row,
                                     int c) const {
        Lanes<T> deviations = row.nngp.at[c] * state.sine;
        if constexpr (!kTangent) {
            row.nngp.at[c] *= state.kappa0;
        } else {
            const double scale =
                (level == stage_.convs ? stage_.top_scale : stage_.inner_scale) * kOneOverPi;
            const Lanes<T> nngp = row.nngp.at[c], tangent = row.tangent.at[c];
            // Through kappa_0, over its constant factor. It cancels where the images coincide.
            const Lanes<T> through_kappa0 =
                state.sine == 0 ? all_lanes<T>(0) : quotient(tangent * state.tangent, state.sine);
            row.tangent.at[c] = tangent * state.kappa0;
            row.nngp.at[c] = (nngp + tangent) * state.kappa0 + through_kappa0 * T(scale);
            deviations -= through_kappa0 * state.correlation;
        }
        return deviations;
    }

    // Replaces inputs of the stage, which are not needed any more.
    KIPPER_INLINE void write_below(const OffsetGroup& group, int h, const Row<T, StageType>& row,
                                   int c) {
        const MapShape shape = input_maps(stage_);
        const MapColumn place(shape, 0, group.dh, group.column(c), group.dw, group.valid(c));
        const LaneInt entry = place.entry(h);
        pair_.workspace.store(entry, row.nngp.at[c], place.valid());
        if constexpr (kTangent)
            pair_.workspace.store(entry + map_entries(shape), row.tangent.at[c], place.valid());
    }

    // Adds the step's cotangents of `count` offsets, from index `start` on: each level of each
    // image by the same warp at every step.
    KIPPER_INLINE void add_up(const Warp& warp, int step, int dh, int top, int bottom, int start,
                              int count, int buffer) {
        const int strips = (stage_.width + kWarp - 1) / kWarp;
        const int tasks = (stage_.convs + 1) * sums_.images * strips;
        for (int task = warp.index; task < tasks; task += warp.count) {
            const int level = task / (sums_.images * strips);
            const int h = step - 2 * stage_.convs + level;
            if (h < top || h >= bottom || (level == 0 && !stage_.first)) continue;
            const Addition addition{
                level,
                h,
                dh,
                lane_index() + task % strips * kWarp,
                start - stage_.band_columns,
                count,
                exchange_.start + buffer * exchange_.buffer + level * exchange_.level +
                    start * stage_.width,
            };
            if (task / strips % sums_.images > 0)
                add_row<true>(addition);
            else
                add_row<false>(addition);
        }
    }

    // What a warp adds up: columns of a row of a level, over offsets from `dw` on.
    struct Addition {
        int level, h, dh;
        LaneInt column;
        int dw, count;
        int cotangents;  // the place of the first offset's row
    };

    // To the sums of image 2 or of image 1.
    template <bool kSecond>
    KIPPER_INLINE void add_row(const Addition& addition) {
        const ImageInput<T>& partner = kSecond ? pair_.images.first : pair_.images.second;
        const int row = (kSecond ? addition.h + addition.dh : addition.h) * stage_.width;
        const int partner_row = (kSecond ? addition.h : addition.h + addition.dh) * stage_.width;
        const int sums = kSecond ? sums_.second : 0;
        if (addition.level == 0) {
            const int channels = stage_.channels;
            for (int channel = 0; channel < channels; ++channel)
                add_products<kSecond>(addition, partner.pixels, partner_row * channels + channel,
                                      channels, sums + row * channels + channel, channels);
        } else {
            const int map = stage_.first_map + (addition.level - 1) * stage_.height * stage_.width;
            add_products<kSecond>(addition, partner.factors, (partner_row + map) * 2 + 1, 2,
                                  sums + sums_.variances + map + row, 1);
        }
    }

    // Cotangents times the partner's factors, which are `stride` apart from column to column.
    template <bool kSecond>
    KIPPER_INLINE void add_products(const Addition& addition, const Input<T>& factors, int first,
                                    int stride, int sum, int sum_stride) {
        const Mask inside = addition.column < stage_.width;
        LaneInt other = addition.column + (kSecond ? -addition.dw : addition.dw);
        LaneInt entry = (kSecond ? other : addition.column) + addition.cotangents;
        Cursor<T> cursor = factors.cursor(other * stride + first);
        // From the sum so far on, so that its bits do not depend on the number of warps.
        const LaneInt place = addition.column * sum_stride + sum;
        Lanes<T> total = sums_.numbers.load(place, inside);
        KIPPER_UNROLL_4
        for (int index = 0; index < addition.count; ++index) {
            const Mask valid = inside & in_range(other, stage_.width);
            if (kAll || addition.dh != 0 || addition.dw + index != 0)
                add_product(total, pair_.workspace, entry, cursor, valid);
            other += kSecond ? -1 : 1;
            entry += kSecond ? stage_.width - 1 : stage_.width;
            cursor.advance(kSecond ? -stride : stride);
        }
        sums_.numbers.store(place, total, inside);
    }

    Block& block_;
    const StageType& stage_;
    const Pair<T>& pair_;
    const Exchange& exchange_;
    const CotangentSums<T>& sums_;
    const Lanes<T> seed_;
    PerWarp<March>& marches_;
    PerWarp<States>& states_;
};

template <bool kTangent, bool kAll, class T, class StageType>
KIPPER_INLINE void backward_stage(Block& block, const StageType& stage, const Pair<T>& pair,
                                  int exchange_start, const CotangentSums<T>& sums, Lanes<T> seed) {
    using Row = RowOfOffsets<kTangent, kAll, T, StageType>;
    PerWarp<typename Row::March> marches(block);
    PerWarp<typename Row::States> states(block);
    const Exchange exchange(stage, exchange_start);
    Row row(block, stage, pair, exchange, sums, seed, marches, states);
    int buffer = 0;
    for (int dh = -stage.band_rows; dh <= stage.band_rows; ++dh) buffer = row.run(dh, buffer);
    block.barrier();
}

template <class T>
KIPPER_INLINE void clear_sums(Block& block, const CotangentSums<T>& sums) {
    const int count = sums.images * sums.second;
    block.each_warp([&](const Warp& warp) {
        for (int start = warp.index * kWarp; start < count; start += warp.count * kWarp) {
            const LaneInt place = lane_index() + start;
            sums.numbers.store(place, all_lanes<T>(0), place < count);
        }
    });
    block.barrier();
}

// As cross_block, which kept what `kept` has. `cotangents` are those of the kernel; endangered
// pairs count as 0. Writes to `sums`, for each pair, those of `images` images.
template <bool kTangent, class T, class Plan, class Stages>
KIPPER_INLINE void cross_vjp_block(Block& block, const Plan& plan, const Stages& stages,
                                   const Batches<T>& batches, const Input<T>& cotangents,
                                   const Kept<T>& kept, Memory<T>& workspace, T* sums, int images,
                                   int first, int blocks) {
    const int of_image = plan.pixel_values + plan.variances, columns = batches.second.count;
    for (int index = first; index < batches.pairs(); index += blocks) {
        const ImageInput<T> image1 = batches.first.image(plan, index / columns);
        const ImageInput<T> image2 = batches.second.image(plan, index % columns);
        const Pair<T> pair{{image1, image2}, workspace};
        const Input<T> outputs(kept.of_pair(plan, index / columns, index % columns),
                               kept.count(plan));
        workspace.forget();
        kept.each(block, plan, [&](LaneInt place, LaneInt from, Mask present) {
            workspace.store(place, outputs.cursor(from).load(0), present);
        });
        Memory<T> numbers(sums + std::size_t(index) * images * of_image, images * of_image);
        const CotangentSums<T> all{numbers, images, plan.pixel_values, of_image};
        clear_sums(block, all);
        const Lanes<T> endangered = workspace.load(LaneInt{} + plan.verdict);
        const Lanes<T> cotangent = cotangents.cursor(LaneInt{} + index).load(0);
        const Lanes<T> seed =
            where(mask_of(endangered > T(0)), all_lanes<T>(0), cotangent * T(plan.readout_scale));
        stages.backward([&](const auto& stage) {
            backward_stage<kTangent, true>(block, stage, pair, plan.exchange, all, seed);
        });
    }
}

// What pairs (count1, count2) add, as cross_vjp_block writes it. `side` is 0 for image 1 and 1 for
// image 2.
struct PairSums {
    int count1, count2, images, side, of_image;
};

// The work of one block of a launch: adds the sums of pairs to those of each image of a side, from
// `first_image` on, in the order of the other side's images.
template <class T>
KIPPER_INLINE void sum_pairs_block(Block& block, const PairSums& pairs, const Input<T>& sums,
                                   Memory<T>& totals, int first_image, int first, int blocks) {
    const bool second = pairs.side > 0;
    const int others = second ? pairs.count1 : pairs.count2;
    const int count = (second ? pairs.count2 : pairs.count1) * pairs.of_image;
    // From one pair to the next: of an image, and of the images of a side.
    const int of_pair = pairs.images * pairs.of_image;
    const int to_other = second ? pairs.count2 * of_pair : of_pair;
    const int to_image = second ? of_pair : pairs.count2 * of_pair;
    block.each_warp([&](const Warp& warp) {
        for (int start = (first * warp.count + warp.index) * kWarp; start < count;
             start += blocks * warp.count * kWarp) {
            const LaneInt index = lane_index() + start;
            const Mask present = index < count;
            const LaneInt inside = smaller(index, count - 1);
            Cursor<T> cursor = sums.cursor(inside / pairs.of_image * to_image +
                                           inside % pairs.of_image + pairs.side * pairs.of_image);
            const LaneInt place = index + first_image * pairs.of_image;
            Lanes<T> total = totals.load(place, present);
            for (int other = 0; other < others; ++other) {
                total += cursor.load(0);
                cursor.advance(to_other);
            }
            totals.store(place, total, present);
        }
    });
}

}  // namespace kipper
