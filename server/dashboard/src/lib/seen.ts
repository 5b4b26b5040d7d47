/** What of its curves a chart shows: the ranges of x and y, and what to say of that which is not in them. */
import type { Curve } from './curves';
import { marksOf, outliersOf, unshown, type Mark, type Outlier } from './marks';
import { valueRange, xRange, type Range } from './ranges';
import type { Zoom } from './view';

export interface Options {
  zoom: Zoom | null;
  height: Zoom | null;
  log: boolean;
  /** Whether outliers don't widen the range of y. */
  robust: boolean;
  /** In how many columns, along x, values out of range are told apart. */
  columns: number;
}

export interface Seen {
  x: Range;
  y: Range;
  marks: { curve: Curve; marks: Mark[] }[];
  outliers: Outlier[];
  /** How much is not within the lines, to be said in words. */
  counts: { above: number; below: number; nonfinite: number; nonPositive: number };
  /** Whether there is any value to draw. */
  empty: boolean;
}

export function seenOf(curves: readonly Curve[], options: Options): Seen {
  const { zoom, height, log, robust, columns } = options;
  const filled = curves.filter(({ x }) => x.length);
  const x = zoom
    ? { from: zoom[0], to: zoom[1] }
    : (xRange(filled.map(({ x0, x1 }) => [x0[0]!, x1[x1.length - 1]!] as const)) ?? { from: 0, to: 1 });
  const parts = filled.flatMap((curve) => {
    const [begin, end] = stretch(curve.x, x);
    const cut = (column: Float64Array) => column.subarray(begin, end);
    return curve.low === curve.high ? [cut(curve.low)] : [cut(curve.low), cut(curve.high)];
  });
  const needed = valueRange(parts, { robust, log });
  const wanted = height && !(log && height[0] <= 0) ? { from: height[0], to: height[1] } : null;
  const y = wanted ?? needed ?? { from: log ? 0.1 : 0, to: 1 };
  const perColumn = (x.to - x.from) / Math.max(1, columns);
  const outliers = outliersOf(filled, x, y, (at) => Math.floor((at - x.from) / perColumn));
  const marks = filled.flatMap((curve) => {
    const found = curve.line && !curve.ghost ? marksOf(curve.line) : [];
    return found.length ? [{ curve, marks: found }] : [];
  });
  const above = outliers.filter((outlier) => outlier.above).length;
  return {
    x,
    y: { from: y.from, to: y.to },
    marks,
    outliers: log ? outliers.filter(({ value }) => value > 0) : outliers,
    counts: { above, below: outliers.length - above, ...unshown(filled, log) },
    empty: needed === null,
  };
}

/** The samples whose place lies in a range: from one, up to another. */
export function stretch(xs: Float64Array, { from, to }: Range): [begin: number, end: number] {
  const first = (fits: (x: number) => boolean) => {
    let [low, high] = [0, xs.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (fits(xs[middle]!)) high = middle;
      else low = middle + 1;
    }
    return low;
  };
  return [first((x) => x >= from), first((x) => x > to)];
}

/** What a chart does not show, in words; '' if it shows all. */
export function notShown({ above, below, nonfinite, nonPositive }: Seen['counts'], log: boolean): string {
  const parts = [];
  if (above + below) {
    const where = above && below ? 'above and below' : above ? 'above' : 'below';
    parts.push(`values ${where} the range`);
  }
  if (nonfinite) parts.push(`${nonfinite} not finite`);
  if (log && nonPositive) parts.push(`values ≤ 0 have no place on a log axis`);
  return parts.join(' · ');
}
