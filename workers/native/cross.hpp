// The kernel of every image of batch 1 with every image of batch 2.
#pragma once

#include <type_traits>
#include <vector>

#include "forward_stage.hpp"
#include "parallel.hpp"

namespace kipper {

// Both batches; the variances are those of the pre-activations of all ReLU layers.
template <class T>
struct Pairs {
    const Network& network;
    int count1, count2;
    const T *pixels1, *variances1;
    const T *pixels2, *variances2;
};

// The forward pass of an image of batch 1 with a block of images of batch 2, and a thread's memory
// for it. `First` is Lanes<T> if images of batch 1 are in lanes as well, each with its partner.
template <class T, class First = T>
class ForwardPass {
  public:
    ForwardPass(const Network& network, bool tangent)
        : network_(network), rings_(network), nearness_(network) {
        for (int stage = 0; stage <= network.last_stage(); ++stage)
            maps_.emplace_back(network.resolutions[stage + 1], tangent);
    }

    // The input of a stage, after `run`.
    StageInput<T, First> stage_input(int stage, const ImageView<First>& first,
                                     const ImageView<Lanes<T>>& second) {
        return {network_, stage, first, second, stage ? &maps_[stage - 1] : nullptr};
    }

    // The kernel: the NTK if kTangent, else the NNGP kernel.
    template <bool kTangent>
    Lanes<T> run(const ImageView<First>& first, const ImageView<Lanes<T>>& second) {
        nearness_.clear();
        for (int stage = 0; stage < network_.last_stage(); ++stage)
            run_stage<kTangent>(stage, first, second);
        return run_last_stage<kTangent>(first, second);
    }

    // `run`, if the outputs of the earlier stages are available.
    template <bool kTangent>
    Lanes<T> run_last_stage(const ImageView<First>& first, const ImageView<Lanes<T>>& second) {
        run_stage<kTangent>(network_.last_stage(), first, second);
        const Entry<T> sum = maps_.back().sum();
        const Lanes<T> total = kTangent ? sum.nngp + sum.tangent : sum.nngp;
        return total * T(network_.readout_scale()) + T(network_.b2);
    }

    // 1 for pairs of the last `run` that float64 should evaluate, see nearness.hpp; else 0.
    Lanes<T> endangered() const { return nearness_.endangered(); }

    // The number of values that `keep` writes: the outputs of all stages but the last.
    std::size_t kept_values() const {
        std::size_t lanes = 0;
        for (int stage = 0; stage < network_.last_stage(); ++stage) lanes += maps_[stage].size();
        return lanes * kLanes<T>;
    }

    void keep(T* memory) const {
        for (int stage = 0; stage < network_.last_stage(); ++stage) {
            maps_[stage].copy_to(memory);
            memory += maps_[stage].size() * kLanes<T>;
        }
    }

    void restore(const T* memory) {
        nearness_.clear();
        for (int stage = 0; stage < network_.last_stage(); ++stage) {
            maps_[stage].copy_from(memory);
            memory += maps_[stage].size() * kLanes<T>;
        }
    }

    ForwardRings<T>& rings() { return rings_; }

  private:
    template <bool kTangent>
    void run_stage(int stage, const ImageView<First>& first, const ImageView<Lanes<T>>& second) {
        // Rounding of float64 does no harm.
        Nearness<T>* nearness = std::is_same_v<T, float> ? &nearness_ : nullptr;
        forward_stage<kTangent>(stage_input(stage, first, second), rings_, maps_[stage], nearness);
    }

    const Network& network_;
    ForwardRings<T> rings_;
    Nearness<T> nearness_;
    std::vector<OffsetMaps<T>> maps_;  // outputs of each stage
};

// Writes the values of an image and a block into the matrix (count1, count2).
template <class T>
void write_kernel(Lanes<T> values, int image, int block, int count2, T* kernel) {
    T* row = kernel + std::size_t(image) * count2 + block * kLanes<T>;
    for (int lane = 0; lane < used_lanes<T>(count2, block); ++lane) row[lane] = values[lane];
}

// The number of values that `cross_kernel` keeps for all pairs.
template <class T>
std::size_t kept_values(const Network& network, int count1, int count2, bool tangent) {
    return ForwardPass<T>(network, tangent).kept_values() * count1 * lane_blocks<T>(count2);
}

// `endangered` takes 1 or 0 for each pair. `kept` is null, or takes values that save `CrossVjp`
// work.
template <class T, bool kTangent>
void cross_kernel(const Pairs<T>& pairs, int threads, T* kernel, T* endangered, T* kept) {
    const SingleImages<T> batch1(pairs.network, pairs.count1, pairs.pixels1, pairs.variances1);
    const LaneImages<T> batch2(pairs.network, pairs.count2, pairs.pixels2, pairs.variances2,
                               threads);
    std::vector<ForwardPass<T>> passes;
    const std::int64_t tasks = std::int64_t(batch2.blocks()) * pairs.count1;
    for (int thread = 0; thread < busy_threads(tasks, threads); ++thread)
        passes.emplace_back(pairs.network, kTangent);
    in_parallel(tasks, threads, [&](std::int64_t task, int thread) {
        const int block = int(task / pairs.count1), image = int(task % pairs.count1);
        ForwardPass<T>& pass = passes[thread];
        const Lanes<T> values = pass.template run<kTangent>(batch1[image], batch2[block]);
        write_kernel(values, image, block, pairs.count2, kernel);
        write_kernel(pass.endangered(), image, block, pairs.count2, endangered);
        const std::size_t index = std::size_t(image) * batch2.blocks() + block;
        if (kept) pass.keep(kept + index * pass.kept_values());
    });
}

}  // namespace kipper
