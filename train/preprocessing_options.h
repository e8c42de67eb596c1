// --resize, --crop and --interpolation of `eval` and `predict`: preprocessing other than the checkpoint's.
#pragma once

#include <optional>
#include <string>

#include "data/transform.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace riffle {

struct PreprocessingOptions {
  std::optional<int> resize, crop;
  std::string interpolation;  // "": the checkpoint's

  void add_to(CLI::App& command);
  // None of the options may be given together with `option`.
  void exclude(CLI::App& command, CLI::Option& option) const;

  // The checkpoint's preprocessing with these options in place of its values; `path` names it. Says on standard error
  // what the checkpoint says and what is used where they differ. Throws where the two do not go together.
  EvalTransform override_of(const EvalTransform& checkpoint, const std::string& path) const;
};

// "resize 256, crop 224, pillow-bilinear, truncate, half-to-even"; "no resizing, crop 28" where images stay as they are.
std::string describe(const EvalTransform& preprocessing);

}  // namespace riffle
