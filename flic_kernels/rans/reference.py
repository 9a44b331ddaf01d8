"""A slow, readable coder of the rANS stream: the format's specification in Python.

It shares no code with the native coder and agrees with it byte for byte. docs/rans.md explains
the format in words. Symbols and indexes are plain sequences of integers here.
"""

import functools
import struct
from collections.abc import Sequence

from .tables import PRECISION, TOTAL, Tables

STATE_LOW = 1 << 16  # a state between symbols lies in [2^16, 2^32)
MAX_LANES = 32
PAYLOAD_PER_LANE = 128  # bytes: the encoder's choice of lanes, not part of the format
SYMBOLS_PER_GROUP = 1 << 20  # likewise, of groups
TAIL_REACH = 1 << 14  # likewise, of the positions that a tail may take


class Corrupt(ValueError):
    """A stream that no encoder wrote."""


class Table:
    """One table: intervals (start, frequency), the last one the escape's."""

    def __init__(self, tables: Tables, index: int):
        if not 0 <= index < len(tables):
            raise IndexError("table index outside the tables")
        frequencies = tables.frequencies[tables.first[index] : tables.first[index + 1]].tolist()
        starts = [sum(frequencies[:k]) for k in range(len(frequencies))]
        self.intervals = list(zip(starts, frequencies, strict=True))
        self.low = int(tables.minimum[index])
        self.end = self.low + len(frequencies) - 1  # one past the last symbol
        self.busy = max(frequencies) < TOTAL // 4 * 3

    def interval(self, symbol):
        return self.intervals[symbol - self.low if self.low <= symbol < self.end else -1]

    def find(self, slot):
        """(symbol, or None for the escape; start; frequency)"""
        for k, (start, frequency) in enumerate(self.intervals):
            if start <= slot < start + frequency:
                symbol = self.low + k
                return (symbol if symbol < self.end else None), start, frequency

    def escape_code(self, symbol):
        return 2 * (symbol - self.end) if symbol >= self.end else 2 * (self.low - 1 - symbol) + 1

    def escape_symbol(self, code):
        symbol = self.low - 1 - code // 2 if code % 2 else self.end + code // 2
        if not -(2**31) <= symbol < 2**31:
            raise Corrupt("an escape stands for no int32")
        return symbol


def table_reader(tables):
    """A function from index to Table that makes each table once."""
    return functools.cache(lambda index: Table(tables, index))


def write_code(code: int) -> bytes:
    """Seven bits a byte, least significant first, the top bit set where more follow."""
    out = bytearray()
    while code > 127:
        out.append(code & 127 | 128)
        code >>= 7
    return bytes(out + bytes([code]))


class Reader:
    """Bounded reading of bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, count):
        if count > self.left():
            raise Corrupt("the data ends early")
        self.at += count
        return self.data[self.at - count : self.at]

    def code(self):
        value = 0
        for i in range(5):
            byte = self.take(1)[0]
            value |= (byte & 127) << 7 * i
            if byte < 128:
                if byte == 0 and i > 0:
                    raise Corrupt("a code is longer than it need be")
                return value
        raise Corrupt("a code is too long")


class State:
    """One rANS state. Words are kept in the order in which the decoder reads them."""

    def __init__(self, value=STATE_LOW):
        self.value = value

    def must_emit(self, frequency):
        return self.value >> (32 - PRECISION) >= frequency

    def put(self, start, frequency, words):
        if self.must_emit(frequency):
            words.insert(0, self.value & 0xFFFF)
            self.value >>= 16
        self.value = (self.value // frequency << PRECISION) + self.value % frequency + start

    def get(self, table, words, escapes):
        slot = self.value % TOTAL
        symbol, start, frequency = table.find(slot)
        self.value = frequency * (self.value >> PRECISION) + slot - start
        if symbol is None:
            symbol = table.escape_symbol(escapes.code())
        if self.value < STATE_LOW:
            if not words:
                raise Corrupt("the words run out")
            self.value = self.value << 16 | words.pop(0)
        return symbol


def group_parts(count: int, groups: int) -> list[slice]:
    """The part of a push that each group codes: equal multiples of 32, the last ones shorter."""
    size = -(-count // groups)
    size = -(-size // MAX_LANES) * MAX_LANES
    return [slice(min(g * size, count), min((g + 1) * size, count)) for g in range(groups)]


class GroupEncoder:
    """Codes one group's pushes, the last symbol first."""

    def __init__(self, lanes):
        self.lanes = [State() for _ in range(lanes)]
        self.words, self.escapes = [], b""
        self.tail_symbols, self.tail_begin = 0, None

    def put(self, state, table, symbol, words):
        if not table.low <= symbol < table.end:
            self.escapes = write_code(table.escape_code(symbol)) + self.escapes
        state.put(*table.interval(symbol), words)

    def tail(self, symbols, tables):
        """The last busy symbols, as many as fit into the lanes' first states."""
        state, words = State(), []
        for j in reversed(range(max(0, len(symbols) - TAIL_REACH), len(symbols))):
            if not tables[j].busy:
                continue
            frequency = tables[j].interval(symbols[j])[1]
            if state.must_emit(frequency) and len(words) == len(self.lanes) - 2:
                break
            self.put(state, tables[j], symbols[j], words)
            self.tail_symbols, self.tail_begin = self.tail_symbols + 1, j
        seeds = [state.value & 0xFFFF, state.value >> 16, *words]
        for lane, seed in zip(self.lanes, seeds, strict=False):
            lane.value |= seed

    def push(self, symbols, tables, last):
        self.tail_begin = len(symbols)
        if last and len(self.lanes) > 1:
            self.tail(symbols, tables)
        for j in reversed(range(len(symbols))):
            if j < self.tail_begin or not tables[j].busy:
                self.put(self.lanes[j % len(self.lanes)], tables[j], symbols[j], self.words)

    def payload(self):
        return 2 * len(self.words) + len(self.escapes)

    def finish(self):
        head = write_code(self.tail_symbols) if len(self.lanes) > 1 else b""
        head += write_code(len(self.escapes))
        bits, position = 0, 0
        fields = [(lane.value.bit_length() - 17, 4) for lane in self.lanes]
        for lane in self.lanes:
            length = lane.value.bit_length() - 1
            fields.append((lane.value - (1 << length), length))
        for value, length in fields:
            bits |= value << position
            position += length
        head += bits.to_bytes((position + 7) // 8, "little")
        return head + struct.pack(f"<{len(self.words)}H", *self.words) + self.escapes


def encode(pushes: Sequence[tuple], lanes: int | None = None, groups: int | None = None) -> bytes:
    """The stream of pushes, each (symbols, indexes, tables).

    lanes, groups: powers of two up to 32, or None to choose as the native encoder does.
    """
    resolved = []
    for symbols, indexes, tables in pushes:
        read = table_reader(tables)
        resolved.append((list(symbols), [read(index) for index in indexes]))

    def encode_groups(lanes, groups):
        coded = [GroupEncoder(lanes) for _ in range(groups)]
        for p in reversed(range(len(resolved))):
            symbols, tables = resolved[p]
            for group, part in zip(coded, group_parts(len(symbols), groups), strict=True):
                group.push(symbols[part], tables[part], p == len(resolved) - 1)
        return coded

    choose_lanes, choose_groups = lanes is None, groups is None
    lanes, groups = lanes or MAX_LANES, groups or 1
    total = sum(len(symbols) for symbols, _ in resolved)
    while choose_groups and groups < 32 and total // groups >= 2 * SYMBOLS_PER_GROUP:
        groups *= 2
    coded = encode_groups(lanes, groups)
    all_lanes = lanes * groups
    payload = sum(group.payload() for group in coded)
    while choose_groups and groups > 1 and payload < PAYLOAD_PER_LANE * lanes * groups:
        groups //= 2
    while choose_lanes and groups == 1 and lanes > 1 and payload < PAYLOAD_PER_LANE * lanes:
        lanes //= 2
    if lanes * groups != all_lanes:
        coded = encode_groups(lanes, groups)
    parts = [group.finish() for group in coded]
    out = bytes([(lanes.bit_length() - 1) | (groups.bit_length() - 1) << 3])
    out += write_code(len(resolved))
    out += b"".join(write_code(len(part)) for part in parts[:-1])
    return out + b"".join(parts)


class GroupDecoder:
    def __init__(self, reader, lanes):
        self.tail_symbols = reader.code() if lanes > 1 else 0
        escape_bytes = reader.code()
        self.lanes = self.read_states(reader, lanes)
        if escape_bytes > reader.left() or (reader.left() - escape_bytes) % 2:
            raise Corrupt("the words are no whole number")
        words = reader.take(reader.left() - escape_bytes)
        self.words = list(struct.unpack(f"<{len(words) // 2}H", words))
        self.escapes = Reader(reader.take(escape_bytes))

    @staticmethod
    def read_states(reader, lanes):
        nibbles = int.from_bytes(reader.data[reader.at : reader.at + (lanes + 1) // 2], "little")
        lengths = [(nibbles >> 4 * i & 15) + 16 for i in range(lanes)]
        bits = int.from_bytes(reader.take((4 * lanes + sum(lengths) + 7) // 8), "little")
        bits >>= 4 * lanes
        states = []
        for length in lengths:
            states.append(State(1 << length | bits & ((1 << length) - 1)))
            bits >>= length
        if bits:
            raise Corrupt("padding bits are set")
        return states

    def pull(self, tables, last):
        out = [None] * len(tables)
        tail = []
        if last and len(self.lanes) > 1:
            busy = [j for j, table in enumerate(tables) if table.busy]
            if self.tail_symbols > len(busy):
                raise Corrupt("the tail is longer than what could be in it")
            tail = busy[len(busy) - self.tail_symbols :]
        in_tail = set(tail)
        for j, table in enumerate(tables):
            if j not in in_tail:
                out[j] = self.lanes[j % len(self.lanes)].get(table, self.words, self.escapes)
        if last and len(self.lanes) > 1:
            self.pull_tail(tables, tail, out)
        return out

    def pull_tail(self, tables, tail, out):
        if any(lane.value >> 16 != 1 for lane in self.lanes):
            raise Corrupt("wrong end state")
        low, high, *words = [lane.value & 0xFFFF for lane in self.lanes]
        state = State(high << 16 | low)
        if state.value < STATE_LOW:
            raise Corrupt("the tail's state is too small")
        for j in tail:
            out[j] = state.get(tables[j], words, self.escapes)
        if state.value != STATE_LOW or any(words):
            raise Corrupt("wrong end state")
        self.lanes = [State() for _ in self.lanes]

    def close(self):
        if self.words or self.escapes.left() or any(s.value != STATE_LOW for s in self.lanes):
            raise Corrupt("wrong end state or data left over")


def decode(data: bytes, pulls: Sequence[tuple]) -> list[list[int]]:
    """The symbols of every push; pulls holds (indexes, tables) for each."""
    reader = Reader(data)
    head = reader.take(1)[0]
    if head >> 6 or head & 7 > 5 or head >> 3 > 5:
        raise Corrupt("malformed header")
    lanes, groups = 1 << (head & 7), 1 << (head >> 3)
    if reader.code() != len(pulls):
        raise Corrupt("more or fewer pulls than pushes")
    sizes = [reader.code() for _ in range(groups - 1)]
    parts = [reader.take(size) for size in sizes] + [reader.take(reader.left())]
    decoders = [GroupDecoder(Reader(part), lanes) for part in parts]
    out = []
    for p, (indexes, tables) in enumerate(pulls):
        read = table_reader(tables)
        resolved = [read(index) for index in indexes]
        symbols = []
        for decoder, part in zip(decoders, group_parts(len(resolved), groups), strict=True):
            symbols += decoder.pull(resolved[part], p == len(pulls) - 1)
        out.append(symbols)
    for decoder in decoders:
        decoder.close()
    return out
