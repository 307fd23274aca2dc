"""Copy a run of bytes by address: what a gather of receptive fields is made of.

A numba slice costs two reference counts and a wrap-around check per element; one ``memcpy`` costs neither.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic


def copy_plain(into, position, source, start, count):
    """``count`` bytes from byte ``start`` of ``source`` to byte ``position`` of ``into`` (C-contiguous arrays)."""
    into.reshape(-1).view(np.uint8)[position : position + count] = source.reshape(-1).view(np.uint8)[start:][:count]


@intrinsic
def _copy_compiled(typingctx, into, position, source, start, count):
    signature = types.void(into, types.intp, source, types.intp, types.intp)

    def codegen(context, builder, signature, args):
        into, position, source, start, count = args

        def address(index, value, offset):
            data = context.make_array(signature.args[index])(context, builder, value).data
            return builder.gep(builder.bitcast(data, ir.IntType(8).as_pointer()), [offset])

        cgutils.raw_memcpy(builder, address(0, into, position), address(2, source, start), count, 1)
        return context.get_dummy_value()

    return signature, codegen


copy = copy_plain if config.DISABLE_JIT else _copy_compiled
