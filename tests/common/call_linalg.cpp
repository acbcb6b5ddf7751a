// Calls every function of common/native/linalg.cpp, which is compiled into this program, on arrays
// of exactly the sizes that they need; test_linalg_sanitized.py watches it.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "linalg.cpp"

namespace {

using Array = std::vector<double>;

void expect(bool right, const char* what, Index size) {
    if (right) return;
    std::fprintf(stderr, "%s of size %ld is wrong\n", what, long(size));
    std::exit(1);
}

double draw() {
    static std::uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return double(state >> 33) / double(1u << 30) - 1;
}

Array drawn(Index size) {
    Array values(std::size_t(size), 0.0);
    for (double& value : values) value = draw();
    return values;
}

// The largest difference between `a` (rows, depth) times `b` (depth, columns) and `result`.
double error_of(const Array& a, const Array& b, const Array& result, Index rows, Index columns,
                Index depth) {
    double largest = 0;
    for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < columns; ++j) {
            double sum = 0;
            for (Index k = 0; k < depth; ++k) sum += a[i * depth + k] * b[k * columns + j];
            largest = std::max(largest, std::fabs(sum - result[i * columns + j]));
        }
    return largest;
}

Array product(const Array& a, const Array& b, Index rows, Index columns, Index depth) {
    Array result(std::size_t(rows * columns));
    expect(!kipper_matmul_float64(a.data(), depth, 1, b.data(), columns, 1, result.data(), rows,
                                  columns, depth, 0, 3),
           "a product", rows);
    return result;
}

Array transposed(const Array& a, Index rows, Index columns) {
    Array result(a.size());
    for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < columns; ++j) result[j * rows + i] = a[i * columns + j];
    return result;
}

void multiply(Index rows, Index columns, Index depth) {
    const Array a = drawn(rows * depth), b = drawn(depth * columns);
    const Array result = product(a, b, rows, columns, depth);
    expect(error_of(a, b, result, rows, columns, depth) < 1e-11, "a product", rows);
    const std::vector<float> narrow_a(a.begin(), a.end()), narrow_b(b.begin(), b.end());
    std::vector<float> narrow(std::size_t(rows * columns));
    expect(!kipper_matmul_float32(narrow_a.data(), depth, 1, narrow_b.data(), columns, 1,
                                  narrow.data(), rows, columns, depth, 0, 2),
           "a product in float32", rows);
    Array square(std::size_t(columns * columns));
    expect(!kipper_matmul_float64(b.data(), 1, columns, b.data(), columns, 1, square.data(),
                                  columns, columns, depth, 1, 2),
           "a symmetric product", columns);
    const Array turned = transposed(b, depth, columns);
    expect(error_of(turned, b, square, columns, columns, depth) < 1e-11, "a symmetric product",
           columns);
}

void factorise(Index size, Index columns) {
    const Array a = drawn(size * size), right = drawn(size * columns);
    Array positive = product(a, transposed(a, size, size), size, size, size);
    for (Index i = 0; i < size; ++i) positive[i * size + i] += 1;
    Array factor = positive, solution = right;
    expect(!kipper_cholesky(factor.data(), size, 2), "a factor", size);
    expect(!kipper_solve_lower(factor.data(), 0, solution.data(), size, columns, 2), "a system",
           size);
    expect(!kipper_solve_lower(factor.data(), 1, solution.data(), size, columns, 2), "a system",
           size);
    expect(error_of(positive, solution, right, size, columns, size) < 1e-8, "a system", size);
    positive[0] = -1;
    expect(kipper_cholesky(positive.data(), size, 2) == 2, "an indefinite matrix", size);
}

void decompose(Index size) {
    Array symmetric = drawn(size * size);
    for (Index i = 0; i < size; ++i)
        for (Index j = 0; j < i; ++j) symmetric[j * size + i] = symmetric[i * size + j];
    double trace = 0, of_values = 0;
    for (Index i = 0; i < size; ++i) trace += symmetric[i * size + i];
    const std::size_t count{std::size_t(size)};
    Array diagonal(count), off_diagonal(count), factors(count), reflectors(count * count);
    expect(!kipper_tridiagonal(symmetric.data(), size, diagonal.data(), off_diagonal.data(),
                               reflectors.data(), factors.data(), 2),
           "a tridiagonal form", size);
    Array rows(count * count), values = diagonal;
    for (Index i = 0; i < size; ++i) rows[i * size + i] = 1;
    expect(!kipper_diagonalise(size, values.data(), off_diagonal.data(), rows.data(), 2),
           "eigenvalues", size);
    for (const double value : values) of_values += value;
    expect(std::fabs(of_values - trace) <= 1e-11 * double(size), "eigenvalues", size);
    Array unit(count * count);
    for (Index i = 0; i < size; ++i) unit[i * size + i] = 1;
    expect(error_of(rows, transposed(rows, size, size), unit, size, size, size) < 1e-12,
           "eigenvectors", size);
}

void fail_in_a_task() {
    for (const int threads : {1, 3}) {
        std::int64_t caught = -1;
        try {
            kipper::in_parallel(100, threads, [](std::int64_t task, int) {
                if (task == 50) throw task;
            });
        } catch (const std::int64_t task) {
            caught = task;
        }
        expect(caught == 50, "what a task throws", threads);
    }
}

}  // namespace

int main() {
    fail_in_a_task();
    for (const Index size : {1, 2, 7, 31, 97}) {
        multiply(size, 2 * size + 1, 3 * size + 100);
        factorise(size, size / 2 + 1);
        decompose(size);
    }
    multiply(1, 1, 0);
    multiply(130, 800, 70);
    decompose(0);
    return 0;
}
