// The folder of one training run.
#include "train/run_folder.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "core/check.h"
#include "train/checkpoint/file_io.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_to_create(const std::string& path, const std::error_code& reason) {
  fail("cannot create the run folder ", path, ": ", reason.message(), "; choose another with -o");
}

void create(const std::string& path) {
  std::error_code error;
  if (fs::exists(path, error) && !fs::is_directory(path, error)) {
    fail_to_create(path, std::make_error_code(std::errc::file_exists));
  }
  fs::create_directories(path, error);
  if (error) fail_to_create(path, error);
}

}  // namespace

RunFolder::RunFolder(std::string path, bool overwrite) : path_(std::move(path)) {
  std::error_code error;
  const bool occupied = fs::is_directory(path_, error) && !fs::is_empty(path_, error);
  if (error && error != std::errc::no_such_file_or_directory) fail_to_create(path_, error);
  if (occupied && !overwrite) {
    fail("the run folder ", path_, " is not empty; choose another with -o, or replace that run with --overwrite");
  }
  if (occupied) {
    for (const std::string& old : {config(), metrics(), curves(), checkpoint("last"), checkpoint("best")}) {
      fs::remove(old, error);
      if (error) fail("cannot remove ", old, ": ", error.message());
    }
  }
  create(path_);
  create(file("checkpoints"));
}

void RunFolder::append_metrics(const nlohmann::json& record) const {
  errno = 0;
  std::ofstream out(metrics(), std::ios::app);
  out << record.dump() << '\n' << std::flush;
  if (!out) fail("cannot write ", metrics(), ": ", std::strerror(errno));
}

std::string default_run_folder(const std::string& config_path) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 32> stamp{};
  std::strftime(stamp.data(), stamp.size(), "%Y%m%d-%H%M%S", &local);
  return "runs/" + fs::path(config_path).stem().string() + "-" + stamp.data();
}

void write_text_file(const std::string& path, const std::string& text) {
  std::error_code error;
  const fs::file_type type = fs::status(path, error).type();
  if (type == fs::file_type::regular || type == fs::file_type::not_found) {
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
