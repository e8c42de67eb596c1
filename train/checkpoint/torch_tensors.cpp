// Rebuilding tensors: torch/_utils.py and torch/serialization.py say what the arguments are.
#include "train/checkpoint/torch_tensors.h"

#include <cstring>

#include "core/check.h"

namespace riffle {
namespace {

using Kind = PickleValue::Kind;

struct StorageType {
  const char* name;  // in torch, or torch.cuda
  FileDType dtype;
};

constexpr StorageType kStorageTypes[] = {{"FloatStorage", FileDType::kF32},
                                         {"DoubleStorage", FileDType::kF64},
                                         {"HalfStorage", FileDType::kF16},
                                         {"BFloat16Storage", FileDType::kBF16},
                                         {"LongStorage", FileDType::kI64},
                                         {"IntStorage", FileDType::kI32},
                                         {"ShortStorage", FileDType::kI16},
                                         {"CharStorage", FileDType::kI8},
                                         {"ByteStorage", FileDType::kU8},
                                         {"BoolStorage", FileDType::kBool},
                                         {"Float8_e4m3fnStorage", FileDType::kF8E4M3},
                                         {"Float8_e5m2Storage", FileDType::kF8E5M2}};

constexpr StorageType kDTypes[] = {  // of _rebuild_tensor_v3, on untyped storages
    {"float32", FileDType::kF32},       {"float64", FileDType::kF64},
    {"float16", FileDType::kF16},       {"bfloat16", FileDType::kBF16},
    {"int64", FileDType::kI64},         {"int32", FileDType::kI32},
    {"int16", FileDType::kI16},         {"int8", FileDType::kI8},
    {"uint64", FileDType::kU64},        {"uint32", FileDType::kU32},
    {"uint16", FileDType::kU16},        {"uint8", FileDType::kU8},
    {"bool", FileDType::kBool},         {"float8_e4m3fn", FileDType::kF8E4M3},
    {"float8_e5m2", FileDType::kF8E5M2}};

struct ForeignType {
  const char* name;
  size_t element_bytes;
};

constexpr ForeignType kForeignTypes[] = {{"ComplexFloatStorage", 8},
                                         {"ComplexDoubleStorage", 16},
                                         {"QInt8Storage", 1},
                                         {"QUInt8Storage", 1},
                                         {"QInt32Storage", 4}};

template <size_t kCount>
const StorageType* find_type(const StorageType (&types)[kCount], std::string_view name) {
  for (const StorageType& type : types) {
    if (name == type.name) return &type;
  }
  return nullptr;
}

// The function that a tensor is rebuilt by, or "".
std::string_view rebuilder(const PickleValue& value) {
  if (value.kind != Kind::kObject || value.callee->kind != Kind::kGlobal || value.argument->kind != Kind::kTuple)
    return "";
  const std::string_view module = value.callee->text, name = value.callee->name;
  if (module == "torch._utils" && name.rfind("_rebuild_", 0) == 0) return name;
  if (module == "torch._tensor" && name == "_rebuild_from_type_v2") return name;
  if ((module == "torch.nn.parameter" || module == "torch.nn") && name == "Parameter") return "Parameter";
  return "";
}

// What a wrapper (a parameter, a subclass of Tensor) holds; null if `value` is no wrapper.
const PickleValue* unwrapped(const PickleValue& value) {
  const std::string_view function = rebuilder(value);
  const std::vector<const PickleValue*>& arguments = value.kind == Kind::kObject ? value.argument->items : value.items;
  const bool wrapper =
      function == "_rebuild_parameter" || function == "_rebuild_parameter_with_state" || function == "Parameter";
  return wrapper && !arguments.empty() ? arguments[0] : nullptr;
}

const PickleValue& without_wrappers(const PickleValue& value) {
  const PickleValue* inner = &value;
  for (int depth = 0; depth < 4 && unwrapped(*inner) != nullptr; ++depth) inner = unwrapped(*inner);
  return *inner;
}

// A whole number >= 0.
int64_t whole(const PickleValue& value, const std::string& where, const char* what) {
  if (value.kind != Kind::kInteger || value.integer < 0) {
    fail(where, ": its ", what, " is ", value.kind == Kind::kInteger ? std::to_string(value.integer) : "no number",
         "; expected a whole number >= 0");
  }
  return value.integer;
}

// A tuple of them, or a torch.Size of one.
std::vector<int64_t> wholes(const PickleValue& value, const std::string& where, const char* what) {
  const PickleValue* list = &value;
  if (value.kind == Kind::kObject && value.callee->is_global("torch", "Size") && value.argument->items.size() == 1)
    list = value.argument->items[0];
  if (list->kind != Kind::kTuple && list->kind != Kind::kList) fail(where, ": its ", what, " is no tuple");
  std::vector<int64_t> numbers;
  for (const PickleValue* item : list->items) numbers.push_back(whole(*item, where, what));
  return numbers;
}

std::string type_name(const PickleValue& global) {
  return global.kind == Kind::kGlobal ? join(global.text, ".", global.name) : "something unnamed";
}

constexpr size_t kMostAxes = 64;

}  // namespace

std::optional<TorchStorage> read_torch_storage(const PickleValue& persistent, const std::string& name) {
  const PickleValue* id = persistent.kind == Kind::kPersistent ? persistent.argument : nullptr;
  if (id == nullptr || id->kind != Kind::kTuple || id->items.size() < 5 || !id->items[0]->is_text("storage") ||
      id->items[1]->kind != Kind::kGlobal || id->items[2]->kind != Kind::kText)
    fail(name, ": a tensor refers to something that is not a storage; was the file made by torch.save?");
  const std::string where = join(name, ": storage '", id->items[2]->text, "'");
  TorchStorage storage;
  storage.key = id->items[2]->text;
  storage.untyped = id->items[1]->name == "UntypedStorage";
  const StorageType* type = find_type(kStorageTypes, id->items[1]->name);
  if (type == nullptr && !storage.untyped) return std::nullopt;
  if (type != nullptr) storage.dtype = type->dtype;
  storage.elements = whole(*id->items[4], where, "size");
  if (id->items.size() > 5 && id->items[5]->kind == Kind::kTuple) {  // (key of the view, begin, size)
    const PickleValue& view = *id->items[5];
    if (view.items.size() != 3) fail(where, ": a view of ", view.items.size(), " fields; expected 3");
    storage.view_begin = whole(*view.items[1], where, "view's begin");
    const int64_t size = whole(*view.items[2], where, "view's size");
    if (storage.view_begin > storage.elements || size > storage.elements - storage.view_begin)
      fail(where, ": a view of ", size, " elements from ", storage.view_begin, " on leaves its ", storage.elements);
    storage.elements = size;
  }
  return storage;
}

bool is_module_class(const PickleValue& persistent) {
  const PickleValue* id = persistent.kind == Kind::kPersistent ? persistent.argument : nullptr;
  return id != nullptr && id->kind == Kind::kTuple && id->items.size() > 1 && id->items[0]->is_text("module");
}

size_t size_of_foreign_element(const PickleValue& persistent) {
  for (const ForeignType& type : kForeignTypes) {
    if (persistent.argument->items[1]->name == type.name) return type.element_bytes;
  }
  return 0;
}

std::string_view storage_key(const PickleValue& tensor) {
  const PickleValue* value = &without_wrappers(tensor);
  for (int depth = 0; depth < 4 && value->kind == Kind::kObject; ++depth) {  // arguments begin with the storage
    const std::vector<const PickleValue*>& arguments = value->argument->items;
    if (arguments.empty()) return "";
    value = rebuilder(*value) == "_rebuild_from_type_v2" && arguments.size() > 2 ? arguments[2] : arguments[0];
    if (value->kind == Kind::kTuple && !value->items.empty()) value = value->items[0];
  }
  const PickleValue* id = value->kind == Kind::kPersistent ? value->argument : nullptr;
  return id != nullptr && id->kind == Kind::kTuple && id->items.size() > 2 ? id->items[2]->text : std::string_view();
}

bool TorchTensors::is_tensor(const PickleValue& value) {
  return !rebuilder(without_wrappers(value)).empty();
}

std::optional<HostTensor> TorchTensors::read(const PickleValue& value, const std::string& what, std::string& why_not) {
  const std::string where = join(name_, ": tensor '", what, "'");
  const PickleValue* call = &without_wrappers(value);
  const PickleValue* function = call->callee;
  const PickleValue* arguments = call->argument;
  std::string_view rebuilt_by = rebuilder(*call);
  if (rebuilt_by == "_rebuild_from_type_v2" && arguments->items.size() >= 3) {  // (function, type, arguments, state)
    function = arguments->items[0];
    arguments = arguments->items[2];
    rebuilt_by = function->kind == Kind::kGlobal ? function->name : std::string_view();
  }
  if (arguments->kind != Kind::kTuple) fail(where, ": its arguments are no tuple");
  const bool v3 = rebuilt_by == "_rebuild_tensor_v3";
  if (rebuilt_by != "_rebuild_tensor" && rebuilt_by != "_rebuild_tensor_v2" && !v3) {
    why_not = join("made by ", function == nullptr ? "something unnamed" : type_name(*function));
    return std::nullopt;
  }
  const std::vector<const PickleValue*>& fields = arguments->items;
  if (fields.size() < (v3 ? 7u : 4u)) fail(where, " is described by ", fields.size(), " fields; expected at least 4");
  if (const size_t at = v3 ? 7 : 6; fields.size() > at) {  // {"conj": ..., "neg": ...}: to be computed when read
    for (const char* lazy : {"conj", "neg"}) {
      const PickleValue* flag = fields[at]->find(lazy);
      if (flag == nullptr || flag->integer == 0) continue;
      why_not = join("is stored with its '", lazy, "' still to be done");
      return std::nullopt;
    }
  }
  const std::optional<TorchStorage> storage = read_torch_storage(*fields[0], name_);
  const StorageType* dtype = v3 ? find_type(kDTypes, fields[6]->name) : nullptr;
  if (!storage || (v3 && dtype == nullptr)) {
    why_not = "of type " + type_name(v3 ? *fields[6] : *fields[0]->argument->items[1]);
    return std::nullopt;
  }
  View view{v3 ? dtype->dtype : storage->dtype,
            {},
            whole(*fields[1], where, "offset"),
            wholes(*fields[2], where, "shape"),
            wholes(*fields[3], where, "stride")};
  if (view.shape.size() != view.strides.size() || view.shape.size() > kMostAxes)
    fail(where, " has ", view.shape.size(), " extents and ", view.strides.size(), " strides");
  for (size_t axis = 0; axis < view.shape.size(); ++axis) {
    if (view.shape[axis] == 1) view.strides[axis] = 0;  // may be anything, even more than can be added up
  }
  view.storage = storages_(*storage);
  return gather(view, where);
}

// The view's elements in row-major order, like an odometer.
HostTensor TorchTensors::gather(const View& view, const std::string& where) {
  const size_t item = size_of(view.dtype), available = view.storage.size() / item, axes = view.shape.size();
  int64_t elements = 0, last = view.offset;
  if (!count_elements(view.shape, elements)) fail(where, ": shape ", shape_text(view.shape), " is too large");
  for (size_t axis = 0; elements > 0 && axis < axes; ++axis) {
    int64_t reach = 0;
    if (__builtin_mul_overflow(view.shape[axis] - 1, view.strides[axis], &reach) ||
        __builtin_add_overflow(last, reach, &last))
      fail(where, ": its strides leave any storage");
  }
  if (elements > 0 && static_cast<uint64_t>(last) >= available)
    fail(where, ": a view of ", shape_text(view.shape), " that ends at element ", last, " of a storage of ", available,
         "; was the file truncated or tampered with?");
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(elements), item, &bytes) || bytes > largest_total_ - total_)
    fail(where, ": ", shape_text(view.shape), " of few stored elements; all tensors would take more than ",
         largest_total_, " bytes, far more than the file holds");
  total_ += bytes;

  HostTensor tensor{view.dtype, view.shape, std::vector<uint8_t>(bytes)};
  if (elements == 0) return tensor;
  // The last axes that lie in memory as they should are copied at once.
  size_t outer = axes;
  int64_t run = 1;
  while (outer > 0 && (view.shape[outer - 1] == 1 || view.strides[outer - 1] == run)) run *= view.shape[--outer];
  std::vector<int64_t> index(outer, 0);
  const size_t run_bytes = static_cast<size_t>(run) * item;
  int64_t from = view.offset;
  for (size_t to = 0; to < bytes; to += run_bytes) {
    std::memcpy(tensor.bytes.data() + to, view.storage.data() + static_cast<size_t>(from) * item, run_bytes);
    for (size_t axis = outer; axis-- > 0;) {
      from += view.strides[axis];
      if (++index[axis] < view.shape[axis]) break;
      from -= view.strides[axis] * view.shape[axis];
      index[axis] = 0;
    }
  }
  return tensor;
}

}  // namespace riffle
