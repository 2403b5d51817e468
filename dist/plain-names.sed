# Symbols of Rust without what differs from compiler to compiler and from build to build: the hash that ends a
# name of the older kind, the number of a crate in one of the newer (std's own), the numbers that LLVM appends.
# Pieces of functions that its outliner made are all of one name.
s/17h[0-9a-f]{16}E.*$//
s/Cs[0-9A-Za-z]+_/C/g
s/(\.llvm)?\.[0-9]+$//
s/^OUTLINED_FUNCTION_.*$/OUTLINED_FUNCTION/
