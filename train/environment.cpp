// The record of programs, machine and command line.
#include "train/environment.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <ctime>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "core/cpu/cpu_backend.h"
#include "train/run_folder.h"
#include "train/version.h"

namespace riffle {
namespace {

using Json = nlohmann::json;

const char* compiler() {
#if defined(__clang__)
  return __VERSION__;  // names itself
#else
  return "GCC " __VERSION__;
#endif
}

std::string local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 40> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S%z", &local);
  return text.data();
}

// The words of this process's command line.
std::vector<std::string> command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');) words.push_back(word);
  return words;
}

Json describe_system() {
  utsname system{};
  if (uname(&system) != 0) return nullptr;
  return join(system.sysname, " ", system.release, " ", system.machine);
}

std::string host_name() {
  utsname system{};
  return uname(&system) == 0 ? system.nodename : "";
}

}  // namespace

Json describe_environment(const DeviceChoice& device, const std::string& git_commit) {
  return {{"started", local_time()},
          {"command", command_line()},
          {"riffle_version", kVersion},
          {"git_commit", git_commit.empty() ? Json() : Json(git_commit)},
          {"compiler", compiler()},
          {"host", host_name()},
          {"system", describe_system()},
          {"device", device.backend->description()},
          {"device_reason", device.reason},
          {"cpu",
           {{"model", cpu_model()},
            {"instruction_set", cpu_isa()},
            {"processors", std::thread::hardware_concurrency()},
            {"threads", device.threads}}},
          {"one_dnn", one_dnn_version()},
          {"cuda", describe_cuda()}};
}

void write_environment(const std::string& path, Json environment) {
  std::ifstream file(path);
  const Json earlier = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (earlier.is_object()) {
    Json starts = earlier.value("earlier_starts", Json::array());
    Json start;
    for (const char* key : {"started", "command", "git_commit", "host", "device"})
      start[key] = earlier.value(key, Json());
    starts.push_back(start);
    environment["earlier_starts"] = starts;
  }
  write_text_file(path, environment.dump(2) + "\n");
}

}  // namespace riffle
