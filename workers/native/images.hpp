// Images with their variance maps: single ones, or a block of them in lanes.
#pragma once

#include <algorithm>
#include <cmath>

#include "aligned_array.hpp"
#include "network.hpp"
#include "parallel.hpp"

namespace kipper {

// One image (Element = T) or a block of them (Element = Lanes<T>).
template <class Element>
struct ImageView {
    const Element* pixels;      // (height, width, channels)
    const Element* deviations;  // square roots of the variance maps of all layers
    const Element* inverses;    // 1 / deviations
};

// 0 for a pixel without variance, so that its kernels are 0; 1 / 0 would make them NaN.
template <class T>
T inverse_or_zero(T deviation) {
    return deviation == 0 ? T(0) : 1 / deviation;
}

template <class T>
KIPPER_INLINE Lanes<T> inverses_or_zeros(Lanes<T> deviations) {
    return deviations == 0 ? Lanes<T>{} : 1 / deviations;
}

// Batch 1. Its pixels carry the scale of the first convolution, its deviations those of
// Network::sine_scale.
template <class T>
class SingleImages {
  public:
    SingleImages(const Network& network, int count, const T* pixels, const T* variances)
        : pixels_per_image_(network.pixel_values()),
          variances_per_image_(network.variances()),
          pixels_(count * pixels_per_image_),
          deviations_(count * variances_per_image_),
          inverses_(count * variances_per_image_) {
        const T scale = T(network.pixel_scale());
        for (std::size_t i = 0; i < pixels_.size(); ++i) pixels_[i] = scale * pixels[i];
        const std::vector<T> sine_scales = network.sine_scales<T>();
        for (std::size_t i = 0; i < deviations_.size(); ++i) {
            const T deviation = std::sqrt(variances[i]);
            deviations_[i] = sine_scales[i % variances_per_image_] * deviation;
            inverses_[i] = inverse_or_zero(deviation);
        }
    }

    ImageView<T> operator[](int image) const {
        return {pixels_.data() + image * pixels_per_image_,
                deviations_.data() + image * variances_per_image_,
                inverses_.data() + image * variances_per_image_};
    }

  private:
    std::size_t pixels_per_image_, variances_per_image_;
    AlignedArray<T> pixels_, deviations_, inverses_;
};

// The number of blocks of lanes for `count` images.
template <class T>
constexpr int lane_blocks(int count) {
    return (count + kLanes<T> - 1) / kLanes<T>;
}

// The number of lanes of a block that hold an image.
template <class T>
constexpr int used_lanes(int count, int block) {
    return std::min(kLanes<T>, count - block * kLanes<T>);
}

// Calls visit(lane, row, begin, end) for runs of the values of each image of a block, whose values
// begin at `row`. What the runs of all images touch in lanes fits in the first-level cache.
template <class T, class Visit>
void for_each_run(int count, std::size_t size, int block, Visit visit) {
    constexpr std::size_t kRun = 64;
    for (std::size_t begin = 0; begin < size; begin += kRun)
        for (int lane = 0; lane < used_lanes<T>(count, block); ++lane)
            visit(lane, (std::size_t(block) * kLanes<T> + lane) * size, begin,
                  std::min(begin + kRun, size));
}

// Transposes rows of (count, size) so that the images of a block are in lanes. Lanes without an
// image keep their values.
template <class T>
void into_lanes(const T* rows, int count, std::size_t size, int block, Lanes<T>* lanes) {
    const auto copy = [&](int lane, std::size_t row, std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) lanes[i][lane] = rows[row + i];
    };
    for_each_run<T>(count, size, block, copy);
}

template <class T>
void out_of_lanes(const Lanes<T>* lanes, int count, std::size_t size, int block, T* rows) {
    const auto copy = [&](int lane, std::size_t row, std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) rows[row + i] = lanes[i][lane];
    };
    for_each_run<T>(count, size, block, copy);
}

// Batch 2. Lanes without an image hold zeros, whose kernels are 0. If `scaled`, it is batch 1 of a
// list of pairs, with the scales of SingleImages.
template <class T>
class LaneImages {
  public:
    LaneImages(const Network& network, int count, const T* pixels, const T* variances, int threads,
               bool scaled = false)
        : blocks_(lane_blocks<T>(count)),
          pixels_per_image_(network.pixel_values()),
          variances_per_image_(network.variances()),
          pixels_(blocks_ * pixels_per_image_),
          deviations_(blocks_ * variances_per_image_),
          inverses_(blocks_ * variances_per_image_) {
        in_parallel(blocks_, threads, [&](std::int64_t block, int) {
            into_lanes(pixels, count, pixels_per_image_, int(block),
                       pixels_.data() + block * pixels_per_image_);
            fill_factors(variances, count, int(block));
            if (scaled) scale(network, int(block));
        });
    }

    int blocks() const { return blocks_; }

    ImageView<Lanes<T>> operator[](int block) const {
        return {pixels_.data() + block * pixels_per_image_,
                deviations_.data() + block * variances_per_image_,
                inverses_.data() + block * variances_per_image_};
    }

  private:
    void fill_factors(const T* variances, int count, int block) {
        Lanes<T>* deviations = deviations_.data() + block * variances_per_image_;
        Lanes<T>* inverses = inverses_.data() + block * variances_per_image_;
        into_lanes(variances, count, variances_per_image_, block, deviations);
        for (std::size_t i = 0; i < variances_per_image_; ++i) {
            deviations[i] = square_root<T>(deviations[i]);
            inverses[i] = inverses_or_zeros<T>(deviations[i]);
        }
    }

    void scale(const Network& network, int block) {
        Lanes<T>* pixels = pixels_.data() + block * pixels_per_image_;
        for (std::size_t i = 0; i < pixels_per_image_; ++i) pixels[i] *= T(network.pixel_scale());
        Lanes<T>* deviations = deviations_.data() + block * variances_per_image_;
        const std::vector<T> sine_scales = network.sine_scales<T>();
        for (std::size_t i = 0; i < variances_per_image_; ++i) deviations[i] *= sine_scales[i];
    }

    int blocks_;
    std::size_t pixels_per_image_, variances_per_image_;
    AlignedArray<Lanes<T>> pixels_, deviations_, inverses_;
};

}  // namespace kipper
