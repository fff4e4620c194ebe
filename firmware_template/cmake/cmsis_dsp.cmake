# Adds CMSIS-DSP's float32 real FFT to kws_frontend, compiled from its sources.

if(KWS_FIXED_POINT)
  message(FATAL_ERROR "KWS_FFT_CMSIS_DSP serves the float build only: leave out it or KWS_FIXED_POINT.")
endif()
set(CMSIS_DSP_ROOT "" CACHE PATH "Source tree of CMSIS-DSP")
set(CMSIS_CORE_INCLUDE "" CACHE PATH "Folder with cmsis_compiler.h (CMSIS/Core/Include of CMSIS 6 or 5)")
if(NOT EXISTS "${CMSIS_DSP_ROOT}/Include/dsp/transform_functions.h")
  message(FATAL_ERROR "CMSIS_DSP_ROOT has no Include/dsp/transform_functions.h: give -DCMSIS_DSP_ROOT=TREE, a source "
    "tree of https://github.com/ARM-software/CMSIS-DSP.")
endif()
if(CMAKE_CROSSCOMPILING AND NOT EXISTS "${CMSIS_CORE_INCLUDE}/cmsis_compiler.h")
  message(FATAL_ERROR "CMSIS_CORE_INCLUDE has no cmsis_compiler.h: give -DCMSIS_CORE_INCLUDE=FOLDER, CMSIS/Core/Include of "
    "https://github.com/ARM-software/CMSIS_6.")
endif()

set(cmsis_transform "${CMSIS_DSP_ROOT}/Source/TransformFunctions")
file(GLOB cmsis_tables "${CMSIS_DSP_ROOT}/Source/CommonTables/arm_common_tables.c"
  "${CMSIS_DSP_ROOT}/Source/CommonTables/arm_const_structs.c" "${CMSIS_DSP_ROOT}/Source/CommonTables/arm_mve_tables.c")
add_library(kws_cmsis_dsp STATIC ${cmsis_transform}/arm_rfft_fast_f32.c ${cmsis_transform}/arm_rfft_fast_init_f32.c
  ${cmsis_transform}/arm_cfft_f32.c ${cmsis_transform}/arm_cfft_init_f32.c ${cmsis_transform}/arm_cfft_radix8_f32.c
  ${cmsis_transform}/arm_bitreversal2.c ${cmsis_tables})
target_include_directories(kws_cmsis_dsp SYSTEM PUBLIC "${CMSIS_DSP_ROOT}/Include" ${CMSIS_CORE_INCLUDE}
  PRIVATE "${CMSIS_DSP_ROOT}/PrivateInclude")
# Not ours to warn about.
target_compile_options(kws_cmsis_dsp PRIVATE -w)
if(NOT CMAKE_CROSSCOMPILING)
  target_compile_definitions(kws_cmsis_dsp PUBLIC __GNUC_PYTHON__)
endif()
target_compile_definitions(kws_frontend PUBLIC KWS_FFT_CMSIS_DSP)
target_link_libraries(kws_frontend PUBLIC kws_cmsis_dsp)
