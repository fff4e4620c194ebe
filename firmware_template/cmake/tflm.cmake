# The imported library `tflm`: headers below TFLM_ROOT and a libtensorflow-microlite.a that was built from the same tree
# for the same core, with TFLM's own makefile (target `microlite`). tflm_checks.cmake looks into the library.

# Of several libraries the one whose folder TFLM's makefile named after the core of the compiler flags.
file(GLOB tflm_libraries "${TFLM_ROOT}/gen/*/lib/libtensorflow-microlite.a")
if(CMAKE_C_FLAGS MATCHES "-mcpu=([a-z0-9-]+)")
  string(REPLACE "cortex-m0plus" "cortex-m0" tflm_core "${CMAKE_MATCH_1}")
  list(FILTER tflm_libraries INCLUDE REGEX "/gen/[^/]*_${tflm_core}(\\+[a-z.]+)*_[^/]*/lib/")
endif()
list(LENGTH tflm_libraries tflm_library_count)
if(NOT TFLM_LIBRARY AND tflm_library_count EQUAL 1)
  set(TFLM_LIBRARY "${tflm_libraries}")
endif()
set(TFLM_LIBRARY "${TFLM_LIBRARY}" CACHE FILEPATH "libtensorflow-microlite.a for the core that is built for")
if(NOT EXISTS "${TFLM_LIBRARY}")
  message(FATAL_ERROR "No libtensorflow-microlite.a for this core, or more than one, below ${TFLM_ROOT}/gen: build it with "
    "TFLM's makefile (target microlite), and name it with -DTFLM_LIBRARY=FILE.")
endif()

set(tflm_downloads "${TFLM_ROOT}/tensorflow/lite/micro/tools/make/downloads")
find_path(TFLM_INCLUDE tensorflow/lite/micro/micro_interpreter.h PATHS "${TFLM_ROOT}" NO_DEFAULT_PATH
  NO_CMAKE_FIND_ROOT_PATH)
find_path(TFLM_FLATBUFFERS_INCLUDE flatbuffers/flatbuffers.h NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH
  PATHS "${tflm_downloads}/flatbuffers/include" "${TFLM_ROOT}/third_party/flatbuffers/include")
find_path(TFLM_GEMMLOWP_INCLUDE fixedpoint/fixedpoint.h NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH
  PATHS "${tflm_downloads}/gemmlowp" "${TFLM_ROOT}/third_party/gemmlowp")
foreach(variable TFLM_INCLUDE TFLM_FLATBUFFERS_INCLUDE TFLM_GEMMLOWP_INCLUDE)
  if(NOT ${variable})
    message(FATAL_ERROR "${variable} is not found: TFLM_ROOT must be a tree of TensorFlow Lite Micro in which its "
      "makefile has fetched flatbuffers and gemmlowp; or name the folder with -D${variable}=FOLDER.")
  endif()
endforeach()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(arm|cortex)" AND CMAKE_CROSSCOMPILING)
  set(tflm_on_cortex_m ON)
else()
  set(tflm_on_cortex_m OFF)
endif()
option(TFLM_CMSIS_NN "The library was built with OPTIMIZED_KERNEL_DIR=cmsis_nn" ${tflm_on_cortex_m})
option(TFLM_RELEASE "The library was built with BUILD_TYPE=release, which has no error strings" OFF)
include(${CMAKE_CURRENT_LIST_DIR}/tflm_checks.cmake)

add_library(tflm STATIC IMPORTED)
set_target_properties(tflm PROPERTIES IMPORTED_LOCATION "${TFLM_LIBRARY}")
target_include_directories(tflm SYSTEM INTERFACE
  "${TFLM_INCLUDE}" "${TFLM_FLATBUFFERS_INCLUDE}" "${TFLM_GEMMLOWP_INCLUDE}")
# The layout of TFLM's tensors depends on TF_LITE_STATIC_MEMORY: library and firmware must agree. Without CMSIS_NN the
# registrations of one type are the slow ones.
target_compile_definitions(tflm INTERFACE TF_LITE_STATIC_MEMORY $<IF:$<BOOL:${TFLM_CMSIS_NN}>,CMSIS_NN,KWS_REFERENCE_KERNELS>
  $<$<BOOL:${TFLM_RELEASE}>:TF_LITE_STRIP_ERROR_STRINGS>)
