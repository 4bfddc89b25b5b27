"""Single matrices of MATLAB files, read by SciPy: what they are is checked before anything of them is loaded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np

from ipad_data.errors import LabelFileError
from ipad_data.mat_content import Matrix, checked_content

Kind = Literal["numbers", "cells"]
Side = int | range


def read_mat(path: Path, variable: str, kind: Kind, shape: tuple[Side, Side]) -> np.ndarray:
    """A matrix of a ``.mat`` file.

    Args:
        path: The file.
        variable: Name of the matrix.
        kind: ``numbers``, which must be stored as uint8, as MATLAB stores small whole numbers of any class; or ``cells``.
        shape: Rows and columns, each a number or the range in which it must lie.

    Returns:
        Array of that shape, of uint8 or of objects.

    Raises:
        LabelFileError: not a MATLAB file, a damaged one or one of version 7.3; the matrix is not there, or is another.
        ImportError: SciPy is not installed.
    """
    scipy_io = _scipy_io()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # SciPy warns of what it cannot read
            content, matrices = checked_content(path)
            if problem := _problem(matrices, variable, kind, shape):
                raise LabelFileError.at(path, None, problem)
            matrix = scipy_io.loadmat(BytesIO(content), variable_names=[variable])[variable]
    except NotImplementedError:
        problem = "a MATLAB file of version 7.3, which SciPy does not read; save it with -v7"
        raise LabelFileError.at(path, None, problem) from None
    except LabelFileError:
        raise
    except Exception as error:  # a damaged file makes SciPy raise whatever happens to go wrong
        problem = f"not a MATLAB file, or damaged: {error or type(error).__name__}"
        raise LabelFileError.at(path, None, problem) from None
    if matrix.dtype != (np.uint8 if kind == "numbers" else object):
        raise LabelFileError.at(path, None, f"{variable!r} must be stored as uint8, got {matrix.dtype}")
    return matrix


def _problem(matrices: Sequence[Matrix], variable: str, kind: Kind, shape: tuple[Side, Side]) -> str | None:
    found = next((matrix for matrix in matrices if matrix.name == variable), None)
    if found is None:
        return f"expected a matrix {variable!r}, got {', '.join(matrix.name for matrix in matrices) or 'none'}"
    allowed = [side if isinstance(side, range) else range(side, side + 1) for side in shape]
    fits = len(found.shape) == len(allowed) and all(
        number in side for number, side in zip(found.shape, allowed, strict=True)
    )
    if fits and found.kind == kind:
        return None
    sides = " x ".join(str(side[0]) if len(side) == 1 else f"{side[0]} to {side[-1]}" for side in allowed)
    return f"{variable!r} must be a matrix of {sides} {kind}, got {' x '.join(map(str, found.shape))} {found.kind}"


def _scipy_io() -> ModuleType:
    try:
        import scipy.io
    except ImportError as error:
        raise ImportError("MATLAB files are read with SciPy: pip install 'ipad-data[ccp]'") from error
    return scipy.io
