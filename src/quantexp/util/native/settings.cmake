# The settings with which llama.cpp is compiled, given to CMake as CMAKE_PROJECT_INCLUDE. They are in a file of CMake and
# not in CMAKE_ARGS because a compiler has to be asked which flags it knows, and because llama-cpp-python sets
# LLAMA_BUILD_COMMON in the cache, over what the command line says.

# For the processor of this machine. CMake takes it from the environment otherwise: reproducible builds turn it off.
if(NOT DEFINED GGML_NATIVE)
    set(GGML_NATIVE ON)
endif()

# gcc 12 drops the configuration of the tile registers, so the first instruction that uses them ends the process.
# With these flags, which go before -march=native wherever they stand, no such instruction is left.
include(CheckCCompilerFlag)
foreach(extension amx-tile amx-int8 amx-bf16)
    string(MAKE_C_IDENTIFIER "quantexp_knows_${extension}" known)
    check_c_compiler_flag("-mno-${extension}" ${known})
    if(${known})
        add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-mno-${extension}>)
    endif()
endforeach()

# Two thirds of the compiler's work are libraries that no Python package of llama.cpp needs for text: llama.cpp's own
# programs share one, the other reads pictures and sound. llama-server, built by itself, needs them.
if(PROJECT_NAME STREQUAL "llama_cpp")
    set(LLAMA_BUILD_COMMON OFF)
    set(LLAVA_BUILD OFF)
endif()
