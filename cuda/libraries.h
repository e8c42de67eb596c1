// cuBLASLt and cuDNN, opened at first use: a build with CUDA starts on a machine that has neither, and finds those of
// Python's nvidia packages or of the system. Each library is a struct of the functions we call, so that the emulated
// device can bring twins of its own (cuda/emulation/library_twins.h).
#pragma once

#include <cublasLt.h>
#include <cudnn_graph.h>

#include <string>
#include <vector>

namespace riffle {

struct CublasLt {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtGetVersion) version;
  decltype(&cublasLtGetStatusName) status_name;
  decltype(&cublasLtGetStatusString) status_string;
  decltype(&cublasLtMatmulDescCreate) matmul_create;
  decltype(&cublasLtMatmulDescDestroy) matmul_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) matmul_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtMatmulAlgoCapGetAttribute) algorithm_can;
  decltype(&cublasLtMatmulAlgoConfigGetAttribute) algorithm_get;
  decltype(&cublasLtMatmulAlgoConfigSetAttribute) algorithm_set;
  decltype(&cublasLtMatmulAlgoCheck) algorithm_check;
  decltype(&cublasLtMatmul) matmul;
};

struct Cudnn {
  decltype(&cudnnGetVersion) version;
  decltype(&cudnnGetCudartVersion) cudart_version;
  decltype(&cudnnGetErrorString) error_string;
  decltype(&cudnnGetLastErrorString) last_error_string;
  decltype(&cudnnCreate) create;
  decltype(&cudnnDestroy) destroy;
  decltype(&cudnnSetStream) set_stream;
  decltype(&cudnnBackendCreateDescriptor) descriptor_create;
  decltype(&cudnnBackendDestroyDescriptor) descriptor_destroy;
  decltype(&cudnnBackendSetAttribute) set;
  decltype(&cudnnBackendGetAttribute) get;
  decltype(&cudnnBackendFinalize) finalize;
  decltype(&cudnnBackendExecute) execute;
};

// The libraries of this program: NVIDIA's, or the twins where the device is emulated. Opened at the first call, kept
// until the program ends; throws an Error that says what was looked for, where, and how to get it.
const CublasLt& cublas_lt();
const Cudnn& cudnn();

// NVIDIA's, always.
CublasLt open_cublas_lt();
Cudnn open_cudnn();
// Throws where cuDNN was made for another CUDA than this program: its files for CUDA 12 and 13 are named alike.
void check_cuda_of(const Cudnn& library);

// NVRTC, the compiler that some of cuDNN's engines bring their kernels through; loaded before cuDNN looks for it. Its
// version, or why there is none, which is no error: other engines remain.
std::string nvrtc_version();
// NVIDIA's, always.
std::string open_nvrtc();

// Folders that are searched. Before the system's loader is asked: those of RIFFLE_CUDA_LIBRARIES (separated by colons),
// then of the Python packages of the active virtual environment and of conda's, then conda's own: the first cuDNN that
// is found decides, since a second of its name cannot be opened, and the active environment says more of what the user
// wants than what the system happens to have. After it: of the Python packages of the python3 in PATH, of the user and
// of the system, then of CUDA toolkits.
struct LibraryFolders {
  std::vector<std::string> preferred, others;
};
LibraryFolders library_folders();

// NVIDIA's Python package with a library ("cublas", "cudnn") for a major version of CUDA.
std::string python_package(const std::string& library, int cuda_major);

}  // namespace riffle
