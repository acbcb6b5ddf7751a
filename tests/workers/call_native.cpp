// Calls one function of a native library as Python does, without Python, so that sanitizers watch
// nothing else. test_native_sanitized.py compiles and runs it.
//
//     call_native LIBRARY FUNCTION < values > results
//
// Values come in the order of the signature: arguments, results, attributes. Each is a line of
// kind, name, dtype, rank and dimensions, followed by its bytes unless it is a result.
#include <dlfcn.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "interface.hpp"

namespace {

struct Dtype {
    const char* name;
    std::size_t size;
};

constexpr Dtype kDtypes[] = {{"int64", 8}, {"float32", 4}, {"float64", 8}};

[[noreturn]] void fail(const std::string& complaint) {
    std::cerr << complaint << std::endl;
    std::exit(2);
}

// Never moved: the structures that are passed to the library point into it.
struct Value {
    std::string kind, name, dtype;
    std::vector<std::int64_t> dims;
    std::size_t count = 1, bytes;
    std::unique_ptr<char[]> data;  // exactly these bytes, so that sanitizers notice others

    template <class T>
    const T* as() const {
        return reinterpret_cast<const T*>(data.get());
    }
    kipper::Numbers numbers() const { return {as<std::int64_t>(), std::int64_t(count)}; }
};

std::unique_ptr<Value> read_value(const std::string& kind) {
    auto value = std::make_unique<Value>();
    std::size_t rank = 0;
    std::cin >> value->name >> value->dtype >> rank;
    value->kind = kind;
    value->dims.resize(rank);
    for (std::int64_t& size : value->dims) {
        std::cin >> size;
        value->count *= static_cast<std::size_t>(size);
    }
    std::cin.get();
    const auto dtype =
        std::find_if(std::begin(kDtypes), std::end(kDtypes),
                     [&](const Dtype& candidate) { return value->dtype == candidate.name; });
    if (!std::cin || dtype == std::end(kDtypes)) fail("not a value: " + value->name);
    value->bytes = value->count * dtype->size;
    value->data = std::make_unique<char[]>(value->bytes);
    if (kind != "result")
        std::cin.read(value->data.get(), static_cast<std::streamsize>(value->bytes));
    return value;
}

void set_attribute(const Value& value, kipper::Attributes& attributes) {
    const std::string& name = value.name;
    if (name == "bands") attributes.bands = value.numbers();
    if (name == "convs") attributes.convs = value.numbers();
    if (name == "pooled") attributes.pooled = value.numbers();
    if (name == "sizes") attributes.sizes = value.numbers();
    if (name == "hidden") attributes.hidden = *value.as<std::int64_t>();
    if (name == "threads") attributes.threads = *value.as<std::int64_t>();
    if (name == "both") attributes.both = *value.as<std::int64_t>();
    if (name == "global_average") attributes.global_average = *value.as<std::int64_t>();
    if (name == "tangent") attributes.tangent = *value.as<std::int64_t>();
    if (name == "b2") attributes.b2 = *value.as<double>();
    if (name == "w2") attributes.w2 = *value.as<double>();
}

using Function = int (*)(const kipper::Array*, const kipper::Attributes*, char*);

}  // namespace

int main(int, char** arguments) {
    void* library = dlopen(arguments[1], RTLD_NOW);
    if (!library) fail(dlerror());
    const auto function = reinterpret_cast<Function>(dlsym(library, arguments[2]));
    if (!function) fail(dlerror());

    std::vector<std::unique_ptr<Value>> all;
    std::vector<kipper::Array> arrays;  // arguments come before results
    kipper::Attributes attributes{};
    for (std::string kind; std::cin >> kind;) {
        const Value& value = *all.emplace_back(read_value(kind));
        if (kind == "attribute")
            set_attribute(value, attributes);
        else
            arrays.push_back(
                {value.data.get(), std::int64_t(value.dims.size()), value.dims.data()});
    }

    char message[kipper::kMessageBytes] = {};
    if (function(arrays.data(), &attributes, message)) fail(message);

    for (const auto& value : all)
        if (value->kind == "result") std::fwrite(value->data.get(), 1, value->bytes, stdout);
    return std::fflush(stdout);
}
