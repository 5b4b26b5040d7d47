import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { around, nearest, readingsAt, sampleAt } from '../src/lib/readings';
import { buckets, column, curve, points } from './kit';

describe('the sample at a place', () => {
  it('is the one that a search through all of them finds', () => {
    const ends = fc
      .uniqueArray(fc.integer({ min: 0, max: 200 }), { minLength: 2, maxLength: 40 })
      .map((all) => all.sort((a, b) => a - b).slice(0, all.length & ~1));
    fc.assert(
      fc.property(
        ends,
        fc.integer({ min: -20, max: 220 }),
        fc.integer({ min: 0, max: 15 }),
        (all, x, reach) => {
          const x0 = column(...all.filter((_, i) => i % 2 === 0));
          const x1 = column(...all.filter((_, i) => i % 2 === 1));
          const found = sampleAt(x0, x1, x, reach);
          const away = Array.from(x0, (from, i) => Math.max(0, from - x, x - x1[i]!));
          const least = Math.min(...away);
          const beyond = x < x0[0]! - reach || x > x1[x1.length - 1]! + reach;
          if (beyond) expect(found).toBe(-1);
          else expect(away[found]).toBe(least);
        },
      ),
    );
  });

  it('is none where there are none', () => expect(sampleAt(column(), column(), 1, 100)).toBe(-1));

  it('between points that share a place is the last of them', () => {
    const x = column(1, 2, 2, 3);
    expect(sampleAt(x, x, 2, 0)).toBe(2);
  });
});

describe('readings', () => {
  const low = curve(points('low', [0, 10], [1, 2]));
  const high = curve(points('high', [0, 10], [8, NaN]));
  const bucket = curve(
    buckets('bucket', [{ x0: 0, x1: 10, mean: 4, min: -1, max: 9, last: Infinity, count: 7, nonfinite: 2 }]),
  );

  it('come largest first, what is not finite last', () => {
    const at = (x: number) =>
      readingsAt([low, high, bucket], x, 5).map(({ curve, mean }) => [curve.name, mean]);
    expect(at(1)).toEqual([['high', 8], ['bucket', 4], ['low', 1]]); // prettier-ignore
    expect(at(9)).toEqual([['bucket', 4], ['low', 2], ['high', NaN]]); // prettier-ignore
    expect(at(16)).toEqual([]);
  });

  it('of a bucket say what it is made of', () => {
    const [reading] = readingsAt([bucket], 3, 0);
    expect(reading).toMatchObject({ x: 5, mean: 4, min: -1, max: 9, count: 7, nonfinite: 2, last: Infinity });
  });

  it('of a smoothed curve are where it is drawn, with the value that was there', () => {
    const [reading] = readingsAt([{ ...low, smoothed: column(1, 1.5) }], 10, 0);
    expect(reading).toMatchObject({ y: 1.5, mean: 2 });
  });

  it('the nearest is the nearest on the screen', () => {
    const all = readingsAt([low, high, bucket], 0, 5);
    const from = (y: number) => nearest(all, (_, at) => Math.abs(at - y))?.curve.name;
    expect([from(0), from(5), from(100)]).toEqual(['low', 'bucket', 'high']);
    expect(nearest([], () => 0)).toBeNull();
  });
});

it('a few of many are shown with the wanted one among them', () => {
  const all = Array.from({ length: 50 }, (_, i) => i);
  expect(around(all, null, 4)).toEqual({ shown: [0, 1, 2, 3], more: 46 });
  expect(around(all, 25, 4).shown).toContain(25);
  expect(around(all, 49, 4)).toEqual({ shown: [46, 47, 48, 49], more: 46 });
  expect(around([1, 2], 2, 4)).toEqual({ shown: [1, 2], more: 0 });
});
