// RIFFLE_HD marks a functor that is compiled for the host and, under nvcc, for the device: one formula, written once.
#pragma once

#ifdef __CUDACC__
#define RIFFLE_HD __host__ __device__
#else
#define RIFFLE_HD
#endif
