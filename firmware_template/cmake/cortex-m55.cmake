# Cortex-M55 with floating point and vectors (MVE).
set(kws_cpu_flags "-mcpu=cortex-m55 -mthumb -mfloat-abi=hard")
include(${CMAKE_CURRENT_LIST_DIR}/arm-none-eabi.cmake)
