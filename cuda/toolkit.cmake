# Whether this build has CUDA: sets RIFFLE_WITH_CUDA, and enables the language. Included by the top level, because every
# directory that links riffle_cuda must know the language.
set(RIFFLE_CUDA AUTO CACHE STRING "Build the CUDA backend: ON, OFF, or AUTO: where the toolkit and cuDNN's headers are")
set_property(CACHE RIFFLE_CUDA PROPERTY STRINGS AUTO ON OFF)
set(RIFFLE_CUDA_ARCHITECTURES "80-real;86-real;89-real;90" CACHE STRING
    "GPU architectures, as CMAKE_CUDA_ARCHITECTURES; native: those of this machine")

set(RIFFLE_WITH_CUDA OFF)
if(NOT RIFFLE_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  if(NOT DEFINED CMAKE_CUDA_HOST_COMPILER)
    set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  endif()
  set(CMAKE_CUDA_ARCHITECTURES ${RIFFLE_CUDA_ARCHITECTURES})
  check_language(CUDA)
  find_package(CUDAToolkit 12.1)  # kernels take more than 4 KB of arguments
  find_path(CUDNN_INCLUDE_DIR cudnn_graph.h HINTS ${CUDAToolkit_INCLUDE_DIRS})  # version 9
  if(CMAKE_CUDA_COMPILER AND CUDAToolkit_FOUND AND CUDNN_INCLUDE_DIR)
    enable_language(CUDA)
    set(RIFFLE_WITH_CUDA ON)
  elseif(RIFFLE_CUDA STREQUAL "AUTO")
    message(STATUS "No CUDA backend: nvcc '${CMAKE_CUDA_COMPILER}', toolkit '${CUDAToolkit_VERSION}', "
            "cuDNN '${CUDNN_INCLUDE_DIR}'")
  else()
    message(FATAL_ERROR "RIFFLE_CUDA is ON, but something is missing: nvcc is '${CMAKE_CUDA_COMPILER}', the toolkit's "
            "version '${CUDAToolkit_VERSION}' (12.1 or later is needed), the folder of cudnn_graph.h (cuDNN 9) "
            "'${CUDNN_INCLUDE_DIR}'. Set CUDACXX, CUDAToolkit_ROOT or CUDNN_INCLUDE_DIR, or RIFFLE_CUDA=OFF.")
  endif()
endif()
