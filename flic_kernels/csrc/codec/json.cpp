#include "codec/json.h"

#include <math.h>
#include <stdint.h>

#include <algorithm>
#include <locale>
#include <sstream>

#include "base/errors.h"

namespace flic::codec {
namespace {

constexpr int kMostDepth = 32;
// A value takes many times the memory of its text; a model's header has some thousands.
constexpr int kMostValues = 1 << 20;

bool is_digit(int c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string& out, uint32_t point) {
    const auto add = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
    if (point < 0x80) {
        add(point);
        return;
    }
    if (point < 0x800) {
        add(0xc0 | point >> 6);
    } else {
        if (point < 0x10000) {
            add(0xe0 | point >> 12);
        } else {
            add(0xf0 | point >> 18);
            add(0x80 | (point >> 12 & 0x3f));
        }
        add(0x80 | (point >> 6 & 0x3f));
    }
    add(0x80 | (point & 0x3f));
}

class Parser {
  public:
    explicit Parser(std::string_view text) : text_(text) {}

    Json whole() {
        Json value = any(0);
        skip_spaces();
        if (at_ < text_.size()) fail("something follows its end");
        return value;
    }

  private:
    static constexpr int kEnd = -1;

    [[noreturn]] void fail(const char* what) const {
        throw Error(FLIC_BAD_ARGUMENT, "bad JSON at byte " + std::to_string(at_) + ": " + what);
    }

    int peek() const { return at_ < text_.size() ? static_cast<uint8_t>(text_[at_]) : kEnd; }

    int next() {
        const int c = peek();
        at_ += c != kEnd;
        return c;
    }

    bool take(char wanted) {
        if (peek() != wanted) return false;
        ++at_;
        return true;
    }

    void skip_spaces() {
        while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
    }

    bool take_after_spaces(char wanted) {
        skip_spaces();
        return take(wanted);
    }

    Json any(int depth) {
        if (++values_ > kMostValues) fail("more than 2^20 values");
        skip_spaces();
        switch (peek()) {
            case '{': return Json(object(depth + 1));
            case '[': return Json(array(depth + 1));
            case '"': return Json(string());
            case 't': return word("true", Json(true));
            case 'f': return word("false", Json(false));
            case 'n': return word("null", Json());
            default: return Json(number());
        }
    }

    Json word(std::string_view wanted, Json value) {
        if (text_.substr(at_, wanted.size()) != wanted) fail("no value");
        at_ += wanted.size();
        return value;
    }

    void enter(int depth) {
        ++at_;
        if (depth > kMostDepth) fail("deeper than 32 levels");
    }

    Json::Array array(int depth) {
        enter(depth);
        Json::Array values;
        if (take_after_spaces(']')) return values;
        do values.push_back(any(depth));
        while (take_after_spaces(','));
        if (!take(']')) fail("no , or ] after an element");
        return values;
    }

    Json::Object object(int depth) {
        enter(depth);
        Json::Object members;
        if (take_after_spaces('}')) return members;
        do {
            skip_spaces();
            if (peek() != '"') fail("no key");
            std::string key = string();
            if (!take_after_spaces(':')) fail("no : after a key");
            Json value = any(depth);
            members.emplace_back(std::move(key), std::move(value));
        } while (take_after_spaces(','));
        if (!take('}')) fail("no , or } after a member");
        if (names_a_key_twice(members)) fail("a key comes twice");
        return members;
    }

    static bool names_a_key_twice(const Json::Object& members) {
        std::vector<std::string_view> keys;
        for (const auto& member : members) keys.push_back(member.first);
        std::sort(keys.begin(), keys.end());
        return std::adjacent_find(keys.begin(), keys.end()) != keys.end();
    }

    void digits() {
        if (!is_digit(peek())) fail("no value");
        while (is_digit(peek())) ++at_;
    }

    double number() {
        const size_t begin = at_;
        take('-');
        const size_t first = at_;
        if (!take('0')) digits();
        const size_t whole = at_ - first;
        bool is_whole = true;
        if (take('.')) digits(), is_whole = false;
        if (take('e') || take('E')) {
            if (!take('-')) take('+');
            digits();
            is_whole = false;
        }
        constexpr size_t kExact = 15;  // digits that a double always holds
        if (is_whole && whole <= kExact) {
            double value = 0;
            for (size_t i = first; i < at_; ++i) value = 10 * value + (text_[i] - '0');
            return first > begin ? -value : value;
        }
        // strtod would follow the program's locale.
        std::istringstream stream(std::string(text_.substr(begin, at_ - begin)));
        stream.imbue(std::locale::classic());
        double value = 0;
        if (!(stream >> value) || !isfinite(value)) fail("a number that no double holds");
        return value;
    }

    uint32_t four_digits() {
        uint32_t unit = 0;
        for (int i = 0; i < 4; ++i) {
            const int c = peek();
            const int lower = c | 0x20;
            if (!is_digit(c) && !(lower >= 'a' && lower <= 'f')) fail("no four digits after \\u");
            unit = unit << 4 | static_cast<uint32_t>(is_digit(c) ? c - '0' : lower - 'a' + 10);
            ++at_;
        }
        return unit;
    }

    static bool is_high_surrogate(uint32_t unit) { return unit >= 0xd800 && unit < 0xdc00; }
    static bool is_low_surrogate(uint32_t unit) { return unit >= 0xdc00 && unit < 0xe000; }

    // What follows \u.
    uint32_t escaped_point() {
        const uint32_t unit = four_digits();
        if (is_low_surrogate(unit)) fail("half a surrogate pair");
        if (!is_high_surrogate(unit)) return unit;
        if (!take('\\') || !take('u')) fail("half a surrogate pair");
        const uint32_t low = four_digits();
        if (!is_low_surrogate(low)) fail("half a surrogate pair");
        return 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    }

    void escape(std::string& out) {
        const int c = next();
        switch (c) {
            case '"':
            case '\\':
            case '/': out.push_back(static_cast<char>(c)); return;
            case 'b': out.push_back('\b'); return;
            case 'f': out.push_back('\f'); return;
            case 'n': out.push_back('\n'); return;
            case 'r': out.push_back('\r'); return;
            case 't': out.push_back('\t'); return;
            case 'u': append_utf8(out, escaped_point()); return;
            default: fail("no escape after \\");
        }
    }

    // The rest of a character of two to four bytes, the first of which was read: its shortest form,
    // no surrogate.
    void multibyte(int first, std::string& out) {
        const int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
        constexpr uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
        if (first < 0xc0 || first > 0xf7) fail("not UTF-8");
        uint32_t point = static_cast<uint32_t>(first & (0x3f >> more));
        for (int i = 0; i < more; ++i) {
            const int c = peek();
            if (c == kEnd || (c & 0xc0) != 0x80) fail("not UTF-8");
            point = point << 6 | static_cast<uint32_t>(c & 0x3f);
            ++at_;
        }
        if (point < kLeast[more] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) {
            fail("not UTF-8");
        }
        append_utf8(out, point);
    }

    std::string string() {
        ++at_;
        std::string out;
        for (;;) {
            const int c = next();
            if (c == kEnd) fail("a string without an end");
            if (c == '"') return out;
            if (c < 0x20) fail("a control character in a string");
            if (c == '\\') {
                escape(out);
            } else if (c < 0x80) {
                out.push_back(static_cast<char>(c));
            } else {
                multibyte(c, out);
            }
        }
    }

    std::string_view text_;
    size_t at_ = 0;
    int values_ = 0;
};

}  // namespace

Json Json::parse(std::string_view text) { return Parser(text).whole(); }

const Json* Json::find(std::string_view key) const {
    const Object* members = object();
    if (!members) return nullptr;
    for (const auto& member : *members) {
        if (member.first == key) return &member.second;
    }
    return nullptr;
}

}  // namespace flic::codec
