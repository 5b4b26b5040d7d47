"""The two rules about rows: steps never decrease, and a tag has one value per step. Whole columns at a time.

The order of judgement is by step: each request block's rows by the largest step reached in it so far, ties
in request order. A row whose step is below what its block has reached comes after a row that reached it, so
it is refused whatever the other blocks hold; and a row that is not refused for that stands at its own step.
So the first rule needs no merging, and the second looks at one step at a time.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tallyboard.wire import Int64
from tallyboard_server.contract.segments import Bool, Conflict, Segment
from tallyboard_server.model import Attempt, Tag


class _Scalars(NamedTuple):
    """The scalars of a segment that others may repeat: rows × columns, steps by rank, tags by code."""

    segment: Segment
    rows: Int64
    columns: Int64
    ranks: Int64
    codes: Int64
    bits: Int64


def judge(segments: Sequence[Segment], attempt: Attempt, tags: Mapping[str, Tag]) -> int:
    """Mark refused rows and repeated scalars of the segments that go to one attempt, in request order.

    Returns how many reports in a row have now brought nothing new at the attempt's largest step (see Attempt).
    """
    _mark_decreased(segments, attempt.start if attempt.last_step is None else attempt.last_step)
    rows = [segment.accepted_rows() for segment in segments]
    contested = _contested_steps(segments, rows, attempt.last_step)
    if len(contested):
        _judge_contested(segments, rows, contested, attempt, tags)
        if any(segment.keep is not None for segment in segments):
            return _count_unmoved(segments, rows, attempt)
    return 0 if any(len(mine) for mine in rows) else attempt.unmoved


def _mark_decreased(segments: Sequence[Segment], floor: int) -> None:
    reached_in: dict[int, int] = {}
    for segment in segments:
        block, steps = segment.columns.block, segment.columns.steps
        reached = np.maximum.accumulate(steps)
        if (before := reached_in.get(block, -1)) > reached[0]:
            reached = np.maximum(reached, before)
        reached_in[block] = int(reached[-1])
        decreased = (steps < reached) | (steps < floor)
        if decreased.any():
            segment.reached = reached
            segment.refused = decreased


def _contested_steps(segments: Sequence[Segment], rows: Sequence[Int64], last_step: int | None) -> Int64:
    """The steps that more than one report has, the attempt's tail included; ascending."""
    steps = np.concatenate([s.columns.steps[accepted] for s, accepted in zip(segments, rows, strict=True)])
    steps.sort()
    twice = np.zeros(len(steps), np.bool_)
    np.equal(steps[1:], steps[:-1], out=twice[1:])
    if last_step is not None:
        twice |= steps == last_step
    return np.unique(steps[twice])


def _judge_contested(
    segments: Sequence[Segment],
    rows: Sequence[Int64],
    contested: Int64,
    attempt: Attempt,
    tags: Mapping[str, Tag],
) -> None:
    """Apply "one value per tag and step" at the contested steps."""
    names: dict[str, int] = {}
    tail = _tail(segments, attempt, tags, names)
    groups = _scalars(segments, rows, contested, names, tail, attempt.last_step)
    if not groups:
        return
    disagreed = _mark_repeated(groups, contested, len(names), tail, attempt.last_step)
    if disagreed.any():
        _judge_row_by_row(groups, contested, disagreed, tuple(names), tail, attempt)


def _tail(
    segments: Sequence[Segment], attempt: Attempt, tags: Mapping[str, Tag], names: dict[str, int]
) -> dict[int, int]:
    """Give each tag name of the segments a code, in `names`; returns the tail's value bits by code."""
    for segment in segments:
        for name in segment.columns.tags:
            names.setdefault(name, len(names))
    stored = dict(zip(attempt.tail_tags.tolist(), attempt.tail_values.view(np.int64).tolist(), strict=True))
    if not stored:
        return {}
    known = ((code, tags.get(name)) for name, code in names.items())
    return {code: stored[tag.id] for code, tag in known if tag is not None and tag.id in stored}


def _scalars(
    segments: Sequence[Segment],
    rows: Sequence[Int64],
    contested: Int64,
    names: Mapping[str, int],
    tail: Mapping[int, int],
    last_step: int | None,
) -> list[_Scalars]:
    """The scalars at contested steps, of tags that could meet another value there."""
    picked: list[tuple[Segment, Int64, Int64]] = []
    uses = np.zeros(len(names), np.int64)
    for segment, accepted in zip(segments, rows, strict=True):
        steps = segment.columns.steps[accepted]
        ranks = np.searchsorted(contested, steps)
        here = contested[np.minimum(ranks, len(contested) - 1)] == steps
        if here.any():
            picked.append((segment, accepted[here], ranks[here]))
            codes = np.array([names[name] for name in segment.columns.tags])
            uses[codes] += 2 if (np.diff(ranks[here]) == 0).any() else 1
    if last_step is not None and contested[0] == last_step:
        uses[list(tail)] += 1
    groups = []
    for segment, mine, ranks in picked:
        codes = np.array([names[name] for name in segment.columns.tags])
        columns = np.flatnonzero(uses[codes] > 1)
        if len(columns):
            bits = segment.columns.values[np.ix_(mine, columns)].view(np.int64)
            groups.append(_Scalars(segment, mine, columns, ranks, codes[columns], bits))
    return groups


def _mark_repeated(
    groups: Sequence[_Scalars], contested: Int64, n_codes: int, tail: Mapping[int, int], last_step: int | None
) -> Bool:
    """Mark scalars that repeat an earlier one as not to be kept; returns by rank whether values disagree."""
    keys = [(g.ranks[:, None] * n_codes + g.codes[None, :]).ravel() for g in groups]
    bits = [g.bits.ravel() for g in groups]
    if last_step is not None and contested[0] == last_step and tail:  # steps before it were refused: rank 0
        keys.insert(0, np.fromiter(tail.keys(), np.int64, len(tail)))
        bits.insert(0, np.fromiter(tail.values(), np.int64, len(tail)))
    else:
        tail = {}
    key, value = np.concatenate(keys), np.concatenate(bits)
    order = np.argsort(key, kind="stable")
    key, value = key[order], value[order]
    later = np.zeros(len(key), np.bool_)
    np.equal(key[1:], key[:-1], out=later[1:])
    first = np.maximum.accumulate(np.where(later, 0, np.arange(len(key))))
    disagreed = np.zeros(len(contested), np.bool_)
    disagreed[key[value != value[first]] // n_codes] = True
    repeated = np.empty(len(key), np.bool_)
    repeated[order] = later
    start = len(tail)
    for group in groups:
        size = group.bits.size
        _drop(group, repeated[start : start + size].reshape(group.bits.shape))
        start += size
    return disagreed


def _drop(group: _Scalars, repeated: Bool) -> None:
    if repeated.any():
        keep = _keep(group.segment)
        keep[np.ix_(group.rows, group.columns)] &= ~repeated


def _keep(segment: Segment) -> Bool:
    if segment.keep is None:
        segment.keep = np.ones(segment.columns.values.shape, np.bool_)
        if segment.refused is not None:
            segment.keep[segment.refused] = False
    return segment.keep


def _judge_row_by_row(
    groups: Sequence[_Scalars],
    contested: Int64,
    disagreed: Bool,
    names: Sequence[str],
    tail: Mapping[int, int],
    attempt: Attempt,
) -> None:
    """Go through the reports at the steps where values disagree, in order."""
    where = [
        (index, place)
        for index, group in enumerate(groups)
        for place in np.flatnonzero(disagreed[group.ranks]).tolist()
    ]
    where.sort(key=lambda place: groups[place[0]].ranks[place[1]])  # stable: request order within a step
    codes_of = [group.codes.tolist() for group in groups]
    seen: dict[int, int] = {}
    rank_before = -1
    for index, place in where:
        group = groups[index]
        rank, row, segment = int(group.ranks[place]), int(group.rows[place]), group.segment
        if rank != rank_before:
            rank_before = rank
            seen = dict(tail) if int(contested[rank]) == attempt.last_step else {}
        codes, bits = codes_of[index], group.bits[place].tolist()
        clash = [j for j, code in enumerate(codes) if seen.get(code, bits[j]) != bits[j]]
        keep = _keep(segment)
        if clash:
            segment.refuse(row)
            keep[row] = False
            clashing = tuple(names[codes[j]] for j in clash)
            segment.conflicts[row] = Conflict(clashing, seen[codes[clash[0]]], bits[clash[0]])
        else:
            keep[row, group.columns] = [code not in seen for code in codes]
            seen.update(zip(codes, bits, strict=True))


def _count_unmoved(segments: Sequence[Segment], rows: Sequence[Int64], attempt: Attempt) -> int:
    """Count the reports in a row that brought nothing new, in order of judgement; those that conflict are told theirs.

    The first report of a step always brings something, except where the attempt's last step goes on: then what was
    counted before counts on.
    """
    steps = np.concatenate([segment.columns.steps[mine] for segment, mine in zip(segments, rows, strict=True)])
    is_new = np.concatenate([_brings_new(segment, mine) for segment, mine in zip(segments, rows, strict=True)])
    order = np.argsort(steps, kind="stable")
    place = np.arange(len(order))
    newest = np.maximum.accumulate(np.where(is_new[order], place, -1))
    count = np.empty(len(order), np.int64)
    count[order] = place - newest + np.where(newest < 0, attempt.unmoved, 0)
    start = 0
    for segment, mine in zip(segments, rows, strict=True):
        if segment.conflicts:
            segment.unmoved = np.zeros(len(segment.columns), np.int64)
            segment.unmoved[mine] = count[start : start + len(mine)]
        start += len(mine)
    return int(count[order[-1]])


def _brings_new(segment: Segment, rows: Int64) -> Bool:
    """Of rows, whether one of their scalars is to be kept."""
    if segment.keep is None:
        return np.ones(len(rows), np.bool_)
    found: Bool = np.logical_or.reduce(segment.keep[rows], axis=1)
    return found
