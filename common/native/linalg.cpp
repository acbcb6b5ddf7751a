// Dense linear algebra with a C interface, for kipper/common/linalg.py, which checks all shapes.
//
// Functions return 0, or kOutOfMemory; no exception leaves them. Strides count elements.
#include <cstdint>
#include <new>

#include "matmul.hpp"

#define KIPPER_EXPORT extern "C" __attribute__((visibility("default")))

namespace kipper {
namespace {

constexpr int kDone = 0;
constexpr int kOutOfMemory = 1;

template <class T>
int matmul(const T* a, Index a_rows, Index a_columns, const T* b, Index b_rows, Index b_columns,
           T* result, Index rows, Index columns, Index depth, int symmetric, int threads) {
    try {
        const Shape shape = symmetric ? Shape::kSymmetric : Shape::kFull;
        Product<T>({a, a_rows, a_columns}, {b, b_rows, b_columns}, {result, columns, 1}, rows,
                   columns, depth, Update::kAssign, shape)
            .run(threads);
    } catch (const std::bad_alloc&) {
        return kOutOfMemory;
    }
    return kDone;
}

}  // namespace
}  // namespace kipper

// The number of the arithmetic: libraries of one number give the same bits.
KIPPER_EXPORT int kipper_arithmetic() { return 1; }

KIPPER_EXPORT int kipper_matmul_float32(const float* a, std::int64_t a_rows, std::int64_t a_columns,
                                        const float* b, std::int64_t b_rows, std::int64_t b_columns,
                                        float* result, std::int64_t rows, std::int64_t columns,
                                        std::int64_t depth, int symmetric, int threads) {
    return kipper::matmul(a, a_rows, a_columns, b, b_rows, b_columns, result, rows, columns, depth,
                          symmetric, threads);
}

KIPPER_EXPORT int kipper_matmul_float64(const double* a, std::int64_t a_rows,
                                        std::int64_t a_columns, const double* b,
                                        std::int64_t b_rows, std::int64_t b_columns, double* result,
                                        std::int64_t rows, std::int64_t columns, std::int64_t depth,
                                        int symmetric, int threads) {
    return kipper::matmul(a, a_rows, a_columns, b, b_rows, b_columns, result, rows, columns, depth,
                          symmetric, threads);
}
