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
    int count1, count2;
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

// Arrays: pixels and factors of both batches, weights of offsets, cotangents of the kernel; then
// the kernel, endangered pairs, and the sums of each pair.
template <class T, bool kTangent>
void run(const Launch& launch, T* const* arrays) {
    const Plan& plan = *launch.plan;
    const Batches<T> batches{{arrays[0], arrays[1], launch.count1},
                             {arrays[2], arrays[3], launch.count2},
                             {arrays[4], plan.judged}};
    const Stages stages{launch.stages, launch.stage_count};
    const Input<T> cotangents(arrays[5], batches.pairs());
    Memory<T> kernel(arrays[6], batches.pairs()), endangered(arrays[7], batches.pairs());
    const Judged<T> results{kernel, endangered};
    std::vector<T> numbers(plan.workspace);
    for (int index = 0; index < launch.blocks; ++index) {
        Block block(index, launch.warps);
        Memory<T> workspace(numbers.data(), plan.workspace);
        if (launch.images)
            cross_vjp_block<kTangent, T>(block, plan, stages, batches, cotangents, workspace,
                                         results, arrays[8], launch.images, index, launch.blocks);
        else
            cross_block<kTangent, T>(block, plan, stages, batches, workspace, results, index,
                                     launch.blocks);
    }
}

template <class T>
int launch(const Launch& launch, T* const* arrays, char* message) {
    return guarded(message, [&] {
        launch.tangent ? run<T, true>(launch, arrays) : run<T, false>(launch, arrays);
    });
}

// Arrays: scaled pixels, pixels, cotangents of the maps; then the maps, and the sums of each image.
template <class T>
int launch_variances(const Launch& launch, T* const* arrays, char* message) {
    return guarded(message, [&] {
        const Plan& plan = *launch.plan;
        const Stages stages{launch.stages, launch.stage_count};
        const Input<T> cotangents(arrays[2], launch.count1 * plan.variances);
        Memory<T> variances(arrays[3], launch.count1 * plan.variances);
        std::vector<T> numbers(plan.workspace);
        for (int index = 0; index < launch.blocks; ++index) {
            Block block(index, launch.warps);
            Memory<T> workspace(numbers.data(), plan.workspace);
            if (launch.images)
                variance_vjp_block(block, plan, stages, arrays[0], arrays[1], launch.count1,
                                   cotangents, workspace, variances, arrays[4], index,
                                   launch.blocks);
            else
                variance_block(block, plan, stages, arrays[0], arrays[1], launch.count1, workspace,
                               variances, index, launch.blocks);
        }
    });
}

}  // namespace
}  // namespace kipper

#define KIPPER_EXPORT extern "C" __attribute__((visibility("default")))

KIPPER_EXPORT int launch_float32(const kipper::Launch* launch, float* const* arrays,
                                 char* message) {
    return kipper::launch(*launch, arrays, message);
}

KIPPER_EXPORT int launch_float64(const kipper::Launch* launch, double* const* arrays,
                                 char* message) {
    return kipper::launch(*launch, arrays, message);
}

KIPPER_EXPORT int launch_variances_float32(const kipper::Launch* launch, float* const* arrays,
                                           char* message) {
    return kipper::launch_variances(*launch, arrays, message);
}

KIPPER_EXPORT int launch_variances_float64(const kipper::Launch* launch, double* const* arrays,
                                           char* message) {
    return kipper::launch_variances(*launch, arrays, message);
}
