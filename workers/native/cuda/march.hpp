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

// Both images' ones, multiplied.
template <class T>
struct Factors {
    Lanes<T> inverses, deviations;
};

// An image: its pixels, and for each variance the reciprocal deviation and the deviation. Pixels of
// image 1 carry the scale of the first convolution, its deviations those of Network::sine_scale.
template <class T>
struct ImageInput {
    Input<T> pixels, factors;
};

template <class T>
struct Images {
    const ImageInput<T>& first;
    const ImageInput<T>& second;
};

// A lane's column of both images, in the row that a march has come to.
template <class T>
class ColumnCursors {
  public:
    ColumnCursors() = default;

    template <class StageType>
    KIPPER_INLINE ColumnCursors(const StageType& stage, const Images<T>& images,
                                const OffsetGroup& group, int c)
        : pixels1_(images.first.pixels.cursor(group.pixel1(group.top, c) * stage.channels)),
          pixels2_(images.second.pixels.cursor(group.pixel2(group.top, c) * stage.channels)),
          factors1_(
              images.first.factors.cursor((group.pixel1(group.top, c) + stage.first_map) * 2)),
          factors2_(
              images.second.factors.cursor((group.pixel2(group.top, c) + stage.first_map) * 2)) {}

    template <class StageType>
    KIPPER_INLINE void advance(const StageType& stage) {
        if (stage.first) {
            pixels1_.advance(stage.width * stage.channels);
            pixels2_.advance(stage.width * stage.channels);
        }
        factors1_.advance(stage.width * 2);
        factors2_.advance(stage.width * 2);
    }

    template <class StageType>
    KIPPER_INLINE Lanes<T> pixel_product(const StageType& stage) const {
        Lanes<T> product = pixels1_.load(0) * pixels2_.load(0);
        KIPPER_UNROLL
        for (int channel = 1; channel < stage.channels; ++channel)
            product += pixels1_.load(channel) * pixels2_.load(channel);
        return product;
    }

    // Of a level, `rows` above the row that the march has come to.
    template <class StageType>
    KIPPER_INLINE Factors<T> factors(const StageType& stage, int level, int rows) const {
        const int ahead = 2 * stage.width * ((level - 1) * stage.height - rows);
        Lanes<T> inverses1, deviations1, inverses2, deviations2;
        factors1_.load_two(ahead, inverses1, deviations1);
        factors2_.load_two(ahead, inverses2, deviations2);
        return {inverses1 * inverses2, deviations1 * deviations2};
    }

    // The reciprocal deviations of both images.
    template <class StageType>
    KIPPER_INLINE void inverses(const StageType& stage, int level, int rows, Lanes<T>& one,
                                Lanes<T>& other) const {
        const int ahead = 2 * stage.width * ((level - 1) * stage.height - rows);
        one = factors1_.load(ahead);
        other = factors2_.load(ahead);
    }

  private:
    Cursor<T> pixels1_, pixels2_, factors1_, factors2_;
};

// What the backward pass of a ReLU needs of the forward pass.
template <class T>
struct ReluState {
    Lanes<T> correlation;
    Lanes<T> tangent;  // the tangent kernel, over the same deviations as the correlation
    Lanes<T> kappa0;   // times the layer's scale
    Lanes<T> sine;
};

// Replaces a pixel pair's pre-activations by outputs. Where the images coincide, the output is the
// input times the scale, exactly.
template <class T>
KIPPER_INLINE ReluState<T> relu(Lanes<T>& nngp, Lanes<T>& tangent, const Factors<T>& factors,
                                double scale) {
    const Lanes<T> correlation = nngp * factors.inverses;
    const Angle<T> angle = angle_of<T>(correlation);
    const Lanes<T> kappa0 = ScaledArcCosine<T>(T(scale)).kappa0(angle, correlation);
    const ReluState<T> state{correlation, tangent * factors.inverses, kappa0, angle.sine};
    nngp = nngp * kappa0 + factors.deviations * angle.sine;
    tangent = tangent * kappa0;
    return state;
}

// A march forward: its place, and the sums that it keeps.
template <bool kTangent, class T, class StageType>
class ForwardMarch {
  public:
    ForwardMarch() = default;

    KIPPER_INLINE ForwardMarch(const StageType& stage, const Images<T>& images,
                               const OffsetGroup& group)
        : group(group) {
        KIPPER_UNROLL
        for (int level = 0; level < stage.convs; ++level) {
            nngp_[level].clear(stage);
            if constexpr (kTangent) tangent_[level].clear(stage);
        }
        KIPPER_UNROLL
        for (int c = 0; c < stage.columns; ++c) cursors_[c] = {stage, images, group, c};
    }

    // Level 0 of row h, which the march has come to; 0 behind the last row.
    KIPPER_INLINE void read(const StageType& stage, Memory<T>& maps, int h,
                            Row<T, StageType>& row) const {
        clear_row(stage, row);
        if (h >= group.bottom) return;
        const MapShape shape = input_maps(stage);
        KIPPER_UNROLL
        for (int c = 0; c < stage.columns; ++c) {
            if (stage.first) {
                row.nngp.at[c] =
                    where(group.valid(c), cursors_[c].pixel_product(stage), all_lanes<T>(0));
                continue;
            }
            // The maps of the tangent kernel follow those of the NNGP kernel.
            const MapColumn place(shape, 0, group.dh, group.column(c), group.dw, group.valid(c));
            row.nngp.at[c] = maps.load(place.entry(h), place.valid());
            if constexpr (kTangent)
                row.tangent.at[c] = maps.load(place.entry(h) + map_entries(shape), place.valid());
        }
    }

    // From row h of level l - 1, or 0 behind the last one, to the pre-activations of row h - 1 of
    // level l.
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

    // Replaces the pre-activations of row h - level, if the march has come to row h, by outputs,
    // which are 0 where a lane's pixels are not in the images. Calls keep(c, state).
    template <class Keep>
    KIPPER_INLINE void rectify(const StageType& stage, int level, Row<T, StageType>& row,
                               Keep keep) const {
        KIPPER_UNROLL
        for (int c = 0; c < stage.columns; ++c) {
            const Mask valid = group.valid(c);
            keep(c, relu<T>(row.nngp.at[c], row.tangent.at[c],
                            cursors_[c].factors(stage, level, level),
                            level == stage.convs ? stage.top_scale : stage.inner_scale));
            row.nngp.at[c] = where(valid, row.nngp.at[c], all_lanes<T>(0));
            row.tangent.at[c] = where(valid, row.tangent.at[c], all_lanes<T>(0));
        }
    }

    // The reciprocal deviations of the c-th column in row h - level, if the march has come to row
    // h.
    KIPPER_INLINE void inverses(const StageType& stage, int level, int c, Lanes<T>& one,
                                Lanes<T>& other) const {
        cursors_[c].inverses(stage, level, level, one, other);
    }

    KIPPER_INLINE static void clear_row(const StageType& stage, Row<T, StageType>& row) {
        clear<T>(stage, row.nngp);
        clear<T>(stage, row.tangent);
    }

    KIPPER_INLINE void advance(const StageType& stage) {
        KIPPER_UNROLL
        for (int c = 0; c < stage.columns; ++c) cursors_[c].advance(stage);
    }

    OffsetGroup group;

  private:
    ColumnCursors<T> cursors_[StageType::kColumns];
    MarchingBox<T, StageType> nngp_[StageType::kLevels];
    MarchingBox<T, StageType> tangent_[kTangent ? StageType::kLevels : 1];
};

// Calls sink.take(h, row) with the outputs of each row of the top level, and judge.take with the
// inputs of all levels.
template <bool kTangent, class T, class StageType, class Sink, class Judge>
KIPPER_INLINE void march(const StageType& stage, const Images<T>& images, Memory<T>& maps,
                         const OffsetGroup& group, Sink& sink, Judge& judge) {
    ForwardMarch<kTangent, T, StageType> forward(stage, images, group);
    for (int step = group.top; step < group.bottom + stage.convs; ++step) {
        Row<T, StageType> row;
        forward.read(stage, maps, step, row);
        KIPPER_UNROLL
        for (int level = 1; level <= stage.convs; ++level) {
            const int h = step - level;
            forward.convolve(stage, level, row);
            if (group.has_row(h)) {
                judge.take(stage, forward, level, h, row);
                forward.rectify(stage, level, row, [](int, const ReluState<T>&) {});
                if (level == stage.convs) sink.take(h, row);
            } else {
                forward.clear_row(stage, row);
            }
        }
        forward.advance(stage);
    }
}

}  // namespace kipper
