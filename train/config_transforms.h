// What augment.transforms may list: each transform's name and parameters, described as the fields of a configuration
// are. Reading, writing and the tables of docs/augmentation.md go through this.
#pragma once

#include <string>
#include <vector>

#include "train/config_checks.h"
#include "train/config_fields.h"
#include "train/config_values.h"

namespace riffle {

std::string name_of(const TransformStep& step);  // "random_erasing"
// One of each, with its defaults, in the order of the documentation.
const std::vector<TransformStep>& known_steps();
// Its parameters, as "random_erasing.probability". The first is what `random_erasing: 0.1` sets. `step` must outlive
// the result.
std::vector<Field> fields_of(TransformStep& step);

// "[0.08, 1]"
std::string value_text(const Interval& range);
// "{flip: {probability: 0.5}}"; "center_crop", which has no parameters
std::string value_text(const TransformStep& step);
ValueKind kind_of(const Interval&);
ValueKind kind_of(const TransformStep&);

// Whether the list makes sense, by itself and for the images of the configuration.
void check_transforms(const Config& config, const ConfigSources& sources);

}  // namespace riffle
