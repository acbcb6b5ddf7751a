// The kernel, and its cotangent pulled back to the pixels and variances of both batches.
//
// The order of sums depends only on the sizes of the batches, not on the width of a vector: each
// tile of pairs has its own sums, which are then added in order, and is cut at groups of lanes.
#pragma once

#include "backward_stage.hpp"
#include "cross.hpp"
#include "lane_groups.hpp"

namespace kipper {

// The outputs: the kernel, 1 for endangered pairs and 0 for others, and cotangents with the shapes
// of the inputs. Those of batch 2 are null if they are not wanted. Endangered pairs add nothing to
// them.
template <class T>
struct KernelAndCotangents {
    T* kernel;
    T* endangered;
    T *pixels1, *variances1;
    T *pixels2, *variances2;
};

// The range 0 ... size - 1, cut into `parts` runs of nearly equal length.
struct Cut {
    int size;
    int parts;

    int begin(int part) const { return static_cast<int>(std::int64_t(size) * part / parts); }
    int end(int part) const { return begin(part + 1); }
};

// Tiles of pairs: enough for many threads, but few, because each has its own sums.
struct Tiles {
    Tiles(int images, int groups, bool both) {
        constexpr int kWanted = 64;
        // The sums of batch 2 are large, one for each lane, so there are few copies of them.
        const int long_side = std::clamp(both ? groups : images, 1, kWanted);
        const int short_side =
            std::clamp(both ? images : groups, 1, (kWanted + long_side - 1) / long_side);
        rows = {images, both ? short_side : long_side};
        columns = {groups, both ? long_side : short_side};
    }

    int count() const { return rows.parts * columns.parts; }

    Cut rows;     // of images of batch 1
    Cut columns;  // of groups of lanes of batch 2
};

// The backward pass of a block of pairs, and a thread's memory for it; see ForwardPass.
template <class T, class First, bool kTangent, bool kBoth>
class BackwardPass {
  public:
    explicit BackwardPass(const Network& network)
        : network_(network), forward_(network, kTangent), rings_(network) {
        for (int stage = 0; stage <= network.last_stage(); ++stage)
            cotangents_.emplace_back(network.resolutions[stage + 1], kTangent);
    }

    std::size_t kept_values() const { return forward_.kept_values(); }
    Lanes<T> endangered() const { return forward_.endangered(); }

    // Adds to the sums; returns the kernel, which only costs running the last stage. `kept` holds
    // the values that the forward pass kept for these pairs, or is null.
    Lanes<T> run(const ImageView<First>& first, const ImageView<Lanes<T>>& second, const T* kept,
                 Lanes<T> cotangent, const CotangentSums<T>& sums) {
        if (kept) forward_.restore(kept);
        const Lanes<T> kernel = kept ? forward_.template run_last_stage<kTangent>(first, second)
                                     : forward_.template run<kTangent>(first, second);
        const Lanes<T> wanted = forward_.endangered() > 0 ? Lanes<T>{} : cotangent;
        const Lanes<T> seed = wanted * T(network_.readout_scale());
        cotangents_.back().fill({seed, seed});
        for (int stage = network_.last_stage(); stage >= 0; --stage) {
            const StageInput<T, First> input = forward_.stage_input(stage, first, second);
            OffsetMaps<T>* below = stage ? &cotangents_[stage - 1] : nullptr;
            for_each_offset(input.resolution().band, [&](int dh, int dw) {
                BackwardOffset<T, First, kTangent, kBoth>(input, dh, dw, forward_.rings(), rings_,
                                                          cotangents_[stage], below, sums)
                    .run();
            });
        }
        return kernel;
    }

  private:
    const Network& network_;
    ForwardPass<T, First> forward_;
    BackwardRings<T> rings_;
    std::vector<OffsetMaps<T>> cotangents_;  // of the outputs of each stage
};

// Sums over the lanes of batch 2 for one image of batch 1, for each vector of a group.
template <class T>
class ImageSums {
  public:
    explicit ImageSums(const Network& network)
        : pixels_(kGroupVectors * network.pixel_values()),
          variances_(kGroupVectors * network.variances()) {}

    Lanes<T>* pixels(int block) { return of_block(pixels_, block); }
    Lanes<T>* variances(int block) { return of_block(variances_, block); }

    // Writes the sums, added over lanes, and resets them.
    void take(T* pixels, T* variances) {
        take_from(pixels_, pixels);
        take_from(variances_, variances);
    }

  private:
    using Sums = AlignedArray<Lanes<T>>;

    static Lanes<T>* of_block(Sums& sums, int block) {
        return sums.data() + block % kGroupVectors * (sums.size() / kGroupVectors);
    }

    static void take_from(Sums& sums, T* out) {
        sum_over_groups<T>(sums.data(), sums.size() / kGroupVectors, out);
        sums.clear();
    }

    Sums pixels_, variances_;
};

// `copies` arrays of `size` elements, which `total` adds in order.
template <class Element>
class PartialSums {
  public:
    PartialSums(int copies, std::size_t size)
        : copies_(copies), size_(size), sums_(copies * size) {}

    Element* copy(int index) { return sums_.data() + index * size_; }

    Element* total() {
        for (int index = 1; index < copies_; ++index)
            for (std::size_t i = 0; i < size_; ++i) sums_[i] += copy(index)[i];
        return sums_.data();
    }

  private:
    int copies_;
    std::size_t size_;
    AlignedArray<Element> sums_;
};

template <class T, bool kTangent, bool kBoth>
class CrossVjp {
  public:
    // `kept` is from `cross_kernel` of the same pairs, or null.
    CrossVjp(const Pairs<T>& pairs, const T* kept, const T* cotangent, int threads)
        : pairs_(pairs),
          kept_(kept),
          cotangent_(cotangent),
          threads_(threads),
          pixel_values_(pairs.network.pixel_values()),
          variances_(pairs.network.variances()),
          batch1_(pairs.network, pairs.count1, pairs.pixels1, pairs.variances1),
          batch2_(pairs.network, pairs.count2, pairs.pixels2, pairs.variances2, threads),
          tiles_(pairs.count1, groups(), kBoth),
          pixels1_(tiles_.columns.parts, pairs.count1 * pixel_values_),
          variances1_(tiles_.columns.parts, pairs.count1 * variances_),
          pixels2_(kBoth ? tiles_.rows.parts : 0, batch2_.blocks() * pixel_values_),
          variances2_(kBoth ? tiles_.rows.parts : 0, batch2_.blocks() * variances_) {}

    void run(const KernelAndCotangents<T>& out) {
        std::vector<Memory> memories;
        for (int thread = 0; thread < busy_threads(tiles_.count(), threads_); ++thread)
            memories.emplace_back(pairs_.network);
        in_parallel(tiles_.count(), threads_, [&](std::int64_t tile, int thread) {
            run_tile(int(tile / tiles_.columns.parts), int(tile % tiles_.columns.parts),
                     memories[thread], out);
        });
        write1(out);
        if constexpr (kBoth) write2(out);
    }

  private:
    // Of a thread.
    struct Memory {
        explicit Memory(const Network& network) : pass(network), sums1(network) {}

        BackwardPass<T, T, kTangent, kBoth> pass;
        ImageSums<T> sums1;
    };

    void run_tile(int row, int column, Memory& memory, const KernelAndCotangents<T>& out) {
        auto& [pass, sums1] = memory;
        for (int image = tiles_.rows.begin(row); image < tiles_.rows.end(row); ++image) {
            const int stop = std::min(tiles_.columns.end(column) * kGroupVectors, batch2_.blocks());
            for (int block = tiles_.columns.begin(column) * kGroupVectors; block < stop; ++block) {
                const std::size_t index = std::size_t(image) * batch2_.blocks() + block;
                const T* kept = kept_ ? kept_ + index * pass.kept_values() : nullptr;
                const CotangentSums<T> sums{
                    sums1.pixels(block), sums1.variances(block),
                    kBoth ? pixels2_.copy(row) + block * pixel_values_ : nullptr,
                    kBoth ? variances2_.copy(row) + block * variances_ : nullptr};
                const Lanes<T> values = pass.run(batch1_[image], batch2_[block], kept,
                                                 cotangents_of(image, block), sums);
                write_kernel(values, image, block, pairs_.count2, out.kernel);
                write_kernel(pass.endangered(), image, block, pairs_.count2, out.endangered);
            }
            sums1.take(pixels1_.copy(column) + image * pixel_values_,
                       variances1_.copy(column) + image * variances_);
        }
    }

    int groups() const { return (batch2_.blocks() + kGroupVectors - 1) / kGroupVectors; }

    Lanes<T> cotangents_of(int image, int block) const {
        Lanes<T> lanes{};
        const T* row = cotangent_ + std::size_t(image) * pairs_.count2 + block * kLanes<T>;
        for (int lane = 0; lane < used_lanes<T>(pairs_.count2, block); ++lane)
            lanes[lane] = row[lane];
        return lanes;
    }

    // Batch 2 carries no scales, so the cotangents of batch 1 lack them.
    void write1(const KernelAndCotangents<T>& out) {
        const T scale = T(pairs_.network.pixel_scale());
        const T *pixels = pixels1_.total(), *variances = variances1_.total();
        for (std::size_t i = 0; i < pairs_.count1 * pixel_values_; ++i)
            out.pixels1[i] = scale * pixels[i];
        const std::vector<T> sine_scales = pairs_.network.template sine_scales<T>();
        const T* inverses = batch1_[0].inverses;
        for (std::size_t i = 0; i < pairs_.count1 * variances_; ++i)
            out.variances1[i] = variances[i] * sine_scales[i % variances_] * inverses[i] / 2;
    }

    void write2(const KernelAndCotangents<T>& out) {
        const Lanes<T>* pixels = pixels2_.total();
        Lanes<T>* variances = variances2_.total();
        const Lanes<T>* inverses = batch2_[0].inverses;
        for (std::size_t i = 0; i < batch2_.blocks() * variances_; ++i)
            variances[i] *= inverses[i] / 2;
        for (int block = 0; block < batch2_.blocks(); ++block) {
            out_of_lanes(pixels + block * pixel_values_, pairs_.count2, pixel_values_, block,
                         out.pixels2);
            out_of_lanes(variances + block * variances_, pairs_.count2, variances_, block,
                         out.variances2);
        }
    }

    const Pairs<T>& pairs_;
    const T* kept_;
    const T* cotangent_;
    int threads_;
    std::size_t pixel_values_, variances_;
    SingleImages<T> batch1_;
    LaneImages<T> batch2_;
    Tiles tiles_;
    PartialSums<T> pixels1_, variances1_;         // a copy for each column of tiles
    PartialSums<Lanes<T>> pixels2_, variances2_;  // a copy for each row of tiles
};

}  // namespace kipper
