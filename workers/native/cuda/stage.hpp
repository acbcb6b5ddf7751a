// A stage as the program knows it: numbers that do not change during a launch.
//
// On a GPU a network's stages are types of static constants, which `banded_cuda.py` writes, so that
// the compiler unrolls the levels and keeps their state in registers. On a CPU they are values of
// this type.
#pragma once

#include "lanes.hpp"

namespace kipper {

struct Stage {
    // The most that `convs` and `columns` may be.
    static constexpr int kLevels = 32;
    static constexpr int kColumns = 4;

    int convs, pooled;
    int first, last;  // whether it is the first or the last stage
    int height, width, band_rows, band_columns;
    int out_height, out_width, out_band_rows, out_band_columns;
    int channels;
    int first_map;      // of its variance maps, among those of an image
    int input, output;  // starts of the maps before and behind it, in the workspace
    int columns;        // of an image, in a lane
    int segment;        // lanes for an image's row
    int judged_rows;    // one in so many is judged, see judging.hpp; 0 for none
    int only_offset;    // whether the network has no offset but (0, 0)
    int lost, total;    // places in the workspace, for the judgement of each offset
    int nearest;        // the place of near patches' share
    int first_weight;   // of its offsets, among those of all stages
    double bias, inner_scale, top_scale;  // of ReLUs below the top level, and there
};

// What a network has besides its stages. It is a type of static constants on a GPU too.
struct Plan {
    int pixel_values, variances;  // of an image
    int workspace;                // numbers that a block needs for a pair
    int outputs;                  // of these, the outputs of stages, from place 0 on
    int sums, offsets;            // the place there of the last stage's sums, one for each offset
    int exchange;                 // the place there of the cotangents of a step
    int judged;                   // offsets of all stages; 0 if none are judged
    int factors, cotangents;      // places of what an image's variance maps need of themselves
    int verdict;                  // the place of 1 for an endangered pair, else 0
    double readout_scale, bias;
};

// The maps of a resolution: the pair kernel at each offset of a band. Of each offset the overlap is
// stored, as in offset_maps.hpp, but without padding.
struct MapShape {
    int height, width, band_rows, band_columns;
    int start;
};

// The sum of size - |e| over the offsets e from -band to d - 1.
template <class Int>
KIPPER_INLINE Int entries_before(Int d, int size, int band) {
    const Int low = smaller(d, 0), high = larger(d, 0);
    const Int count = low + band;
    return count * size + count * (low - 1 - band) / 2 + high * size - high * (high - 1) / 2;
}

KIPPER_INLINE int map_entries(const MapShape& shape) {
    return entries_before(shape.band_rows + 1, shape.height, shape.band_rows) *
           entries_before(shape.band_columns + 1, shape.width, shape.band_columns);
}

template <class StageType>
KIPPER_INLINE MapShape input_maps(const StageType& stage) {
    return {stage.height, stage.width, stage.band_rows, stage.band_columns, stage.input};
}

template <class StageType>
KIPPER_INLINE MapShape output_maps(const StageType& stage) {
    return {stage.out_height, stage.out_width, stage.out_band_rows, stage.out_band_columns,
            stage.output};
}

// Offsets that a warp evaluates together: one or more columns apart, in segments of its lanes.
// A lane holds `columns` neighbouring pixels of image 1.
struct OffsetGroup {
    OffsetGroup() = default;

    template <class StageType>
    KIPPER_INLINE OffsetGroup(const StageType& stage, int dh, int dw, int step, int count)
        : dh(dh),
          top(larger(0, -dh)),
          bottom(smaller(stage.height, stage.height - dh)),
          width(stage.width),
          dw(lane_index() / stage.segment * step + dw),
          present(lane_index() / stage.segment < count),
          first_column(lane_index() % stage.segment * stage.columns) {}

    KIPPER_INLINE bool has_row(int h) const { return h >= top && h < bottom; }

    // Whether the lane's c-th column and its partner are in the images.
    KIPPER_INLINE Mask valid(int c) const {
        return present & (column(c) < width) & (column(c) + dw >= 0) & (column(c) + dw < width);
    }

    KIPPER_INLINE LaneInt column(int c) const { return first_column + c; }

    // The pixels, or others if they are not valid.
    KIPPER_INLINE LaneInt pixel1(int h, int c) const {
        return h * width + smaller(column(c), width - 1);
    }
    KIPPER_INLINE LaneInt pixel2(int h, int c) const {
        return (h + dh) * width + larger(smaller(column(c) + dw, width - 1), 0);
    }

    int dh;
    int top, bottom;  // rows of the overlap
    int width;
    LaneInt dw;
    Mask present;
    LaneInt first_column;
};

// The place of a column of an offset in maps, or in maps behind a pool: see pool_window.hpp.
class MapColumn {
  public:
    KIPPER_INLINE MapColumn(const MapShape& shape, int shift, int dh, LaneInt column, LaneInt dw,
                            Mask valid)
        : shape_(shape),
          shift_(shift),
          dh_(dh),
          dw_(((column + dw) >> shift) - (column >> shift)),
          valid_(valid & ((column >> shift) < shape.width) &
                 (((column + dw) >> shift) < shape.width) & (dw_ <= shape.band_columns) &
                 (dw_ >= -shape.band_columns)),
          before_(entries_before(dw_, shape.width, shape.band_columns)),
          length_(shape.width - larger(dw_, 0) + smaller(dw_, 0)),
          place_((column >> shift) + smaller(dw_, 0)) {}

    // Whether there are entries for the column, and for the row.
    KIPPER_INLINE Mask valid() const { return valid_; }
    KIPPER_INLINE bool has_row(int h) const {
        const int row1 = h >> shift_, row2 = (h + dh_) >> shift_;
        const int apart = row2 - row1;
        return row1 < shape_.height && row2 < shape_.height && apart <= shape_.band_rows &&
               apart >= -shape_.band_rows;
    }

    KIPPER_INLINE LaneInt entry(int h) const {
        const int row = h >> shift_;
        const int dh = ((h + dh_) >> shift_) - row;
        const int map_row =
            entries_before(dh, shape_.height, shape_.band_rows) *
            entries_before(shape_.band_columns + 1, shape_.width, shape_.band_columns);
        const int rows = shape_.height - larger(dh, 0) + smaller(dh, 0);
        return before_ * rows + length_ * (row + smaller(dh, 0)) + place_ + shape_.start + map_row;
    }

  private:
    const MapShape shape_;
    const int shift_, dh_;
    const LaneInt dw_;
    const Mask valid_;
    const LaneInt before_, length_, place_;
};

}  // namespace kipper
