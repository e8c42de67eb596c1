// The dependency rules of the tree, enforced by reading the #include lines of every source file.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

constexpr size_t kMostLines = 450;

const std::set<std::string> kFolders{"core", "cuda", "layers", "data", "train", "tests"};

// What each folder may include, besides itself. Tests see everything.
const std::map<std::string, std::set<std::string>> kAllowed{
    {"core", {}},
    {"cuda", {"core"}},
    {"layers", {"core"}},
    {"data", {"core"}},
    {"train", {"core", "cuda", "layers", "data"}},
    {"tests", {"core", "cuda", "layers", "data", "train"}},
};

struct Include {
  size_t line;
  std::string path;
};

struct Source {
  std::string path;  // relative to the root, with '/'
  size_t lines = 0;
  std::vector<Include> includes;

  std::string folder() const { return path.substr(0, path.find('/')); }
  bool below(const std::string& prefix) const { return path.compare(0, prefix.size(), prefix) == 0; }
};

// The included path of an #include line, or "".
std::string included_path(const std::string& line) {
  static const std::regex directive("^\\s*#\\s*include\\s*[<\"]([^>\"]+)[>\"].*");
  std::smatch match;
  return std::regex_match(line, match, directive) ? match[1].str() : "";
}

Source read_source(const fs::path& file, const fs::path& root) {
  Source source;
  source.path = fs::relative(file, root).generic_string();
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    ++source.lines;
    const std::string path = included_path(line);
    if (!path.empty()) source.includes.push_back({source.lines, path});
  }
  return source;
}

const std::vector<Source>& sources() {
  static const std::vector<Source> all = [] {
    const std::set<std::string> extensions{".h", ".cpp", ".cu", ".cuh"};
    const fs::path root = RIFFLE_SOURCE_DIR;
    std::vector<Source> found;
    for (const std::string& folder : kFolders) {
      if (!fs::exists(root / folder)) continue;
      for (const auto& entry : fs::recursive_directory_iterator(root / folder))
        if (entry.is_regular_file() && extensions.count(entry.path().extension().string()) > 0)
          found.push_back(read_source(entry.path(), root));
    }
    return found;
  }();
  return all;
}

bool is_cuda_header(const std::string& path) {
  static const std::regex cuda(
      "^(cuda(_runtime|_runtime_api|_fp16|_bf16)?\\.h|cuda[A-Z_].*|cudnn.*|cublas.*|nccl.*|"
      "cub/.*|thrust/.*|driver_types\\.h|device_launch_parameters\\.h)$");
  return std::regex_match(path, cuda);
}

TEST(Architecture, TheTreeIsSeen) {
  for (const char* folder : {"core", "layers", "data", "train", "tests"})
    EXPECT_TRUE(std::any_of(sources().begin(), sources().end(),
                            [&](const Source& source) { return source.folder() == folder; }))
        << "no source found in " << folder << "/ below " << RIFFLE_SOURCE_DIR;
}

TEST(Architecture, IncludesAreRecognised) {
  EXPECT_EQ(included_path("#include \"core/tensor.h\""), "core/tensor.h");
  EXPECT_EQ(included_path("  #  include <dnnl.hpp>  // why"), "dnnl.hpp");
  EXPECT_EQ(included_path("// #include <dnnl.hpp>"), "");
  EXPECT_TRUE(is_cuda_header("cuda_runtime.h"));
  EXPECT_TRUE(is_cuda_header("cudnn.h"));
  EXPECT_TRUE(is_cuda_header("cublasLt.h"));
  EXPECT_FALSE(is_cuda_header("cuda/cuda_backend.h"));
}

TEST(Architecture, DependenciesPointOneWay) {
  for (const Source& source : sources())
    for (const Include& include : source.includes) {
      const size_t slash = include.path.find('/');
      const std::string target = include.path.substr(0, slash);
      if (slash == std::string::npos || kFolders.count(target) == 0 || target == source.folder()) continue;
      EXPECT_EQ(kAllowed.at(source.folder()).count(target), 1u)
          << source.path << ":" << include.line << ": " << source.folder() << "/ must not include " << include.path;
    }
}

// A path that climbs would escape the rule above.
TEST(Architecture, IncludesDoNotClimb) {
  for (const Source& source : sources())
    for (const Include& include : source.includes)
      EXPECT_EQ(include.path.find("../"), std::string::npos)
          << source.path << ":" << include.line << ": write the path from the root, not " << include.path;
}

TEST(Architecture, VendorHeadersStayInTheirBackend) {
  for (const Source& source : sources())
    for (const Include& include : source.includes) {
      const bool is_dnnl = include.path.compare(0, 4, "dnnl") == 0 || include.path.compare(0, 9, "oneapi/dn") == 0;
      EXPECT_TRUE(!is_dnnl || source.below("core/cpu/")) << source.path << ":" << include.line << ": " << include.path;
      EXPECT_TRUE(!is_cuda_header(include.path) || source.below("cuda/"))
          << source.path << ":" << include.line << ": " << include.path;
    }
}

TEST(Architecture, FilesHaveOneSubject) {
  for (const Source& source : sources()) EXPECT_LE(source.lines, kMostLines) << source.path << " has two subjects";
}

}  // namespace
