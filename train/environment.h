// environment.json: what a run was computed by and on, so that a result can be explained later.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "train/make_backend.h"

namespace riffle {

// git_commit: what this program was built from, or empty.
nlohmann::json describe_environment(const DeviceChoice& device, const std::string& git_commit);

// Writes it to `path`. If a file of an earlier start of the run is there, its start is kept under "earlier_starts".
void write_environment(const std::string& path, nlohmann::json environment);

}  // namespace riffle
