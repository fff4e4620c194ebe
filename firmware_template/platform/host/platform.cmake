add_library(kws_platform STATIC platform/host/platform_host.c platform/common/wav.c platform/common/text.c
  platform/common/print_event.c generated/labels.cc)
target_include_directories(kws_platform PUBLIC src generated platform/common)
