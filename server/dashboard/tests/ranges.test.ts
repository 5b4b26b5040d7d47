import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { asked, valueRange, xRange } from '../src/lib/ranges';

const column = (...values: number[]) => Float64Array.from(values);
const finite = fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e12, max: 1e12 });

describe('valueRange', () => {
  it('holds all that is finite, unless it is to be robust', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(finite, fc.constantFrom(NaN, Infinity, -Infinity)), { minLength: 1 }),
        (values) => {
          const range = valueRange([column(...values)], { robust: false, log: false });
          const shown = values.filter(Number.isFinite);
          if (!shown.length) {
            expect(range).toBeNull();
            return;
          }
          expect(range).toMatchObject({ below: 0, above: 0 });
          expect(range!.from).toBeLessThanOrEqual(Math.min(...shown));
          expect(range!.to).toBeGreaterThanOrEqual(Math.max(...shown));
          expect(range!.from).toBeLessThan(range!.to);
        },
      ),
    );
  });

  it('says exactly how many values lie outside', () => {
    fc.assert(
      fc.property(fc.array(finite, { minLength: 1, maxLength: 300 }), fc.boolean(), (values, log) => {
        const range = valueRange([column(...values)], { robust: true, log });
        if (!range) {
          expect(log && values.every((value) => value <= 0)).toBe(true);
          return;
        }
        expect(range.above).toBe(values.filter((value) => value > range.to).length);
        expect(range.below).toBe(values.filter((value) => (log && value <= 0) || value < range.from).length);
        // The middle nine tenths are never cut off.
        expect(
          range.above + range.below - (log ? values.filter((v) => v <= 0).length : 0),
        ).toBeLessThanOrEqual(Math.ceil(values.length * 0.1) + 1);
      }),
    );
  });

  it('leaves out a spike that would flatten all else, and says so', () => {
    const loss = Float64Array.from({ length: 400 }, (_, i) => 1 + Math.exp(-i / 50));
    loss[7] = 1e6;
    loss[9] = -1e6;
    const range = valueRange([loss], { robust: true, log: false })!;
    expect([range.below, range.above]).toEqual([1, 1]);
    expect(range.to).toBeLessThan(5);
    expect(range.from).toBeGreaterThan(-3);
    expect(valueRange([loss], { robust: false, log: false })!.to).toBeGreaterThan(1e6);
  });

  it('keeps a steep beginning that is no outlier', () => {
    const loss = Float64Array.from({ length: 400 }, (_, i) => Math.exp(-i / 100));
    expect(valueRange([loss], { robust: true, log: false })).toMatchObject({ below: 0, above: 0 });
  });

  it('in log leaves out what is not positive', () => {
    const range = valueRange([column(-1, 0, 1e-6, 1e3)], { robust: false, log: true })!;
    expect(range.below).toBe(2);
    expect(range.from).toBeGreaterThan(0);
    expect(range.from).toBeLessThan(1e-6);
    expect(range.to).toBeGreaterThan(1e3);
    expect(valueRange([column(0, -1)], { robust: true, log: true })).toBeNull();
  });

  it('is never empty, nor beyond all numbers', () => {
    for (const value of [0, 5, -5, 1e-300, Number.MAX_VALUE, -Number.MAX_VALUE]) {
      const range = valueRange([column(value)], { robust: true, log: false })!;
      expect(range.from).toBeLessThan(range.to);
    }
    const all = valueRange([column(-Number.MAX_VALUE, Number.MAX_VALUE)], { robust: false, log: false })!;
    expect([all.from, all.to]).toEqual([-Number.MAX_VALUE, Number.MAX_VALUE]);
  });
});

describe('x', () => {
  it('covers all lines, with a margin only around a single place', () => {
    expect(xRange([[3, 9], [1, 4]])).toEqual({ from: 1, to: 9 }); // prettier-ignore
    expect(xRange([[5, 5]])).toEqual({ from: 4.5, to: 5.5 });
    expect(xRange([])).toBeNull();
  });

  it('is asked for in whole steps, outwards', () => {
    expect(asked({ from: 1.2, to: 7.1 }, true)).toEqual({ from: 1, to: 8 });
    expect(asked({ from: 1.2, to: 7.1 }, false)).toEqual({ from: 1.2, to: 7.1 });
  });

  it('is asked for so that no step beyond 2⁵³ at its edge is lost', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 2n ** 53n, max: 2n ** 62n }), (step) => {
        const drawn = Number(step);
        const { from, to } = asked({ from: drawn, to: drawn }, true);
        expect(BigInt(from)).toBeLessThanOrEqual(step);
        expect(BigInt(to)).toBeGreaterThanOrEqual(step);
      }),
    );
  });
});
