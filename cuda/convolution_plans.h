// Dense convolutions by cuDNN's graph interface, forward and both gradients, on packed channels-last tensors. For each
// problem the library's heuristics offer engines; those that keep f32 sums and, unless tf32 is allowed, f32 factors are
// tried and timed once, and the quickest is kept. Where the choice must not depend on timings, the first that runs is.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"
#include "cuda/cudnn_descriptor.h"
#include "cuda/libraries.h"
#include "cuda/library_support.h"

namespace riffle {

enum class ConvolutionPass { kForward, kBackwardData, kBackwardWeights };

// y (N,OH,OW,K) = x (N,H,W,C) * w (K,R,S,C/groups), or the gradient of x or w in its place. All packed, of one dtype.
struct Convolution {
  ConvolutionPass pass = ConvolutionPass::kForward;
  Tensor x, w, y;  // the one that `pass` computes is overwritten
  Window window;
};

class ConvolutionPlans {
 public:
  // Convolutions are queued on `stream`; `library` and `stream` must outlive this. Throws where cuDNN refuses a handle.
  ConvolutionPlans(const Cudnn& library, const Stream& stream, ScratchBytes scratch, const LibrarySettings& settings);
  ~ConvolutionPlans();
  ConvolutionPlans(const ConvolutionPlans&) = delete;
  ConvolutionPlans& operator=(const ConvolutionPlans&) = delete;

  // Throws where no engine of cuDNN computes this convolution.
  void run(const Convolution& convolution);
  // One line for each problem whose engine was chosen.
  const std::vector<std::string>& choices() const { return choices_; }

 private:
  using Key = std::array<int64_t, 18>;
  // What cuDNN is asked. Plans refer to it, so it lives as long.
  struct Graph {
    CudnnDescriptor window, x, w, y, operation, graph;
  };
  // An engine that the heuristics offer and that suits the settings. Whether it has a plan is seen by building one,
  // which may compile kernels: only those that are needed are built.
  struct Offer {
    CudnnDescriptor configuration;
    int64_t engine;  // as cuDNN numbers them for this kind of operation
  };
  struct Candidate {
    CudnnDescriptor configuration, plan;
    int64_t workspace_bytes;
    int64_t engine;
  };
  struct Problem {
    Graph graph;
    bool keep_f32;
    int64_t workspace_limit;
    std::vector<Offer> offers;          // the best estimate first
    std::vector<Candidate> candidates;  // in the order of the offers
    size_t planned = 0;                 // offers that plans were built for
    size_t room = 0;                    // candidates that these offers may still add
    bool fallback_asked = false;
    size_t chosen = 0;
    bool settled = false;  // chosen will not change
  };

  Problem& problem_for(const Convolution& convolution);
  Graph make_graph(const Convolution& convolution) const;
  // Asks the heuristics for offers in place of those before, of which at most `room` become candidates.
  void ask(cudnnBackendHeurMode_t mode, size_t room, Problem* problem) const;
  bool is_wanted(const CudnnDescriptor& engine, bool keep_f32) const;
  // One more candidate, of the offers that are left; false where none of them has a plan.
  bool add_candidate(Problem* problem) const;
  // Whether there is a candidate `index`, adding as many as that takes. `none_ran`: of those before it.
  bool has_candidate(size_t index, bool none_ran, Problem* problem) const;
  void choose(const Convolution& convolution, Problem* problem);
  cudnnStatus_t execute(const Convolution& convolution, const Candidate& candidate) const;

  const Cudnn& library_;
  const Stream& stream_;
  ScratchBytes scratch_;
  LibrarySettings settings_;
  cudnnHandle_t handle_ = nullptr;
  std::map<Key, Problem> problems_;
  std::vector<std::string> choices_;
};

}  // namespace riffle
