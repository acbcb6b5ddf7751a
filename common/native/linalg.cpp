// Dense linear algebra with a C interface, for kipper/common/linalg.py, which checks all shapes.
//
// Functions return a status; no exception leaves them. Strides count elements.
#define KIPPER_ONE_REGISTER  // a vector: micro-tiles of matmul.hpp are made of them

#include <cstdint>
#include <new>

#include "eigen.hpp"
#include "matmul.hpp"
#include "triangular.hpp"

#define KIPPER_EXPORT extern "C" __attribute__((visibility("default")))

namespace kipper {
namespace {

constexpr int kDone = 0;
constexpr int kOutOfMemory = 1;
constexpr int kFailed = 2;

// Runs `compute`, which returns a status.
template <class Compute>
int guarded(const Compute& compute) {
    try {
        const DefaultRounding rounding;
        return compute();
    } catch (const std::bad_alloc&) {
        return kOutOfMemory;
    }
}

template <class T>
int matmul(View<const T> a, View<const T> b, T* result, Index rows, Index columns, Index depth,
           bool symmetric, int threads) {
    return guarded([&] {
        const Shape shape = symmetric ? Shape::kSymmetric : Shape::kFull;
        Product<T>(a, b, {result, columns, 1}, rows, columns, depth, Update::kAssign, shape)
            .run(threads);
        return kDone;
    });
}

}  // namespace
}  // namespace kipper

using kipper::Index;

// The number of the arithmetic: libraries of one number give the same bits if they are fused alike.
KIPPER_EXPORT int kipper_arithmetic() { return 2; }

// Whether products are added to sums with one rounding.
KIPPER_EXPORT int kipper_fused() { return kipper::kFused; }

KIPPER_EXPORT int kipper_matmul_float32(const float* a, Index a_rows, Index a_columns,
                                        const float* b, Index b_rows, Index b_columns,
                                        float* result, Index rows, Index columns, Index depth,
                                        int symmetric, int threads) {
    return kipper::matmul<float>({a, a_rows, a_columns}, {b, b_rows, b_columns}, result, rows,
                                 columns, depth, symmetric, threads);
}

KIPPER_EXPORT int kipper_matmul_float64(const double* a, Index a_rows, Index a_columns,
                                        const double* b, Index b_rows, Index b_columns,
                                        double* result, Index rows, Index columns, Index depth,
                                        int symmetric, int threads) {
    return kipper::matmul<double>({a, a_rows, a_columns}, {b, b_rows, b_columns}, result, rows,
                                  columns, depth, symmetric, threads);
}

// Overwrites the lower triangle of `a` (size, size) and spoils the rest.
KIPPER_EXPORT int kipper_cholesky(double* a, Index size, int threads) {
    return kipper::guarded([&] {
        return kipper::cholesky({a, size, 1}, size, threads) < 0 ? kipper::kDone : kipper::kFailed;
    });
}

// Overwrites `x` (size, columns).
KIPPER_EXPORT int kipper_solve_lower(const double* lower, int transposed, double* x, Index size,
                                     Index columns, int threads) {
    return kipper::guarded([&] {
        kipper::solve_lower({lower, size, 1}, transposed, {x, columns, 1}, size, columns, threads);
        return kipper::kDone;
    });
}

// See `Tridiagonal`.
KIPPER_EXPORT int kipper_tridiagonal(double* a, Index size, double* diagonal, double* off_diagonal,
                                     double* reflectors, double* factors, int threads) {
    return kipper::guarded([&] {
        kipper::Tridiagonal(a, size, diagonal, off_diagonal, reflectors, factors).reduce(threads);
        return kipper::kDone;
    });
}

// See `diagonalise`. `rows` (size, size) may be null; else they are multiplied by the transpose of
// the eigenvectors from the left.
KIPPER_EXPORT int kipper_diagonalise(Index size, double* diagonal, double* off_diagonal,
                                     double* rows, int threads) {
    return kipper::guarded([&] {
        if (!rows)
            return kipper::diagonalise(size, diagonal, off_diagonal, nullptr) ? kipper::kDone
                                                                              : kipper::kFailed;
        kipper::Rotations rotations(rows, size, size, threads);
        if (!kipper::diagonalise(size, diagonal, off_diagonal, &rotations)) return kipper::kFailed;
        rotations.finish();
        return kipper::kDone;
    });
}
