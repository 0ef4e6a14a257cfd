# Everything comes from the distribution (Debian 12 names in ./dev setup); nothing is vendored.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
pkg_check_modules(UV REQUIRED IMPORTED_TARGET libuv)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium)
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(ZMQ REQUIRED IMPORTED_TARGET libzmq)
pkg_check_modules(PROTOBUF_C REQUIRED IMPORTED_TARGET libprotobuf-c)
pkg_check_modules(SIMDJSON REQUIRED IMPORTED_TARGET simdjson)
pkg_search_module(MSGPACK REQUIRED IMPORTED_TARGET msgpack-c msgpack)

# nats.c ships no pkg-config file on Debian 12.
find_path(NATS_INCLUDE nats/nats.h REQUIRED)
find_library(NATS_LIBRARY nats REQUIRED)
add_library(jr_nats INTERFACE)
target_include_directories(jr_nats SYSTEM INTERFACE ${NATS_INCLUDE})
target_link_libraries(jr_nats INTERFACE ${NATS_LIBRARY})

# llhttp: the library where it is packaged, else the C sources that node-llhttp carries, which
# ./dev fetches with apt-get download and unpacks below build/deps (nodejs is not installed).
set(JR_DEPS ${CMAKE_SOURCE_DIR}/build/deps CACHE PATH "where ./dev unpacked node-llhttp")
find_library(LLHTTP_LIBRARY llhttp)
if(LLHTTP_LIBRARY)
    add_library(jr_llhttp INTERFACE)
    target_link_libraries(jr_llhttp INTERFACE ${LLHTTP_LIBRARY})
else()
    set(llhttp_src ${JR_DEPS}/usr/share/llhttp)
    if(NOT EXISTS ${llhttp_src}/llhttp.c)
        message(FATAL_ERROR "llhttp is missing: run ./dev setup (it unpacks Debian's node-llhttp into build/deps)")
    endif()
    add_library(jr_llhttp STATIC ${llhttp_src}/llhttp.c ${llhttp_src}/api.c ${llhttp_src}/http.c)
    target_include_directories(jr_llhttp SYSTEM PUBLIC ${JR_DEPS}/usr/share/include
                               ${JR_DEPS}/usr/share/include/llhttp)
    # 8.1's loose mode takes any two bytes for the CR LF behind a chunk; 9 is always strict.
    target_compile_definitions(jr_llhttp PUBLIC LLHTTP_STRICT_MODE=1)
    target_compile_options(jr_llhttp PRIVATE -w)
endif()

# protobuf-c, generated in the build tree.
find_program(PROTOC_C protoc-c REQUIRED)
file(GLOB proto_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/proto/jetrouter/v1/*.proto
     ${CMAKE_SOURCE_DIR}/proto/opentelemetry/*.proto)
set(proto_gen ${CMAKE_BINARY_DIR}/proto)
file(MAKE_DIRECTORY ${proto_gen})
foreach(proto ${proto_files})
    file(RELATIVE_PATH stem ${CMAKE_SOURCE_DIR}/proto ${proto})
    string(REGEX REPLACE "\\.proto$" "" stem ${stem})
    set(out ${proto_gen}/${stem}.pb-c)
    add_custom_command(OUTPUT ${out}.c ${out}.h
        COMMAND ${PROTOC_C} --proto_path=${CMAKE_SOURCE_DIR}/proto --c_out=${proto_gen} ${proto}
        DEPENDS ${proto} VERBATIM)
    list(APPEND proto_sources ${out}.c)
endforeach()
add_library(jr_proto STATIC ${proto_sources})
target_include_directories(jr_proto SYSTEM PUBLIC ${proto_gen})
target_compile_options(jr_proto PRIVATE -w)
target_link_libraries(jr_proto PUBLIC PkgConfig::PROTOBUF_C)
