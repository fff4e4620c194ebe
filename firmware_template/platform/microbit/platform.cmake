set(KWS_BOARD_CPU cortex-m0plus)
set(KWS_BOARD_TOOLCHAIN cortex-m0plus)
include(platform/cortex-m/cortex-m.cmake)
