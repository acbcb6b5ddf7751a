// The library of fully connected kernels. Compile with -ffp-contract=off: products and sums are
// rounded separately, so that all instruction sets give the same bits.
#include "dense_chain.hpp"
#include "interface.hpp"

namespace kipper {
namespace {

template <class T>
DensePairs<T> dense_pairs(const Array* arrays, const Attributes& attributes) {
    const Tensor<T, 2> gaps(arrays[0]);
    const Tensor<T, 1> rms1(arrays[1]), rms2(arrays[2]);
    require(is_size(attributes.hidden) && gaps[0] == rms1[0] && gaps[1] == rms2[0]);
    require(gaps[0] <= INT32_MAX && gaps[1] <= INT32_MAX);
    return {int(attributes.hidden), attributes.w2, attributes.b2, int(gaps[0]),
            int(gaps[1]),           gaps.data(),   rms1.data(),   rms2.data()};
}

// Arguments: gaps (n, m), root mean squares (n,), (m,). Result: the kernel (n, m).
template <class T>
void call_dense(const Array* arrays, const Attributes& attributes) {
    const auto pairs = dense_pairs<T>(arrays, attributes);
    const Tensor<T, 2> kernel(arrays[3]);
    require(kernel.has_shape_of(Tensor<T, 2>(arrays[0])));
    const int threads = attributes.thread_count();
    if (attributes.tangent)
        DenseChain<T, true>(pairs).forward(threads, kernel.data());
    else
        DenseChain<T, false>(pairs).forward(threads, kernel.data());
}

// Arguments: those of `dense`, and a cotangent (n, m). Results: cotangents of the inner products
// (n, m) and of the mean squares.
template <class T>
void call_dense_vjp(const Array* arrays, const Attributes& attributes) {
    const auto pairs = dense_pairs<T>(arrays, attributes);
    const Tensor<T, 2> gaps(arrays[0]), cotangent(arrays[3]), of_gram(arrays[4]);
    const Tensor<T, 1> of_q1(arrays[5]), of_q2(arrays[6]);
    require(cotangent.has_shape_of(gaps) && of_gram.has_shape_of(gaps));
    require(of_q1[0] == gaps[0] && of_q2[0] == gaps[1]);
    const DenseCotangents<T> out{of_gram.data(), of_q1.data(), of_q2.data()};
    const int threads = attributes.thread_count();
    if (attributes.tangent)
        DenseChain<T, true>(pairs).vjp(cotangent.data(), threads, out);
    else
        DenseChain<T, false>(pairs).vjp(cotangent.data(), threads, out);
}

}  // namespace
}  // namespace kipper

KIPPER_FUNCTION(dense, float, float32)
KIPPER_FUNCTION(dense, double, float64)
KIPPER_FUNCTION(dense_vjp, float, float32)
KIPPER_FUNCTION(dense_vjp, double, float64)
