"""Scores of encrypted queries by Microsoft SEAL: the BFV cryptosystem, exact on integers.

    evaluator = Evaluator(matrix, Seal())                  # one process
    with Workers(2) as workers: Evaluator(matrix, Seal(workers))   # the binding holds the interpreter's lock

Parameters: ring degree 4,096, coefficient modulus 36 + 36 + 37 bits (SEAL's limit for 128 bits at this degree), plain
modulus of 22 bits. A query is repeated over all slots; the server rotates it ``width`` - 1 times by one slot, so one
rotation key is enough, and multiplies each rotation by a diagonal of each block of 4,096 rows, in the transformed
domain, where that costs an elementwise product (Halevi and Shoup 2014, section 4.3, the diagonal method).

Only coefficients travel, five bytes each: what SEAL writes around them is put back here from an object made here. So
of a stranger's bytes SEAL's reader sees numbers alone, each of which was held against its modulus before.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as TooLong
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.process import BaseProcess
from threading import Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from discreet.errors import EngineLost, ProtocolError, SettingError
from discreet.protocols.encryption import Blocks, Compute

if TYPE_CHECKING:
    import seal

DEGREE = 4096
MODULUS_BITS = (36, 36, 37)
PLAIN_BITS = 22
PACKED = 5
"""Bytes of a coefficient on the wire: moduli have 37 bits at most."""
DEADLINE = 30.0
"""Seconds that a question may take a worker."""


class Seal:
    """The cryptosystem. See ``protocols.encryption.Scheme``.

    Args:
        workers: what computes; None for this process.

    Raises:
        SettingError: seal-python is not installed.
    """

    name = f"BFV degree {DEGREE} modulus {'+'.join(map(str, MODULUS_BITS))} plain {PLAIN_BITS}"
    slots = DEGREE
    query_size = 2 * 2 * DEGREE * PACKED
    block_size = 2 * DEGREE * PACKED
    key_size = 2 * 6 * DEGREE * PACKED
    """Ciphertexts are two polynomials, under two moduli when sent, one when answered; a key is two times two under
    three."""

    def __init__(self, workers: Workers | None = None) -> None:
        if find_spec("seal") is None:
            raise SettingError("seal-python is not installed: pip install 'discreet[encrypted]'")
        self._wire, self._workers = _Wire(), workers
        self.limit = self._wire.plain // 2

    def secret(self) -> Secret:
        """Make new keys."""
        return Secret(self._wire)

    def compute(self, matrix: NDArray[np.int16]) -> Compute:
        """Encode a matrix [rows, width], here or in each worker."""
        if self._workers is None:
            return _Kernel(self._wire, matrix)
        return self._workers.kernel(matrix)

    def memory(self, rows: int, width: int) -> int:
        """Return the bytes of its diagonals, under two moduli, in each process."""
        return -(-rows // DEGREE) * _padded(width) * 2 * DEGREE * 8


class Secret:
    """A client's keys, in this process's memory alone."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        keys = wire.seal.KeyGenerator(wire.context)
        self._secret = keys.secret_key()
        self.evaluation_key = wire.key.packed(wire.galois(keys))

    def __repr__(self) -> str:
        return "Secret()"

    def encrypt(self, query: NDArray[np.int64]) -> bytes:
        """Return an encrypted query [width], repeated over all slots."""
        width = _padded(len(query))
        repeated = np.tile(np.pad(query, (0, width - len(query))), DEGREE // width)
        encryptor = self._wire.seal.Encryptor(self._wire.context, self._secret)
        return self._wire.query.packed(encryptor.encrypt_symmetric(self._wire.encoder.encode(repeated)).to_string())

    def decrypt(self, block: bytes) -> NDArray[np.int64]:
        """Return what is in the slots of a block; of bytes that are no ciphertext, some numbers."""
        context = self._wire.context
        ciphertext = context.from_cipher_str(self._wire.block.unpacked(block, strict=False))
        decrypted = self._wire.seal.Decryptor(context, self._secret).decrypt(ciphertext)
        return np.asarray(self._wire.encoder.decode(decrypted), np.int64)


class Workers:
    """Processes that compute, a question each: a context. A process that dies is replaced.

    Args:
        count: of processes.
        deadline: seconds that a question may take.
    """

    def __init__(self, count: int, deadline: float = DEADLINE) -> None:
        if count < 1 or not deadline > 0:
            raise SettingError("there is at least one worker, and a deadline above 0 seconds")
        self._count, self._deadline = count, deadline
        self._pool: ProcessPoolExecutor | None = None
        self._matrix = np.zeros((0, 1), np.int16)
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._drop()

    def kernel(self, matrix: NDArray[np.int16]) -> Compute:
        """Start the processes, each with the matrix; one matrix at a time.

        Raises:
            EngineLost: they did not start.
        """
        with self._lock:
            self._drop()
            self._matrix = matrix
        self._asked(_ready)
        return lambda key, query: self._asked(_computed, key, query)

    def _asked(self, work: Callable[..., Any], *arguments: bytes) -> Any:
        pool = self._open()
        try:
            return pool.submit(work, *arguments).result(self._deadline)
        except (BrokenProcessPool, TooLong, RuntimeError):
            with self._lock:
                if self._pool is pool:
                    self._drop()
            raise EngineLost("a worker that computes on ciphertexts was lost or too slow; ask again") from None

    def _open(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                spawn = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(self._count, spawn, initializer=_begin, initargs=(self._matrix,))
            return self._pool

    def _drop(self) -> None:
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None


class _Kernel:
    """A matrix, encoded: the diagonals of its blocks.

    Args:
        wire: of the cryptosystem.
        matrix: int16 [rows, width], width 1 to 256.
    """

    def __init__(self, wire: _Wire, matrix: NDArray[np.int16]) -> None:
        self._wire, self._evaluator = wire, wire.seal.Evaluator(wire.context)
        self._width = _padded(matrix.shape[1])
        count = -(-len(matrix) // DEGREE)
        padded = np.zeros((count * DEGREE, self._width), np.int64)
        padded[: len(matrix), : matrix.shape[1]] = matrix
        self._blocks = [self._encoded(block) for block in padded.reshape(count, DEGREE, self._width)]

    def __call__(self, key: bytes, query: bytes) -> Blocks:
        """Return the encrypted scores.

        Raises:
            ProtocolError: a number is not below its modulus, or all of them make no ciphertext.
        """
        wire, evaluator = self._wire, self._evaluator
        encrypted, rotate = wire.query.unpacked(query), wire.key.unpacked(key)
        try:
            rotated, galois = wire.context.from_cipher_str(encrypted), wire.context.from_galois_str(rotate)
            rotations = [evaluator.transform_to_ntt(rotated)]
            for _ in range(self._width - 1):
                evaluator.rotate_rows_inplace(rotated, 1, galois)
                rotations.append(evaluator.transform_to_ntt(rotated))
            return tuple(self._block(rotations, diagonals) for diagonals in self._blocks)
        except (RuntimeError, ValueError):  # what SEAL raises at numbers that no honest client could have sent
            raise ProtocolError("these numbers are no ciphertext of this cryptosystem") from None

    def _block(self, rotations: list[seal.Ciphertext], diagonals: list[tuple[int, seal.Plaintext]]) -> bytes:
        evaluator, ((first, encoded), *others) = self._evaluator, diagonals
        total = evaluator.multiply_plain(rotations[first], encoded)
        for shift, encoded in others:
            evaluator.add_inplace(total, evaluator.multiply_plain(rotations[shift], encoded))
        evaluator.transform_from_ntt_inplace(total)
        evaluator.mod_switch_to_inplace(total, self._wire.context.last_parms_id())
        return self._wire.block.packed(total.to_string())

    def _encoded(self, block: NDArray[np.int64]) -> list[tuple[int, seal.Plaintext]]:
        """Return the diagonals of a block that are not zero, with the rotation that each is for.

        A product with a diagonal of zeros would be a ciphertext without any secret in it: SEAL refuses to make one.
        """
        slots, found = np.arange(DEGREE), []
        for shift in range(self._width):
            diagonal = block[slots, (slots + shift) % self._width]
            if diagonal.any():
                encoded = self._wire.encoder.encode(diagonal)
                self._evaluator.transform_to_ntt_inplace(encoded, self._wire.context.first_parms_id())
                found.append((shift, encoded))
        if not found:
            raise SettingError("a model whose scores are all 0 cannot be computed with under encryption")
        return found


@dataclass(frozen=True)
class _Written:
    """How SEAL writes an object of one shape: what is around its coefficients, and their moduli.

    Attributes:
        content: such an object, as SEAL writes it.
        starts: of each polynomial group in it, in bytes.
        moduli: of each polynomial in turn, uint64.
    """

    content: bytes
    starts: tuple[int, ...]
    moduli: NDArray[np.uint64]

    def packed(self, content: bytes) -> bytes:
        """Return the coefficients of an object that SEAL wrote, five bytes each.

        Raises:
            SettingError: it is written otherwise than the one made here at the start.
        """
        size = self._size
        if self._around(content) != self._around(self.content):
            raise SettingError("this version of SEAL writes otherwise than was expected")
        values = np.concatenate([np.frombuffer(content, "<u8", size // 8, start) for start in self.starts])
        return (values & 0xFFFFFFFF).astype("<u4").tobytes() + (values >> np.uint64(32)).astype(np.uint8).tobytes()

    def unpacked(self, packed: bytes, *, strict: bool = True) -> bytes:
        """Return what SEAL would have written.

        Args:
            packed: of the right size.
            strict: refuse a number that is not below its modulus; or take what is left of it.

        Raises:
            ProtocolError: a number is not below its modulus.
        """
        count = len(packed) // PACKED
        values = np.frombuffer(packed, "<u4", count).astype(np.uint64)
        values |= np.frombuffer(packed, np.uint8, count, 4 * count).astype(np.uint64) << np.uint64(32)
        polynomials = values.reshape(len(self.moduli), DEGREE)
        if strict and (polynomials >= self.moduli[:, None]).any():
            raise ProtocolError("these numbers are no ciphertext of this cryptosystem")
        groups = (polynomials % self.moduli[:, None]).astype("<u8").reshape(len(self.starts), -1)
        content = bytearray(self.content)
        for start, group in zip(self.starts, groups, strict=True):
            content[start : start + self._size] = group.tobytes()
        return bytes(content)

    @property
    def _size(self) -> int:
        return 8 * DEGREE * len(self.moduli) // len(self.starts)

    def _around(self, content: bytes) -> bytes:
        ends = (0, *[start + self._size for start in self.starts])
        return b"|".join(content[end:start] for end, start in zip(ends, (*self.starts, len(content)), strict=True))


class _Wire:
    """SEAL with the parameters, and how it writes what travels."""

    def __init__(self) -> None:
        import seal

        self.seal = seal
        parameters = seal.EncryptionParameters(seal.scheme_type.bfv)
        parameters.set_poly_modulus_degree(DEGREE)
        parameters.set_coeff_modulus(seal.CoeffModulus.Create(DEGREE, list(MODULUS_BITS)))
        parameters.set_plain_modulus(seal.PlainModulus.Batching(DEGREE, PLAIN_BITS))
        self.context = seal.SEALContext(parameters)  # refuses what has less than 128 bits
        self.encoder = seal.BatchEncoder(self.context)
        self.plain = parameters.plain_modulus().value()
        moduli = np.array([each.value() for each in parameters.coeff_modulus()], np.uint64)
        keys = seal.KeyGenerator(self.context)
        fresh = seal.Encryptor(self.context, keys.secret_key()).encrypt_symmetric(self.encoder.encode([1]))
        written = fresh.to_string()
        head = len(written) - 2 * 2 * DEGREE * 8
        self.query = _Written(written, (head,), np.tile(moduli[:2], 2))
        seal.Evaluator(self.context).mod_switch_to_inplace(fresh, self.context.last_parms_id())
        self.block = _Written(fresh.to_string(), (head,), np.tile(moduli[:1], 2))
        # A header and an identity, how many lists of keys there may be, that the first is empty and how long the next
        # is; then its two keys, each a ciphertext.
        first, size = 16 + 32 + 8 + 8 + 8 + head, 2 * 3 * DEGREE * 8
        self.key = _Written(self.galois(keys), (first, first + size + head), np.tile(moduli, 4))

    def galois(self, keys: seal.KeyGenerator) -> bytes:
        """Make the key that rotates by one slot, as SEAL writes it."""
        made = self.seal.GaloisKeys()
        keys.create_galois_keys([1], made)
        written: bytes = made.to_string()
        return written


def _padded(width: int) -> int:
    """Return the next power of two, of which the slots are a multiple."""
    return 1 << (width - 1).bit_length()


_held: list[_Kernel] = []
"""Of a worker process: its matrix."""


def _begin(matrix: NDArray[np.int16]) -> None:
    Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    _held.append(_Kernel(_Wire(), matrix))


def _end_with(parent: BaseProcess | None) -> None:
    """End this process when its parent has ended, however that was."""
    if parent is not None:
        parent.join()
    os._exit(0)


def _ready() -> None:
    """Answer once this process has begun."""


def _computed(key: bytes, query: bytes) -> Blocks:
    return _held[0](key, query)
