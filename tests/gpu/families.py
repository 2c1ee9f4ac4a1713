"""The CUDA sources, what exercises each, and the bugs planted in it.

Every source of csrc has an entry, which tests/gpu/test_emulation.py requires, as it requires that every kernel in it is run.
"""

import entries_attention
import entries_elementwise
import entries_embedding
import entries_image
import entries_loss
import entries_norm
import entries_recurrent
import entries_update

FAMILIES = {
    family.file: family
    for family in (
        entries_attention.ATTENTION,
        entries_elementwise.ACTIVATIONS,
        entries_elementwise.DROPOUT,
        entries_embedding.EMBEDDING,
        entries_embedding.ROTARY,
        entries_image.CONVOLUTIONS,
        entries_image.POOLING,
        entries_loss.CROSS_ENTROPY,
        entries_loss.POINTWISE,
        entries_loss.SOFTMAX,
        entries_norm.NORM,
        entries_norm.SUMS,
        entries_recurrent.GATES_FAMILY,
        entries_update.UPDATES,
    )
}
