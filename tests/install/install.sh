#!/bin/sh
# Installs into a temporary folder, builds a user's programs against what is there through
# pkg-config, as shared and as static, and runs them. Also: the runtime's size and its needs.
# usage: install.sh MESON BUILD SOURCE PREFIX LIBDIR MODEL.so; CC is the compiler
set -eu
meson=$1 build=$2 source=$3 prefix=$4 libdir=$5 model=$6
cc=${CC:-cc}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

say() { printf '%s\n' "$*"; }
die() { say "FAILED: $*"; exit 1; }

DESTDIR=$folder "$meson" install -C "$build" --no-rebuild --quiet >"$folder/log" 2>&1 ||
    { cat "$folder/log"; die "meson install"; }
libs=$folder$prefix/$libdir
export PKG_CONFIG_PATH="$libs/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$folder" LD_LIBRARY_PATH="$libs"

# $1: package, $2: source, $3: "static" or ""; makes $folder/user
build_user() {
    static=${3:+--static}
    flags="$(pkg-config $static --cflags --libs "$1") -lm"
    [ -z "${3:-}" ] || flags=$(printf '%s' "$flags" | sed 's/-lkiln-rt/-l:libkiln-rt.a/')
    # shellcheck disable=SC2086
    $cc -std=c17 -Wall -Wextra -Werror "$source/tests/install/$2" $flags -o "$folder/user" ||
        die "$2 does not build against the installed $1 ${3:-}"
}

build_user kiln-rt user_rt.c
"$folder/user" "$model" handmade || die "user_rt.c with the shared runtime"
readelf -d "$folder/user" | grep -q 'NEEDED.*libkiln-rt' || die "user_rt.c does not use libkiln-rt"
build_user kiln-rt user_rt.c static
"$folder/user" "$model" handmade || die "user_rt.c with the static runtime"
readelf -d "$folder/user" | grep 'NEEDED' | grep -q kiln && die "the static program needs a kiln library"

build_user kiln user_kiln.c
"$folder/user" "$folder/user.so" || die "user_kiln.c with the installed compiler"
build_user kiln-rt user_rt.c
"$folder/user" "$folder/user.so" user || die "user_rt.c on the compiled model"
readelf -d "$folder/user.so" | grep NEEDED | grep -qvE 'lib(c|m)\.so' &&
    die "a compiled model needs more than libc and libm"

strip -o "$folder/stripped" "$libs/libkiln-rt.so"
bytes=$(wc -c <"$folder/stripped")
say "libkiln-rt: $bytes bytes stripped"
[ "$bytes" -lt 300000 ] || die "libkiln-rt has $bytes bytes stripped; the limit is 300,000"
readelf -d "$libs/libkiln-rt.so" | grep NEEDED | grep -qvE 'lib(c|m|dl|pthread)\.so|ld-linux' &&
    die "libkiln-rt needs more than libc"
for library in libkiln-rt.so libkiln.so; do
    foreign=$(nm -D --defined-only "$libs/$library" | awk '$3 !~ /^kiln_/ { print $3 }')
    [ -z "$foreign" ] || die "$library exports $foreign"
done
foreign=$(nm -D --defined-only "$libs/kiln/kiln-llvm.so" | awk '$3 != "kiln_backend_llvm" { print $3 }')
[ -z "$foreign" ] || die "kiln-llvm.so exports $foreign"
say "installed tree: ok"
