// What XLA calls: checks shapes, reads the network from attributes, and runs a pass.
//
// Geometry is that of kipper/workers/bands.py, handed over as it is. Nothing may be thrown across
// the boundary to XLA.
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>

#include "cross.hpp"
#include "cross_vjp.hpp"
#include "dense_chain.hpp"
#include "variance_maps.hpp"
#include "variance_maps_vjp.hpp"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace kipper {

// Every entry point takes all of them. `sizes` and `bands` hold two numbers for each stage and two
// for the read-out.
struct Attributes {
    ffi::Span<const std::int64_t> bands;
    bool both;
    ffi::Span<const std::int64_t> convs;
    bool global_average;
    ffi::Span<const std::int64_t> pooled;
    ffi::Span<const std::int64_t> sizes;
    bool tangent;
    std::int64_t threads;
    double b2;
    double w2;

    int thread_count() const { return threads < 1 ? 1 : int(threads); }
};

// Of the entry points for fully connected kernels.
struct DenseAttributes {
    double b2;
    std::int64_t hidden;
    bool tangent;
    std::int64_t threads;
    double w2;

    int thread_count() const { return threads < 1 ? 1 : int(threads); }
};

}  // namespace kipper

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(kipper::DenseAttributes, StructMember<double>("b2"),
                                      StructMember<int64_t>("hidden"),
                                      StructMember<bool>("tangent"),
                                      StructMember<int64_t>("threads"), StructMember<double>("w2"));

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(
    kipper::Attributes, StructMember<Span<const int64_t>>("bands"), StructMember<bool>("both"),
    StructMember<Span<const int64_t>>("convs"), StructMember<bool>("global_average"),
    StructMember<Span<const int64_t>>("pooled"), StructMember<Span<const int64_t>>("sizes"),
    StructMember<bool>("tangent"), StructMember<int64_t>("threads"), StructMember<double>("b2"),
    StructMember<double>("w2"));

namespace kipper {
namespace {

template <class T>
constexpr ffi::DataType kDataType = ffi::DataType::F32;
template <>
constexpr ffi::DataType kDataType<double> = ffi::DataType::F64;

template <class T>
using Images = ffi::Buffer<kDataType<T>, 4>;
template <class T>
using Matrix = ffi::Buffer<kDataType<T>, 2>;
template <class T>
using Vector = ffi::Buffer<kDataType<T>, 1>;
template <class T>
using Optional = ffi::Buffer<kDataType<T>>;  // of size 0 if nobody asks for it

Network make_network(const Attributes& attributes, std::int64_t channels) {
    Network network{{}, {}, int(channels), attributes.global_average, attributes.w2, attributes.b2};
    const std::int64_t *size = attributes.sizes.begin(), *band = attributes.bands.begin();
    const std::size_t count = attributes.convs.size();
    std::size_t first_map = 0;
    for (std::size_t i = 0; i <= count; ++i, size += 2, band += 2) {
        network.resolutions.push_back(
            {int(size[0]), int(size[1]), Band{int(band[0]), int(band[1])}});
        if (i == count) break;
        const int convs = int(attributes.convs[i]);
        network.stages.push_back({convs, attributes.pooled[i] != 0, first_map});
        first_map += convs * network.resolutions[i].pixels();
    }
    return network;
}

template <class T>
bool fits(const Network& network, const Images<T>& images, const Matrix<T>& variances) {
    const Resolution& full = network.resolutions[0];
    const auto shape = images.dimensions(), maps = variances.dimensions();
    return shape[1] == full.height && shape[2] == full.width && shape[3] == network.channels &&
           maps[0] == shape[0] && maps[1] == std::int64_t(network.variances());
}

template <class T>
T* data_or_null(const Optional<T>& values) {
    return values.element_count() ? values.typed_data() : nullptr;
}

template <class T>
bool can_be_kept(const Network& network, const Optional<T>& kept,
                 ffi::Span<const std::int64_t> kernel_shape, bool tangent) {
    return !data_or_null<T>(kept) ||
           kept.element_count() ==
               kept_values<T>(network, int(kernel_shape[0]), int(kernel_shape[1]), tangent);
}

ffi::Error wrong_shapes() {
    return ffi::Error(ffi::ErrorCode::kInvalidArgument,
                      "kipper: these images, variance maps and network do not fit each other");
}

template <class Run>
ffi::Error guarded(Run run) {
    try {
        run();
        return ffi::Error::Success();
    } catch (const std::exception& error) {  // no memory, as a rule
        return ffi::Error(ffi::ErrorCode::kResourceExhausted,
                          std::string("kipper: ") + error.what());
    }
}

template <class T>
ffi::Error variance_maps_handler(Images<T> images, ffi::Result<Matrix<T>> variances,
                                 Attributes attributes) {
    return guarded([&] {
        const Network network = make_network(attributes, images.dimensions()[3]);
        variance_maps<T>(network, int(images.dimensions()[0]), images.typed_data(),
                         attributes.thread_count(), variances->typed_data());
    });
}

template <class T>
ffi::Error variance_maps_vjp_handler(Images<T> images, Matrix<T> cotangent,
                                     ffi::Result<Images<T>> dx, Attributes attributes) {
    const Network network = make_network(attributes, images.dimensions()[3]);
    if (!fits<T>(network, images, cotangent)) return wrong_shapes();
    return guarded([&] {
        variance_maps_vjp<T>(network, int(images.dimensions()[0]), images.typed_data(),
                             cotangent.typed_data(), attributes.thread_count(), dx->typed_data());
    });
}

template <class T>
Pairs<T> make_pairs(const Network& network, const Images<T>& x1, const Matrix<T>& v1,
                    const Images<T>& x2, const Matrix<T>& v2) {
    return {network,         int(x1.dimensions()[0]), int(x2.dimensions()[0]), x1.typed_data(),
            v1.typed_data(), x2.typed_data(),         v2.typed_data()};
}

template <class T>
ffi::Error cross_handler(Images<T> x1, Matrix<T> v1, Images<T> x2, Matrix<T> v2,
                         ffi::Result<Matrix<T>> kernel, ffi::Result<Optional<T>> kept,
                         Attributes attributes) {
    const Network network = make_network(attributes, x1.dimensions()[3]);
    if (!fits<T>(network, x1, v1) || !fits<T>(network, x2, v2) ||
        !can_be_kept<T>(network, *kept, kernel->dimensions(), attributes.tangent))
        return wrong_shapes();
    const auto run = attributes.tangent ? cross_kernel<T, true> : cross_kernel<T, false>;
    return guarded([&] {
        run(make_pairs<T>(network, x1, v1, x2, v2), attributes.thread_count(), kernel->typed_data(),
            data_or_null<T>(*kept));
    });
}

template <class T, bool kTangent, bool kBoth>
void run_vjp(const Pairs<T>& pairs, const T* kept, const T* cotangent, int threads,
             const KernelAndCotangents<T>& out) {
    CrossVjp<T, kTangent, kBoth>(pairs, kept, cotangent, threads).run(out);
}

template <class T>
ffi::Error cross_vjp_handler(Images<T> x1, Matrix<T> v1, Images<T> x2, Matrix<T> v2,
                             Optional<T> kept, Matrix<T> cotangent, ffi::Result<Matrix<T>> kernel,
                             ffi::Result<Images<T>> dx1, ffi::Result<Matrix<T>> dv1,
                             ffi::Result<Optional<T>> dx2, ffi::Result<Optional<T>> dv2,
                             Attributes attributes) {
    const Network network = make_network(attributes, x1.dimensions()[3]);
    if (!fits<T>(network, x1, v1) || !fits<T>(network, x2, v2) ||
        cotangent.dimensions()[0] != x1.dimensions()[0] ||
        cotangent.dimensions()[1] != x2.dimensions()[0] ||
        !can_be_kept<T>(network, kept, cotangent.dimensions(), attributes.tangent))
        return wrong_shapes();
    const bool both = attributes.both;
    const auto run = attributes.tangent
                         ? (both ? run_vjp<T, true, true> : run_vjp<T, true, false>)
                         : (both ? run_vjp<T, false, true> : run_vjp<T, false, false>);
    return guarded([&] {
        run(make_pairs<T>(network, x1, v1, x2, v2), data_or_null<T>(kept), cotangent.typed_data(),
            attributes.thread_count(),
            {kernel->typed_data(), dx1->typed_data(), dv1->typed_data(),
             both ? dx2->typed_data() : nullptr, both ? dv2->typed_data() : nullptr});
    });
}

template <class T>
DensePairs<T> dense_pairs(const Matrix<T>& gaps, const Vector<T>& q1, const Vector<T>& q2,
                          const DenseAttributes& attributes) {
    const auto shape = gaps.dimensions();
    if (q1.dimensions()[0] != shape[0] || q2.dimensions()[0] != shape[1])
        throw std::invalid_argument("these gaps and mean squares do not fit each other");
    return {int(attributes.hidden), attributes.w2,     attributes.b2,   int(shape[0]),
            int(shape[1]),          gaps.typed_data(), q1.typed_data(), q2.typed_data()};
}

template <class T>
ffi::Error dense_handler(Matrix<T> gaps, Vector<T> q1, Vector<T> q2, ffi::Result<Matrix<T>> kernel,
                         DenseAttributes attributes) {
    return guarded([&] {
        const auto pairs = dense_pairs<T>(gaps, q1, q2, attributes);
        const int threads = attributes.thread_count();
        if (attributes.tangent)
            DenseChain<T, true>(pairs).forward(threads, kernel->typed_data());
        else
            DenseChain<T, false>(pairs).forward(threads, kernel->typed_data());
    });
}

template <class T>
ffi::Error dense_vjp_handler(Matrix<T> gaps, Vector<T> q1, Vector<T> q2, Matrix<T> cotangent,
                             ffi::Result<Matrix<T>> of_gram, ffi::Result<Vector<T>> of_q1,
                             ffi::Result<Vector<T>> of_q2, DenseAttributes attributes) {
    return guarded([&] {
        const auto pairs = dense_pairs<T>(gaps, q1, q2, attributes);
        const DenseCotangents<T> out{of_gram->typed_data(), of_q1->typed_data(),
                                     of_q2->typed_data()};
        const int threads = attributes.thread_count();
        if (attributes.tangent)
            DenseChain<T, true>(pairs).vjp(cotangent.typed_data(), threads, out);
        else
            DenseChain<T, false>(pairs).vjp(cotangent.typed_data(), threads, out);
    });
}

}  // namespace
}  // namespace kipper

// Handlers infer their bindings from the parameters of the functions above.
#define KIPPER_HANDLERS(T, dtype)                                                                  \
    XLA_FFI_DEFINE_HANDLER_SYMBOL(kipper_variance_maps_##dtype, kipper::variance_maps_handler<T>); \
    XLA_FFI_DEFINE_HANDLER_SYMBOL(kipper_variance_maps_vjp_##dtype,                                \
                                  kipper::variance_maps_vjp_handler<T>);                           \
    XLA_FFI_DEFINE_HANDLER_SYMBOL(kipper_cross_##dtype, kipper::cross_handler<T>);                 \
    XLA_FFI_DEFINE_HANDLER_SYMBOL(kipper_cross_vjp_##dtype, kipper::cross_vjp_handler<T>)
#define KIPPER_DENSE_HANDLERS(T, dtype)                                            \
    XLA_FFI_DEFINE_HANDLER_SYMBOL(kipper_dense_##dtype, kipper::dense_handler<T>); \
    XLA_FFI_DEFINE_HANDLER_SYMBOL(kipper_dense_vjp_##dtype, kipper::dense_vjp_handler<T>)

// All else is hidden: several builds of this library may live in one process.
#pragma GCC visibility push(default)
KIPPER_HANDLERS(float, float32);
KIPPER_HANDLERS(double, float64);
KIPPER_DENSE_HANDLERS(float, float32);
KIPPER_DENSE_HANDLERS(double, float64);
#pragma GCC visibility pop
