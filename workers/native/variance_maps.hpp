// The variance maps of images: the diagonals of their kernels with themselves.
//
// Both images are in lanes. Within a stage, offset (0, 0) goes first, because its kernels are the
// variances that normalise the other offsets; there k' = v / 2 exactly.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "forward_stage.hpp"
#include "parallel.hpp"

namespace kipper {

template <class T>
class VariancePass {
  public:
    // The bands of `network` are those of its variance maps.
    explicit VariancePass(const Network& network)
        : network_(network),
          rings_(network),
          pixels_(network.pixel_values()),
          scaled_pixels_(network.pixel_values()),
          variances_(network.variances()),
          deviations_(network.variances()),
          scaled_deviations_(network.variances()),
          inverses_(network.variances()),
          below_(network.resolutions[0].height, network.resolutions[0].width),
          here_(network.resolutions[0].height, network.resolutions[0].width) {
        for (int stage = 0; stage < network.last_stage(); ++stage)
            maps_.emplace_back(network.resolutions[stage + 1], false);
    }

    // Evaluates a block of images; the results stay in this object.
    void run(const T* images, int count, int block) {
        pixels_.clear();
        into_lanes(images, count, pixels_.size(), block, pixels_.data());
        for (std::size_t i = 0; i < pixels_.size(); ++i)
            scaled_pixels_[i] = pixels_[i] * T(network_.pixel_scale());
        for (int stage = 0; stage <= network_.last_stage(); ++stage) run_stage(stage);
    }

    const AlignedArray<Lanes<T>>& variances() const { return variances_; }
    const AlignedArray<Lanes<T>>& inverses() const { return inverses_; }  // of deviations
    ForwardRings<T>& rings() { return rings_; }

    // The input of a stage, after `run`. Image 1 carries the scales of SingleImages.
    StageInput<T, Lanes<T>> stage_input(int stage) {
        return {network_, stage, view(scaled_pixels_, scaled_deviations_),
                view(pixels_, deviations_), stage ? &maps_[stage - 1] : nullptr};
    }

  private:
    void run_stage(int stage) {
        const StageInput<T, Lanes<T>> input = stage_input(stage);
        if (stage < network_.last_stage()) maps_[stage].clear();
        run_diagonal(input);
        if (stage == network_.last_stage()) return;
        for_each_offset(input.resolution().band, [&](int dh, int dw) {
            if (dh || dw) forward_offset<false>(input, dh, dw, rings_, maps_[stage]);
        });
    }

    ImageView<Lanes<T>> view(const AlignedArray<Lanes<T>>& pixels,
                             const AlignedArray<Lanes<T>>& deviations) const {
        return {pixels.data(), deviations.data(), inverses_.data()};
    }

    // All levels of a stage at offset (0, 0), for the whole image.
    void run_diagonal(const StageInput<T, Lanes<T>>& input) {
        const Resolution& resolution = input.resolution();
        const Overlap overlap(resolution, 0, 0);
        below_.set_width(resolution.width);
        here_.set_width(resolution.width);
        for (int h = 0; h < resolution.height; ++h) read_row(input, overlap, h);
        for (int level = 1; level <= input.convs(); ++level) {
            std::swap(below_, here_);
            for (int h = 0; h < resolution.height; ++h) relu_row(input, level, h);
        }
        if (input.stage == network_.last_stage()) return;
        for (int h = 0; h < resolution.height; ++h) pool_row(input, overlap, h);
    }

    void read_row(const StageInput<T, Lanes<T>>& input, const Overlap& overlap, int h) {
        Lanes<T>* out = here_.row(h).nngp + 1;
        if (input.maps) {
            std::copy_n(input.maps->row(0, 0, h).nngp + 1, overlap.width, out);
            return;
        }
        const std::size_t value = overlap.pixel1(h) * network_.channels;
        pixel_product_row<T>(input.first.pixels + value, input.second.pixels + value, overlap.width,
                             network_.channels, out);
    }

    void relu_row(const StageInput<T, Lanes<T>>& input, int level, int h) {
        const Resolution& resolution = input.resolution();
        const Lanes<T>* above = h ? below_.row(h - 1).nngp : rings_.zeros.row(0).nngp;
        const bool last_row = h + 1 == resolution.height;
        const Lanes<T>* under = last_row ? rings_.zeros.row(0).nngp : below_.row(h + 1).nngp;
        BoxSum<T> box(above, below_.row(h).nngp, under);
        const T scale = T(network_.relu_scale(input.stage, level));
        const T sine_scale = T(network_.sine_scale(input.stage, level));
        const std::size_t row = network_.map_start(input.stage, level) + h * resolution.width;
        for (int w = 0; w < resolution.width; ++w) {
            const Lanes<T> variance = box.next(w) + T(network_.b2);
            const Lanes<T> deviation = square_root<T>(variance);
            variances_[row + w] = variance;
            deviations_[row + w] = deviation;
            scaled_deviations_[row + w] = sine_scale * deviation;
            inverses_[row + w] = inverses_or_zeros<T>(deviation);
            here_.row(h).nngp[w + 1] = variance * scale;
        }
    }

    void pool_row(const StageInput<T, Lanes<T>>& input, const Overlap& overlap, int h) {
        PoolWindow<T> window(maps_[input.stage], input.pooled(), overlap, h);
        const Lanes<T>* row = here_.row(h).nngp + 1;
        window.with_entries([&](auto entries) {
            AddToPool<T, Kinds<false, false>, decltype(entries)> sink{entries};
            for_each_of(window.width(), [&](int w, auto parity) {
                sink.put(w, parity, Relu<T>{{row[w], {}}, {}});
            });
        });
    }

    const Network& network_;
    ForwardRings<T> rings_;
    AlignedArray<Lanes<T>> pixels_, scaled_pixels_;
    AlignedArray<Lanes<T>> variances_, deviations_, scaled_deviations_, inverses_;
    RowStore<T> below_, here_;         // all rows of a level and of the next
    std::vector<OffsetMaps<T>> maps_;  // outputs of each stage but the last
};

template <class T>
void variance_maps(const Network& network, int count, const T* images, int threads, T* variances) {
    std::vector<VariancePass<T>> passes;
    const int blocks = lane_blocks<T>(count);
    for (int thread = 0; thread < busy_threads(blocks, threads); ++thread)
        passes.emplace_back(network);
    in_parallel(blocks, threads, [&](std::int64_t block, int thread) {
        VariancePass<T>& pass = passes[thread];
        pass.run(images, count, int(block));
        out_of_lanes(pass.variances().data(), count, network.variances(), int(block), variances);
    });
}

}  // namespace kipper
