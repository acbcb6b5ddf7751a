// The functions that XLA calls: they check shapes, read the network from attributes and run a pass.
//
// The geometry comes from kipper/workers/bands.py. No exception may reach XLA: `guarded` turns
// them into errors.
#include <algorithm>
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

// Every convolutional entry point takes all of them. `sizes` and `bands` hold two numbers for each
// stage and two for the read-out.
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

// The attributes of the entry points for fully connected kernels.
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
using Optional = ffi::Buffer<kDataType<T>>;  // empty if not wanted
using Shape = ffi::Span<const std::int64_t>;

// Indices of pixels, and of channels, are int.
bool is_size(std::int64_t value) { return value >= 1 && value <= INT32_MAX; }

void require(bool fits) {
    if (!fits)
        throw std::invalid_argument("the shapes of arrays and network do not fit each other");
}

bool same(Shape one, Shape two) {
    return std::equal(one.begin(), one.end(), two.begin(), two.end());
}

bool is_matrix(Shape shape, std::int64_t rows, std::int64_t columns) {
    return shape[0] == rows && shape[1] == columns;
}

Network make_network(const Attributes& attributes, std::int64_t channels) {
    const std::size_t count = attributes.convs.size();
    require(count >= 1 && attributes.pooled.size() == count && is_size(channels) &&
            attributes.sizes.size() == 2 * count + 2 && attributes.bands.size() == 2 * count + 2);
    Network network{{}, {}, int(channels), attributes.global_average, attributes.w2, attributes.b2};
    const std::int64_t *size = attributes.sizes.begin(), *band = attributes.bands.begin();
    std::size_t first_map = 0;
    for (std::size_t i = 0; i <= count; ++i, size += 2, band += 2) {
        for (int side = 0; side < 2; ++side) {
            require(is_size(size[side]) && band[side] >= 0 && band[side] < size[side]);
            require(i == 0 || size[side] == size[side - 2] >> (attributes.pooled[i - 1] ? 1 : 0));
        }
        network.resolutions.push_back(
            {int(size[0]), int(size[1]), Band{int(band[0]), int(band[1])}});
        if (i == count) break;
        require(is_size(attributes.convs[i]));
        const int convs = int(attributes.convs[i]);
        network.stages.push_back({convs, attributes.pooled[i] != 0, first_map});
        first_map += convs * network.resolutions[i].pixels();
    }
    return network;
}

void check_images(const Network& network, Shape images, Shape variances) {
    const Resolution& full = network.resolutions[0];
    require(images[1] == full.height && images[2] == full.width && images[3] == network.channels &&
            is_matrix(variances, images[0], std::int64_t(network.variances())));
}

template <class T>
T* data_or_null(const Optional<T>& values) {
    return values.element_count() ? values.typed_data() : nullptr;
}

template <class T>
void check_kept(const Network& network, const Optional<T>& kept, Shape kernel, bool tangent) {
    require(!data_or_null<T>(kept) ||
            kept.element_count() ==
                kept_values<T>(network, int(kernel[0]), int(kernel[1]), tangent));
}

template <class Run>
ffi::Error guarded(Run run) {
    const std::string prefix = "kipper: ";
    try {
        run();
        return ffi::Error::Success();
    } catch (const std::invalid_argument& error) {
        return ffi::Error(ffi::ErrorCode::kInvalidArgument, prefix + error.what());
    } catch (const std::exception& error) {  // usually std::bad_alloc
        return ffi::Error(ffi::ErrorCode::kResourceExhausted, prefix + error.what());
    }
}

template <class T>
ffi::Error variance_maps_handler(Images<T> images, ffi::Result<Matrix<T>> variances,
                                 Attributes attributes) {
    return guarded([&] {
        const Network network = make_network(attributes, images.dimensions()[3]);
        check_images(network, images.dimensions(), variances->dimensions());
        variance_maps<T>(network, int(images.dimensions()[0]), images.typed_data(),
                         attributes.thread_count(), variances->typed_data());
    });
}

template <class T>
ffi::Error variance_maps_vjp_handler(Images<T> images, Matrix<T> cotangent,
                                     ffi::Result<Images<T>> dx, Attributes attributes) {
    return guarded([&] {
        const Network network = make_network(attributes, images.dimensions()[3]);
        check_images(network, images.dimensions(), cotangent.dimensions());
        require(same(dx->dimensions(), images.dimensions()));
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
void check_pairs(const Network& network, const Images<T>& x1, const Matrix<T>& v1,
                 const Images<T>& x2, const Matrix<T>& v2, Shape kernel) {
    check_images(network, x1.dimensions(), v1.dimensions());
    check_images(network, x2.dimensions(), v2.dimensions());
    require(is_matrix(kernel, x1.dimensions()[0], x2.dimensions()[0]));
}

template <class T>
ffi::Error cross_handler(Images<T> x1, Matrix<T> v1, Images<T> x2, Matrix<T> v2,
                         ffi::Result<Matrix<T>> kernel, ffi::Result<Optional<T>> kept,
                         Attributes attributes) {
    return guarded([&] {
        const Network network = make_network(attributes, x1.dimensions()[3]);
        check_pairs<T>(network, x1, v1, x2, v2, kernel->dimensions());
        check_kept<T>(network, *kept, kernel->dimensions(), attributes.tangent);
        const auto run = attributes.tangent ? cross_kernel<T, true> : cross_kernel<T, false>;
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
    return guarded([&] {
        const bool both = attributes.both;
        const Network network = make_network(attributes, x1.dimensions()[3]);
        check_pairs<T>(network, x1, v1, x2, v2, cotangent.dimensions());
        check_kept<T>(network, kept, cotangent.dimensions(), attributes.tangent);
        require(same(kernel->dimensions(), cotangent.dimensions()) &&
                same(dx1->dimensions(), x1.dimensions()) &&
                same(dv1->dimensions(), v1.dimensions()));
        require(!both || (same(dx2->dimensions(), x2.dimensions()) &&
                          same(dv2->dimensions(), v2.dimensions())));
        const auto run = attributes.tangent
                             ? (both ? run_vjp<T, true, true> : run_vjp<T, true, false>)
                             : (both ? run_vjp<T, false, true> : run_vjp<T, false, false>);
        run(make_pairs<T>(network, x1, v1, x2, v2), data_or_null<T>(kept), cotangent.typed_data(),
            attributes.thread_count(),
            {kernel->typed_data(), dx1->typed_data(), dv1->typed_data(),
             both ? dx2->typed_data() : nullptr, both ? dv2->typed_data() : nullptr});
    });
}

template <class T>
DensePairs<T> dense_pairs(const Matrix<T>& gaps, const Vector<T>& q1, const Vector<T>& q2,
                          const DenseAttributes& attributes) {
    const Shape shape = gaps.dimensions();
    require(is_size(attributes.hidden) && is_matrix(shape, q1.dimensions()[0], q2.dimensions()[0]));
    return {int(attributes.hidden), attributes.w2,     attributes.b2,   int(shape[0]),
            int(shape[1]),          gaps.typed_data(), q1.typed_data(), q2.typed_data()};
}

template <class T>
ffi::Error dense_handler(Matrix<T> gaps, Vector<T> q1, Vector<T> q2, ffi::Result<Matrix<T>> kernel,
                         DenseAttributes attributes) {
    return guarded([&] {
        const auto pairs = dense_pairs<T>(gaps, q1, q2, attributes);
        require(same(kernel->dimensions(), gaps.dimensions()));
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
        require(same(cotangent.dimensions(), gaps.dimensions()) &&
                same(of_gram->dimensions(), gaps.dimensions()) &&
                same(of_q1->dimensions(), q1.dimensions()) &&
                same(of_q2->dimensions(), q2.dimensions()));
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

// The bindings follow from the parameters of the functions above.
#define KIPPER_HANDLERS(T, dtype)                                                                  \
    XLA_FFI_DEFINE_HANDLER_SYMBOL(kipper_variance_maps_##dtype, kipper::variance_maps_handler<T>); \
    XLA_FFI_DEFINE_HANDLER_SYMBOL(kipper_variance_maps_vjp_##dtype,                                \
                                  kipper::variance_maps_vjp_handler<T>);                           \
    XLA_FFI_DEFINE_HANDLER_SYMBOL(kipper_cross_##dtype, kipper::cross_handler<T>);                 \
    XLA_FFI_DEFINE_HANDLER_SYMBOL(kipper_cross_vjp_##dtype, kipper::cross_vjp_handler<T>)
#define KIPPER_DENSE_HANDLERS(T, dtype)                                            \
    XLA_FFI_DEFINE_HANDLER_SYMBOL(kipper_dense_##dtype, kipper::dense_handler<T>); \
    XLA_FFI_DEFINE_HANDLER_SYMBOL(kipper_dense_vjp_##dtype, kipper::dense_vjp_handler<T>)

// Everything else is hidden: a process may load several builds of this library.
#pragma GCC visibility push(default)
KIPPER_HANDLERS(float, float32);
KIPPER_HANDLERS(double, float64);
KIPPER_DENSE_HANDLERS(float, float32);
KIPPER_DENSE_HANDLERS(double, float64);
#pragma GCC visibility pop
