add_library(kws_platform STATIC platform/host/platform_host.c platform/host/wav.c generated/labels.cc)
target_include_directories(kws_platform PUBLIC src generated PRIVATE platform/host)

add_executable(kws_features platform/host/features_main.c)
target_link_libraries(kws_features PRIVATE kws_frontend kws_platform)
