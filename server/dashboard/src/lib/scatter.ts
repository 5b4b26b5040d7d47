/** Scatter plots: a point for each run; pure geometry in pixels. */
import { isMissing, type Axis } from './sweepaxis';
import { jitter, MISSING_GAP, NAN_GAP, type Box } from './parallel';
import type { Row } from './sweep';

/** Of a category's band, so much is used to spread runs of the same value. */
const SPREAD = 0.6;

export interface Points {
  readonly x: Float64Array;
  readonly y: Float64Array;
}

/** Where all points are; those without a value on an axis stand beside it, as on parallel axes. */
export function points(rows: readonly Row[], across: Axis, up: Axis, box: Box): Points {
  const [x, y] = [new Float64Array(rows.length), new Float64Array(rows.length)];
  rows.forEach((row, i) => {
    const left = placed(row, across, row.name);
    const below = placed(row, up, `${row.name}#`);
    x[i] = typeof left === 'string' ? box.left - gap(left) : box.left + left * box.width;
    y[i] = box.top + box.height + (typeof below === 'string' ? gap(below) : -below * box.height);
  });
  return { x, y };
}

/** The rows whose points lie in a rectangle between two corners. */
export function inside(
  { x, y }: Points,
  one: readonly [number, number],
  other: readonly [number, number],
): number[] {
  const [left, right] = [Math.min(one[0], other[0]), Math.max(one[0], other[0])];
  const [top, bottom] = [Math.min(one[1], other[1]), Math.max(one[1], other[1])];
  const found: number[] = [];
  for (let i = 0; i < x.length; i++)
    if (x[i]! >= left && x[i]! <= right && y[i]! >= top && y[i]! <= bottom) found.push(i);
  return found;
}

/** The row whose point is nearest, at most so many pixels away; null: none. */
export function nearestPoint({ x, y }: Points, at: readonly [number, number], most: number): number | null {
  let [found, least]: [number | null, number] = [null, most];
  for (let i = 0; i < x.length; i++) {
    const away = Math.hypot(x[i]! - at[0], y[i]! - at[1]);
    if (away <= least) [found, least] = [i, away];
  }
  return found;
}

/** From 0 to 1; `nan` and `missing` for what has no place on the axis. */
function placed(row: Row, axis: Axis, seed: string): number | 'nan' | 'missing' {
  const raw = row.values[axis.column];
  const value = axis.measure(raw);
  if (Number.isNaN(value)) return isMissing(raw) ? 'missing' : 'nan';
  return axis.at(axis.kind === 'category' ? value + (jitter(seed) - 0.5) * SPREAD : value);
}

function gap(why: 'nan' | 'missing'): number {
  return why === 'nan' ? NAN_GAP : MISSING_GAP;
}
