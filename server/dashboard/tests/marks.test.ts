import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { marksOf, outliersOf, unshown } from '../src/lib/marks';
import { buckets, curve, points } from './kit';

describe('marks of what is not finite', () => {
  it('of points are what they are, at the height where the line was', () => {
    const line = points('a', [1, 2, 3, 4, 5], [NaN, 7, Infinity, -Infinity, NaN]);
    expect(marksOf(line)).toEqual([
      { kind: 'nan', x: 1, count: 1, y: NaN },
      { kind: 'up', x: 3, count: 1, y: 7 },
      { kind: 'down', x: 4, count: 1, y: 7 },
      { kind: 'nan', x: 5, count: 1, y: 7 },
    ]);
  });

  it('of a bucket are known at its ends, and one in its middle for the rest', () => {
    const line = buckets('a', [
      { x0: 0, x1: 8, mean: 2, first: NaN, last: Infinity, nonfinite: 5 },
      { x0: 10, x1: 18, mean: 3, nonfinite: 1 },
      { x0: 20, x1: 28, mean: 4, first: -Infinity, nonfinite: 1 },
    ]);
    expect(marksOf(line).map(({ kind, x, count, y }) => [kind, x, count, y])).toEqual([
      ['nan', 0, 1, 2],
      ['unknown', 4, 3, 2],
      ['up', 8, 1, 2],
      ['unknown', 14, 1, 3],
      ['down', 20, 1, 4],
    ]);
  });

  it('count every one of them, ascending in x', () => {
    const value = fc.constantFrom(1, 2, NaN, Infinity, -Infinity);
    fc.assert(
      fc.property(fc.array(value, { maxLength: 60 }), fc.integer({ min: 1, max: 9 }), (values, width) => {
        const given = Array.from({ length: Math.ceil(values.length / width) }, (_, i) => {
          const part = values.slice(i * width, (i + 1) * width);
          const bad = part.filter((v) => !Number.isFinite(v)).length;
          const ends = { first: part[0]!, last: part.at(-1)! };
          const mean = bad === part.length ? NaN : 1;
          return {
            x0: i * width,
            x1: i * width + part.length - 1,
            mean,
            ...ends,
            count: part.length,
            nonfinite: bad,
          };
        });
        const line = buckets('a', given);
        const marks = marksOf(line);
        const bad = values.filter((v) => !Number.isFinite(v)).length;
        expect(marks.reduce((sum, { count }) => sum + count, 0)).toBe(bad);
        expect(unshown([curve(line)], false).nonfinite).toBe(bad);
        marks.reduce((before, { x }) => (expect(x).toBeGreaterThanOrEqual(before), x), -Infinity);
      }),
    );
  });
});

describe('outliers', () => {
  const spiky = curve(
    buckets('a', [
      { x0: 0, x1: 1, mean: 1, max: 50 },
      { x0: 2, x1: 3, mean: 1, max: 90 },
      { x0: 20, x1: 21, mean: 1, min: -8 },
      { x0: 40, x1: 41, mean: 1, max: 70 },
    ]),
  );

  it('are the furthest of each place and side within sight', () => {
    const found = outliersOf([spiky], { from: 0, to: 30 }, { from: 0, to: 10 }, (x) => Math.floor(x / 10));
    expect(found.map(({ x, value, above }) => [x, value, above])).toEqual([
      [2.5, 90, true],
      [20.5, -8, false],
    ]);
  });

  it('are none where all is in range', () => {
    expect(outliersOf([spiky], { from: 0, to: 50 }, { from: -10, to: 90 }, (x) => x)).toEqual([]);
  });
});

it('a log axis says how much has no place on it', () => {
  const line = points('a', [1, 2, 3, 4], [0, -1, NaN, 2]);
  expect(unshown([curve(line)], true)).toEqual({ nonfinite: 1, nonPositive: 2 });
  expect(unshown([curve(line)], false)).toEqual({ nonfinite: 1, nonPositive: 0 });
});
