// The folder of one training run.
#include "train/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <vector>

#include "core/check.h"
#include "train/checkpoint/file_io.h"
#include "train/tensorboard/event_writer.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTemporaryMark = ".tmp-";  // of AtomicFile, and of links being replaced

[[noreturn]] void fail_to_create(const std::string& path, const std::error_code& reason) {
  fail("cannot create the run folder ", path, ": ", reason.message(), "; choose another with -o");
}

void create(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail_to_create(path, error);
}

bool is_occupied(const std::string& path) {
  std::error_code error;
  const bool occupied = fs::is_directory(path, error) && !fs::is_empty(path, error);
  if (error && error != std::errc::no_such_file_or_directory) fail_to_create(path, error);
  return occupied;
}

// The folder itself if it exists, else the nearest one above it that does.
fs::path existing_part(const std::string& path) {
  std::error_code ignored;
  fs::path part = fs::absolute(path, ignored).lexically_normal();
  while (!fs::exists(part, ignored) && part.has_relative_path()) part = part.parent_path();
  return part;
}

void remove_file(const std::string& path) {
  std::error_code error;
  fs::remove(path, error);
  if (error) fail("cannot remove ", path, ": ", error.message());
}

bool is_regular_or_absent(const std::string& path) {
  std::error_code ignored;
  const fs::file_type type = fs::status(path, ignored).type();
  return type == fs::file_type::regular || type == fs::file_type::not_found;
}

}  // namespace

void RunFolder::check(const std::string& path, bool overwrite) {
  if (is_occupied(path) && !overwrite) {
    fail("the run folder ", path, " is not empty; choose another with -o, or replace that run with --overwrite");
  }
  for (const std::string& folder : {path, path + "/checkpoints"}) {
    const fs::path existing = existing_part(folder);
    std::error_code ignored;
    if (!fs::is_directory(existing, ignored)) fail_to_create(path, std::make_error_code(std::errc::not_a_directory));
    if (access(existing.c_str(), W_OK | X_OK) != 0) {
      fail_to_create(path, std::error_code(errno, std::generic_category()));
    }
  }
}

RunFolder::RunFolder(std::string path, bool overwrite) : path_(std::move(path)) {
  check(path_, overwrite);
  create_and_lock();
  std::vector<std::string> files{config(),
                                 metrics(),
                                 metrics_csv(),
                                 curves(),
                                 environment(),
                                 file("samples.png"),
                                 file("filters.png"),
                                 file("nonfinite_batch.npz"),
                                 file("nonfinite_batch.txt"),
                                 checkpoint("last"),
                                 checkpoint("best"),
                                 checkpoint("recalibrated")};
  for (const int64_t step : checkpoint_steps()) files.push_back(step_checkpoint(step));
  for (const auto& entry : fs::directory_iterator(path_))
    if (is_event_file(entry.path().filename().string())) files.push_back(entry.path().string());
  for (const std::string& old : files) remove_file(old);
  remove_files_with(kTemporaryMark);
  remove_files_with(superseded(".safetensors"));
}

RunFolder RunFolder::reopen(std::string path) {
  RunFolder folder(std::move(path));
  check(folder.path_, /*overwrite=*/true);
  folder.create_and_lock();
  folder.remove_files_with(kTemporaryMark);
  return folder;
}

// Here and beside the checkpoints.
void RunFolder::remove_files_with(const std::string& part_of_name) const {
  for (const std::string& place : {path_, file("checkpoints")}) {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(place))
      if (entry.path().filename().string().find(part_of_name) != std::string::npos)
        found.push_back(entry.path().string());
    for (const std::string& name : found) remove_file(name);
  }
}

// The system drops the lock with the process, however that ends.
void RunFolder::create_and_lock() {
  create(path_);
  create(file("checkpoints"));
  lock_ = std::make_shared<FileDescriptor>(open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock_->valid() && flock(lock_->get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    fail("another riffle is training in the run folder ", path_, "; wait for its end, or choose another with -o");
}

std::string RunFolder::step_checkpoint(const std::string& folder, int64_t step) {
  std::array<char, 40> name{};
  std::snprintf(name.data(), name.size(), "step-%08lld.safetensors", static_cast<long long>(step));
  return folder + "/checkpoints/" + name.data();
}

std::vector<int64_t> RunFolder::checkpoint_steps(const std::string& folder) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder + "/checkpoints", error)) {
    long long step = 0;
    const bool is_one = std::sscanf(entry.path().filename().c_str(), "step-%lld", &step) == 1 &&
                        entry.path().string() == step_checkpoint(folder, step);
    if (is_one) steps.push_back(step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

void RunFolder::append_metrics(const nlohmann::json& record) const {
  append_to_file(metrics(), record.dump() + "\n");
}

std::string default_run_folder(const std::string& config_path) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 32> stamp{};
  std::strftime(stamp.data(), stamp.size(), "%Y%m%d-%H%M%S", &local);
  return "runs/" + fs::path(config_path).stem().string() + "-" + stamp.data();
}

void check_text_file(const std::string& path) {
  if (is_regular_or_absent(path)) {
    const AtomicFile probe(path);  // made beside it, and removed
  } else if (access(path.c_str(), W_OK) != 0 || fs::is_directory(path)) {
    fail("cannot write ", path, ": ", fs::is_directory(path) ? "it is a folder" : std::strerror(errno));
  }
}

void write_text_file(const std::string& path, const std::string& text) {
  if (is_regular_or_absent(path)) {
    AtomicFile file(path);
    file.write(text.data(), text.size());
    file.commit();
    return;
  }
  errno = 0;
  std::ofstream out(path);
  out << text << std::flush;
  if (!out) fail("cannot write ", path, ": ", std::strerror(errno));
}

}  // namespace riffle
