set(KWS_BOARD_CPU cortex-m4)
set(KWS_BOARD_TOOLCHAIN cortex-m4f)
include(platform/cortex-m/cortex-m.cmake)
