# The library kws_platform of a Cortex-M board: include it after set(KWS_BOARD_CPU ...), the -mcpu of its toolchain file.

if(NOT CMAKE_C_FLAGS MATCHES "-mcpu=${KWS_BOARD_CPU}( |$)")
  message(FATAL_ERROR "${KWS_PLATFORM} has a ${KWS_BOARD_CPU}, and the compiler flags are \"${CMAKE_C_FLAGS}\": configure "
    "an empty build folder with -DCMAKE_TOOLCHAIN_FILE=cmake/${KWS_BOARD_TOOLCHAIN}.cmake.")
endif()

set(board ${CMAKE_CURRENT_SOURCE_DIR}/platform/${KWS_PLATFORM})
add_library(kws_platform OBJECT ${board}/board.c platform/cortex-m/startup.c platform/cortex-m/runtime.c
  platform/cortex-m/semihosting.c platform/cortex-m/platform_semihosting.c platform/common/wav.c
  platform/common/text.c platform/common/print_event.c generated/labels.cc)
target_include_directories(kws_platform PUBLIC src generated platform/common platform/cortex-m)
target_link_options(kws_platform PUBLIC --specs=nano.specs -nostartfiles -Wl,--fatal-warnings
  -Wl,--no-warn-rwx-segments -L${CMAKE_CURRENT_SOURCE_DIR}/platform/cortex-m -T${board}/memory.ld)
target_compile_definitions(kws_platform PUBLIC KWS_ON_CORTEX_M)
