// Learning rates of single parameters, as multiples of the schedule's: the rules of optimizer.lr_multipliers. The first
// rule whose pattern matches a parameter's full name counts; patterns are globs (fnmatch).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "train/config.h"

namespace riffle {

// The index of the rule for a parameter; rules.size() if there is none.
size_t find_lr_multiplier(const std::vector<LrMultiplier>& rules, const std::string& parameter);

// Throws Error(kUsage) for a pattern that changes nothing: one that matches none of the names, with a near one; one whose
// matches all belong to earlier rules; and one whose matches never train. `frozen` says which do not.
void check_lr_multipliers(const std::vector<LrMultiplier>& rules, const std::vector<std::string>& parameters,
                          const std::function<bool(const std::string& parameter)>& frozen);

}  // namespace riffle
