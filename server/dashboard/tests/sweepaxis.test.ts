import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Axis, linearTicks, logTicks } from '../src/lib/sweepaxis';

const finite = fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e100, max: 1e100 });

describe('an axis of numbers', () => {
  it('holds all finite values between its ends, in order, and gives them back', () => {
    fc.assert(
      fc.property(fc.array(finite, { minLength: 1 }), fc.boolean(), (values, log) => {
        const axis = Axis.of('x', values, log);
        const shown = values.filter((value) => !axis.log || value > 0).sort((a, b) => a - b);
        const places = shown.map((value) => axis.at(axis.measure(value)));
        places.forEach((place, i) => {
          expect(place).toBeGreaterThanOrEqual(-1e-9);
          expect(place).toBeLessThanOrEqual(1 + 1e-9);
          if (i) expect(place).toBeGreaterThanOrEqual(places[i - 1]! - 1e-12);
          const width = axis.log ? Math.abs(shown[i]!) : axis.to - axis.from;
          expect(Math.abs(axis.invert(place) - shown[i]!)).toBeLessThanOrEqual(1e-6 * width);
        });
      }),
    );
  });

  it('has room around values that are too close together to be told apart', () => {
    const [low, high] = [9.999999999999837e99, 9.999999999999839e99];
    const axis = Axis.of('x', [low, high], true);
    expect([axis.at(low), axis.at(high)]).toEqual([expect.closeTo(0.5), expect.closeTo(0.5)]);
    expect(linearTicks(low, high)).toEqual([low]);
    for (const value of [Number.MIN_VALUE, Number.MAX_VALUE])
      expect(Axis.of('x', [value], true).at(value)).toBeGreaterThanOrEqual(0);
  });

  it('has no place for what is missing, for NaN and infinity, and for what has no logarithm', () => {
    const axis = Axis.of('lr', [0.1, 'NaN', 'Infinity', '-Infinity', null, 0, -1, 0.001], true);
    expect([axis.kind, axis.log, axis.from, axis.to]).toEqual(['number', true, 0.001, 0.1]);
    for (const value of ['NaN', 'Infinity', '-Infinity', null, undefined, 0, -1])
      expect(axis.measure(value)).toBeNaN();
    expect(axis.at(axis.measure(0.01))).toBeCloseTo(0.5);
  });

  it('is linear where nothing is positive, and has room around a single value', () => {
    expect(Axis.of('x', [-1, 0], true).log).toBe(false);
    const one = Axis.of('x', [4]);
    expect([one.from, one.to, one.at(4)]).toEqual([2, 6, 0.5]);
    expect(Axis.of('x', [4], true).at(4)).toBeCloseTo(0.5);
    expect([Axis.of('x', [0]).at(0), Axis.of('x', []).from]).toEqual([0.5, 0]);
  });
});

describe('an axis of categories', () => {
  it('has a band for each, numbers in names by their size, all kinds of values as text', () => {
    const axis = Axis.of('opt', ['b10', 'b2', null, true, 3, ['x']]);
    expect(axis.kind).toBe('category');
    expect(axis.categories).toEqual(['["x"]', '3', 'b2', 'b10', 'true']);
    expect(axis.measure('b2')).toBe(2);
    expect(axis.at(2)).toBe(0.5);
    expect(axis.text(axis.measure(true))).toBe('true');
    expect(axis.measure(null)).toBeNaN();
    expect(axis.ticks.map(({ at }) => at)).toEqual([0.1, 0.3, 0.5, 0.7, 0.9]);
  });

  it('shows some of very many labels', () => {
    const axis = Axis.of(
      'seed',
      Array.from({ length: 100 }, (_, i) => `s${i}`),
    );
    expect(axis.ticks.length).toBeLessThanOrEqual(24);
  });
});

describe('ticks', () => {
  it('are round, few, and between the ends', () => {
    fc.assert(
      fc.property(finite, finite, (a, b) => {
        const [from, to] = a < b ? [a, b] : [b, a];
        const ticks = linearTicks(from, to);
        expect(ticks.length).toBeLessThanOrEqual(7);
        const slack = (to - from) * 1e-6;
        for (const tick of ticks) {
          expect(tick).toBeGreaterThanOrEqual(from - slack);
          expect(tick).toBeLessThanOrEqual(to + slack);
        }
      }),
    );
    expect(linearTicks(0, 1)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
    expect(linearTicks(-3, 14)).toEqual([0, 5, 10]);
    expect(logTicks(0.0001, 0.1)).toEqual([0.0001, 0.001, 0.01, 0.1]);
    expect(logTicks(2, 7)).toEqual([2, 3, 4, 5, 6, 7]);
    expect(logTicks(1e-300, 1e300).length).toBeLessThanOrEqual(8);
  });
});
