# Runs packaging/vcpkg/lnorm/portfile.cmake without vcpkg. The functions that the port calls are stand-ins here: each does what
# vcpkg's reference says of it, on Linux, and refuses arguments that the port has no need of.
#
#     cmake -DWORK=DIR -DVCPKG_LIBRARY_LINKAGE=static|dynamic [-DVCPKG_BUILD_TYPE=release] [-DC_FLAGS=...] -P vcpkg.cmake
#
# Afterwards DIR/packages is what vcpkg would check, and copy to installed/TRIPLET.
cmake_minimum_required(VERSION 3.21)

set(PORT lnorm)
cmake_path(SET CURRENT_PORT_DIR NORMALIZE "${CMAKE_CURRENT_LIST_DIR}/../../packaging/vcpkg/lnorm")
set(CURRENT_BUILDTREES_DIR "${WORK}/buildtrees")
set(CURRENT_PACKAGES_DIR "${WORK}/packages")

set(builds Release)
set(Release_prefix "${CURRENT_PACKAGES_DIR}")
if(NOT VCPKG_BUILD_TYPE STREQUAL "release")
  list(APPEND builds Debug)
  set(Debug_prefix "${CURRENT_PACKAGES_DIR}/debug")
endif()

function(run)
  execute_process(COMMAND ${ARGV} OUTPUT_VARIABLE told ERROR_VARIABLE told RESULT_VARIABLE status)
  if(status OR told MATCHES "not used by the project:.* LNORM_")
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}\n${told}")
  endif()
endfunction()

macro(arguments options one_value many_values)
  cmake_parse_arguments(PARSE_ARGV 0 arg "${options}" "${one_value}" "${many_values}")
  if(arg_UNPARSED_ARGUMENTS OR arg_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "no stand-in for: ${ARGV}")
  endif()
endmacro()

function(vcpkg_cmake_configure)
  arguments("" SOURCE_PATH OPTIONS)
  string(COMPARE EQUAL "${VCPKG_LIBRARY_LINKAGE}" dynamic shared)
  foreach(build IN LISTS builds)
    string(TOUPPER ${build} BUILD)
    run(${CMAKE_COMMAND} -G Ninja -S "${arg_SOURCE_PATH}" -B "${CURRENT_BUILDTREES_DIR}/${build}"
        -DCMAKE_BUILD_TYPE=${build} "-DCMAKE_INSTALL_PREFIX=${${build}_prefix}" "-DCMAKE_C_FLAGS_${BUILD}=${C_FLAGS}"
        -DBUILD_SHARED_LIBS=${shared} -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_INSTALL_BINDIR=bin
        -DCMAKE_ERROR_ON_ABSOLUTE_INSTALL_DESTINATION=ON ${arg_OPTIONS})
  endforeach()
endfunction()

function(vcpkg_cmake_install)
  arguments("" "" "")
  foreach(build IN LISTS builds)
    run(${CMAKE_COMMAND} --build "${CURRENT_BUILDTREES_DIR}/${build}" --target install --parallel 2)
  endforeach()
endfunction()

# The package's files go to share/PORT, two below the prefix; of debug only what says where its libraries are.
function(vcpkg_cmake_config_fixup)
  arguments("" CONFIG_PATH "")
  foreach(build IN LISTS builds)
    set(from "${${build}_prefix}/${arg_CONFIG_PATH}")
    set(pattern "*.cmake")
    if(build STREQUAL "Debug")
      set(pattern "*-debug.cmake")
    endif()
    file(GLOB files "${from}/${pattern}")
    if(NOT files)
      message(FATAL_ERROR "no ${pattern} in ${from}")
    endif()
    foreach(file IN LISTS files)
      file(READ "${file}" text)
      if(build STREQUAL "Debug")
        string(REPLACE "{_IMPORT_PREFIX}/" "{_IMPORT_PREFIX}/debug/" text "${text}")
      endif()
      set(up "get_filename_component(_IMPORT_PREFIX \"\${_IMPORT_PREFIX}\" PATH)\n")
      string(REPLACE "${up}${up}${up}" "${up}${up}" text "${text}")
      string(REPLACE "{CMAKE_CURRENT_LIST_DIR}/../../../" "{CMAKE_CURRENT_LIST_DIR}/../../" text "${text}")
      cmake_path(GET file FILENAME name)
      file(WRITE "${CURRENT_PACKAGES_DIR}/share/${PORT}/${name}" "${text}")
    endforeach()
    cmake_path(GET from PARENT_PATH parent)
    file(REMOVE_RECURSE "${parent}")
  endforeach()
endfunction()

# Debug's libraries are for the headers that release installed.
function(vcpkg_fixup_pkgconfig)
  arguments("" "" "")
  foreach(build IN LISTS builds)
    set(file "${${build}_prefix}/lib/pkgconfig/${PORT}.pc")
    file(READ "${file}" text)
    string(REGEX REPLACE "(^|\n)prefix=[^\n]*" "\\1prefix=\${pcfiledir}/../.." text "${text}")
    if(build STREQUAL "Debug")
      string(REPLACE "{prefix}/include" "{prefix}/../include" text "${text}")
    endif()
    file(WRITE "${file}" "${text}")
  endforeach()
endfunction()

function(vcpkg_copy_pdbs) # of Windows
  arguments("" "" "")
endfunction()

function(vcpkg_install_copyright)
  arguments("" "" FILE_LIST)
  list(LENGTH arg_FILE_LIST length)
  if(NOT length EQUAL 1)
    message(FATAL_ERROR "no stand-in for several files: ${ARGV}")
  endif()
  file(MAKE_DIRECTORY "${CURRENT_PACKAGES_DIR}/share/${PORT}")
  configure_file("${arg_FILE_LIST}" "${CURRENT_PACKAGES_DIR}/share/${PORT}/copyright" COPYONLY)
endfunction()

include("${CURRENT_PORT_DIR}/portfile.cmake")
