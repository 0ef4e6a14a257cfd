# Compiler and sanitizer settings. One interface target carries them: jr_flags.
option(JR_ASAN "AddressSanitizer and UndefinedBehaviorSanitizer" OFF)
option(JR_TSAN "ThreadSanitizer" OFF)
option(JR_FUZZ "libFuzzer targets (clang only)" OFF)
option(JR_COVERAGE "gcov instrumentation" OFF)
option(JR_FAILPOINTS "named failpoints (test builds only)" OFF)
option(JR_TESTS "build the tests" ON)

add_library(jr_flags INTERFACE)
target_compile_definitions(jr_flags INTERFACE _GNU_SOURCE)
target_compile_options(jr_flags INTERFACE
    $<$<COMPILE_LANGUAGE:C>:-std=c11>
    -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wformat=2 -Wcast-align -Wvla
    $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes -Wmissing-prototypes>
    -Wimplicit-fallthrough -Werror -fno-strict-aliasing -fno-omit-frame-pointer)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    target_compile_options(jr_flags INTERFACE -Wimplicit-fallthrough=5)
endif()

if(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(jr_flags INTERFACE -fstack-protector-strong -U_FORTIFY_SOURCE
        -D_FORTIFY_SOURCE=2 -fstack-clash-protection -fcf-protection)
    target_link_options(jr_flags INTERFACE -Wl,-z,relro,-z,now)
    include(CheckIPOSupported)
    check_ipo_supported(RESULT JR_IPO OUTPUT JR_IPO_WHY LANGUAGES C)
    if(JR_IPO)
        set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
    else()
        message(STATUS "no link-time optimisation: ${JR_IPO_WHY}")
    endif()
endif()
if(JR_ASAN)
    set(JR_SAN -fsanitize=address,undefined -fno-sanitize-recover=undefined)
elseif(JR_TSAN)
    set(JR_SAN -fsanitize=thread)
elseif(JR_FUZZ)
    set(JR_SAN -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined)
elseif(JR_COVERAGE)
    set(JR_SAN --coverage)
endif()
if(JR_SAN)
    target_compile_options(jr_flags INTERFACE ${JR_SAN})
    # The check of vptrs reads memory through a pipe, and takes an object of simdjson's for damaged
    # where a test leaves no descriptor for one.
    target_compile_options(jr_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize=vptr>)
    target_link_options(jr_flags INTERFACE ${JR_SAN})
endif()
if(JR_FAILPOINTS)
    target_compile_definitions(jr_flags INTERFACE JR_FAILPOINTS=1)
endif()
