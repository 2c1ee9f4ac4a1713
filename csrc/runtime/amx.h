/* Whether this process may use the tiles of AMX, for products of bfloat16 numbers.
 *
 * The processor must have them (AMX-TILE and AMX-BF16 of cpuid's leaf 7), and the system must save them when it switches threads
 * (bits 17 and 18 of XCR0). Linux then still asks each process to ask for them, because tiles make what it saves larger, on the
 * stacks of signal handlers too. That is done once, when the first product in bfloat16 asks what computes it; the answer holds for
 * all threads, later ones among them. */
#ifndef MINIDL_AMX_H
#define MINIDL_AMX_H

enum { MINIDL_AMX_MISSING, MINIDL_AMX_REFUSED, MINIDL_AMX_GRANTED };

int minidl_amx(void); /* from any thread; refused if the processor has tiles and the system does not let us use them */

#endif
