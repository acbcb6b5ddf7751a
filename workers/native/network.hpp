// A network as stages, with the resolution and the band of offsets of each.
#pragma once

#include <cstddef>
#include <vector>

namespace kipper {

// The largest |row| and |column| of an offset.
struct Band {
    int rows;
    int columns;
};

// The input of a stage, or of the read-out.
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
    std::size_t first_map;  // the start of its first variance map among those of an image
};

struct Network {
    std::vector<Stage> stages;
    std::vector<Resolution> resolutions;  // of the stages, and of the read-out
    int channels;
    bool global_average;
    double w2;
    double b2;

    int last_stage() const { return static_cast<int>(stages.size()) - 1; }

    // The number of variances of an image: one for each pixel of each ReLU layer.
    std::size_t variances() const {
        const Stage& last = stages.back();
        return last.first_map + last.convs * resolutions[last_stage()].pixels();
    }

    std::size_t pixel_values() const { return resolutions[0].pixels() * channels; }

    // The start of the variance map of a stage's ReLU; levels count from 1.
    std::size_t map_start(int stage, int level) const {
        return stages[stage].first_map + (level - 1) * resolutions[stage].pixels();
    }

    // The factor of a convolution's sum over its 3x3 window.
    double conv_scale() const { return w2 / 9; }

    // The factor of the inner product of two pixels in the first convolution.
    double pixel_scale() const { return conv_scale() / channels; }

    // The factor of a ReLU's stored output, which makes convolutions and pools plain sums: its own
    // 1/2, 1/16 for a pool, `conv_scale` for the next convolution.
    double relu_scale(int stage, int level) const {
        const bool top = level == stages[stage].convs;
        const double pool = top && stages[stage].pooled ? 1.0 / 16 : 1.0;
        const bool followed_by_conv = !top || stage < last_stage();
        return 0.5 * pool * (followed_by_conv ? conv_scale() : 1.0);
    }

    // The factor of sqrt(1 - c^2) in a ReLU's stored output.
    double sine_scale(int stage, int level) const {
        return relu_scale(stage, level) / 3.14159265358979323846;
    }

    // `sine_scale` of every variance of an image.
    template <class T>
    std::vector<T> sine_scales() const {
        std::vector<T> scales;
        for (int stage = 0; stage <= last_stage(); ++stage)
            for (int level = 1; level <= stages[stage].convs; ++level)
                scales.insert(scales.end(), resolutions[stage].pixels(),
                              T(sine_scale(stage, level)));
        return scales;
    }

    // The factor of the read-out's sum over pixel pairs: all pairs, or each pixel with itself.
    double readout_scale() const {
        const double pixels = static_cast<double>(resolutions.back().pixels());
        return w2 / (global_average ? pixels * pixels : pixels);
    }
};

}  // namespace kipper
