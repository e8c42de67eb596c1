// The report: one HTML page that needs nothing else, neither network nor files beside it. Its style and its script are
// page.css and page.js, which the build puts into the program.
#pragma once

#include <string>
#include <vector>

#include "train/report/run_data.h"

namespace riffle {

// At least one run; each is shown with its own evaluation, if it has one.
std::string report_page(const std::vector<RunData>& runs);

// The sections about one evaluation, as HTML: what evaluation.json in `folder` says, with the images beside it.
std::string evaluation_sections(const std::string& folder, const std::string& heading);

}  // namespace riffle
