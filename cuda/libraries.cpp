// Finding and opening NVIDIA's libraries. Python is not run: its packages are found by where they lie.
#include "cuda/libraries.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>
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
constexpr int kCudaMajor = CUDART_VERSION / 1000;

std::string how_to_install_cublas() {
  return join("pip install ", python_package("cublas", kCudaMajor), ", or libcublas from NVIDIA's CUDA ", kCudaMajor,
              " packages");
}
std::string how_to_install_cudnn() {
  return join("pip install ", python_package("cudnn", kCudaMajor), ", or libcudnn9 from NVIDIA's packages");
}

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

// PREFIX/lib/python3*/{site,dist}-packages/nvidia/*/lib: where pip puts NVIDIA's packages.
void append_python_packages(const fs::path& prefix, std::vector<std::string>* folders) {
  for (const fs::path& python : entries(prefix / "lib", "python3"))
    for (const char* packages : {"site-packages", "dist-packages"})
      for (const fs::path& package : entries(python / packages / "nvidia", ""))
        if (std::error_code error; fs::is_directory(package / "lib", error)) folders->push_back(package / "lib");
}

// PREFIX of PREFIX/bin/python3, and of what that is a link to, link by link: /usr/local/bin/python3 may be one into a
// virtual environment, whose own python3 is one to the system's.
void append_python_prefixes(fs::path python, std::vector<fs::path>* prefixes) {
  constexpr int kMostLinks = 8;
  for (int links = 0; links <= kMostLinks; ++links) {
    prefixes->push_back(python.parent_path().parent_path());
    std::error_code error;
    const fs::path target = fs::read_symlink(python, error);
    if (error) return;
    python = (python.parent_path() / target).lexically_normal();
  }
}

// Of the python3 in PATH, of the user and of the system.
std::vector<fs::path> other_python_prefixes() {
  std::vector<fs::path> prefixes;
  for (const std::string& bin : split_path(environment("PATH"))) {
    std::error_code error;
    if (!fs::exists(fs::path(bin) / "python3", error)) continue;
    append_python_prefixes(fs::path(bin) / "python3", &prefixes);
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
  std::string how_to_install;
};

struct Search {
  void* handle = nullptr;
  std::string folders, broken;  // for people: where it was looked for; files that could not be opened, a line each
};

Search search_library(const std::string& file) {
  const LibraryFolders folders = library_folders();
  std::vector<std::string> candidates;
  for (const std::string& folder : folders.preferred) candidates.push_back(fs::path(folder) / file);
  candidates.push_back(file);  // wherever the loader looks
  for (const std::string& folder : folders.others) candidates.push_back(fs::path(folder) / file);
  Search search;
  for (const std::string& candidate : candidates) {
    const bool is_path = candidate.find('/') != std::string::npos;
    std::error_code error;
    if (is_path && !fs::exists(candidate, error)) continue;
    // Global, because cuDNN looks for cuBLASLt's functions when it wants them.
    search.handle = dlopen(candidate.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (search.handle) return search;
    const char* reason = dlerror();
    if (is_path)
      search.broken += join("\n  ", candidate, " was found but cannot be opened: ", reason ? reason : "unknown");
  }
  search.folders = "the system's library path";
  for (const auto* list : {&folders.preferred, &folders.others})
    for (const std::string& folder : *list) search.folders += ", " + folder;
  return search;
}

void* open_library(const LibraryName& name) {
  const Search search = search_library(name.file);
  if (!search.handle)
    fail(name.title, " (", name.file, ") was not found; searched ", search.folders, ".", search.broken,
         "\n  Install it (", name.how_to_install, ") or set RIFFLE_CUDA_LIBRARIES to the folder it is in.");
  return search.handle;
}

// Of the file that a function of a library is in.
std::string path_of(const void* function) {
  Dl_info info{};
  return dladdr(function, &info) != 0 && info.dli_fname ? info.dli_fname : "a file of unknown name";
}

std::string cuda_version(size_t version) {
  return join(version / 1000, ".", version % 1000 / 10);
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
  const std::string conda = environment("CONDA_PREFIX");
  for (const std::string& prefix : {environment("VIRTUAL_ENV"), conda})
    if (!prefix.empty()) append_python_packages(prefix, &folders.preferred);
  if (!conda.empty()) folders.preferred.push_back(conda + "/lib");
  for (const fs::path& prefix : other_python_prefixes()) append_python_packages(prefix, &folders.others);
  for (const fs::path& toolkit : entries("/usr/local", "cuda")) {
    std::error_code error;
    if (fs::is_directory(toolkit / "lib64", error)) folders.others.push_back(toolkit / "lib64");
  }
  std::set<std::string> known;  // python3 in PATH is often the active environment's
  for (std::vector<std::string>* list : {&folders.preferred, &folders.others}) {
    std::vector<std::string> unique;
    for (const std::string& folder : *list)
      if (known.insert(folder).second) unique.push_back(folder);
    *list = unique;
  }
  return folders;
}

// Since CUDA 13 the name of a toolkit's package tells no version; cuDNN is of no toolkit, and tells it.
std::string python_package(const std::string& library, int cuda_major) {
  const bool named_by_cuda = library == "cudnn" || cuda_major <= 12;
  return join("nvidia-", library, named_by_cuda ? join("-cu", cuda_major) : std::string());
}

CublasLt open_cublas_lt() {
  const Symbols symbols({"cuBLASLt", kCublasLtFile, how_to_install_cublas()});
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
  symbols.find(&library.algorithm_can, "cublasLtMatmulAlgoCapGetAttribute");
  symbols.find(&library.algorithm_get, "cublasLtMatmulAlgoConfigGetAttribute");
  symbols.find(&library.algorithm_set, "cublasLtMatmulAlgoConfigSetAttribute");
  symbols.find(&library.algorithm_check, "cublasLtMatmulAlgoCheck");
  symbols.find(&library.matmul, "cublasLtMatmul");
  return library;
}

Cudnn open_cudnn() {
  const Symbols symbols({"cuDNN", kCudnnFile, how_to_install_cudnn()});
  Cudnn library{};
  symbols.find(&library.version, "cudnnGetVersion");
  symbols.find(&library.cudart_version, "cudnnGetCudartVersion");
  check_cuda_of(library);
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

void check_cuda_of(const Cudnn& library) {
  const size_t theirs = library.cudart_version(), ours = CUDART_VERSION;
  if (theirs / 1000 == ours / 1000) return;
  fail("cuDNN (", path_of(reinterpret_cast<const void*>(library.cudart_version)), ") is the one for CUDA ",
       cuda_version(theirs), "; this riffle is built for CUDA ", cuda_version(ours),
       ", and NVIDIA gives both the same file name.\n  Install the one for CUDA ", ours / 1000, " (",
       how_to_install_cudnn(),
       ") in the active Python environment, or set RIFFLE_CUDA_LIBRARIES to the folder it is in.");
}

std::string open_nvrtc() {
  const std::string file = join("libnvrtc.so.", CUDART_VERSION / 1000);
  const Search search = search_library(file);
  if (!search.handle)
    return join("none (", file, " was not found", search.broken,
                "); without it cuDNN has fewer engines to choose from");
  // Declared here, since the header is of a package that nothing else needs.
  const auto version = reinterpret_cast<int (*)(int* major, int* minor)>(dlsym(search.handle, "nvrtcVersion"));
  int major = 0, minor = 0;
  if (!version || version(&major, &minor) != 0) return file + " does not tell its version";
  return join(major, ".", minor);
}

#ifdef RIFFLE_EMULATED_CUDA

std::string nvrtc_version() {
  return "none, as the emulated device needs none";
}

const CublasLt& cublas_lt() {
  static const CublasLt library = emulation::cublas_lt_twin();
  return library;
}

const Cudnn& cudnn() {
  static const Cudnn library = emulation::cudnn_twin();
  return library;
}

#else

std::string nvrtc_version() {
  static const std::string version = open_nvrtc();
  return version;
}

const CublasLt& cublas_lt() {
  static const CublasLt library = open_cublas_lt();
  return library;
}

const Cudnn& cudnn() {
  // Some of cuDNN's engines want cuBLASLt or NVRTC, and look for them by name: have them loaded.
  static const Cudnn library = (cublas_lt(), nvrtc_version(), open_cudnn());
  return library;
}

#endif

}  // namespace riffle
