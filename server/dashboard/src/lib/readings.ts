/** What curves show at a place of x: the values that a cursor reads, and which curve lies nearest to it. */
import type { Curve } from './curves';

/** What one curve shows at the cursor. */
export interface Reading {
  curve: Curve;
  /** Which of its samples. */
  i: number;
  /** Where that is drawn, and its value: the smoothed one, if the curve is. */
  x: number;
  y: number;
  mean: number;
  /** Least and greatest value, and how many points; of a single point all are the point's. */
  min: number;
  max: number;
  count: number;
  nonfinite: number;
  /** The last point's own value, also where it is NaN or ±Inf. */
  last: number;
}

/**
 * The sample at x: whose stretch x lies in, else the nearest; -1 if x lies further than `reach` beyond the ends.
 * The columns ascend.
 */
export function sampleAt(x0: Float64Array, x1: Float64Array, x: number, reach: number): number {
  const length = x0.length;
  if (!length || x < x0[0]! - reach || x > x1[length - 1]! + reach) return -1;
  let [low, high] = [0, length]; // how many samples begin at x or before
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x0[middle]! <= x) low = middle + 1;
    else high = middle;
  }
  const before = low - 1;
  if (before < 0) return 0;
  if (x <= x1[before]! || low === length) return before;
  return x - x1[before]! <= x0[low]! - x ? before : low;
}

/** What every curve shows at x, largest value first; what is not finite comes last. */
export function readingsAt(curves: readonly Curve[], x: number, reach: number): Reading[] {
  const readings: Reading[] = [];
  for (const curve of curves) {
    const i = sampleAt(curve.x0, curve.x1, x, reach);
    if (i >= 0) readings.push(readingOf(curve, i));
  }
  return readings.sort((a, b) => rank(b.y) - rank(a.y) || (a.curve.name < b.curve.name ? -1 : 1));
}

export function readingOf(curve: Curve, i: number): Reading {
  const { line, band } = curve;
  const mean = curve.mean[i]!;
  return {
    curve,
    i,
    x: curve.x[i]!,
    y: (curve.smoothed ?? curve.mean)[i]!,
    mean,
    min: (line ?? band)!.min[i]!,
    max: (line ?? band)!.max[i]!,
    count: curve.count[i]!,
    nonfinite: line ? line.nonfinite[i]! : 0,
    last: line ? line.last[i]! : mean,
  };
}

/** The reading whose place is nearest to the pointer; distance: of a place (x, y) from it. Null if there is none. */
export function nearest(
  readings: readonly Reading[],
  distance: (x: number, y: number) => number,
): Reading | null {
  let [found, least]: [Reading | null, number] = [null, Infinity];
  for (const reading of readings) {
    const away = distance(reading.x, reading.y);
    if (away < least) [found, least] = [reading, away];
  }
  return found;
}

/**
 * So many of the readings, with one of them in the middle (null: from the first on), and how many are left out.
 */
export function around<T>(
  readings: readonly T[],
  wanted: T | null,
  most: number,
): { shown: T[]; more: number } {
  const at = wanted === null ? 0 : Math.max(0, readings.indexOf(wanted));
  const first = Math.max(0, Math.min(at - (most >> 1), readings.length - most));
  const shown = readings.slice(first, first + most);
  return { shown, more: readings.length - shown.length };
}

function rank(value: number): number {
  return Number.isFinite(value) ? value : -Infinity;
}
