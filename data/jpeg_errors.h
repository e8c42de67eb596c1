// libjpeg's fatal errors, turned into jumps back to the caller's setjmp(): they must not return, and no exception may pass
// through C code.
#pragma once

#include <csetjmp>
#include <cstdio>

#include <jpeglib.h>

namespace riffle {

// The public part must come first: libjpeg hands back a pointer to it.
struct JpegErrorManager {
  jpeg_error_mgr base;
  std::jmp_buf escape;
  char message[JMSG_LENGTH_MAX];
  bool past_end =
      false;  // the decoder wants more than the file has, and was given an end: see JpegDecoder::read_from()
};

[[noreturn]] inline void on_jpeg_error(j_common_ptr state) {
  auto* manager = reinterpret_cast<JpegErrorManager*>(state->err);
  manager->base.format_message(state, manager->message);
  std::longjmp(manager->escape, 1);
}

}  // namespace riffle
