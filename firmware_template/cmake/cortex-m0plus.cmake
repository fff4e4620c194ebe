# Cortex-M0+: no floating-point unit, so the features are computed in fixed point.
set(kws_cpu_flags "-mcpu=cortex-m0plus -mthumb -mfloat-abi=soft")
set(KWS_FIXED_POINT ON CACHE BOOL "Features in int16 and int32, for a core without a floating-point unit")
include(${CMAKE_CURRENT_LIST_DIR}/arm-none-eabi.cmake)
