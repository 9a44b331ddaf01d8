// How an object with a state reports what went wrong: thrown inside, a status and a text outside.
#pragma once
#include <string.h>

#include <new>
#include <stdexcept>
#include <string>

#include "include/flic_kernels.h"

namespace flic {

// What is thrown inside; `status` is a FlicStatus.
struct Error : std::runtime_error {
    Error(int status, const std::string& what) : std::runtime_error(what), status(status) {}
    int status;
};

inline void require(bool condition, const char* what) {
    if (!condition) throw Error(FLIC_BAD_ARGUMENT, what);
}

// What went wrong in a thread's last call of one C interface; empty if nothing did.
class LastError {
  public:
    const char* text() const { return text_; }

    // The body's FlicStatus: no exception passes the C interface.
    template <class Body>
    int guard(const Body& body) {
        try {
            text_[0] = 0;
            body();
            return FLIC_OK;
        } catch (const Error& error) {
            return keep(error.status, error.what());
        } catch (const std::bad_alloc&) {
            return keep(FLIC_OUT_OF_MEMORY, "out of memory");
        } catch (const std::exception& error) {
            return keep(FLIC_OUT_OF_MEMORY, error.what());
        }
    }

  private:
    int keep(int status, const char* what) {
        strncpy(text_, what, sizeof text_ - 1);
        return status;
    }

    char text_[256] = "";
};

}  // namespace flic
