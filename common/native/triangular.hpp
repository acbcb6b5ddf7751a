// Cholesky factors and triangular systems, in stated orders, from products of blocks.
#pragma once

#include <algorithm>
#include <cmath>

#include "aligned_array.hpp"
#include "matmul.hpp"

namespace kipper {

// Part of the order of sums: what lies in earlier blocks is subtracted as by `Product`, what lies
// in the same block term by term.
constexpr Index kBlock = 64;

inline int worthwhile_threads(int threads, double multiplications) {
    return int(std::clamp(multiplications / kWorthAThread, 1.0, double(std::max(threads, 1))));
}

// Factorises the block at (start, start); returns the first pivot that is not positive, or -1.
inline Index factorise_block(View<double> a, Index start, Index stop) {
    double column[kBlock];
    for (Index k = start; k < stop; ++k) {
        if (!(a(k, k) > 0) || std::isinf(a(k, k))) return k;
        const double pivot = std::sqrt(a(k, k));
        a(k, k) = pivot;
        for (Index i = k + 1; i < stop; ++i) column[i - start] = a(i, k) = a(i, k) / pivot;
        for (Index i = k + 1; i < stop; ++i) {
            const double factor = column[i - start];
            double* row = &a(i, 0);
            for (Index j = k + 1; j <= i; ++j) row[j] = row[j] - factor * column[j - start];
        }
    }
    return -1;
}

// The rows below a factorised block: x L^T = a for each row, for many rows at once.
inline void solve_rows_below(View<double> a, Index start, Index stop, Index rows, int threads) {
    constexpr Index kRows = 64;
    const Index tasks = (rows - stop + kRows - 1) / kRows, width = stop - start;
    in_parallel(tasks, threads, [&](Index task, int) {
        alignas(kVectorBytes) double x[kBlock][kRows] = {};
        const Index first = stop + task * kRows, last = std::min(first + kRows, rows);
        for (Index i = first; i < last; ++i)
            for (Index k = 0; k < width; ++k) x[k][i - first] = a(i, start + k);
        for (Index k = 0; k < width; ++k) {
            const double pivot = a(start + k, start + k);
            for (Index i = 0; i < kRows; ++i) x[k][i] = x[k][i] / pivot;
            for (Index j = k + 1; j < width; ++j) {
                const double factor = a(start + j, start + k);
                for (Index i = 0; i < kRows; ++i) x[j][i] = x[j][i] - x[k][i] * factor;
            }
        }
        for (Index i = first; i < last; ++i)
            for (Index k = 0; k < width; ++k) a(i, start + k) = x[k][i - first];
    });
}

// Overwrites the lower triangle of `a` (size, size), row by row, with its Cholesky factor, and
// spoils the rest. Returns the first pivot that is not positive and finite, or -1.
inline Index cholesky(View<double> a, Index size, int threads) {
    const View<const double> factor{a.data, a.row_stride, a.column_stride};
    for (Index start = 0; start < size; start += kBlock) {
        const Index stop = std::min(start + kBlock, size);
        Product<double>(factor.at(start, 0), factor.at(start, 0).transposed(), a.at(start, start),
                        size - start, stop - start, start, Update::kSubtract, Shape::kFull)
            .run(threads);
        const Index failed = factorise_block(a, start, stop);
        if (failed >= 0) return failed;
        const double work = double(size - stop) * double(kBlock * kBlock / 2);
        solve_rows_below(a, start, stop, size, worthwhile_threads(threads, work));
    }
    return -1;
}

// Replaces the columns of `x` (size, columns), row by row, by the solutions of L x = columns, or of
// L^T x = columns, for the lower triangle of `lower` (size, size).
inline void solve_lower(View<const double> lower, bool transposed, View<double> x, Index size,
                        Index columns, int threads) {
    constexpr Index kColumns = 64;
    const Index blocks = (size + kBlock - 1) / kBlock;
    const View<const double> known{x.data, x.row_stride, x.column_stride};
    for (Index block = 0; block < blocks; ++block) {
        const Index start = kBlock * (transposed ? blocks - 1 - block : block);
        const Index stop = std::min(start + kBlock, size);
        const View<const double> factor =
            transposed ? lower.at(stop, start).transposed() : lower.at(start, 0);
        const Index solved = transposed ? size - stop : start;
        if (solved > 0)
            Product<double>(factor, transposed ? known.at(stop, 0) : known, x.at(start, 0),
                            stop - start, columns, solved, Update::kSubtract, Shape::kFull)
                .run(threads);
        const double work = double(columns) * double(kBlock * kBlock / 2);
        in_parallel((columns + kColumns - 1) / kColumns, worthwhile_threads(threads, work),
                    [&](Index task, int) {
                        const Index first = task * kColumns;
                        const Index width = std::min(kColumns, columns - first);
                        for (Index step = 0; step < stop - start; ++step) {
                            const Index k = transposed ? stop - 1 - step : start + step;
                            double* solution = &x(k, first);
                            const double pivot = lower(k, k);
                            for (Index j = 0; j < width; ++j) solution[j] = solution[j] / pivot;
                            const Index from = transposed ? start : k + 1;
                            const Index to = transposed ? k : stop;
                            for (Index i = from; i < to; ++i) {
                                const double factor_ik = transposed ? lower(k, i) : lower(i, k);
                                double* rest = &x(i, first);
                                for (Index j = 0; j < width; ++j)
                                    rest[j] = rest[j] - factor_ik * solution[j];
                            }
                        }
                    });
    }
}

}  // namespace kipper
