// The cotangents of images, from those of their variance maps.
//
// Stages go backwards. Within a stage, offset (0, 0) goes last, because the other offsets
// contribute to the cotangents of the variances, which are the kernels at offset (0, 0).
#pragma once

#include "backward_stage.hpp"
#include "variance_maps.hpp"

namespace kipper {

template <class T>
class VarianceBackwardPass {
  public:
    // The bands of `network` are those of its variance maps.
    explicit VarianceBackwardPass(const Network& network)
        : network_(network),
          forward_(network),
          rings_(network),
          sine_scales_(network.sine_scales<T>()),
          variances_(network.variances()),
          pixel_sums1_(network.pixel_values()),
          pixel_sums2_(network.pixel_values()),
          variance_sums1_(network.variances()),
          variance_sums2_(network.variances()),
          above_(network.resolutions[0].height, network.resolutions[0].width),
          here_(network.resolutions[0].height, network.resolutions[0].width) {
        for (int stage = 0; stage < network.last_stage(); ++stage)
            cotangents_.emplace_back(network.resolutions[stage + 1], false);
    }

    void run(const T* images, const T* variance_cotangents, int count, int block, T* out) {
        forward_.run(images, count, block);
        for (AlignedArray<Lanes<T>>* sums :
             {&variances_, &pixel_sums1_, &pixel_sums2_, &variance_sums1_, &variance_sums2_})
            sums->clear();
        into_lanes(variance_cotangents, count, variances_.size(), block, variances_.data());
        for (int stage = network_.last_stage(); stage >= 0; --stage) run_stage(stage);
        // The partners of image 1's pixels carry no scale, while those of image 2's do.
        const T scale = T(network_.pixel_scale());
        for (std::size_t i = 0; i < pixel_sums1_.size(); ++i)
            pixel_sums1_[i] = scale * pixel_sums1_[i] + pixel_sums2_[i];
        out_of_lanes(pixel_sums1_.data(), count, pixel_sums1_.size(), block, out);
    }

  private:
    void run_stage(int stage) {
        const StageInput<T, Lanes<T>> input = forward_.stage_input(stage);
        OffsetMaps<T>* below = stage ? &cotangents_[stage - 1] : nullptr;
        if (stage < network_.last_stage()) run_offsets(input, below);
        run_diagonal(input, below);
    }

    void run_offsets(const StageInput<T, Lanes<T>>& input, OffsetMaps<T>* below) {
        const CotangentSums<T> sums{pixel_sums1_.data(), variance_sums1_.data(),
                                    pixel_sums2_.data(), variance_sums2_.data()};
        for_each_offset(input.resolution().band, [&](int dh, int dw) {
            if (!dh && !dw) return;
            BackwardOffset<T, Lanes<T>, false, true>(input, dh, dw, forward_.rings(), rings_,
                                                     cotangents_[input.stage], below, sums)
                .run();
        });
        const Lanes<T>* inverses = forward_.inverses().data();
        const std::size_t first = network_.map_start(input.stage, 1);
        const std::size_t last = network_.map_start(input.stage, input.convs() + 1);
        for (std::size_t i = first; i < last; ++i) {
            const Lanes<T> sum = variance_sums1_[i] * sine_scales_[i] + variance_sums2_[i];
            variances_[i] += sum * inverses[i] / 2;
        }
    }

    // All levels of a stage at offset (0, 0), for the whole image.
    void run_diagonal(const StageInput<T, Lanes<T>>& input, OffsetMaps<T>* below) {
        const Resolution& resolution = input.resolution();
        const Overlap overlap(resolution, 0, 0);
        above_.set_width(resolution.width);
        here_.set_width(resolution.width);
        for (int level = input.convs(); level >= 1; --level) {
            std::swap(above_, here_);
            for (int h = 0; h < resolution.height; ++h) relu_row(input, overlap, level, h);
        }
        std::swap(above_, here_);
        for (int h = 0; h < resolution.height; ++h) input_row(input, overlap, h, below);
    }

    // Cotangents of the variances of a level, from those of the level above it.
    void relu_row(const StageInput<T, Lanes<T>>& input, const Overlap& overlap, int level, int h) {
        const std::size_t row = network_.map_start(input.stage, level) + overlap.pixel1(h);
        const T scale = T(network_.relu_scale(input.stage, level));
        Lanes<T>* out = here_.row(h).nngp + 1;
        if (level < input.convs()) {
            BoxSum<T> box = cotangents_around(h, overlap);
            for (int w = 0; w < overlap.width; ++w)
                out[w] = variances_[row + w] + scale * box.next(w);
            return;
        }
        std::copy_n(variances_.data() + row, overlap.width, out);
        if (input.stage == network_.last_stage()) return;
        PoolWindow<T> window(cotangents_[input.stage], input.pooled(), overlap, h);
        window.with_entries([&](auto entries) {
            for_each_of(window.width(), [&](int w, auto parity) {
                out[w] += scale * entries.row(parity).nngp[entries.index(w)];
            });
        });
    }

    void input_row(const StageInput<T, Lanes<T>>& input, const Overlap& overlap, int h,
                   OffsetMaps<T>* below) {
        const BoxSum<T> box = cotangents_around(h, overlap);
        if (below) return box_row(box, overlap.width, below->row(0, 0, h).nngp + 1);
        const std::size_t value = overlap.pixel1(h) * network_.channels;
        pixel_product_row_vjp<true, T>(box, input.first.pixels + value, input.second.pixels + value,
                                       overlap.width, network_.channels,
                                       pixel_sums1_.data() + value, pixel_sums2_.data() + value);
    }

    BoxSum<T> cotangents_around(int h, const Overlap& overlap) {
        const Lanes<T>* zeros = forward_.rings().zeros.row(0).nngp;
        return {overlap.has_row(h - 1) ? above_.row(h - 1).nngp : zeros, above_.row(h).nngp,
                overlap.has_row(h + 1) ? above_.row(h + 1).nngp : zeros};
    }

    const Network& network_;
    VariancePass<T> forward_;
    BackwardRings<T> rings_;
    std::vector<T> sine_scales_;
    std::vector<OffsetMaps<T>> cotangents_;  // of the outputs of each stage but the last
    AlignedArray<Lanes<T>> variances_;       // cotangents of the variance maps
    // An image is both image 1 and image 2.
    AlignedArray<Lanes<T>> pixel_sums1_, pixel_sums2_, variance_sums1_, variance_sums2_;
    RowStore<T> above_, here_;  // cotangents of the variances of a level, and of the level below
};

template <class T>
void variance_maps_vjp(const Network& network, int count, const T* images,
                       const T* variance_cotangents, int threads, T* out) {
    std::vector<VarianceBackwardPass<T>> passes;
    const int blocks = lane_blocks<T>(count);
    for (int thread = 0; thread < busy_threads(blocks, threads); ++thread)
        passes.emplace_back(network);
    in_parallel(blocks, threads, [&](std::int64_t block, int thread) {
        passes[thread].run(images, variance_cotangents, count, int(block), out);
    });
}

}  // namespace kipper
