// Fully connected kernels and their derivatives, from the gap 1 - cos of each pair of images.
//
// Lanes are images of batch 2. A pair goes through all layers in registers; formulas and names are
// those of kipper/workers/dense.py, derived in docs/dense_kernel.md.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "aligned_array.hpp"
#include "dense_layer.hpp"
#include "lane_groups.hpp"
#include "parallel.hpp"

namespace kipper {

template <class T>
struct DensePairs {
    int hidden;
    double w2;
    double b2;
    int count1;
    int count2;
    const T* gaps;  // (count1, count2)
    const T* rms1;  // root mean squares
    const T* rms2;
};

template <class T>
struct DenseCotangents {
    T* gram;  // (count1, count2)
    T* q1;    // of mean squares
    T* q2;
};

// Columns of a tile: few enough for their deviations to stay in the cache. Sums over pairs are
// taken by groups of lanes within a tile and then over tiles, so that bits depend neither on the
// number of threads nor on the width of a vector.
constexpr int kTileColumns = 256;

template <class T, bool kTangent>
class DenseChain {
  public:
    explicit DenseChain(const DensePairs<T>& pairs)
        : pairs_(pairs),
          layers_(pairs.hidden + 1),
          tiles_((pairs.count2 + kTileColumns - 1) / kTileColumns),
          rows_(pairs.count1 * layers_) {
        for (int i = 0; i < pairs.count1; ++i)
            for_each_layer(pairs.rms1[i], [&](std::size_t l, const Deviations<T>& deviations) {
                rows_[i * layers_ + l] = deviations;
            });
    }

    void forward(int threads, T* kernel) const {
        std::vector<Columns> all_columns = scratch(threads);
        in_parallel(tiles_, int(all_columns.size()), [&](std::int64_t tile, int thread) {
            Columns& columns = all_columns[thread];
            columns.load(*this, int(tile));
            for (int i = 0; i < pairs_.count1; ++i)
                columns.for_each_block([&](int first, int count, const Deviations<Lanes<T>>* two) {
                    const Lanes<T> gaps = load(pairs_.gaps, i, first, count);
                    store(read_out(row(i), two, gaps), kernel, i, first, count);
                });
        });
    }

    void vjp(const T* cotangent, int threads, const DenseCotangents<T>& out) const {
        AlignedArray<T> of_rows(std::size_t(tiles_) * pairs_.count1);  // (tiles, count1)
        std::vector<Columns> all_columns = scratch(threads);
        in_parallel(tiles_, int(all_columns.size()), [&](std::int64_t tile, int thread) {
            vjp_tile(int(tile), cotangent, all_columns[thread], out,
                     of_rows.data() + tile * pairs_.count1);
        });
        for (int i = 0; i < pairs_.count1; ++i) {
            T sum = 0;
            for (int tile = 0; tile < tiles_; ++tile)
                sum += of_rows[std::size_t(tile) * pairs_.count1 + i];
            out.q1[i] = sum;
        }
    }

  private:
    // A tile of images of batch 2, and a thread's memory for it.
    struct Columns {
        explicit Columns(const DenseChain& chain)
            : stride(chain.layers_),
              deviations(kTileColumns / kLanes<T> * stride),
              cotangents(kTileColumns / kLanes<T>),
              layers(stride) {}

        void load(const DenseChain& chain, int tile) {
            begin = tile * kTileColumns;
            end = std::min(begin + kTileColumns, chain.pairs_.count2);
            deviations.clear();  // lanes without an image hold zeros
            cotangents.clear();
            for (int j = begin; j < end; ++j) {
                const int block = (j - begin) / kLanes<T>, lane = (j - begin) % kLanes<T>;
                chain.for_each_layer(chain.pairs_.rms2[j],
                                     [&](std::size_t l, const Deviations<T>& one) {
                                         Deviations<Lanes<T>>& all = deviations[block * stride + l];
                                         all.sigma[lane] = one.sigma;
                                         all.inverse[lane] = one.inverse;
                                         all.weights[lane] = one.weights;
                                         all.bias[lane] = one.bias;
                                     });
            }
        }

        int blocks() const { return (end - begin + kLanes<T> - 1) / kLanes<T>; }

        template <class Visit>
        void for_each_block(Visit visit) const {
            for (int block = 0; block < blocks(); ++block) {
                const int first = begin + block * kLanes<T>;
                visit(first, std::min(kLanes<T>, end - first), deviations.data() + block * stride);
            }
        }

        std::size_t stride;
        int begin = 0, end = 0;
        AlignedArray<Deviations<Lanes<T>>> deviations;  // (blocks of lanes, layers)
        AlignedArray<Lanes<T>> cotangents;              // of q2, by block
        AlignedArray<DenseLayer<T>> layers;             // of the pairs of a block
    };

    // For as many threads as have a millisecond of work each: on a busy machine, waiting for a
    // thread that has lost its core costs eight.
    std::vector<Columns> scratch(int threads) const {
        const double steps = double(pairs_.count1) * pairs_.count2 * pairs_.hidden;
        std::vector<Columns> columns;
        for (int thread = 0; thread < std::clamp(int(steps / (1 << 20)), 1, threads); ++thread)
            columns.emplace_back(*this);
        return columns;
    }

    // Calls visit(l, deviations) for all layers, the read-out last, of an image with root mean
    // square `rms`, in float64 for both types.
    template <class Visit>
    void for_each_layer(double rms, Visit visit) const {
        const double bias = std::sqrt(pairs_.b2);
        double into = std::sqrt(pairs_.w2) * rms;
        for (std::size_t l = 0; l < layers_; ++l) {
            const double largest = into < bias ? bias : into;  // a NaN stays one
            const double ratio = (into < bias ? into : bias) / largest;
            const double sigma = largest == 0 ? 0 : largest * std::sqrt(1 + ratio * ratio);
            if (sigma == 0)
                visit(l, Deviations<T>{T(0), T(0), T(0), T(1)});
            else
                visit(l, Deviations<T>{T(sigma), T(1 / sigma), T(into / sigma), T(bias / sigma)});
            into = std::sqrt(0.5 * pairs_.w2) * sigma;
        }
    }

    const Deviations<T>* row(int i) const { return rows_.data() + i * layers_; }

    Lanes<T> load(const T* matrix, int i, int first, int count) const {
        const T* from = matrix + std::size_t(i) * pairs_.count2 + first;
        Lanes<T> lanes{};
        if (count == kLanes<T>) {
            std::memcpy(&lanes, from, sizeof lanes);
        } else {
            for (int lane = 0; lane < count; ++lane) lanes[lane] = from[lane];
        }
        return lanes;
    }

    void store(Lanes<T> lanes, T* matrix, int i, int first, int count) const {
        std::memcpy(matrix + std::size_t(i) * pairs_.count2 + first, &lanes, count * sizeof(T));
    }

    Lanes<T> read_out(const Deviations<T>* one, const Deviations<Lanes<T>>* two,
                      Lanes<T> gap) const {
        Lanes<T> deficit = gap, carried{};
        for (int l = 0; l < pairs_.hidden; ++l) {
            const auto layer = dense_layer<T>(one[l], two[l], deficit, carried);
            deficit = layer.deficit;
            carried = layer.k0 * layer.tangent;
        }
        const Deviations<T>& last1 = one[pairs_.hidden];
        const Deviations<Lanes<T>>& last2 = two[pairs_.hidden];
        Lanes<T> value = T(1) - gap_behind<T>(last1, last2, deficit);
        if constexpr (kTangent) value = last1.weights * last2.weights * carried + value;
        return last1.sigma * last2.sigma * value;
    }

    void vjp_tile(int tile, const T* cotangent, Columns& columns, const DenseCotangents<T>& out,
                  T* of_rows) const {
        columns.load(*this, tile);
        for (int i = 0; i < pairs_.count1; ++i) {
            Lanes<T> of_row[kGroupVectors] = {};
            columns.for_each_block([&](int first, int count, const Deviations<Lanes<T>>* two) {
                const Lanes<T> seed = load(cotangent, i, first, count);
                const Lanes<T> gaps = load(pairs_.gaps, i, first, count);
                const int block = (first - columns.begin) / kLanes<T>;
                const Lanes<T> gram =
                    pull_back(row(i), two, gaps, seed, columns.layers.data(),
                              of_row[block % kGroupVectors], columns.cotangents[block]);
                store(gram, out.gram, i, first, count);
            });
            sum_over_groups<T>(of_row, 1, of_rows + i);
        }
        columns.for_each_block([&](int first, int count, const Deviations<Lanes<T>>*) {
            std::memcpy(out.q2 + first, &columns.cotangents[(first - columns.begin) / kLanes<T>],
                        count * sizeof(T));
        });
    }

    // Adds to the cotangents of q1 and q2, and returns those of the inner products.
    Lanes<T> pull_back(const Deviations<T>* one, const Deviations<Lanes<T>>* two, Lanes<T> gap,
                       Lanes<T> seed, DenseLayer<T>* layers, Lanes<T>& of_row,
                       Lanes<T>& of_column) const {
        const T w2 = T(pairs_.w2), half_w2 = T(0.5 * pairs_.w2);
        const T scale = T(0.5 * pairs_.w2 * kOneOverPi);
        Lanes<T> deficit = gap, carried{};
        T factor = w2;  // the derivative of a layer's variance by q
        for (int l = 0; l < pairs_.hidden; ++l) {
            layers[l] = dense_layer<T>(one[l], two[l], deficit, carried);
            deficit = layers[l].deficit;
            carried = layers[l].k0 * layers[l].tangent;
            if (l) factor *= T(0.5) * w2;
        }
        Lanes<T> of_tangent = kTangent ? seed : Lanes<T>{}, of_covariance = seed;
        for (int l = pairs_.hidden - 1; l >= 0; --l) {
            const DenseLayer<T>& layer = layers[l];
            const Lanes<T> sine = square_root<T>(layer.gap * (T(2) - layer.gap));
            const Lanes<T> slope = sine > T(0) ? scale / sine : Lanes<T>{};
            const Lanes<T> by_k = of_tangent * layer.tangent * slope;
            const Lanes<T> by_s =
                (of_covariance * sine * scale - (T(1) - layer.gap) * by_k) * (T(0.5) * factor);
            of_row += by_s * two[l].sigma * one[l].inverse;
            of_column += by_s * one[l].sigma * two[l].inverse;
            of_tangent = half_w2 * layer.k0 * of_tangent;
            of_covariance = half_w2 * layer.k0 * of_covariance + by_k + of_tangent;
            factor *= T(2 / pairs_.w2);
        }
        return w2 * of_covariance;
    }

    const DensePairs<T>& pairs_;
    std::size_t layers_;  // hidden ones and the read-out
    int tiles_;
    std::vector<Deviations<T>> rows_;  // (count1, layers)
};

}  // namespace kipper
