/** Which stretch of an axis a chart shows: of y without what would flatten all else, of x with a margin for nothing. */

export interface Range {
  from: number;
  to: number;
}

/** A range of y, and how many of the values given lie outside of it. */
export interface ValueRange extends Range {
  below: number;
  above: number;
}

/** Of all values, the middle nine tenths are never cut off. */
const QUANTILE = 0.05;
/** What lies further out than so many times the width of the middle is an outlier. */
const FAR = 2;
const MARGIN = 0.05;
/** More values than this are sampled evenly: the range of a chart with 50 runs must not cost a frame. */
const SAMPLED_MAX = 4096;

/**
 * A range of y for the columns given (of each line its least and greatest values, or its means); NaN and ±Inf are left
 * out, null if there is nothing else.
 *
 * robust: outliers do not widen it; they are counted in `below` and `above`. log: of positive values only; others count
 * as `below`.
 */
export function valueRange(
  columns: Float64Array[],
  options: { robust: boolean; log: boolean },
): ValueRange | null {
  const { values, least, greatest, nonPositive } = gather(columns, options.log);
  if (!values.length) return null;
  const scale = options.log ? Math.log10 : (value: number) => value;
  let [from, to] = [scale(least), scale(greatest)];
  if (options.robust) {
    values.sort();
    const lower = scale(quantile(values, QUANTILE));
    const upper = scale(quantile(values, 1 - QUANTILE));
    const far = FAR * (upper - lower);
    if (far > 0) {
      if (from < lower - far) from = lower - far / 4;
      if (to > upper + far) to = upper + far / 4;
    }
  }
  const padded = options.log ? unlog(pad(from, to)) : pad(from, to);
  const outside = count(columns, padded, options.log);
  return { ...padded, below: outside.below + nonPositive, above: outside.above };
}

/** The range of x that lines cover, as [first, last] of each; a margin around a single place; null without any. */
export function xRange(ends: Iterable<readonly [number, number]>): Range | null {
  let [from, to] = [Infinity, -Infinity];
  for (const [first, last] of ends) {
    if (first < from) from = first;
    if (last > to) to = last;
  }
  if (!(from <= to)) return null;
  return from === to ? { from: from - 0.5, to: to + 0.5 } : { from, to };
}

/**
 * A range of x as the service takes it: on a counter's axis whole numbers, outwards, so that every step that is seen is
 * asked for.
 *
 * Steps are drawn as float64, which beyond 2⁵³ stand for up to 1,024 steps each (at 2⁶³); the exact step of a point is
 * in `Line.step`. So the ends go out by one such place, and a point at the edge is never lost.
 */
export function asked(range: Range, whole: boolean): Range {
  if (!whole) return range;
  const [from, to] = [Math.floor(range.from), Math.ceil(range.to)];
  return { from: from - spacing(from), to: to + spacing(to) };
}

/** How far apart float64 are at a whole number, 0 where they hold every one. */
function spacing(value: number): number {
  const size = Math.abs(value);
  return size <= Number.MAX_SAFE_INTEGER ? 0 : 2 ** (Math.floor(Math.log2(size)) - 52);
}

function gather(columns: Float64Array[], log: boolean) {
  const total = columns.reduce((sum, column) => sum + column.length, 0);
  const stride = Math.max(1, Math.ceil(total / SAMPLED_MAX));
  const values = new Float64Array(Math.ceil(total / stride));
  let [least, greatest, nonPositive, seen, kept] = [Infinity, -Infinity, 0, 0, 0];
  for (const column of columns) {
    for (let i = 0; i < column.length; i++) {
      const value = column[i]!;
      if (value - value !== 0) continue; // NaN or ±Inf
      if (log && value <= 0) {
        nonPositive++;
        continue;
      }
      if (value < least) least = value;
      if (value > greatest) greatest = value;
      if (seen++ % stride === 0) values[kept++] = value;
    }
  }
  return { values: values.subarray(0, kept), least, greatest, nonPositive };
}

function count(columns: Float64Array[], range: Range, log: boolean) {
  let [below, above] = [0, 0];
  for (const column of columns) {
    for (let i = 0; i < column.length; i++) {
      const value = column[i]!;
      if (value > range.to && value < Infinity) above++;
      else if (value < range.from && value > (log ? 0 : -Infinity)) below++;
    }
  }
  return { below, above };
}

function quantile(sorted: Float64Array, share: number): number {
  return sorted[Math.round(share * (sorted.length - 1))]!;
}

/** With some air on both sides; around a single value a range that is not empty. */
function pad(from: number, to: number): Range {
  const width = to - from;
  if (width === Infinity) return { from, to }; // no float64 is beyond
  const margin = width > 0 ? width * MARGIN : Math.abs(from) * MARGIN || 1;
  return { from: Math.max(-Number.MAX_VALUE, from - margin), to: Math.min(Number.MAX_VALUE, to + margin) };
}

function unlog(range: Range): Range {
  return {
    from: Math.max(Number.MIN_VALUE, 10 ** range.from),
    to: Math.min(Number.MAX_VALUE, 10 ** range.to),
  };
}
