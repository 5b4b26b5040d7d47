/**
 * Parallel coordinates: each run is a line through its values on axes side by side; pure geometry in pixels.
 *
 * An axis has two places beneath it, for NaN (and ±∞, and what has no logarithm) and for what is missing; a line that
 * goes there can be seen, and is not taken for a small value.
 */
import { Axis, isMissing } from './sweepaxis';
import type { Row } from './sweep';

export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** Beneath the axes: where what is no number is, and what is missing. */
export const NAN_GAP = 16;
export const MISSING_GAP = 32;
/** Around a category's place, so much of its band is used to spread runs of the same value. */
const SPREAD = 0.5;

export interface Layout {
  readonly axes: readonly Axis[];
  /** x of each axis. */
  readonly x: readonly number[];
  /** Of each axis, y by row. */
  readonly y: readonly Float64Array[];
  /** Of each axis what was measured, by row; NaN is no value. */
  readonly measured: readonly Float64Array[];
  readonly box: Box;
}

/** Where all lines go. box: what the axes themselves take, without the places beneath. */
export function layout(rows: readonly Row[], axes: readonly Axis[], box: Box): Layout {
  const bottom = box.top + box.height;
  const y: Float64Array[] = [];
  const measured: Float64Array[] = [];
  for (const axis of axes) {
    const [places, values] = [new Float64Array(rows.length), new Float64Array(rows.length)];
    rows.forEach((row, i) => {
      const raw = row.values[axis.column];
      const value = (values[i] = axis.measure(raw));
      if (Number.isNaN(value)) places[i] = bottom + (isMissing(raw) ? MISSING_GAP : NAN_GAP);
      else {
        const spread = axis.kind === 'category' ? (jitter(row.name) - 0.5) * SPREAD : 0;
        places[i] = bottom - axis.at(value + spread) * box.height;
      }
    });
    y.push(places);
    measured.push(values);
  }
  return { axes, x: axes.map((_, i) => axisX(i, axes.length, box)), y, measured, box };
}

/** x of an axis: side by side, all as far from each other. */
export function axisX(i: number, count: number, box: Box): number {
  return count < 2 ? box.left + box.width / 2 : box.left + (i / (count - 1)) * box.width;
}

/** The axis that a dragged one comes to stand at. */
export function placeAt(x: number, count: number, box: Box): number {
  if (count < 2) return 0;
  return Math.min(count - 1, Math.max(0, Math.round(((x - box.left) / box.width) * (count - 1))));
}

/** A list with one of its items at another place. */
export function moved<T>(items: readonly T[], from: number, to: number): T[] {
  const next = items.filter((_, i) => i !== from);
  next.splice(Math.max(0, Math.min(next.length, to)), 0, items[from]!);
  return next;
}

export type Ranges = Readonly<Record<string, readonly [from: number, to: number]>>;

/** Which rows lie in the ranges of all axes that have one; who has no value there does not. */
export function within(layout: Layout, ranges: Ranges): boolean[] {
  const rows = layout.measured[0]?.length ?? 0;
  const inside = new Array<boolean>(rows).fill(true);
  layout.axes.forEach((axis, a) => {
    const range = Object.hasOwn(ranges, axis.column) ? ranges[axis.column] : undefined;
    if (!range) return;
    const values = layout.measured[a]!;
    for (let i = 0; i < rows; i++) if (!(values[i]! >= range[0] && values[i]! <= range[1])) inside[i] = false;
  });
  return inside;
}

/** What of an axis a drag from one y to another takes in; null: so little that it was a click. */
export function rangeOf(axis: Axis, from: number, to: number, box: Box): [number, number] | null {
  if (Math.abs(from - to) < 4) return null;
  const at = (y: number) => Math.min(1, Math.max(0, (box.top + box.height - y) / box.height));
  const [low, high] = [axis.invert(at(Math.max(from, to))), axis.invert(at(Math.min(from, to)))];
  return low < high ? [low, high] : null;
}

/** The row whose line is nearest to a point, at most so many pixels away; null: none. Only rows that `shown` has. */
export function nearestLine(
  { x, y }: Layout,
  point: readonly [number, number],
  most: number,
  shown: readonly boolean[],
): number | null {
  let [found, least]: [number | null, number] = [null, most];
  for (let a = 0; a + 1 < x.length || (a === 0 && x.length === 1); a++) {
    const right = Math.min(a + 1, x.length - 1);
    if (point[0] < x[a]! - most || point[0] > x[right]! + most) continue;
    for (let i = 0; i < y[a]!.length; i++) {
      if (!shown[i]) continue;
      const away = segmentDistance(point, [x[a]!, y[a]![i]!], [x[right]!, y[right]![i]!]);
      if (away < least) [found, least] = [i, away];
    }
  }
  return found;
}

/** From 0 to 1, by the run's name: the same each time, so that nothing jumps when a run comes. */
export function jitter(name: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) value = Math.imul(value ^ name.charCodeAt(i), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x7feb352d);
  return ((value ^ (value >>> 15)) >>> 0) / 2 ** 32;
}

type Point = readonly [number, number];

function segmentDistance([x, y]: Point, [x0, y0]: Point, [x1, y1]: Point): number {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length = dx * dx + dy * dy;
  const at = length ? Math.min(1, Math.max(0, ((x - x0) * dx + (y - y0) * dy) / length)) : 0;
  return Math.hypot(x - x0 - at * dx, y - y0 - at * dy);
}
