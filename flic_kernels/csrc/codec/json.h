// The least JSON reader (RFC 8259) that serves the headers of safetensors files.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace flic::codec {

class Json {
  public:
    using Array = std::vector<Json>;
    using Object = std::vector<std::pair<std::string, Json>>;  // in the text's order

    // Throws Error where it is not one JSON text in UTF-8, names a key twice or is out of measure.
    static Json parse(std::string_view text);

    Json() = default;  // null
    template <class Value>
    explicit Json(Value value) : value_(std::move(value)) {}

    bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
    // Null where the value is of another type.
    const bool* boolean() const { return std::get_if<bool>(&value_); }
    const double* number() const { return std::get_if<double>(&value_); }
    const std::string* string() const { return std::get_if<std::string>(&value_); }
    const Array* array() const { return std::get_if<Array>(&value_); }
    const Object* object() const { return std::get_if<Object>(&value_); }
    // An object's member; null where there is none, or no object.
    const Json* find(std::string_view key) const;

  private:
    std::variant<std::monostate, bool, double, std::string, Array, Object> value_;
};

}  // namespace flic::codec
