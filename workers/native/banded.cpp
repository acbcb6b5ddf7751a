// The library of convolutional kernels. The geometry comes from kipper/workers/bands.py.
#include "cross.hpp"
#include "cross_vjp.hpp"
#include "interface.hpp"
#include "listed_pairs.hpp"
#include "variance_maps.hpp"
#include "variance_maps_vjp.hpp"

namespace kipper {
namespace {

Network make_network(const Attributes& attributes, std::int64_t channels) {
    const std::size_t count = std::size_t(attributes.convs.count);
    require(count >= 1 && attributes.pooled.count == attributes.convs.count && is_size(channels) &&
            std::size_t(attributes.sizes.count) == 2 * count + 2 &&
            std::size_t(attributes.bands.count) == 2 * count + 2);
    Network network{{},           {}, int(channels), attributes.global_average != 0, attributes.w2,
                    attributes.b2};
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

template <class T>
using Images = Tensor<T, 4>;
template <class T>
using Matrix = Tensor<T, 2>;
template <class T>
using Values = Tensor<T, 1>;

template <class T>
void check_images(const Network& network, const Images<T>& images, const Matrix<T>& variances) {
    const Resolution& full = network.resolutions[0];
    require(images[1] == full.height && images[2] == full.width && images[3] == network.channels);
    require(images[0] <= INT32_MAX && variances[0] == images[0] &&
            variances[1] == std::int64_t(network.variances()));
}

// Argument: images (n, h, w, c). Result: their variance maps (n, variances).
template <class T>
void call_variance_maps(const Array* arrays, const Attributes& attributes) {
    const Images<T> images(arrays[0]);
    const Matrix<T> variances(arrays[1]);
    const Network network = make_network(attributes, images[3]);
    check_images<T>(network, images, variances);
    variance_maps<T>(network, int(images[0]), images.data(), attributes.thread_count(),
                     variances.data());
}

// Arguments: images, and a cotangent of their variance maps. Result: cotangents of the images.
template <class T>
void call_variance_maps_vjp(const Array* arrays, const Attributes& attributes) {
    const Images<T> images(arrays[0]), out(arrays[2]);
    const Matrix<T> cotangent(arrays[1]);
    const Network network = make_network(attributes, images[3]);
    check_images<T>(network, images, cotangent);
    require(out.has_shape_of(images));
    variance_maps_vjp<T>(network, int(images[0]), images.data(), cotangent.data(),
                         attributes.thread_count(), out.data());
}

// The first four arguments of `cross` and `cross_vjp`: x1, v1, x2, v2, images with their maps.
template <class T>
struct Sides {
    explicit Sides(const Array* arrays)
        : x1(arrays[0]), v1(arrays[1]), x2(arrays[2]), v2(arrays[3]) {}

    void check(const Network& network, const Matrix<T>& kernel) const {
        check_images<T>(network, x1, v1);
        check_images<T>(network, x2, v2);
        require(kernel[0] == x1[0] && kernel[1] == x2[0]);
    }

    void check_listed(const Network& network, const Values<T>& kernels) const {
        check_images<T>(network, x1, v1);
        check_images<T>(network, x2, v2);
        require(kernels[0] == x1[0] && kernels[0] == x2[0]);
    }

    Pairs<T> pairs(const Network& network) const {
        return {network, int(x1[0]), int(x2[0]), x1.data(), v1.data(), x2.data(), v2.data()};
    }

    Images<T> x1;
    Matrix<T> v1;
    Images<T> x2;
    Matrix<T> v2;
};

// Values that `cross` keeps for `cross_vjp`; empty if not wanted.
template <class T>
void check_kept(const Network& network, const Values<T>& kept, const Matrix<T>& kernel,
                bool tangent) {
    require(kept.count() == 0 ||
            std::size_t(kept.count()) ==
                kept_values<T>(network, int(kernel[0]), int(kernel[1]), tangent));
}

// Arguments: both sides. Results: the kernel (n, m), 1 for endangered pairs (n, m), and the values
// to keep.
template <class T>
void call_cross(const Array* arrays, const Attributes& attributes) {
    const Sides<T> sides(arrays);
    const Matrix<T> kernel(arrays[4]), endangered(arrays[5]);
    const Values<T> kept(arrays[6]);
    const Network network = make_network(attributes, sides.x1[3]);
    sides.check(network, kernel);
    require(endangered.has_shape_of(kernel));
    check_kept<T>(network, kept, kernel, attributes.tangent);
    const auto run = attributes.tangent ? cross_kernel<T, true> : cross_kernel<T, false>;
    run(sides.pairs(network), attributes.thread_count(), kernel.data(), endangered.data(),
        kept.data_or_null());
}

template <class T, bool kTangent, bool kBoth>
void run_vjp(const Pairs<T>& pairs, const T* kept, const T* cotangent, int threads,
             const KernelAndCotangents<T>& out) {
    CrossVjp<T, kTangent, kBoth>(pairs, kept, cotangent, threads).run(out);
}

// Arguments: both sides, the values that `cross` kept or none, and a cotangent (n, m). Results: the
// kernel, 1 for endangered pairs (n, m), and cotangents of all four of the sides' arrays, to which
// endangered pairs add nothing; those of side 2 only if `both`.
template <class T>
void call_cross_vjp(const Array* arrays, const Attributes& attributes) {
    const Sides<T> sides(arrays);
    const Values<T> kept(arrays[4]);
    const Matrix<T> cotangent(arrays[5]), kernel(arrays[6]), endangered(arrays[7]), dv1(arrays[9]);
    const Images<T> dx1(arrays[8]);
    const Network network = make_network(attributes, sides.x1[3]);
    sides.check(network, cotangent);
    check_kept<T>(network, kept, cotangent, attributes.tangent);
    require(kernel.has_shape_of(cotangent) && endangered.has_shape_of(cotangent));
    require(dx1.has_shape_of(sides.x1) && dv1.has_shape_of(sides.v1));
    KernelAndCotangents<T> out{kernel.data(), endangered.data(), dx1.data(),
                               dv1.data(),    nullptr,           nullptr};
    if (attributes.both) {
        const Images<T> dx2(arrays[10]);
        const Matrix<T> dv2(arrays[11]);
        require(dx2.has_shape_of(sides.x2) && dv2.has_shape_of(sides.v2));
        out.pixels2 = dx2.data();
        out.variances2 = dv2.data();
    }
    const auto run = attributes.tangent
                         ? (attributes.both ? run_vjp<T, true, true> : run_vjp<T, true, false>)
                         : (attributes.both ? run_vjp<T, false, true> : run_vjp<T, false, false>);
    run(sides.pairs(network), kept.data_or_null(), cotangent.data(), attributes.thread_count(),
        out);
}

// Arguments: both sides of a list of n pairs. Results: kernels (n,), and 1 for endangered pairs.
template <class T>
void call_listed(const Array* arrays, const Attributes& attributes) {
    const Sides<T> sides(arrays);
    const Values<T> kernels(arrays[4]), endangered(arrays[5]);
    const Network network = make_network(attributes, sides.x1[3]);
    sides.check_listed(network, kernels);
    require(endangered.has_shape_of(kernels));
    const auto run = attributes.tangent ? listed_kernels<T, true> : listed_kernels<T, false>;
    run(sides.pairs(network), attributes.thread_count(), kernels.data(), endangered.data());
}

// Arguments: both sides of a list of n pairs, and a cotangent (n,). Results: the kernels, 1 for
// endangered pairs, and cotangents of all four of the sides' arrays, of each pair apart.
template <class T>
void call_listed_vjp(const Array* arrays, const Attributes& attributes) {
    const Sides<T> sides(arrays);
    const Values<T> cotangent(arrays[4]), kernels(arrays[5]), endangered(arrays[6]);
    const Images<T> dx1(arrays[7]), dx2(arrays[9]);
    const Matrix<T> dv1(arrays[8]), dv2(arrays[10]);
    const Network network = make_network(attributes, sides.x1[3]);
    sides.check_listed(network, kernels);
    require(cotangent.has_shape_of(kernels) && endangered.has_shape_of(kernels));
    require(dx1.has_shape_of(sides.x1) && dv1.has_shape_of(sides.v1));
    require(dx2.has_shape_of(sides.x2) && dv2.has_shape_of(sides.v2));
    const auto run = attributes.tangent ? listed_vjp<T, true> : listed_vjp<T, false>;
    run(sides.pairs(network), cotangent.data(), attributes.thread_count(),
        {kernels.data(), endangered.data(), dx1.data(), dv1.data(), dx2.data(), dv2.data()});
}

}  // namespace
}  // namespace kipper

KIPPER_FUNCTION(variance_maps, float, float32)
KIPPER_FUNCTION(variance_maps, double, float64)
KIPPER_FUNCTION(variance_maps_vjp, float, float32)
KIPPER_FUNCTION(variance_maps_vjp, double, float64)
KIPPER_FUNCTION(cross, float, float32)
KIPPER_FUNCTION(cross, double, float64)
KIPPER_FUNCTION(cross_vjp, float, float32)
KIPPER_FUNCTION(cross_vjp, double, float64)
KIPPER_FUNCTION(listed, float, float32)
KIPPER_FUNCTION(listed, double, float64)
KIPPER_FUNCTION(listed_vjp, float, float32)
KIPPER_FUNCTION(listed_vjp, double, float64)
