/* Which instruction set the kernels use, chosen once for all of them.
 *
 * Every family of kernels is compiled for each instruction set (isa/) and leaves a table of functions for each, which differ in the
 * end of their names: minidl_gemm_f32_baseline, minidl_gemm_f32_avx2 and so on. The family's header declares them by
 *
 *     MINIDL_TABLES(minidl_gemm, MINIDL_GEMM_TABLE)
 *
 * and its driver asks for minidl_gemm_f32_in_use() or minidl_gemm_f64_in_use(). */
#ifndef MINIDL_ISA_H
#define MINIDL_ISA_H

#include <stddef.h>

enum { MINIDL_BASELINE, MINIDL_AVX2, MINIDL_AVX512, MINIDL_NEON, MINIDL_INSTRUCTION_SETS };

/* The widest that this machine has, or the one that the environment variable MINIDL_ISA names (baseline, avx2, avx512, neon);
 * -1 if that names one that cannot run here. */
int minidl_isa(void);
const char *minidl_isa_name(void); /* or NULL */

/* Whether products of bfloat16 numbers, and of 8-bit integers, have instructions of their own: AVX512_BF16, AVX512_VNNI and AMX,
 * unless MINIDL_ISA names a narrower set. avx512 is without them, avx512_bf16 without AMX, amx with all. */
int minidl_isa_has_bf16(void);
int minidl_isa_has_vnni(void);
int minidl_isa_has_amx(void);
int minidl_isa_is_refused_amx(void); /* the processor has it, but not this process */
#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 9 : defined(__GNUC__) && __GNUC__ >= 10)
#define MINIDL_HAS_BF16_DOTS 1
#endif
#if defined(__x86_64__) && defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : defined(__GNUC__) && __GNUC__ >= 11)
#define MINIDL_HAS_AMX 1
#endif

/* Which ones this build has. */
#if defined(__x86_64__) && defined(__GNUC__) /* clang defines it too */
#define MINIDL_HAS_AVX 1
#define MINIDL_EACH_VARIANT(table)                                                                                         \
    {[MINIDL_BASELINE] = &table##_baseline, [MINIDL_AVX2] = &table##_avx2, [MINIDL_AVX512] = &table##_avx512}
#elif defined(__aarch64__) && defined(__GNUC__)
#define MINIDL_HAS_NEON 1
#define MINIDL_EACH_VARIANT(table) {[MINIDL_BASELINE] = &table##_baseline, [MINIDL_NEON] = &table##_neon}
#else
#define MINIDL_EACH_VARIANT(table) {[MINIDL_BASELINE] = &table##_baseline}
#endif

/* The tables of one type, and the function that returns the one in use; NULL if minidl_isa() is -1. */
#define MINIDL_VARIANTS(table)                                                                                             \
    extern const table table##_baseline, table##_avx2, table##_avx512, table##_neon;                                       \
    static inline const table *table##_in_use(void) {                                                                      \
        static const table *const variants[MINIDL_INSTRUCTION_SETS] = MINIDL_EACH_VARIANT(table);                          \
        const int isa = minidl_isa();                                                                                      \
        return isa < 0 ? NULL : variants[isa];                                                                             \
    }

/* A family's tables in both precisions: TABLE(real) is the struct of its functions. */
#define MINIDL_TABLES(family, TABLE)                                                                                       \
    typedef TABLE(float) family##_f32;                                                                                     \
    typedef TABLE(double) family##_f64;                                                                                    \
    MINIDL_VARIANTS(family##_f32)                                                                                          \
    MINIDL_VARIANTS(family##_f64)

#endif
