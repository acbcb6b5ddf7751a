// The kernels of listed pairs: of the first image of batch 1 with the first one of batch 2, and so
// on. Both are in lanes, so that any list fills vectors, such as half of a symmetric matrix.
#pragma once

#include "cross_vjp.hpp"

namespace kipper {

// Both batches of a list of pairs. A pair's bits do not depend on its lane, or on other pairs.
template <class T>
class ListedPairs {
  public:
    ListedPairs(const Pairs<T>& pairs, int threads)
        : network(pairs.network),
          count(pairs.count1),
          first(network, count, pairs.pixels1, pairs.variances1, threads, true),
          second(network, count, pairs.pixels2, pairs.variances2, threads) {}

    const Network& network;
    const int count;
    const LaneImages<T> first, second;
};

// `kernel` and `endangered` are of `count` pairs; see `cross_kernel`.
template <class T, bool kTangent>
void listed_kernels(const Pairs<T>& pairs, int threads, T* kernel, T* endangered) {
    const ListedPairs<T> listed(pairs, threads);
    std::vector<ForwardPass<T, Lanes<T>>> passes;
    const int blocks = listed.first.blocks();
    for (int thread = 0; thread < busy_threads(blocks, threads); ++thread)
        passes.emplace_back(listed.network, kTangent);
    in_parallel(blocks, threads, [&](std::int64_t task, int thread) {
        const int block = int(task);
        ForwardPass<T, Lanes<T>>& pass = passes[thread];
        const Lanes<T> values =
            pass.template run<kTangent>(listed.first[block], listed.second[block]);
        write_kernel(values, 0, block, listed.count, kernel);
        write_kernel(pass.endangered(), 0, block, listed.count, endangered);
    });
}

// The backward pass of a block of listed pairs, and a thread's memory for it.
template <class T, bool kTangent>
class ListedPass {
  public:
    explicit ListedPass(const Network& network)
        : sine_scales_(network.sine_scales<T>()),
          pass_(network),
          pixels1_(network.pixel_values()),
          pixels2_(network.pixel_values()),
          variances1_(network.variances()),
          variances2_(network.variances()) {}

    // Writes what the pairs of a block add, for each pair apart.
    void run(const ListedPairs<T>& listed, int block, const T* cotangent,
             const KernelAndCotangents<T>& out) {
        for (AlignedArray<Lanes<T>>* sums : {&pixels1_, &pixels2_, &variances1_, &variances2_})
            sums->clear();
        Lanes<T> seeds{};
        for (int lane = 0; lane < used_lanes<T>(listed.count, block); ++lane)
            seeds[lane] = cotangent[block * kLanes<T> + lane];
        const ImageView<Lanes<T>> first = listed.first[block], second = listed.second[block];
        const Lanes<T> values =
            pass_.run(first, second, nullptr, seeds,
                      {pixels1_.data(), variances1_.data(), pixels2_.data(), variances2_.data()});
        write_kernel(values, 0, block, listed.count, out.kernel);
        write_kernel(pass_.endangered(), 0, block, listed.count, out.endangered);
        const T scale = T(listed.network.pixel_scale());
        for (std::size_t i = 0; i < pixels1_.size(); ++i) pixels1_[i] *= scale;
        for (std::size_t i = 0; i < variances1_.size(); ++i) {
            variances1_[i] *= sine_scales_[i] * first.inverses[i] / 2;
            variances2_[i] *= second.inverses[i] / 2;
        }
        const auto write = [&](const AlignedArray<Lanes<T>>& sums, T* rows) {
            out_of_lanes(sums.data(), listed.count, sums.size(), block, rows);
        };
        write(pixels1_, out.pixels1);
        write(variances1_, out.variances1);
        write(pixels2_, out.pixels2);
        write(variances2_, out.variances2);
    }

  private:
    const std::vector<T> sine_scales_;
    BackwardPass<T, Lanes<T>, kTangent, true> pass_;
    AlignedArray<Lanes<T>> pixels1_, pixels2_, variances1_, variances2_;
};

// The kernels and their cotangents, `count` of each, pulled back to both images of each pair.
template <class T, bool kTangent>
void listed_vjp(const Pairs<T>& pairs, const T* cotangent, int threads,
                const KernelAndCotangents<T>& out) {
    const ListedPairs<T> listed(pairs, threads);
    std::vector<ListedPass<T, kTangent>> passes;
    const int blocks = listed.first.blocks();
    for (int thread = 0; thread < busy_threads(blocks, threads); ++thread)
        passes.emplace_back(listed.network);
    in_parallel(blocks, threads, [&](std::int64_t block, int thread) {
        passes[thread].run(listed, int(block), cotangent, out);
    });
}

}  // namespace kipper
