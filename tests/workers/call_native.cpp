// Calls one function of a native library as XLA does, without XLA and Python, so that sanitizers
// watch nothing else. test_native_sanitized.py compiles and runs it.
//
//     call_native LIBRARY FUNCTION < values > results
//
// Values come in the order of the signature: arguments, results, attributes. Each is a line of
// kind, name, dtype, rank and dimensions, followed by its bytes unless it is a result.
//
// It also fails if anything is allocated inside an OpenMP region: std::bad_alloc cannot leave one,
// so it would end a worker.
#include <dlfcn.h>
#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "xla/ffi/api/c_api.h"

namespace {

struct Dtype {
    const char* name;
    XLA_FFI_DataType type;
    std::size_t size;
};

constexpr Dtype kDtypes[] = {
    {"bool", XLA_FFI_DataType_PRED, 1},
    {"int64", XLA_FFI_DataType_S64, 8},
    {"float32", XLA_FFI_DataType_F32, 4},
    {"float64", XLA_FFI_DataType_F64, 8},
};

[[noreturn]] void fail(const std::string& complaint) {
    std::cerr << complaint << std::endl;
    std::exit(2);
}

void* allocate(std::size_t size, std::size_t alignment) {
    if (omp_get_level() > 0) {
        std::fputs("an allocation inside a parallel region\n", stderr);
        std::_Exit(3);
    }
    void* memory = nullptr;
    if (posix_memalign(&memory, std::max(alignment, sizeof(void*)), std::max<std::size_t>(size, 1)))
        throw std::bad_alloc();
    return memory;
}

// Never moved: the structures that are passed to the library point into it.
struct Value {
    std::string kind, name, dtype;
    XLA_FFI_DataType type;
    std::vector<std::int64_t> dims;
    std::size_t count = 1, bytes;
    std::unique_ptr<char[]> data;  // exactly these bytes, so that sanitizers notice others
    XLA_FFI_Buffer buffer;
    XLA_FFI_ByteSpan name_span;
    XLA_FFI_Scalar scalar;
    XLA_FFI_Array array;
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
    value->type = dtype->type;
    value->bytes = value->count * dtype->size;
    value->data = std::make_unique<char[]>(value->bytes);
    if (kind != "result")
        std::cin.read(value->data.get(), static_cast<std::streamsize>(value->bytes));
    value->buffer = {
        XLA_FFI_Buffer_STRUCT_SIZE,      nullptr,           value->type, value->data.get(),
        static_cast<std::int64_t>(rank), value->dims.data()};
    value->name_span = {value->name.data(), value->name.size()};
    value->scalar = {value->type, value->data.get()};
    value->array = {value->type, value->count, value->data.get()};
    return value;
}

// Arguments, results and attributes: an array of types and one of pointers each.
template <class Type>
struct Typed {
    std::vector<Type> types;
    std::vector<void*> pointers;

    void add(Type type, void* pointer) {
        types.push_back(type);
        pointers.push_back(pointer);
    }
    std::int64_t size() const { return static_cast<std::int64_t>(pointers.size()); }
};

XLA_FFI_Error* refuse(XLA_FFI_Error_Create_Args* args) { fail(args->message); }

}  // namespace

// The library uses these too, instead of its own.
void* operator new(std::size_t size) { return allocate(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
    return allocate(size, std::size_t(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

int main(int, char** arguments) {
    void* library = dlopen(arguments[1], RTLD_NOW);
    if (!library) fail(dlerror());
    const auto function = reinterpret_cast<XLA_FFI_Handler*>(dlsym(library, arguments[2]));
    if (!function) fail(dlerror());

    std::vector<std::unique_ptr<Value>> all;
    Typed<XLA_FFI_ArgType> inputs;
    Typed<XLA_FFI_RetType> results;
    Typed<XLA_FFI_AttrType> attributes;
    std::vector<XLA_FFI_ByteSpan*> names;
    for (std::string kind; std::cin >> kind;) {
        Value& value = *all.emplace_back(read_value(kind));
        if (kind == "argument") inputs.add(XLA_FFI_ArgType_BUFFER, &value.buffer);
        if (kind == "result") results.add(XLA_FFI_RetType_BUFFER, &value.buffer);
        if (kind != "attribute") continue;
        names.push_back(&value.name_span);
        if (value.dims.empty())
            attributes.add(XLA_FFI_AttrType_SCALAR, &value.scalar);
        else
            attributes.add(XLA_FFI_AttrType_ARRAY, &value.array);
    }

    XLA_FFI_Api api{};
    api.struct_size = XLA_FFI_Api_STRUCT_SIZE;
    api.XLA_FFI_Error_Create = refuse;
    XLA_FFI_CallFrame frame{};
    frame.struct_size = XLA_FFI_CallFrame_STRUCT_SIZE;
    frame.api = &api;
    frame.stage = XLA_FFI_ExecutionStage_EXECUTE;
    frame.args = {XLA_FFI_Args_STRUCT_SIZE, nullptr, inputs.size(), inputs.types.data(),
                  inputs.pointers.data()};
    frame.rets = {XLA_FFI_Rets_STRUCT_SIZE, nullptr, results.size(), results.types.data(),
                  results.pointers.data()};
    frame.attrs = {XLA_FFI_Attrs_STRUCT_SIZE, nullptr,      attributes.size(),
                   attributes.types.data(),   names.data(), attributes.pointers.data()};
    function(&frame);

    for (const auto& value : all)
        if (value->kind == "result") std::fwrite(value->data.get(), 1, value->bytes, stdout);
    return std::fflush(stdout);
}
