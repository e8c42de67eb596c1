# Writes the header that says which commit a program is built from: at every build, but the file changes only with it.
# cmake -DSOURCE=FOLDER -DHEADER=FILE -P build_commit.cmake
set(commit "")
find_program(GIT git)
if(GIT)
  # A copy of the sources inside another repository is not at that one's commit.
  execute_process(COMMAND ${GIT} -C ${SOURCE} rev-parse --show-toplevel
                  OUTPUT_VARIABLE top OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  file(REAL_PATH "${SOURCE}" source)
  if(top STREQUAL source)
    execute_process(COMMAND ${GIT} -C ${SOURCE} describe --always --dirty=-changed --abbrev=40 --exclude=*
                    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
endif()
set(text "// Written by train/build_commit.cmake.\n#pragma once\n\nnamespace riffle {\n
inline constexpr const char* kBuildCommit = \"${commit}\";\n\n}  // namespace riffle\n")
set(before "")
if(EXISTS ${HEADER})
  file(READ ${HEADER} before)
endif()
if(NOT text STREQUAL before)
  file(WRITE ${HEADER} "${text}")
endif()
