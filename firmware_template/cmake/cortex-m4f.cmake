# Cortex-M4 with its floating-point unit.
set(kws_cpu_flags "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard")
include(${CMAKE_CURRENT_LIST_DIR}/arm-none-eabi.cmake)
