/** Last, least and greatest value of curves over what is seen, and an order by them. */
import type { Curve } from './curves';
import type { Range } from './ranges';
import { stretch } from './seen';

export interface Figures {
  curve: Curve;
  /** The last point's own value, also where it is not finite; of a group its last mean. */
  last: number | null;
  min: number | null;
  max: number | null;
  points: number;
}

export type FigureName = 'name' | 'last' | 'min' | 'max' | 'points';

/** Of each curve; null where it has no (finite) value in the range. */
export function figuresOf(curves: readonly Curve[], range: Range): Figures[] {
  return curves.map((curve) => {
    const [begin, end] = stretch(curve.x, range);
    const { line, band } = curve;
    const { min: low, max: high } = (line ?? band)!;
    let [min, max, points] = [Infinity, -Infinity, 0];
    for (let i = begin; i < end; i++) {
      if (low[i]! < min) min = low[i]!;
      if (high[i]! > max) max = high[i]!;
      points += line ? curve.count[i]! : 1;
    }
    const last = begin < end ? (line ? line.last : curve.mean)[end - 1]! : null;
    return { curve, last, points, min: min <= max ? min : null, max: min <= max ? max : null };
  });
}

/** Ordered by one of the figures; what has no finite one comes last, either way. */
export function sortedFigures(figures: readonly Figures[], by: FigureName, down: boolean): Figures[] {
  const way = down ? -1 : 1;
  const compare = (a: Figures, b: Figures) => {
    if (by === 'name') return way * a.curve.name.localeCompare(b.curve.name, undefined, { numeric: true });
    const [one, other] = [a[by], b[by]];
    const [has, hasOther] = [Number.isFinite(one), Number.isFinite(other)];
    return has && hasOther ? way * (one! - other!) : Number(hasOther) - Number(has);
  };
  return [...figures].sort(compare);
}
