// The page's style and script, made from page.css and page.js by the build.
#pragma once

namespace riffle {

extern const char* const kPageStyle;
extern const char* const kPageScript;

}  // namespace riffle
