// A stage forward at a few offsets: a warp marches down the rows, a lane to a column, with all
// levels in flight. Level l computes row h at step h + l, from sums that it keeps of two rows of
// level l - 1.
//
// Formulas: docs/banded_kernel.md.
#pragma once

#include "arc_cosine.hpp"
#include "stage.hpp"

namespace kipper {

// A number at each column of the lanes.
template <class T, class StageType>
struct Columns {
    Lanes<T> at[StageType::kColumns];
};

// The NNGP and the tangent kernel of a row.
template <class T, class StageType>
struct Row {
    Columns<T, StageType> nngp, tangent;
};

template <class T, class StageType>
KIPPER_INLINE void clear(const StageType& stage, Columns<T, StageType>& columns) {
    KIPPER_UNROLL
    for (int c = 0; c < stage.columns; ++c) columns.at[c] = all_lanes<T>(0);
}

// 3x3 box sums. Numbers outside the overlap must be 0.
template <class T, class StageType>
class MarchingBox {
  public:
    KIPPER_INLINE void clear(const StageType& stage) {
        kipper::clear<T>(stage, pair_);
        kipper::clear<T>(stage, last_);
    }

    // From row h, replaced by the sums around row h - 1.
    KIPPER_INLINE void next(const StageType& stage, Columns<T, StageType>& row) {
        Columns<T, StageType> sums = row;
        const int last = stage.columns - 1;
        KIPPER_UNROLL
        for (int c = 0; c <= last; ++c) {
            if (c > 0) sums.at[c] += row.at[c - 1];
            if (c < last) sums.at[c] += row.at[c + 1];
        }
        sums.at[0] = add_neighbour<true>(sums.at[0], row.at[last], stage.segment);
        sums.at[last] = add_neighbour<false>(sums.at[last], row.at[0], stage.segment);
        KIPPER_UNROLL
        for (int c = 0; c <= last; ++c) {
            row.at[c] = pair_.at[c] + sums.at[c];
            pair_.at[c] = last_.at[c] + sums.at[c];
            last_.at[c] = sums.at[c];
        }
    }

  private:
    Columns<T, StageType> pair_;  // the sum of the last two rows
    Columns<T, StageType> last_;  // the last row
};

// An image: its pixels, and for each variance the reciprocal deviation and the deviation. Pixels of
// image 1 carry the scale of the first convolution, its deviations those of Network::sine_scale.
template <class T>
struct ImageInput {
    Input<T> pixels, factors;
};

template <class T>
struct Factors {
    Lanes<T> inverses, deviations;  // products of both images' ones
};

template <class T, class StageType>
KIPPER_INLINE Factors<T> factors_at(const StageType& stage, const ImageInput<T>& first,
                                    const ImageInput<T>& second,
                                    const OffsetGroup<StageType>& group, int level, int h, int c) {
    const int map = stage.first_map + (level - 1) * stage.height * stage.width;
    const LaneInt one = (group.pixel1(h, c) + map) * 2, two = (group.pixel2(h, c) + map) * 2;
    return {first.factors.load(one) * second.factors.load(two),
            first.factors.load(one + 1) * second.factors.load(two + 1)};
}

// Level 0 of a row. Maps hold the tangent kernel behind the NNGP kernel, if there is one.
template <bool kTangent, class T, class StageType>
KIPPER_INLINE void read_row(const StageType& stage, const ImageInput<T>& first,
                            const ImageInput<T>& second, Memory<T>& maps,
                            const OffsetGroup<StageType>& group, int h, Row<T, StageType>& row) {
    KIPPER_UNROLL
    for (int c = 0; c < stage.columns; ++c) {
        if (stage.first) {
            const LaneInt one = group.pixel1(h, c) * stage.channels;
            const LaneInt two = group.pixel2(h, c) * stage.channels;
            Lanes<T> product = first.pixels.load(one) * second.pixels.load(two);
            KIPPER_UNROLL
            for (int channel = 1; channel < stage.channels; ++channel)
                product += first.pixels.load(one + channel) * second.pixels.load(two + channel);
            row.nngp.at[c] = where(group.valid(c), product, all_lanes<T>(0));
        } else {
            const MapShape shape = input_maps(stage);
            const MapColumn place(shape, 0, group.dh, group.column(c), group.dw, group.valid(c));
            row.nngp.at[c] = maps.load(place.entry(h), place.valid());
            if constexpr (kTangent)
                row.tangent.at[c] = maps.load(place.entry(h) + map_entries(shape), place.valid());
        }
    }
}

template <class T, bool kTangent, class StageType>
class ForwardMarch {
  public:
    KIPPER_INLINE ForwardMarch(const StageType& stage) {
        KIPPER_UNROLL
        for (int level = 0; level < stage.convs; ++level) {
            nngp_[level].clear(stage);
            if constexpr (kTangent) tangent_[level].clear(stage);
        }
    }

    // From row h of level l - 1, or its end, to the pre-activations of row h - 1 of level l.
    KIPPER_INLINE void convolve(const StageType& stage, int level, Row<T, StageType>& row) {
        const bool has_tangent = kTangent && !(stage.first && level == 1);
        nngp_[level - 1].next(stage, row.nngp);
        if (has_tangent) tangent_[level - 1].next(stage, row.tangent);
        KIPPER_UNROLL
        for (int c = 0; c < stage.columns; ++c) {
            row.nngp.at[c] += T(stage.bias);
            if (has_tangent)
                row.tangent.at[c] += row.nngp.at[c];
            else if (kTangent)
                row.tangent.at[c] = row.nngp.at[c];
        }
    }

  private:
    MarchingBox<T, StageType> nngp_[StageType::kLevels];
    MarchingBox<T, StageType> tangent_[kTangent ? StageType::kLevels : 1];
};

// Replaces pre-activations by outputs, which are 0 where a lane's pixels are not in the images.
// Where the images coincide, the output is the input times the scale, exactly.
template <bool kTangent, class T, class StageType>
KIPPER_INLINE void relu_row(const StageType& stage, const ImageInput<T>& first,
                            const ImageInput<T>& second, const OffsetGroup<StageType>& group,
                            int level, int h, Row<T, StageType>& row) {
    const ScaledArcCosine<T> arc_cosine(
        T(level == stage.convs ? stage.top_scale : stage.inner_scale));
    const Lanes<T> zero = all_lanes<T>(0);
    KIPPER_UNROLL
    for (int c = 0; c < stage.columns; ++c) {
        const Factors<T> factors = factors_at(stage, first, second, group, level, h, c);
        const ArcCosine<T> angle = arc_cosine(row.nngp.at[c] * factors.inverses);
        const Mask valid = group.valid(c);
        row.nngp.at[c] =
            where(valid, row.nngp.at[c] * angle.kappa0 + factors.deviations * angle.sine, zero);
        if constexpr (kTangent)
            row.tangent.at[c] = where(valid, row.tangent.at[c] * angle.kappa0, zero);
    }
}

// Calls sink.take(h, row) with the outputs of each row of the top level.
template <bool kTangent, class T, class StageType, class Sink>
KIPPER_INLINE void march(const StageType& stage, const ImageInput<T>& first,
                         const ImageInput<T>& second, Memory<T>& maps,
                         const OffsetGroup<StageType>& group, Sink& sink) {
    ForwardMarch<T, kTangent, StageType> levels(stage);
    for (int step = group.top; step < group.bottom + stage.convs; ++step) {
        Row<T, StageType> row;
        clear<T>(stage, row.nngp);
        clear<T>(stage, row.tangent);
        if (step < group.bottom) read_row<kTangent>(stage, first, second, maps, group, step, row);
        KIPPER_UNROLL
        for (int level = 1; level <= stage.convs; ++level) {
            const int h = step - level;
            levels.convolve(stage, level, row);
            if (group.has_row(h)) {
                relu_row<kTangent>(stage, first, second, group, level, h, row);
                if (level == stage.convs) sink.take(h, row);
            } else {
                clear<T>(stage, row.nngp);
                clear<T>(stage, row.tangent);
            }
        }
    }
}

}  // namespace kipper
