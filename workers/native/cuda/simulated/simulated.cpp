// The kernels of a GPU on a CPU, for tests: blocks one after the other, and within a block its
// warps from barrier to barrier. The structures of arguments are those of tests/simulated_gpu.py.
#include <cstdio>
#include <exception>

#include "variance_maps.hpp"

namespace kipper {
namespace {

constexpr std::size_t kMessageBytes = 256;

struct Launch {
    const Plan* plan;
    const Stage* stages;
    int stage_count;
    int tangent;
    int images;  // whose cotangents are wanted: none, image 1, or both
    int blocks, warps;
    // Of images of both sides. For pairs, then the first place and the stride of what is kept; for
    // sums images with cotangents, the side, the numbers of an image, and the first image.
    int counts[6];
};

template <class Run>
int guarded(char* message, Run run) {
    try {
        run();
        return 0;
    } catch (const std::exception& error) {
        std::snprintf(message, kMessageBytes, "%s", error.what());
        return 1;
    }
}

struct Stages {
    const Stage* stages;
    int count;

    template <class Visit>
    void forward(Visit visit) const {
        for (int index = 0; index < count; ++index) visit(stages[index]);
    }

    template <class Visit>
    void backward(Visit visit) const {
        for (int index = count; index-- > 0;) visit(stages[index]);
    }
};

// Arrays: pixels, factors and places of both batches. Forward: weights of offsets; then the kernel,
// endangered pairs, and what is kept. Backward: cotangents of the kernel and what was kept; then
// the sums of each pair.
template <class T, bool kTangent>
void run(const Launch& launch, T* const* arrays) {
    const Plan& plan = *launch.plan;
    const auto places = [&](int index) { return reinterpret_cast<const int*>(arrays[index]); };
    const Batches<T> batches{{arrays[0], arrays[1], places(2), launch.counts[0]},
                             {arrays[3], arrays[4], places(5), launch.counts[1]}};
    const Stages stages{launch.stages, launch.stage_count};
    const Kept<T> kept{arrays[launch.images ? 7 : 9], launch.counts[2], launch.counts[3]};
    const Input<T> weights(arrays[6], plan.judged), cotangents(arrays[6], batches.pairs());
    Memory<T> kernel(arrays[7], batches.pairs()), endangered(arrays[8], batches.pairs());
    const Judged<T> results{kernel, endangered};
    std::vector<T> numbers(plan.workspace);
    for (int index = 0; index < launch.blocks; ++index) {
        Block block(index, launch.warps);
        Memory<T> workspace(numbers.data(), plan.workspace);
        if (launch.images)
            cross_vjp_block<kTangent, T>(block, plan, stages, batches, cotangents, kept, workspace,
                                         arrays[8], launch.images, index, launch.blocks);
        else
            cross_block<kTangent, T>(block, plan, stages, batches, weights, workspace, results,
                                     kept, index, launch.blocks);
    }
}

template <class T>
int launch_cross(const Launch& launch, T* const* arrays, char* message) {
    return guarded(message, [&] {
        launch.tangent ? run<T, true>(launch, arrays) : run<T, false>(launch, arrays);
    });
}

// Arrays: scaled pixels, pixels and, if wanted, cotangents of the maps; then the maps, and the sums
// of each image.
template <class T>
int launch_variances(const Launch& launch, T* const* arrays, char* message) {
    return guarded(message, [&] {
        const Plan& plan = *launch.plan;
        const Stages stages{launch.stages, launch.stage_count};
        const Input<T> cotangents(arrays[2], launch.counts[0] * plan.variances);
        Memory<T> variances(arrays[launch.images ? 3 : 2], launch.counts[0] * plan.variances);
        std::vector<T> numbers(plan.workspace);
        for (int index = 0; index < launch.blocks; ++index) {
            Block block(index, launch.warps);
            Memory<T> workspace(numbers.data(), plan.workspace);
            if (launch.images)
                variance_vjp_block(block, plan, stages, arrays[0], arrays[1], launch.counts[0],
                                   cotangents, workspace, variances, arrays[4], index,
                                   launch.blocks);
            else
                variance_block(block, plan, stages, arrays[0], arrays[1], launch.counts[0],
                               workspace, variances, index, launch.blocks);
        }
    });
}

// Arrays: the sums of pairs; then those of images, to which they are added.
template <class T>
int launch_sum_pairs(const Launch& launch, T* const* arrays, char* message) {
    return guarded(message, [&] {
        const auto [count1, count2, images, side, of_image, first_image] = launch.counts;
        const PairSums pairs{count1, count2, images, side, of_image};
        const Input<T> sums(arrays[0], count1 * count2 * images * of_image);
        Memory<T> totals(arrays[1], (first_image + (side ? count2 : count1)) * of_image);
        totals.know();
        for (int index = 0; index < launch.blocks; ++index) {
            Block block(index, launch.warps);
            sum_pairs_block(block, pairs, sums, totals, first_image, index, launch.blocks);
        }
    });
}

}  // namespace
}  // namespace kipper

// Exports NAME_DTYPE, which calls kipper::launch_NAME<T>.
#define KIPPER_FUNCTION(name, T, dtype)                                   \
    extern "C" __attribute__((visibility("default"))) int name##_##dtype( \
        const kipper::Launch* launch, T* const* arrays, char* message) {  \
        return kipper::launch_##name(*launch, arrays, message);           \
    }

KIPPER_FUNCTION(cross, float, float32)
KIPPER_FUNCTION(cross, double, float64)
KIPPER_FUNCTION(variances, float, float32)
KIPPER_FUNCTION(variances, double, float64)
KIPPER_FUNCTION(sum_pairs, float, float32)
KIPPER_FUNCTION(sum_pairs, double, float64)
