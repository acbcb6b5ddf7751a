// Eigenvalues and eigenvectors of symmetric matrices: Householder's tridiagonal form, then the
// implicit QL algorithm. Sources: Golub and Van Loan, "Matrix Computations", 4th edition, 5.1.3,
// 8.3.1 and 8.3.3; blocks as in LAPACK's dlatrd.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "aligned_array.hpp"
#include "matmul.hpp"
#include "triangular.hpp"

namespace kipper {

// Columns that are reduced before the rest of the matrix is updated; part of the order of sums.
constexpr Index kPanel = 32;
// The sums that a dot product is formed from, interleaved, and added in order at the end.
constexpr int kDotSums = 8;
constexpr int kMostSweeps = 60;  // for each eigenvalue; two are usual

inline double dot(const double* a, const double* b, Index size) {
    double sums[kDotSums] = {};
    Index k = 0;
    for (; k + kDotSums <= size; k += kDotSums)
        for (int lane = 0; lane < kDotSums; ++lane)
            sums[lane] = sums[lane] + a[k + lane] * b[k + lane];
    for (int lane = 0; k + lane < size; ++lane) sums[lane] = sums[lane] + a[k + lane] * b[k + lane];
    double sum = sums[0];
    for (int lane = 1; lane < kDotSums; ++lane) sum = sum + sums[lane];
    return sum;
}

// y = y + factor x
inline void add_multiple(double* y, double factor, const double* x, Index size) {
    for (Index i = 0; i < size; ++i) y[i] = y[i] + factor * x[i];
}

// sqrt(a^2 + b^2) without overflow or underflow; only correctly rounded operations.
inline double length_of(double a, double b) {
    const double larger = std::max(std::fabs(a), std::fabs(b));
    const double smaller = std::min(std::fabs(a), std::fabs(b));
    if (larger == 0) return 0;
    const double ratio = smaller / larger;
    return larger * std::sqrt(1 + ratio * ratio);
}

// Q^T A Q = T, tridiagonal, with Q = H_0 H_1 ... and H_j = I - factors[j] v_j v_j^T.
class Tridiagonal {
  public:
    // `a` (size, size), symmetric, is spoilt. Row j of `reflectors` (size, size) becomes v_j, which
    // is 0 up to entry j and 1 behind it.
    Tridiagonal(double* a, Index size, double* diagonal, double* off_diagonal, double* reflectors,
                double* factors)
        : a_(a),
          size_(size),
          diagonal_(diagonal),
          off_diagonal_(off_diagonal),
          reflectors_(reflectors),
          factors_(factors),
          panel_(std::size_t(3 * kPanel * size)),
          column_(std::size_t(size)) {}

    void reduce(int threads) {
        for (Index start = 0; start < size_; start += kPanel) {
            const Index stop = std::min(start + kPanel, size_);
            panel_.clear();
            for (Index j = start; j < stop; ++j) reduce_column(j, start, threads);
            // A - V W^T - W V^T, with V, W and V again below each other.
            const View<const double> left{panel_.data() + stop, 1, size_};
            const View<const double> right{panel_.data() + kPanel * size_ + stop, size_, 1};
            Product<double>(left, right, {a_ + stop * size_ + stop, size_, 1}, size_ - stop,
                            size_ - stop, 2 * kPanel, Update::kSubtract, Shape::kSymmetric)
                .run(threads);
        }
    }

  private:
    double* v(Index p) { return panel_.data() + p * size_; }
    double* w(Index p) { return panel_.data() + (kPanel + p) * size_; }

    void reduce_column(Index j, Index start, int threads) {
        double* column = column_.data();
        const double* row = a_ + j * size_;  // the column, as the matrix is symmetric
        std::copy(row + j, row + size_, column + j);
        for (Index p = 0; p < j - start; ++p) {
            add_multiple(column + j, -w(p)[j], v(p) + j, size_ - j);
            add_multiple(column + j, -v(p)[j], w(p) + j, size_ - j);
        }
        diagonal_[j] = column[j];
        off_diagonal_[j] = factors_[j] = 0;
        double* reflector = reflectors_ + j * size_;
        std::fill(reflector, reflector + size_, 0.0);
        const Index first = j + 1, rest = size_ - first;
        if (rest == 0) return;
        reflector[first] = 1;
        const double below = dot(column + first + 1, column + first + 1, rest - 1);
        off_diagonal_[j] = column[first];
        if (below == 0) return;
        const double length = std::sqrt(column[first] * column[first] + below);
        const double beta = column[first] > 0 ? -length : length;
        off_diagonal_[j] = beta;
        factors_[j] = (beta - column[first]) / beta;
        const double divisor = column[first] - beta;
        for (Index i = first + 1; i < size_; ++i) reflector[i] = column[i] / divisor;
        double* own_v = v(j - start);
        std::copy(reflector + first, reflector + size_, own_v + first);
        std::copy(reflector + first, reflector + size_, v(2 * kPanel + j - start) + first);
        multiply(reflector, w(j - start), first, threads);
        finish_w(j - start, first, factors_[j]);
    }

    // product[i] = sum_k A[k][i] x[k] for first <= i, with k ascending from `first`.
    void multiply(const double* x, double* product, Index first, int threads) const {
        const Index width = size_ - first;
        threads = worthwhile_threads(threads, double(width) * double(width));
        const Index share = rounded_up((width + threads - 1) / threads, 8);
        in_parallel((width + share - 1) / share, threads, [&](Index task, int) {
            const Index start = first + task * share, stop = std::min(start + share, size_);
            double* __restrict y = product;
            Index k = first;
            for (; k + 4 <= size_; k += 4) {
                const double *row0 = a_ + k * size_, *row1 = row0 + size_;
                const double *row2 = row1 + size_, *row3 = row2 + size_;
                const double x0 = x[k], x1 = x[k + 1], x2 = x[k + 2], x3 = x[k + 3];
                for (Index i = start; i < stop; ++i)
                    y[i] = (((y[i] + x0 * row0[i]) + x1 * row1[i]) + x2 * row2[i]) + x3 * row3[i];
            }
            for (; k < size_; ++k) {
                const double* row = a_ + k * size_;
                for (Index i = start; i < stop; ++i) y[i] = y[i] + x[k] * row[i];
            }
        });
    }

    // From A v of the matrix at the panel's start to the w of the update.
    void finish_w(Index p, Index first, double factor) {
        const Index rest = size_ - first;
        const double* reflector = v(p) + first;
        double* own = w(p) + first;
        for (Index q = 0; q < p; ++q) {
            const double of_w = dot(w(q) + first, reflector, rest);
            const double of_v = dot(v(q) + first, reflector, rest);
            add_multiple(own, -of_w, v(q) + first, rest);
            add_multiple(own, -of_v, w(q) + first, rest);
        }
        for (Index i = 0; i < rest; ++i) own[i] = own[i] * factor;
        add_multiple(own, -0.5 * factor * dot(own, reflector, rest), reflector, rest);
    }

    double* const a_;
    const Index size_;
    double *const diagonal_, *const off_diagonal_, *const reflectors_, *const factors_;
    AlignedArray<double> panel_, column_;
};

// Rotations of neighbouring rows, collected so that a few columns at a time meet many of them.
class Rotations {
  public:
    // `rows` (size, columns) are rotated by `apply`.
    Rotations(double* rows, Index size, Index columns, int threads)
        : size_(size),
          columns_(columns),
          stride_(rounded_up(columns, kChunk)),
          threads_(threads),
          out_(rows),
          rows_(std::size_t(size * stride_)) {
        for (Index i = 0; i < size; ++i)
            std::copy(rows + i * columns, rows + (i + 1) * columns, &rows_[i * stride_]);
    }

    // A sweep upwards, whose first rotation is of rows `row` and `row` + 1.
    void begin_sweep(Index row) {
        if (Index(turns_.size()) >= kMostTurns * size_) apply();
        sweeps_.push_back({row, Index(turns_.size())});
    }

    // Row i + 1 becomes s (row i) + c (row i + 1); row i becomes c (row i) - s (row i + 1).
    void rotate(double c, double s) { turns_.push_back({c, s}); }

    void finish() {
        apply();
        for (Index i = 0; i < size_; ++i)
            std::copy(&rows_[i * stride_], &rows_[i * stride_] + columns_, out_ + i * columns_);
    }

  private:
    static constexpr int kVectors = 4;
    static constexpr Index kChunk = kVectors * kLanes<double>;
    static constexpr Index kMostTurns = 32;

    struct Turn {
        double c, s;
    };
    struct Sweep {
        Index row, first_turn;
    };

    void apply() {
        const double work = double(turns_.size()) * double(columns_) * 4;
        in_parallel(stride_ / kChunk, worthwhile_threads(threads_, work), [&](Index chunk, int) {
            for (std::size_t i = 0; i < sweeps_.size(); ++i) {
                const Index stop =
                    i + 1 < sweeps_.size() ? sweeps_[i + 1].first_turn : Index(turns_.size());
                sweep(&rows_[chunk * kChunk], sweeps_[i], stop);
            }
        });
        sweeps_.clear();
        turns_.clear();
    }

    void sweep(double* columns, Sweep sweep, Index last_turn) const {
        if (sweep.first_turn == last_turn) return;
        Lanes<double> lower[kVectors];
        double* row = columns + (sweep.row + 1) * stride_;
        for (int v = 0; v < kVectors; ++v) lower[v] = vector(row, v);
        for (Index turn = sweep.first_turn; turn < last_turn; ++turn, row -= stride_) {
            const Lanes<double> c = all_lanes(turns_[turn].c), s = all_lanes(turns_[turn].s);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                const Lanes<double> upper = vector(row - stride_, v);
                vector(row, v) = s * upper + c * lower[v];
                lower[v] = c * upper - s * lower[v];
            }
        }
        for (int v = 0; v < kVectors; ++v) vector(row, v) = lower[v];
    }

    static Lanes<double>& vector(double* row, int v) {
        return reinterpret_cast<Lanes<double>*>(row)[v];
    }

    const Index size_, columns_, stride_;
    const int threads_;
    double* const out_;
    AlignedArray<double> rows_;
    std::vector<Turn> turns_;
    std::vector<Sweep> sweeps_;
};

// Replaces `diagonal` by the eigenvalues, in no order, and spoils `off_diagonal`; rotates rows with
// `rotations` unless it is null. Returns whether it converged.
inline bool diagonalise(Index size, double* diagonal, double* off_diagonal, Rotations* rotations) {
    constexpr double kEpsilon = std::numeric_limits<double>::epsilon() / 2;
    constexpr double kTiny = std::numeric_limits<double>::min();
    double *d = diagonal, *e = off_diagonal;
    // Relative to the whole matrix: where it is graded upwards, sweeps leave as much rounding
    // behind.
    double largest = 0;
    for (Index i = 0; i < size; ++i) largest = std::max(largest, std::fabs(d[i]) + std::fabs(e[i]));
    const double negligible = kEpsilon * largest + kTiny;
    for (Index first = 0; first < size; ++first) {
        for (int sweeps = 0;; ++sweeps) {
            Index last = first;
            for (; last + 1 < size; ++last) {
                if (!(std::fabs(e[last]) > negligible)) break;
            }
            if (last == first) break;
            if (sweeps == kMostSweeps) return false;
            const double half = (d[first + 1] - d[first]) / (2 * e[first]);
            const double length = length_of(half, 1);
            double g = d[last] - d[first] + e[first] / (half + (half < 0 ? -length : length));
            double s = 1, c = 1, p = 0;
            if (rotations) rotations->begin_sweep(last - 1);
            Index i = last - 1;
            for (; i >= first; --i) {
                const double f = s * e[i], b = c * e[i];
                const double r = length_of(f, g);
                e[i + 1] = r;
                if (r == 0) break;  // the matrix falls apart here
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                const double t = (d[i] - g) * s + 2 * c * b;
                p = s * t;
                d[i + 1] = g + p;
                g = c * t - b;
                if (rotations) rotations->rotate(c, s);
            }
            if (i >= first) {
                d[i + 1] = d[i + 1] - p;
                e[last] = 0;
                continue;
            }
            d[first] = d[first] - p;
            e[first] = g;
            e[last] = 0;
        }
    }
    return true;
}

}  // namespace kipper
