# Holds TFLM_LIBRARY against the options and compiler flags. Each of these mistakes links without a word and fails, or is
# slow, at run time.

if(NOT CMAKE_NM)
  message(STATUS "No nm: the symbols of ${TFLM_LIBRARY} are not checked.")
  return()
endif()

execute_process(COMMAND ${CMAKE_NM} --defined-only ${TFLM_LIBRARY} OUTPUT_VARIABLE tflm_symbols ERROR_QUIET)
set(tflm_make "build it again with TFLM's makefile, target microlite")

if(NOT tflm_symbols MATCHES " T [^ \n]*MicroInterpreter")
  message(FATAL_ERROR "${TFLM_LIBRARY} has no MicroInterpreter: ${tflm_make}.")
endif()
if(tflm_symbols MATCHES " T _?TfLiteTensorFree\n")
  message(FATAL_ERROR "${TFLM_LIBRARY} was built without TF_LITE_STATIC_MEMORY, so its tensors are laid out otherwise: "
    "${tflm_make}, which defines it.")
endif()
if(TFLM_CMSIS_NN AND NOT tflm_symbols MATCHES " T _?arm_convolve_wrapper_s8\n")
  message(FATAL_ERROR "${TFLM_LIBRARY} has no CMSIS-NN kernels: ${tflm_make} and OPTIMIZED_KERNEL_DIR=cmsis_nn, or configure "
    "with -DTFLM_CMSIS_NN=OFF.")
endif()
if(NOT TFLM_CMSIS_NN AND tflm_symbols MATCHES " T _?arm_convolve_wrapper_s8\n")
  message(FATAL_ERROR "${TFLM_LIBRARY} has CMSIS-NN kernels: configure with -DTFLM_CMSIS_NN=ON to use them.")
endif()
if(TFLM_RELEASE AND tflm_symbols MATCHES " T [^ \n]*MicroPrintf")
  message(FATAL_ERROR "${TFLM_LIBRARY} has error strings: configure with -DTFLM_RELEASE=OFF.")
endif()
if(NOT TFLM_RELEASE AND NOT tflm_symbols MATCHES " T [^ \n]*MicroPrintf")
  message(FATAL_ERROR "${TFLM_LIBRARY} has no error strings (BUILD_TYPE=release): configure with -DTFLM_RELEASE=ON.")
endif()

# What the compiler writes into each object of this core and these flags must stand in those of the library, too.
if(NOT CMAKE_READELF OR APPLE)
  return()
endif()
set(tflm_probe "${CMAKE_CURRENT_BINARY_DIR}/tflm_probe")
file(WRITE ${tflm_probe}.c "int kws_probe;\n")
separate_arguments(tflm_flags UNIX_COMMAND "${CMAKE_C_FLAGS}")
execute_process(COMMAND ${CMAKE_C_COMPILER} ${tflm_flags} -c ${tflm_probe}.c -o ${tflm_probe}.o)
execute_process(COMMAND ${CMAKE_READELF} -h -A ${tflm_probe}.o OUTPUT_VARIABLE tflm_ours ERROR_QUIET)
execute_process(COMMAND ${CMAKE_READELF} -h -A ${TFLM_LIBRARY} OUTPUT_VARIABLE tflm_theirs ERROR_QUIET)
foreach(tag Machine Tag_CPU_arch Tag_ABI_VFP_args Tag_MVE_arch Tag_ABI_enum_size)
  foreach(side ours theirs)
    set(tflm_${side}_value "none")
    if(tflm_${side} MATCHES "${tag}: *([^\n]*)")
      set(tflm_${side}_value "${CMAKE_MATCH_1}")
    endif()
  endforeach()
  if(NOT tflm_ours_value STREQUAL tflm_theirs_value)
    message(FATAL_ERROR "${TFLM_LIBRARY} was built for another core or with other flags: ${tag} is ${tflm_theirs_value}, and "
      "that of \"${CMAKE_C_FLAGS}\" is ${tflm_ours_value}. Name the library for this core with -DTFLM_LIBRARY=FILE, or "
      "${tflm_make} for it (TARGET_ARCH).")
  endif()
endforeach()
