/* The loops of norm.h and their table. */
#include "norm/norm.h"

#include "norm/moments.inc.h"
#include "norm/batch_norm.inc.h"
#include "norm/row_norm.inc.h"
#include "norm/group_norm.inc.h"

const REAL(minidl_norms) TABLE(minidl_norms) = {
    .batch_norm = REAL(batch_norm),
    .batch_norm_backward = REAL(batch_norm_backward),
    .row_norm = REAL(row_norm),
    .row_norm_backward = REAL(row_norm_backward),
    .group_norm = REAL(group_norm),
    .group_norm_backward = REAL(group_norm_backward),
};
