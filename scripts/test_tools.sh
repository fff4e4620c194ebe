#!/bin/sh
# Install the compilers, checkers and the emulator that the tests of the generated C and C++ use, and the browser in which
# the report is looked at. Where this user may not install them, the tests that need them are skipped and say so.
set -u
cd "$(dirname "$0")/.."
missing=
command -v gcc >/dev/null && command -v g++ >/dev/null || missing="$missing gcc g++"
echo '#include <cstdint>' | arm-none-eabi-g++ -x c++ -fsyntax-only - 2>/dev/null ||
    missing="$missing gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib"
command -v cmake >/dev/null && command -v make >/dev/null || missing="$missing cmake make"
command -v qemu-system-arm >/dev/null || missing="$missing qemu-system-arm"
command -v clang >/dev/null || missing="$missing clang"
command -v clang-tidy >/dev/null || missing="$missing clang-tidy"
command -v cppcheck >/dev/null || missing="$missing cppcheck"
command -v chromium >/dev/null || missing="$missing chromium"
# shellcheck disable=SC2086 # a list of package names
[ -z "$missing" ] || sh scripts/debian.sh $missing || echo "The tests that need them are skipped." >&2
exit 0
