// Finding NVIDIA's libraries, and what is said where that fails.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "core/check.h"
#include "cuda/libraries.h"

namespace riffle {
namespace {

// Sets an environment variable, or removes it (null), until it goes.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    set(value);
  }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;
  ~ScopedVariable() { set(before_ ? before_->c_str() : nullptr); }

 private:
  void set(const char* value) { value ? setenv(name_, value, 1) : unsetenv(name_); }

  const char* name_;
  std::optional<std::string> before_;
};

// An active environment is searched before the system's loader is asked: a cuDNN for another CUDA that the loader knows
// would end the search.
TEST(LibraryFolders, ActiveEnvironmentsComeBeforeTheLoader) {
  namespace fs = std::filesystem;
  const fs::path root = fs::path(testing::TempDir()) / "riffle_environments";
  fs::remove_all(root);
  const fs::path active = root / "venv/lib/python3.12/site-packages/nvidia/cudnn/lib";
  const fs::path of_conda = root / "conda/lib/python3.11/site-packages/nvidia/cudnn/lib";
  for (const fs::path& folder : {active, of_conda, root / "venv/bin"}) fs::create_directories(folder);
  std::ofstream(root / "venv/bin/python3") << "";
  const ScopedVariable named("RIFFLE_CUDA_LIBRARIES", "/one:/other"), path("PATH", (root / "venv/bin").c_str());
  const ScopedVariable venv("VIRTUAL_ENV", (root / "venv").c_str()), conda("CONDA_PREFIX", (root / "conda").c_str());
  const LibraryFolders folders = library_folders();
  EXPECT_EQ(folders.preferred, (std::vector<std::string>{"/one", "/other", active.string(), of_conda.string(),
                                                         (root / "conda/lib").string()}));
  EXPECT_EQ(std::count(folders.others.begin(), folders.others.end(), active.string()), 0) << "twice";
  fs::remove_all(root);
}

// The python3 in PATH may be a link into a virtual environment, by way of another.
TEST(LibraryFolders, LinksToPythonAreFollowed) {
  namespace fs = std::filesystem;
  const fs::path root = fs::path(testing::TempDir()) / "riffle_links";
  fs::remove_all(root);
  const fs::path expected = root / "venv/lib/python3.12/site-packages/nvidia/cu13/lib";
  for (const fs::path& folder : {root / "bin", root / "opt", root / "venv/bin", root / "system/bin", expected})
    fs::create_directories(folder);
  std::ofstream(root / "system/bin/python3") << "";
  fs::create_symlink("../../system/bin/python3", root / "venv/bin/python3");
  fs::create_symlink(root / "venv/bin/python3", root / "opt/python");
  fs::create_symlink("../opt/python", root / "bin/python3");
  const ScopedVariable path("PATH", (root / "bin").c_str());
  const LibraryFolders found = library_folders();
  const std::vector<std::string>& folders = found.others;
  EXPECT_NE(std::find(folders.begin(), folders.end(), expected.string()), folders.end());
  fs::remove_all(root);
}

// cuDNN's files for CUDA 12 and 13 have one name.
TEST(Libraries, CudnnOfAnotherCudaIsRefused) {
  Cudnn library = cudnn();
  EXPECT_NO_THROW(check_cuda_of(library));
  library.cudart_version = [] { return size_t{11080}; };
  try {
    check_cuda_of(library);
    FAIL() << "a cuDNN for CUDA 11";
  } catch (const Error& error) {
    const std::string text = error.what();
    for (const char* part : {"the one for CUDA 11.8", "built for CUDA ", "RIFFLE_CUDA_LIBRARIES", "nvidia-cudnn-cu"})
      EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
  }
}

TEST(Libraries, PackagesAreNamedByTheCudaOfTheBuild) {
  EXPECT_EQ(python_package("cublas", 12), "nvidia-cublas-cu12");
  EXPECT_EQ(python_package("cublas", 13), "nvidia-cublas");  // nvidia-cublas-cu13 is an empty package
  EXPECT_EQ(python_package("cudnn", 12), "nvidia-cudnn-cu12");
  EXPECT_EQ(python_package("cudnn", 13), "nvidia-cudnn-cu13");
}

}  // namespace
}  // namespace riffle
