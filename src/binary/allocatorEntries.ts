// SPDX-License-Identifier: Apache-2.0
/**
 * Which functions are the ways into a memory allocator. Gets a symbol; says yes or no.
 *
 * The names of the C and C++ standards and POSIX, with the prefixes under which glibc, jemalloc, tcmalloc and mimalloc
 * export the same functions: of several names for one address a symbol table may show any.
 */
const entries =
  /^(?:__libc_|__GI___libc_|__GI_|je_|tc_|mi_)?(?:malloc|calloc|realloc|reallocarray|free|cfree|memalign|aligned_alloc|posix_memalign|valloc|pvalloc|_Zn[wa][jm].*|_Zd[la]Pv.*)$/;

export const isAllocatorEntry = (symbol: string | null): boolean => symbol !== null && entries.test(symbol);
