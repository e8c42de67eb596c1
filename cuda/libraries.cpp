// Finding and opening NVIDIA's libraries. Python is not run: its packages are found by where they lie.
#include "cuda/libraries.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "core/check.h"
#ifdef RIFFLE_EMULATED_CUDA
#include "cuda/emulation/library_twins.h"
#endif

#define RIFFLE_STRINGIFY_VALUE(value) #value
#define RIFFLE_STRINGIFY(value) RIFFLE_STRINGIFY_VALUE(value)

namespace riffle {
namespace {

namespace fs = std::filesystem;

const char* const kCublasLtFile = "libcublasLt.so." RIFFLE_STRINGIFY(CUBLAS_VER_MAJOR);
const char* const kCudnnFile = "libcudnn.so." RIFFLE_STRINGIFY(CUDNN_MAJOR);

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::vector<std::string> split_path(const std::string& joined) {
  std::vector<std::string> parts;
  std::istringstream in(joined);
  for (std::string part; std::getline(in, part, ':');)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

// The entries of a folder whose names begin so, in order; none where the folder cannot be read.
std::vector<fs::path> entries(const fs::path& folder, const std::string& beginning) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().filename().string().rfind(beginning, 0) == 0) found.push_back(entry->path());
  std::sort(found.begin(), found.end());
  return found;
}

// PREFIX/lib/python3*/{site,dist}-packages/nvidia/*/lib: where pip puts nvidia-cublas and nvidia-cudnn-cu13.
void append_python_packages(const fs::path& prefix, std::vector<std::string>* folders) {
  for (const fs::path& python : entries(prefix / "lib", "python3"))
    for (const char* packages : {"site-packages", "dist-packages"})
      for (const fs::path& package : entries(python / packages / "nvidia", ""))
        if (std::error_code error; fs::is_directory(package / "lib", error)) folders->push_back(package / "lib");
}

// Of python3 in PATH: PREFIX/bin/python3.
std::vector<fs::path> python_prefixes() {
  std::vector<fs::path> prefixes;
  for (const char* name : {"VIRTUAL_ENV", "CONDA_PREFIX"})
    if (const std::string prefix = environment(name); !prefix.empty()) prefixes.emplace_back(prefix);
  for (const std::string& bin : split_path(environment("PATH"))) {
    std::error_code error;
    if (!fs::exists(fs::path(bin) / "python3", error)) continue;
    prefixes.push_back(fs::path(bin).parent_path());
    break;
  }
  if (const std::string home = environment("HOME"); !home.empty()) prefixes.push_back(fs::path(home) / ".local");
  prefixes.emplace_back("/usr/local");
  prefixes.emplace_back("/usr");
  return prefixes;
}

// What NVIDIA calls a library, and how people get it.
struct LibraryName {
  const char* title;
  const char* file;
  const char* how_to_install;
};

void* open_library(const LibraryName& name) {
  const LibraryFolders folders = library_folders();
  std::vector<std::string> candidates;
  for (const std::string& folder : folders.preferred) candidates.push_back(folder + "/" + name.file);
  candidates.emplace_back(name.file);  // wherever the loader looks
  for (const std::string& folder : folders.others) candidates.push_back(folder + "/" + name.file);
  std::string broken;
  for (const std::string& candidate : candidates) {
    const bool is_path = candidate.find('/') != std::string::npos;
    std::error_code error;
    if (is_path && !fs::exists(candidate, error)) continue;
    // Global, because cuDNN looks for cuBLASLt's functions when it wants them.
    if (void* library = dlopen(candidate.c_str(), RTLD_NOW | RTLD_GLOBAL)) return library;
    const char* reason = dlerror();
    if (is_path) broken += join("\n  ", candidate, " was found but cannot be opened: ", reason ? reason : "unknown");
  }
  std::string searched = "the system's library path";
  for (const auto* list : {&folders.preferred, &folders.others})
    for (const std::string& folder : *list) searched += ", " + folder;
  fail(name.title, " (", name.file, ") was not found; searched ", searched, ".", broken, "\n  Install it (",
       name.how_to_install, ") or set RIFFLE_CUDA_LIBRARIES to the folder it is in.");
}

// Functions of one library by name.
class Symbols {
 public:
  explicit Symbols(const LibraryName& name) : name_(name), library_(open_library(name)) {}

  template <class Function>
  void find(Function** function, const char* symbol) const {
    *function = reinterpret_cast<Function*>(dlsym(library_, symbol));
    if (!*function)
      fail(name_.title, " (", name_.file, ") has no function ", symbol, ": it is too old. ", name_.how_to_install);
  }

 private:
  LibraryName name_;
  void* library_;  // never closed: handles of it may outlive us
};

}  // namespace

LibraryFolders library_folders() {
  LibraryFolders folders;
  folders.preferred = split_path(environment("RIFFLE_CUDA_LIBRARIES"));
  for (const fs::path& prefix : python_prefixes()) append_python_packages(prefix, &folders.others);
  for (const fs::path& toolkit : entries("/usr/local", "cuda")) {
    std::error_code error;
    if (fs::is_directory(toolkit / "lib64", error)) folders.others.push_back(toolkit / "lib64");
  }
  std::vector<std::string> unique;
  for (const std::string& folder : folders.others)
    if (std::find(unique.begin(), unique.end(), folder) == unique.end()) unique.push_back(folder);
  folders.others = unique;
  return folders;
}

CublasLt open_cublas_lt() {
  const Symbols symbols(
      {"cuBLASLt", kCublasLtFile,
       "pip install nvidia-cublas, or libcublas from NVIDIA's CUDA " RIFFLE_STRINGIFY(CUBLAS_VER_MAJOR) " packages"});
  CublasLt library{};
  symbols.find(&library.create, "cublasLtCreate");
  symbols.find(&library.destroy, "cublasLtDestroy");
  symbols.find(&library.version, "cublasLtGetVersion");
  symbols.find(&library.status_name, "cublasLtGetStatusName");
  symbols.find(&library.status_string, "cublasLtGetStatusString");
  symbols.find(&library.matmul_create, "cublasLtMatmulDescCreate");
  symbols.find(&library.matmul_destroy, "cublasLtMatmulDescDestroy");
  symbols.find(&library.matmul_set, "cublasLtMatmulDescSetAttribute");
  symbols.find(&library.layout_create, "cublasLtMatrixLayoutCreate");
  symbols.find(&library.layout_destroy, "cublasLtMatrixLayoutDestroy");
  symbols.find(&library.preference_create, "cublasLtMatmulPreferenceCreate");
  symbols.find(&library.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  symbols.find(&library.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  symbols.find(&library.heuristic, "cublasLtMatmulAlgoGetHeuristic");
  symbols.find(&library.algorithm_get, "cublasLtMatmulAlgoConfigGetAttribute");
  symbols.find(&library.matmul, "cublasLtMatmul");
  return library;
}

Cudnn open_cudnn() {
  const Symbols symbols(
      {"cuDNN", kCudnnFile,
       "pip install nvidia-cudnn-cu" RIFFLE_STRINGIFY(CUBLAS_VER_MAJOR) ", or libcudnn9 from NVIDIA's packages"});
  Cudnn library{};
  symbols.find(&library.version, "cudnnGetVersion");
  symbols.find(&library.error_string, "cudnnGetErrorString");
  symbols.find(&library.last_error_string, "cudnnGetLastErrorString");
  symbols.find(&library.create, "cudnnCreate");
  symbols.find(&library.destroy, "cudnnDestroy");
  symbols.find(&library.set_stream, "cudnnSetStream");
  symbols.find(&library.descriptor_create, "cudnnBackendCreateDescriptor");
  symbols.find(&library.descriptor_destroy, "cudnnBackendDestroyDescriptor");
  symbols.find(&library.set, "cudnnBackendSetAttribute");
  symbols.find(&library.get, "cudnnBackendGetAttribute");
  symbols.find(&library.finalize, "cudnnBackendFinalize");
  symbols.find(&library.execute, "cudnnBackendExecute");
  return library;
}

#ifdef RIFFLE_EMULATED_CUDA

const CublasLt& cublas_lt() {
  static const CublasLt library = emulation::cublas_lt_twin();
  return library;
}

const Cudnn& cudnn() {
  static const Cudnn library = emulation::cudnn_twin();
  return library;
}

#else

const CublasLt& cublas_lt() {
  static const CublasLt library = open_cublas_lt();
  return library;
}

const Cudnn& cudnn() {
  static const Cudnn library = (cublas_lt(), open_cudnn());  // some of cuDNN's engines want cuBLASLt; have it loaded
  return library;
}

#endif

}  // namespace riffle
