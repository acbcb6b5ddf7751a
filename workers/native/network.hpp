// A network as the passes see it: stages, their resolutions and the band of offsets of each.
#pragma once

#include <cstddef>
#include <vector>

namespace kipper {

// Pixel pairs at an offset within the band have |rows| and |columns| of the offset at most these.
struct Band {
    int rows;
    int columns;
};

// What a stage reads; behind the last stage, what the read-out reads.
struct Resolution {
    int height;
    int width;
    Band band;

    std::size_t pixels() const { return static_cast<std::size_t>(height) * width; }
};

// `convs` times [3x3 convolution, ReLU], then a 2x2 pool if `pooled`.
struct Stage {
    int convs;
    bool pooled;
    std::size_t first_map;  // where its first variance map lies among those of an image
};

struct Network {
    std::vector<Stage> stages;
    std::vector<Resolution> resolutions;  // of the stages, and of the read-out
    int channels;
    bool global_average;
    double w2;
    double b2;

    int last_stage() const { return static_cast<int>(stages.size()) - 1; }

    // Variances of an image: one for each pixel of each ReLU layer.
    std::size_t variances() const {
        const Stage& last = stages.back();
        return last.first_map + last.convs * resolutions[last_stage()].pixels();
    }

    std::size_t pixel_values() const { return resolutions[0].pixels() * channels; }

    // Where the variance map of the `level`-th ReLU of a stage starts; levels count from 1.
    std::size_t map_start(int stage, int level) const {
        return stages[stage].first_map + (level - 1) * resolutions[stage].pixels();
    }

    // A convolution multiplies the sum over its 3x3 window by this.
    double conv_scale() const { return w2 / 9; }

    // What the inner product of two pixels is multiplied by before the first box sum.
    double pixel_scale() const { return conv_scale() / channels; }

    // A ReLU's output is stored times the constant of what follows it, so that convolutions and
    // pools are plain sums: 1/2 of its own, 1/16 of a pool, `conv_scale` of the next convolution.
    double relu_scale(int stage, int level) const {
        const bool top = level == stages[stage].convs;
        const double pool = top && stages[stage].pooled ? 1.0 / 16 : 1.0;
        const bool followed_by_conv = !top || stage < last_stage();
        return 0.5 * pool * (followed_by_conv ? conv_scale() : 1.0);
    }

    // The read-out is this times the sum over its pixel pairs: all of them, or each with itself.
    double readout_scale() const {
        const double pixels = static_cast<double>(resolutions.back().pixels());
        return w2 / (global_average ? pixels * pixels : pixels);
    }
};

}  // namespace kipper
