/* The activations that have kernels, one line each: enum, tables, threads and wrappers are all made from this list.
 *
 *     X(name, keeps, forward, backward, first)
 *
 * name      the op's; vector/formulas.inc.h has its formulas, FORWARD(name) and BACKWARD_FROM_X(name) or BACKWARD_FROM_Y(name)
 * keeps     INPUT or OUTPUT: which of x and y the backward reads, which is what the op's cache begins with
 * forward, backward
 *           CHEAP or DEAR: plain arithmetic, or exponentials and divisions; how many elements are worth a thread
 * first     ANY; POSITIVE where the kernel takes only a first setting above 0; or BELOW_SECOND where it takes only one that is less
 *           than the second. Others are the formula's to refuse
 *
 * The settings are the op's arguments after x, at most two numbers. CUDA code may include this file too. */
#ifndef MINIDL_ACTIVATION_LIST_H
#define MINIDL_ACTIVATION_LIST_H

#define MINIDL_ACTIVATION_LIST(X)                                                                                          \
    X(relu, OUTPUT, CHEAP, CHEAP, ANY)                                                                                     \
    X(leaky_relu, INPUT, CHEAP, CHEAP, ANY)                                                                                \
    X(sigmoid, OUTPUT, DEAR, CHEAP, ANY)                                                                                   \
    X(tanh, OUTPUT, DEAR, CHEAP, ANY)                                                                                      \
    X(softplus, INPUT, DEAR, DEAR, POSITIVE)                                                                               \
    X(elu, INPUT, DEAR, DEAR, ANY)                                                                                         \
    X(gelu, INPUT, DEAR, DEAR, ANY)                                                                                        \
    X(gelu_tanh, INPUT, DEAR, DEAR, ANY)                                                                                   \
    X(silu, INPUT, DEAR, DEAR, ANY)                                                                                        \
    X(relu6, OUTPUT, CHEAP, CHEAP, ANY)                                                                                    \
    X(hardswish, INPUT, CHEAP, CHEAP, ANY)                                                                                 \
    X(hardsigmoid, INPUT, CHEAP, CHEAP, ANY)                                                                               \
    X(hardtanh, INPUT, CHEAP, CHEAP, BELOW_SECOND)                                                                         \
    X(softsign, INPUT, DEAR, DEAR, ANY)                                                                                    \
    X(mish, INPUT, DEAR, DEAR, ANY)                                                                                        \
    X(selu, INPUT, DEAR, DEAR, ANY)                                                                                        \
    X(celu, INPUT, DEAR, DEAR, POSITIVE)                                                                                   \
    X(quick_gelu, INPUT, DEAR, DEAR, ANY)

/* Functions that are no activations, and have no backward here. */
#define MINIDL_FUNCTION_LIST(X)                                                                                            \
    X(exp, INPUT, DEAR, DEAR, ANY)                                                                                         \
    X(log, INPUT, DEAR, DEAR, ANY)                                                                                         \
    X(erf, INPUT, DEAR, DEAR, ANY)

#endif
