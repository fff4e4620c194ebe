set(KWS_BOARD_CPU cortex-m55)
set(KWS_BOARD_TOOLCHAIN cortex-m55)
include(platform/cortex-m/cortex-m.cmake)
