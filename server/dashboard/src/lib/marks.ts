/** What a line can't show: points that are not finite, and values beyond the range of y that is seen. */
import type { Curve } from './curves';
import type { Line } from './series';
import type { Range } from './ranges';

/** unknown: NaN or ±Inf inside a bucket, which only a zoom tells apart. */
export type MarkKind = 'nan' | 'up' | 'down' | 'unknown';

/** Points that are not finite: where, and (of a bucket) how many. */
export interface Mark {
  kind: MarkKind;
  x: number;
  count: number;
  /** Where the line is there, or was before; NaN if it has not begun. */
  y: number;
}

/** A value beyond the range of y. */
export interface Outlier {
  x: number;
  value: number;
  above: boolean;
  curve: Curve;
}

/**
 * The marks of a line, ascending in x. Of a bucket the first and the last point are known as they are; what else of it
 * is not finite is one mark in its middle.
 */
export function marksOf(line: Line): Mark[] {
  const marks: Mark[] = [];
  if (!sum(line.nonfinite)) return marks;
  let y = NaN;
  for (let i = 0; i < line.length; i++) {
    if (Number.isFinite(line.mean[i]!)) y = line.mean[i]!;
    let left = line.nonfinite[i]!;
    if (!left) continue;
    const [first, last] = [line.first[i]!, line.last[i]!];
    const ends: Mark[] = [];
    if (!Number.isFinite(first)) ends.push({ kind: kindOf(first), x: line.x0[i]!, count: 1, y });
    if (line.count[i]! > 1 && !Number.isFinite(last))
      ends.push({ kind: kindOf(last), x: line.x1[i]!, count: 1, y });
    left -= ends.length;
    if (left > 0) {
      const at = ends.length && ends[0]!.x === line.x0[i] ? 1 : 0;
      ends.splice(at, 0, { kind: 'unknown', x: line.x[i]!, count: left, y });
    }
    marks.push(...ends);
  }
  return marks;
}

/**
 * What of the curves lies beyond the range of y within that of x: of each place (`column` of an x) and side the value
 * that is furthest out.
 */
export function outliersOf(
  curves: readonly Curve[],
  x: Range,
  y: Range,
  column: (x: number) => number,
): Outlier[] {
  const found = new Map<number, Outlier>();
  for (const curve of curves) {
    for (let i = 0; i < curve.x.length; i++) {
      const at = curve.x[i]!;
      if (at < x.from || at > x.to) continue;
      const [low, high] = [curve.low[i]!, curve.high[i]!];
      if (high > y.to) keep(found, 2 * column(at), { x: at, value: high, above: true, curve });
      if (low < y.from) keep(found, 2 * column(at) + 1, { x: at, value: low, above: false, curve });
    }
  }
  return [...found.values()].sort((a, b) => a.x - b.x);
}

/** How many points of the lines are not finite, and how many samples have values that a log axis can't show. */
export function unshown(curves: readonly Curve[], log: boolean): { nonfinite: number; nonPositive: number } {
  let [nonfinite, nonPositive] = [0, 0];
  for (const { line, band, low } of curves) {
    nonfinite += line ? sum(line.nonfinite) : (band?.nonfinite ?? 0);
    if (log) for (let i = 0; i < low.length; i++) if (low[i]! <= 0) nonPositive++;
  }
  return { nonfinite, nonPositive };
}

function kindOf(value: number): MarkKind {
  return Number.isNaN(value) ? 'nan' : value > 0 ? 'up' : 'down';
}

function keep(found: Map<number, Outlier>, column: number, outlier: Outlier): void {
  const before = found.get(column);
  const further = !before || (outlier.above ? outlier.value > before.value : outlier.value < before.value);
  if (further) found.set(column, outlier);
}

function sum(column: Float64Array): number {
  let total = 0;
  for (let i = 0; i < column.length; i++) total += column[i]!;
  return total;
}
