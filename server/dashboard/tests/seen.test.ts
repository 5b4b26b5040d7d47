import { describe, expect, it } from 'vitest';
import { figuresOf, sortedFigures } from '../src/lib/figures';
import { notShown, seenOf, stretch, type Options } from '../src/lib/seen';
import { buckets, column, curve, points } from './kit';

const options: Options = { zoom: null, height: null, log: false, robust: true, columns: 50 };
const xs = Array.from({ length: 100 }, (_, i) => i);
const spiky = curve(points('a', xs, xs.map((x) => (x === 50 ? 1000 : Math.sin(x))))); // prettier-ignore

describe('what a chart shows', () => {
  it('is all of x, and y without outliers, which are told of', () => {
    const seen = seenOf([spiky], options);
    expect(seen.x).toEqual({ from: 0, to: 99 });
    expect(seen.y.to).toBeLessThan(10);
    expect(seen.outliers.map(({ x, value }) => [x, value])).toEqual([[50, 1000]]);
    expect(notShown(seen.counts, false)).toBe('values above the range');
    expect(seenOf([spiky], { ...options, robust: false }).counts.above).toBe(0);
  });

  it('of a zoom is what lies in it, and y follows that', () => {
    const seen = seenOf([spiky], { ...options, zoom: [10, 20] });
    expect(seen.x).toEqual({ from: 10, to: 20 });
    expect([seen.counts.above, seen.counts.below]).toEqual([0, 0]);
    expect(
      seenOf([curve(points('a', [0, 5, 9], [100, 1, 2]))], { ...options, zoom: [4, 10] }).y.to,
    ).toBeLessThan(3);
  });

  it('of a chosen height is that, unless a log axis can’t have it', () => {
    expect(seenOf([spiky], { ...options, height: [0, 2] }).y).toEqual({ from: 0, to: 2 });
    expect(seenOf([spiky], { ...options, log: true, height: [-1, 2] }).y.from).toBeGreaterThan(0);
  });

  it('is empty, with marks, where nothing is finite', () => {
    const seen = seenOf([curve(points('a', [1, 2], [NaN, Infinity]))], options);
    expect(seen.empty).toBe(true);
    expect(seen.marks[0]!.marks).toHaveLength(2);
    expect(notShown(seen.counts, false)).toBe('2 not finite');
    expect(seenOf([], options)).toMatchObject({ empty: true, x: { from: 0, to: 1 }, y: { from: 0, to: 1 } });
  });

  it('leaves marks of what is superseded out', () => {
    expect(seenOf([curve(points('a', [1], [NaN], 1))], options).marks).toEqual([]);
  });

  it('on a log axis says what has no place, and marks only what has one', () => {
    const seen = seenOf([curve(points('a', [1, 2, 3], [-5, 1, 10]))], { ...options, log: true });
    expect(seen.outliers).toEqual([]);
    expect(notShown(seen.counts, true)).toContain('values ≤ 0 have no place on a log axis');
  });
});

it('a stretch of x is its samples, and no more', () => {
  const x = column(1, 2, 2, 3, 7);
  expect(stretch(x, { from: 2, to: 3 })).toEqual([1, 4]);
  expect(stretch(x, { from: 4, to: 6 })).toEqual([4, 4]);
  expect(stretch(x, { from: -9, to: 99 })).toEqual([0, 5]);
});

describe('figures', () => {
  const all = [
    curve(buckets('r10', [{ x0: 0, x1: 4, mean: 2, min: -3, max: 8, last: 7 }, { x0: 5, x1: 9, mean: 1, last: NaN }])),
    curve(points('r9', [1, 2, 30], [5, 4, 99])),
    curve(points('r1', [100], [1])),
  ]; // prettier-ignore
  const figures = figuresOf(all, { from: 0, to: 10 });

  it('are over what is seen', () => {
    expect(figures.map(({ curve, last, min, max, points }) => [curve.name, last, min, max, points])).toEqual([
      ['r10', NaN, -3, 8, 20],
      ['r9', 4, 4, 5, 2],
      ['r1', null, null, null, 0],
    ]);
  });

  it('have an order by each, in which what is not there comes last', () => {
    const order = (...by: [Parameters<typeof sortedFigures>[1], boolean]) =>
      sortedFigures(figures, ...by).map(({ curve }) => curve.name);
    expect(order('max', true)).toEqual(['r10', 'r9', 'r1']);
    expect(order('max', false)).toEqual(['r9', 'r10', 'r1']);
    expect(order('last', false)[0]).toBe('r9');
    expect(order('name', false)).toEqual(['r1', 'r9', 'r10']);
  });
});
