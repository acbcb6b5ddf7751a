// Matrix products whose every element is a sum in a stated order.
//
// sum_k a_ik b_kj is formed in blocks of kDepth terms: within a block k ascends, each product is
// added by `multiply_add`, and the blocks' sums are added in order. Vectors and tiles run across
// elements, never along a sum, so that no bit depends on the width of a vector, on a tile, on the
// number of threads or on other rows and columns. Compile with -ffp-contract=off.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "aligned_array.hpp"
#include "lanes.hpp"
#include "parallel.hpp"

namespace kipper {

using Index = std::int64_t;

// Part of the order of a sum, unlike all other sizes.
constexpr Index kDepth = 256;

// The sums of one micro-tile fit into the registers: AVX-512 has 32 of them, others have 16 or
// more.
constexpr int kTileRows = kVectorBytes == 64 ? 8 : 4;
constexpr int kTileVectors = 3;
template <class T>
constexpr int kTileColumns = kTileVectors * kLanes<T>;

// Rows of the first factor that stay in a core's cache with the columns of a micro-tile.
constexpr Index kPackedRows = 96;
// The largest task: its packing costs a few percent of its arithmetic.
constexpr Index kLargestTask = 768;
// Below this many multiplications another thread costs more than it saves.
constexpr double kWorthAThread = 5e5;

// A matrix with any distance between its rows and between its columns, in elements.
template <class T>
struct View {
    T* data;
    Index row_stride;
    Index column_stride;

    T& operator()(Index row, Index column) const {
        return data[row * row_stride + column * column_stride];
    }
    View at(Index row, Index column) const {
        return {&(*this)(row, column), row_stride, column_stride};
    }
    View transposed() const { return {data, column_stride, row_stride}; }
};

enum class Update { kAssign, kSubtract };

// Of a symmetric product, elements above the diagonal are copied from below.
enum class Shape { kFull, kSymmetric };

inline Index rounded_up(Index size, Index multiple) {
    return (size + multiple - 1) / multiple * multiple;
}

// Copies `from` (rows, depth) in panels of kWidth rows, in which the rows are adjacent; 0 fills up.
template <int kWidth, class T>
void pack(View<const T> from, Index rows, Index depth, T* packed) {
    for (Index first = 0; first < rows; first += kWidth, packed += kWidth * depth) {
        const Index width = std::min<Index>(kWidth, rows - first);
        const View<const T> panel = from.at(first, 0);
        if (width < kWidth) std::fill(packed, packed + kWidth * depth, T(0));
        if (panel.row_stride == 1 && width == kWidth) {
            for (Index k = 0; k < depth; ++k)
                for (int row = 0; row < kWidth; ++row)
                    packed[k * kWidth + row] = panel.data[k * panel.column_stride + row];
        } else {
            for (Index row = 0; row < width; ++row)
                for (Index k = 0; k < depth; ++k) packed[k * kWidth + row] = panel(row, k);
        }
    }
}

// The sums of one block for kTileRows x kTileColumns elements, row by row.
template <class T>
KIPPER_INLINE void tile_sums(const T* rows, const T* columns, Index depth, T* sums_out) {
    Lanes<T> sums[kTileRows][kTileVectors] = {};
    for (Index k = 0; k < depth; ++k) {
        Lanes<T> column[kTileVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kTileVectors; ++v)
            column[v] = *reinterpret_cast<const Lanes<T>*>(columns + v * kLanes<T>);
#pragma GCC unroll 16
        for (int row = 0; row < kTileRows; ++row)
#pragma GCC unroll 4
            for (int v = 0; v < kTileVectors; ++v)
                sums[row][v] = multiply_add(all_lanes(rows[row]), column[v], sums[row][v]);
        rows += kTileRows;
        columns += kTileColumns<T>;
    }
#pragma GCC unroll 16
    for (int row = 0; row < kTileRows; ++row)
#pragma GCC unroll 4
        for (int v = 0; v < kTileVectors; ++v)
            *reinterpret_cast<Lanes<T>*>(sums_out + row * kTileColumns<T> + v * kLanes<T>) =
                sums[row][v];
}

// One thread's copies of parts of both factors, and the sums of a micro-tile.
template <class T>
struct Packed {
    Packed(Index task_columns, Index depth)
        : rows(std::size_t(kPackedRows * depth)),
          columns(std::size_t(rounded_up(task_columns, kTileColumns<T>) * depth)),
          sums(std::size_t(kTileRows * kTileColumns<T>)) {}

    AlignedArray<T> rows, columns, sums;
};

template <class T>
class Product {
  public:
    // result (rows, columns), its columns adjacent, becomes `a` (rows, depth) times `b` (depth,
    // columns), or has that subtracted. Only tiles of a symmetric product that touch the lower
    // triangle are computed; `run` then copies the rest.
    Product(View<const T> a, View<const T> b, View<T> result, Index rows, Index columns,
            Index depth, Update update, Shape shape)
        : a_(a),
          b_(b),
          result_(result),
          rows_(rows),
          columns_(columns),
          depth_(depth),
          update_(update),
          shape_(shape) {}

    void run(int threads) const {
        if (rows_ == 0 || columns_ == 0) return;
        if (depth_ == 0) return fill_with_zeros();
        const double work = double(rows_) * double(columns_) * double(depth_);
        threads = int(std::clamp(work / kWorthAThread, 1.0, double(std::max(threads, 1))));
        Index size = kLargestTask;
        const auto count = [&] {
            return ((rows_ + size - 1) / size) * ((columns_ + size - 1) / size);
        };
        while (threads > 1 && size > kPackedRows && count() < 4 * threads) size /= 2;
        const Index across = (columns_ + size - 1) / size, tasks = count();
        std::vector<Packed<T>> packed;
        for (int thread = 0; thread < threads; ++thread)
            packed.emplace_back(std::min(size, columns_), std::min(kDepth, depth_));
        in_parallel(tasks, threads, [&](Index task, int thread) {
            const Index row = task / across * size, column = task % across * size;
            compute(row, std::min(row + size, rows_), column, std::min(column + size, columns_),
                    packed[std::size_t(thread)]);
        });
        if (shape_ == Shape::kSymmetric) mirror(threads);
    }

  private:
    void fill_with_zeros() const {
        if (update_ == Update::kSubtract) return;
        for (Index row = 0; row < rows_; ++row)
            std::fill(&result_(row, 0), &result_(row, 0) + columns_, T(0));
    }

    bool skipped(Index row_stop, Index column) const {
        return shape_ == Shape::kSymmetric && row_stop <= column;
    }

    void compute(Index row, Index row_stop, Index column, Index column_stop,
                 Packed<T>& packed) const {
        if (skipped(row_stop, column)) return;
        for (Index k = 0; k < depth_; k += kDepth) {
            const Index depth = std::min(kDepth, depth_ - k);
            pack<kTileColumns<T>>(b_.transposed().at(column, k), column_stop - column, depth,
                                  packed.columns.data());
            for (Index first = row; first < row_stop; first += kPackedRows) {
                const Index stop = std::min(first + kPackedRows, row_stop);
                if (skipped(stop, column)) continue;
                pack<kTileRows>(a_.at(first, k), stop - first, depth, packed.rows.data());
                tiles(first, stop, column, column_stop, depth, k == 0, packed);
            }
        }
    }

    void tiles(Index row, Index row_stop, Index column, Index column_stop, Index depth,
               bool first_block, Packed<T>& packed) const {
        constexpr Index kColumns = kTileColumns<T>;
        for (Index j = column; j < column_stop; j += kColumns) {
            const T* columns = packed.columns.data() + (j - column) * depth;
            for (Index i = row; i < row_stop; i += kTileRows) {
                const Index height = std::min<Index>(kTileRows, row_stop - i);
                if (skipped(i + height, j)) continue;
                const T* rows = packed.rows.data() + (i - row) * depth;
                tile_sums(rows, columns, depth, packed.sums.data());
                const Index width = std::min(kColumns, column_stop - j);
                for (Index r = 0; r < height; ++r)
                    store(packed.sums.data() + r * kColumns, &result_(i + r, j), width,
                          first_block);
            }
        }
    }

    void store(const T* sums, T* result, Index width, bool first_block) const {
        if (update_ == Update::kSubtract) {
            for (Index j = 0; j < width; ++j) result[j] = result[j] - sums[j];
        } else if (first_block) {
            for (Index j = 0; j < width; ++j) result[j] = sums[j];
        } else {
            for (Index j = 0; j < width; ++j) result[j] = result[j] + sums[j];
        }
    }

    void mirror(int threads) const {
        constexpr Index kSide = 64;
        const Index blocks = (rows_ + kSide - 1) / kSide;
        in_parallel(blocks, threads, [&](Index block, int) {
            const Index start = block * kSide, stop = std::min(start + kSide, rows_);
            for (Index first = 0; first < stop; first += kSide)
                for (Index i = start; i < stop; ++i)
                    for (Index j = first; j < std::min(first + kSide, i); ++j)
                        result_(j, i) = result_(i, j);
        });
    }

    const View<const T> a_, b_;
    const View<T> result_;
    const Index rows_, columns_, depth_;
    const Update update_;
    const Shape shape_;
};

}  // namespace kipper
