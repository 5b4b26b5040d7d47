/** Curves for tests, of few numbers. */
import type { Curve } from '../src/lib/curves';
import type { Band, Line } from '../src/lib/series';

export const column = (...values: number[]) => Float64Array.from(values);

/** A line of single points; values may be NaN or ±Inf. */
export function points(run: string, xs: number[], values: number[], attempt: number | null = null): Line {
  const [x, value] = [column(...xs), column(...values)];
  const finite = value.map((v) => (Number.isFinite(v) ? v : NaN));
  return {
    ...{ run, tag: 'loss', counter: 'global_step', attempt, writer: null, xSource: null },
    ...{ points: xs.length, length: xs.length, appended: 0 },
    ...{ x, x0: x, x1: x, mean: finite, min: finite, max: finite, first: value, last: value },
    count: x.map(() => 1),
    nonfinite: value.map((v) => Number(!Number.isFinite(v))),
  };
}

/** One bucket of a line. */
export interface Bucket {
  x0: number;
  x1: number;
  mean: number;
  min?: number;
  max?: number;
  first?: number;
  last?: number;
  count?: number;
  nonfinite?: number;
}

export function buckets(run: string, given: Bucket[]): Line {
  const of = (get: (bucket: Bucket) => number) => column(...given.map(get));
  const count = of((b) => b.count ?? 10);
  return {
    ...{ run, tag: 'loss', counter: 'global_step', attempt: null, writer: null, xSource: null },
    ...{ points: count.reduce((sum, n) => sum + n, 0), length: given.length, appended: 0 },
    x: of((b) => (b.x0 + b.x1) / 2),
    x0: of((b) => b.x0),
    x1: of((b) => b.x1),
    mean: of((b) => b.mean),
    min: of((b) => b.min ?? b.mean),
    max: of((b) => b.max ?? b.mean),
    first: of((b) => b.first ?? b.mean),
    last: of((b) => b.last ?? b.mean),
    count,
    nonfinite: of((b) => b.nonfinite ?? 0),
  };
}

export function band(value: unknown, xs: number[], means: number[], std: number, runs = 3): Band {
  const [x, mean] = [column(...xs), column(...means)];
  return {
    ...{ value, tag: 'loss', runs, nonfinite: 0, x, mean },
    count: x.map(() => runs),
    std: x.map(() => std),
    min: mean.map((v) => v - 3 * std),
    max: mean.map((v) => v + 3 * std),
  };
}

export function curve(line: Line, name = line.run): Curve {
  return {
    ...{
      key: `${line.run}\nloss`,
      run: line.run,
      name,
      note: '',
      colour: '#123456',
      ghost: line.attempt !== null,
    },
    ...{
      x: line.x,
      x0: line.x0,
      x1: line.x1,
      mean: line.mean,
      smoothed: null,
      low: line.min,
      high: line.max,
    },
    ...{ count: line.count, line, band: null },
  };
}
